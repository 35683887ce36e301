//! The steps of the loop: what each caller sends, and what the contract says must come back.

use std::time::Instant;

use chrono::{DateTime, Duration, Utc};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::client::{Caller, Fault, Made, reference_in, unexpected};
use super::print::Shown;
use super::recording::{About, first_meeting, telephone_contact};
use super::referral::{Referral, referral};
use super::{Walk, Walked};
use crate::demo::cast::Sample;
use crate::fhir::path;
use crate::fhir::systems::REFERRAL_REFERENCE;
use crate::time::Clock;

/// How soon a routine referral is to be contacted.
const CONTACT_HOURS: i64 = 48;

/// What the walk has learnt on its way.
pub(super) struct Loop<'w> {
    pub(super) walk: &'w Walk,
    http: reqwest::Client,
    practice: Option<Caller>,
    coach: Option<Caller>,
    /// `ServiceRequest/…`, and the reference for people.
    pub(super) referral: String,
    pub(super) reference: String,
    /// The service's own Patient of the person, `Patient/…`.
    person: String,
    /// The Task being worked, `Task/…`.
    task: String,
    /// What was recorded for the Task being worked, and in all.
    output: Vec<String>,
    pub(super) recorded: Vec<String>,
}

impl<'w> Loop<'w> {
    pub(super) fn new(walk: &'w Walk, http: reqwest::Client) -> Loop<'w> {
        let (practice, coach, output, recorded) = (None, None, Vec::new(), Vec::new());
        let [referral, reference, person, task] = [const { String::new() }; 4];
        Loop { walk, http, practice, coach, referral, reference, person, task, output, recorded }
    }

    pub(super) async fn practice_signs_in(&mut self) -> Result<Shown, Fault> {
        let client = &self.walk.cast.walked.client;
        let (caller, seconds) = Caller::sign_in(&self.http, &self.walk.service, client).await?;
        self.practice = Some(caller);
        Ok(Shown::new(format!("{}, token for {seconds} s", client.id), format!("{}/metadata", self.walk.service)))
    }

    pub(super) async fn refers(&mut self) -> Result<Shown, Fault> {
        let sent = self.send(self.practice()?, &self.walk.cast.walked).await?;
        self.referral = sent.referral;
        self.reference = sent.reference;
        let link = self.practice()?.link(&self.referral);
        Ok(Shown::new(format!("{}, {}, ETag {}", self.reference, sent.status, sent.etag), link))
    }

    pub(super) async fn another_refers(&self, sample: &Sample) -> Result<Shown, Fault> {
        let (caller, _) = Caller::sign_in(&self.http, &self.walk.service, &sample.client).await?;
        let sent = self.send(&caller, sample).await?;
        let facts = format!("{}, {} from {}, {}", sent.reference, sample.route, sample.practice.ods, sample.priority);
        Ok(Shown::new(facts, caller.link(&sent.referral)))
    }

    pub(super) async fn coach_signs_in(&mut self) -> Result<Shown, Fault> {
        let coach = &self.walk.cast.coach;
        let (caller, seconds) = Caller::sign_in(&self.http, &self.walk.service, &coach.client).await?;
        let link = caller.link(&coach.staff.reference);
        self.coach = Some(caller);
        Ok(Shown::new(format!("{}, token for {seconds} s", coach.staff.name), link))
    }

    pub(super) async fn contact_waits(&mut self) -> Result<Shown, Fault> {
        let task = self.open_task("contact-patient").await?;
        let (due, since) = (time(&task, "restriction.period.end")?, time(&task, "authoredOn")?);
        if (due - since - Duration::hours(CONTACT_HOURS)).abs() > Duration::minutes(1) {
            return Err(unexpected(format!("contact is due {due}, not {CONTACT_HOURS} h after {since}")));
        }
        let locality = &self.walk.cast.coach.locality;
        expect(&task, "location.reference", &locality.reference)?;
        self.task = named(&task);
        self.person = path::text(&task, "for.reference").unwrap_or_default().to_owned();
        let facts = format!("due {}, {}", due.format("%d %b %H:%M UTC"), locality.name);
        Ok(Shown::new(facts, self.coach()?.link(&self.task)))
    }

    pub(super) async fn coach_claims(&self) -> Result<Shown, Fault> {
        let (coach, caller) = (&self.walk.cast.coach, self.coach()?);
        let asked = parameters(vec![
            json!({ "name": "role", "valueCode": "health-coach" }),
            json!({ "name": "location", "valueReference": { "reference": coach.locality.reference } }),
        ]);
        let answer = caller.post("Task/$claim-next", &asked, None).await?;
        if answer.status == StatusCode::NO_CONTENT {
            return Err(unexpected("$claim-next found nothing, though a Task waits"));
        }
        let mut task = answer.body;
        let mut how = "$claim-next";
        if named(&task) != self.task {
            // An older referral of an earlier run on the same data comes first: it goes back to the queue.
            caller.post(&format!("{}/$release", named(&task)), &parameters(vec![]), etag(&task).as_deref()).await?;
            task = self.claim(&self.task).await?;
            how = "$claim, as an older one came first";
        }
        expect(&task, "status", "accepted")?;
        expect(&task, "owner.reference", &coach.staff.reference)?;
        Ok(Shown::new(format!("{how}, accepted by {}", coach.staff.name), caller.link(&self.task)))
    }

    pub(super) async fn records_contact(&mut self) -> Result<Shown, Fault> {
        self.record(telephone_contact(&self.about(), Clock::System.now())).await
    }

    pub(super) async fn records_first_meeting(&mut self) -> Result<Shown, Fault> {
        self.record(first_meeting(&self.about(), Clock::System.now())).await
    }

    pub(super) async fn completes(&mut self, outcome: &'static str) -> Result<Shown, Fault> {
        let caller = self.coach()?;
        let now = caller.get(&self.task).await?;
        let output =
            self.output.iter().map(|made| json!({ "name": "output", "valueReference": { "reference": made } }));
        let said = std::iter::once(json!({ "name": "outcome", "valueCode": outcome })).chain(output).collect();
        let path = format!("{}/$complete", self.task);
        let task = caller.post(&path, &parameters(said), now.etag.as_deref()).await?.body;
        expect(&task, "status", "completed")?;
        let shown = Shown::new(format!("Task completed, outcome {outcome}"), caller.link(&self.task));
        self.output.clear();
        Ok(shown)
    }

    pub(super) async fn claims_first_meeting(&mut self) -> Result<Shown, Fault> {
        let task = self.open_task("first-meeting").await?;
        self.task = named(&task);
        let due = time(&task, "restriction.period.end")?;
        let claimed = self.claim(&self.task).await?;
        expect(&claimed, "status", "accepted")?;
        Ok(Shown::new(format!("first-meeting, due {}", due.format("%d %b")), self.coach()?.link(&self.task)))
    }

    pub(super) async fn next_tasks(&self) -> Result<Shown, Fault> {
        let mut tasks = self.tasks().await?;
        tasks.retain(|task| path::text(task, "status") == Some("requested"));
        tasks.sort_by_key(|task| path::text(task, "restriction.period.end").unwrap_or_default().to_owned());
        let due = |task: &Value| time(task, "restriction.period.end").map(|due| due.format("%d %b").to_string());
        let session = tasks.iter().find(|task| has_code(task, "session"));
        let session = due(session.ok_or_else(|| unexpected("no Task for the first session"))?)?;
        let reviews = tasks.iter().filter(|task| code(task).starts_with("review-")).map(due);
        let reviews = reviews.collect::<Result<Vec<String>, Fault>>()?;
        if reviews.len() < 4 {
            return Err(unexpected(format!("{} reviews are planned, not the four of the year", reviews.len())));
        }
        let link = self.coach()?.link(&format!("Task?focus={}", self.referral));
        Ok(Shown::new(format!("session {session}; reviews {}", reviews.join(", ")), link))
    }

    pub(super) fn walked(&self) -> Walked {
        let token = |caller: &Option<Caller>| caller.as_ref().map(|c| c.token().to_owned()).unwrap_or_default();
        let service = &self.walk.service;
        Walked {
            reference: self.reference.clone(),
            status_link: format!("{service}/{}/$status", self.referral),
            queue_link: format!("{service}/Task?status=requested&_sort=-priority,due"),
            record_link: format!("{}/Encounter", self.walk.record),
            practice_token: token(&self.practice),
            coach_token: token(&self.coach),
        }
    }

    pub(super) fn practice(&self) -> Result<&Caller, Fault> {
        self.practice.as_ref().ok_or_else(|| unexpected("the practice has not signed in"))
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    fn coach(&self) -> Result<&Caller, Fault> {
        self.coach.as_ref().ok_or_else(|| unexpected("the coach has not signed in"))
    }

    fn about(&self) -> About<'_> {
        About { person: &self.person, referral: &self.referral, coach: &self.walk.cast.coach.staff.reference }
    }

    async fn send(&self, caller: &Caller, sample: &Sample) -> Result<Sent, Fault> {
        let made = match referral(sample, Clock::System.now()) {
            Referral::Together(entries) => caller.transact(entries).await?.into_iter().next(),
            Referral::Alone(request) => {
                let answer = caller.post("ServiceRequest", &request, None).await?;
                let reference = answer.location.as_deref().and_then(reference_in);
                reference.map(|reference| Made { status: answer.status.to_string(), reference, etag: answer.etag })
            }
        };
        let made = made.ok_or_else(|| unexpected("the referral was answered without a Location"))?;
        created(&made)?;
        let etag = made.etag.ok_or_else(|| unexpected("the referral was answered without an ETag"))?;
        let stored = caller.get(&made.reference).await?.body;
        let reference =
            path::all(&stored, "identifier").into_iter().find(|i| i.get("system") == Some(&json!(REFERRAL_REFERENCE)));
        let reference = reference.and_then(|i| path::text(i, "value"));
        let reference =
            reference.ok_or_else(|| unexpected("the referral has no reference that a person can read out"))?;
        Ok(Sent { referral: made.reference, reference: reference.to_owned(), status: made.status, etag })
    }

    async fn record(&mut self, entries: Vec<Value>) -> Result<Shown, Fault> {
        let made = self.coach()?.transact(entries).await?;
        made.iter().try_for_each(created)?;
        self.output = made.into_iter().map(|m| m.reference).collect();
        self.recorded.extend(self.output.iter().cloned());
        let kinds: Vec<&str> = self.output.iter().filter_map(|reference| reference.split('/').next()).collect();
        let first = self.output.first().map(String::as_str).unwrap_or_default();
        Ok(Shown::new(format!("201 {}", kinds.join(", ")), self.coach()?.link(first)))
    }

    async fn tasks(&self) -> Result<Vec<Value>, Fault> {
        self.coach()?.search("Task", &[("focus", self.referral.as_str())]).await
    }

    async fn open_task(&self, wanted: &str) -> Result<Value, Fault> {
        let tasks = self.tasks().await?;
        let open = |task: &&Value| has_code(task, wanted) && path::text(task, "status") == Some("requested");
        let found = tasks.iter().find(open).cloned();
        found.ok_or_else(|| unexpected(format!("the referral has no open Task {wanted}")))
    }

    async fn claim(&self, task: &str) -> Result<Value, Fault> {
        let caller = self.coach()?;
        let now = caller.get(task).await?;
        Ok(caller.post(&format!("{task}/$claim"), &parameters(vec![]), now.etag.as_deref()).await?.body)
    }

    /// Whether the patience that began at `begun` is over.
    pub(super) fn is_over(&self, begun: Instant) -> bool {
        begun.elapsed() >= self.walk.patience
    }
}

struct Sent {
    referral: String,
    reference: String,
    status: String,
    etag: String,
}

fn created(made: &Made) -> Result<(), Fault> {
    if made.status.starts_with("201") {
        return Ok(());
    }
    Err(unexpected(format!("{} was answered {}, not 201", made.reference, made.status)))
}

fn parameters(parameter: Vec<Value>) -> Value {
    if parameter.is_empty() {
        // An empty array is no FHIR.
        return json!({ "resourceType": "Parameters" });
    }
    json!({ "resourceType": "Parameters", "parameter": parameter })
}

fn named(resource: &Value) -> String {
    let part = |name: &str| path::text(resource, name).unwrap_or_default();
    format!("{}/{}", part("resourceType"), part("id"))
}

fn etag(resource: &Value) -> Option<String> {
    path::text(resource, "meta.versionId").map(|version| format!("W/\"{version}\""))
}

fn code(task: &Value) -> &str {
    path::text(task, "code.coding.code").unwrap_or_default()
}

fn has_code(task: &Value, wanted: &str) -> bool {
    path::all(task, "code.coding.code").contains(&&json!(wanted))
}

fn time(resource: &Value, element: &str) -> Result<DateTime<Utc>, Fault> {
    let said = path::text(resource, element).and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    said.map(|at| at.to_utc()).ok_or_else(|| unexpected(format!("{} has no time in {element}", named(resource))))
}

fn expect(resource: &Value, element: &str, wanted: &str) -> Result<(), Fault> {
    match path::text(resource, element) {
        Some(said) if said == wanted => Ok(()),
        Some(said) => Err(unexpected(format!("{element} of {} is {said}, not {wanted}", named(resource)))),
        None => Err(unexpected(format!("{} has no {element}; {wanted} was expected", named(resource)))),
    }
}
