//! The end of the loop: what arrived in the practice's record, and what the referrer is told.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Caller, Fault, unexpected};
use super::print::Shown;
use super::recording::PAM;
use super::steps::Loop;
use crate::fhir::path;
use crate::fhir::systems::{NHS_NUMBER, RECORD};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

impl Loop<'_> {
    /// Everything that was recorded is in the practice's record, once, under the practice's own Patient.
    pub(super) async fn arrives(&self) -> Result<Shown, Fault> {
        let reader = Caller::with_token(self.http(), &self.walk.record, &self.walk.record_token);
        let number = format!("{NHS_NUMBER}|{}", self.walk.cast.walked.person.nhs_number);
        let people = reader.search("Patient", &[("identifier", &number)]).await?;
        let person = people.first().and_then(|p| path::text(p, "id")).map(|id| format!("Patient/{id}"));
        let person = person.ok_or_else(|| unexpected("the practice does not know the person"))?;
        let begun = Instant::now();
        let mut filed = Vec::new();
        for ours in &self.recorded {
            let copy = self.copy(&reader, ours, begun).await?;
            let subject = path::text(&copy, "subject.reference").or(path::text(&copy, "patient.reference"));
            if subject != Some(&person) {
                return Err(unexpected(format!("{ours} is not filed under the practice's own Patient")));
            }
            if ours.starts_with("Observation/") {
                is_the_measure(&copy)?;
            }
            let id = path::text(&copy, "id").unwrap_or_default();
            filed.push(format!("{}/{id}", path::text(&copy, "resourceType").unwrap_or_default()));
        }
        let ends = (filed.first().map_or("", String::as_str), filed.last().map_or("", String::as_str));
        let facts = format!("{} resources, {} to {}", filed.len(), ends.0, ends.1);
        Ok(Shown::new(facts, reader.link(&format!("Encounter?patient={person}"))))
    }

    /// The practice's one copy of our record; waits for it while there is patience left.
    async fn copy(&self, reader: &Caller, ours: &str, begun: Instant) -> Result<Value, Fault> {
        let (kind, id) = ours.split_once('/').unwrap_or((ours, ""));
        let identifier = format!("{RECORD}|{id}");
        loop {
            let mut found = reader.search(kind, &[("identifier", &identifier)]).await?;
            match (found.pop(), found.len()) {
                (Some(copy), 0) => return Ok(copy),
                (Some(_), more) => return Err(unexpected(format!("{ours} is there {} times", more + 1))),
                (None, _) if self.is_over(begun) => {
                    let waited = self.walk.patience.as_secs();
                    let text =
                        format!("{ours} has not arrived in {waited} s; its delivery: {}", self.deliveries().await?);
                    return Err(unexpected(text));
                }
                (None, _) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// `$status` says it all, once the deliveries have settled.
    pub(super) async fn asks_status(&self) -> Result<Shown, Fault> {
        let begun = Instant::now();
        let status = loop {
            let status = self.status().await?;
            let states = states(&status);
            if !states.is_empty() && states.iter().all(|state| state == "filed") {
                break status;
            }
            if self.is_over(begun) {
                return Err(unexpected(format!("the deliveries are not filed but: {}", states.join(", "))));
            }
            tokio::time::sleep(PAUSE).await;
        };
        if said(&status, "reference").as_deref() != Some(&self.reference) {
            return Err(unexpected("$status speaks of another reference"));
        }
        let score = parameters(&status, "pam").first().and_then(|pam| said(pam, "score"));
        let level = parameters(&status, "pam").first().and_then(|pam| said(pam, "level"));
        if score.as_deref() != Some(PAM.0) || level != Some(PAM.1.to_string()) {
            return Err(unexpected("$status does not tell the PAM that was recorded"));
        }
        let state = said(&status, "state").ok_or_else(|| unexpected("$status has no state"))?;
        let next = said(&status, "next").unwrap_or_else(|| "nothing".to_owned());
        let filed = states(&status).len();
        let facts = format!("{state}, next {next}, PAM {} level {}, {filed} filed", PAM.0, PAM.1);
        Ok(Shown::new(facts, self.practice()?.link(&format!("{}/$status", self.referral))))
    }

    async fn status(&self) -> Result<Value, Fault> {
        Ok(self.practice()?.get(&format!("{}/$status", self.referral)).await?.body)
    }

    async fn deliveries(&self) -> Result<String, Fault> {
        let states = states(&self.status().await?);
        Ok(if states.is_empty() { "there is none".to_owned() } else { states.join(", ") })
    }
}

fn states(status: &Value) -> Vec<String> {
    parameters(status, "delivery").into_iter().filter_map(|delivery| said(delivery, "state")).collect()
}

/// The parameters (or parts) with this name.
fn parameters<'v>(of: &'v Value, name: &str) -> Vec<&'v Value> {
    let inside = path::all(of, "parameter").into_iter().chain(path::all(of, "part"));
    inside.filter(|parameter| path::text(parameter, "name") == Some(name)).collect()
}

/// What the first parameter with this name says, whatever its type, as text.
fn said(of: &Value, name: &str) -> Option<String> {
    let parameter = parameters(of, name).into_iter().next()?.as_object()?;
    let (_, value) = parameter.iter().find(|(name, _)| name.starts_with("value"))?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn is_the_measure(copy: &Value) -> Result<(), Fault> {
    let score = path::all(copy, "valueQuantity.value").first().map(|value| value.to_string());
    let level = path::all(copy, "component.valueInteger").first().and_then(|value| value.as_i64());
    if (score.as_deref(), level) == (Some(PAM.0), Some(PAM.1)) {
        return Ok(());
    }
    Err(unexpected("the PAM in the practice's record is not the one that was recorded"))
}
