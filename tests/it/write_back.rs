//! Write-back: what was recorded arrives in the practice's record, each thing once, whatever goes wrong on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use livewell::demo::practice::{Aim, Fault, Traffic};
use livewell::fhir::path;
use livewell::fhir::systems::{NHS_NUMBER, ODS, RECORD, REFERRAL_REFERENCE};
use serde_json::{Value, json};

use crate::journey::{
    Journey, activation, encounter, goal, known, now, read, record, refer, referral_of, registered, send, sharing,
    somebody, transact, version,
};
use crate::support::caller::Caller;
use crate::support::{TestApp, on_each_database};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// What a write-back may be made of.
const KINDS: [&str; 6] = ["Encounter", "Observation", "Goal", "CarePlan", "Consent", "Communication"];

/// Our record id of a resource at a practice.
fn record_id(resource: &Value) -> Option<String> {
    let ours = path::all(resource, "identifier").into_iter().find(|i| i["system"] == RECORD)?;
    ours["value"].as_str().map(str::to_owned)
}

/// Everything of ours at a practice, by our id; fails when something is there twice.
fn ours_at(app: &TestApp, practice: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for resource in KINDS.iter().flat_map(|kind| app.stand_in.resources(practice, kind)) {
        if let Some(id) = record_id(&resource) {
            let twice = found.insert(id, resource);
            assert!(twice.is_none(), "twice at the practice: {}", twice.unwrap());
        }
    }
    found
}

/// The one resource at a practice that is our `Type/id`.
fn there(app: &TestApp, practice: &str, reference: &str) -> Value {
    let found = ours_at(app, practice).remove(reference.split_once('/').unwrap().1);
    found.unwrap_or_else(|| panic!("{reference} is not at {practice}"))
}

fn is_there(app: &TestApp, practice: &str, reference: &str) -> bool {
    ours_at(app, practice).contains_key(reference.split_once('/').unwrap().1)
}

/// As the practice's own staff do, changes something in its record.
async fn practice_writes(app: &TestApp, practice: &str, below: &str, resource: &Value) {
    let url = format!("{}/{below}", app.stand_in.base(practice));
    let mut request = app.http.put(url).bearer_auth(app.stand_in.staff_token(practice));
    if let Some(version) = path::text(resource, "meta.versionId") {
        request = request.header("if-match", format!("W/\"{version}\""));
    }
    let request = request.header("content-type", "application/fhir+json").body(resource.to_string());
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "the practice refuses its own staff: {}", answer.status());
}

/// State and reason of every delivery, in the order they were queued.
async fn deliveries(app: &TestApp) -> Vec<(String, String)> {
    let rows = app.rows("select state, why from delivery order by created_at, id").await;
    rows.iter().map(|r| (r[0].as_str().unwrap().to_owned(), r[1].as_str().unwrap().to_owned())).collect()
}

/// Lets `by` pass, and the worker look.
async fn later(app: &TestApp, by: Duration) {
    app.clock.advance(by);
    // Whatever is written wakes the worker, which else looks once a second.
    let nothing = json!({ "resourceType": "Bundle", "type": "transaction" });
    app.system().await.post("", &nothing).await.expect(200);
    app.settled().await;
}

/// Lets time pass, from one attempt to the next, until every delivery is settled or waits for something else than time.
async fn time_passes(app: &TestApp) {
    app.settled().await;
    for _ in 0..1000 {
        let now = app.clock.now().timestamp_micros();
        let unsettled = "delivery where settled_at is null and state <> 'no-route'";
        if app.count(unsettled).await == 0 {
            return;
        }
        let due = app.next_due().await.unwrap_or_else(|| panic!("nothing is due: {now}"));
        later(app, Duration::from_micros((due - now).try_into().unwrap())).await;
    }
    panic!("not settled after a thousand attempts: {:?}", deliveries(app).await);
}

/// The open Tasks of the co-ordinator with this code.
async fn asked_of_co_ordinator(app: &TestApp, code: &str) -> i64 {
    app.count(&format!("task where role = 'co-ordinator' and code = '{code}' and open")).await
}

/// The states of a referral's deliveries as `$status` says them.
async fn practice_sees(caller: &Caller, journey: &Journey) -> Vec<String> {
    let said = caller.get(format!("/fhir/{}/$status", journey.referral)).await.expect(200).body;
    let deliveries = path::all(&said, "parameter").into_iter().filter(|p| p["name"] == "delivery");
    let state = |d: &Value| d["part"].as_array().unwrap().iter().find(|p| p["name"] == "state").cloned();
    deliveries.map(|d| state(d).unwrap()["valueCode"].as_str().unwrap().to_owned()).collect()
}

on_each_database! {
    async fn everything_recorded_arrives_once_as_the_practices_own_patients(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let theirs = app.stand_in.resources("TESTA1", "Patient").into_iter()
            .find(|p| p.to_string().contains(&journey.nhs_number)).unwrap();
        let patient = format!("Patient/{}", theirs["id"].as_str().unwrap());
        let coach = app.staff("coach-north").await;
        let mut meeting = encounter(&app, &journey);
        meeting["participant"] = json!([{ "individual": { "reference": "PractitionerRole/coach-north" } }]);
        let made = transact(&coach, &[
            meeting,
            activation(&app, &journey, "56.40", Some(3)),
            goal(&journey),
            sharing(&app, &journey, "permit"),
        ]).await;
        app.settled().await;

        let practice = app.practice("TESTA1").await;
        let request = read(&practice, &journey.referral).await;
        let reference = path::all(&request, "identifier").into_iter().find(|i| i["system"] == REFERRAL_REFERENCE);
        let reference = reference.unwrap()["value"].clone();
        let found = ours_at(&app, "TESTA1");
        assert_eq!(found.len(), 4);
        for kept in &made {
            let (kind, id) = kept.split_once('/').unwrap();
            let there = &found[id];
            assert_eq!(there["resourceType"], kind);
            let subject = if kind == "Consent" { "patient" } else { "subject" };
            assert_eq!(there[subject]["reference"], patient, "{kind}");
            let text = there.to_string();
            assert!(!text.contains(&journey.person) && !text.contains(&journey.nhs_number), "{kind}: {text}");
            assert_eq!(there["text"]["status"], "generated", "{kind} has a short narrative");
        }
        let meeting = there(&app, "TESTA1", &made[0]);
        assert_eq!(meeting["basedOn"][0]["identifier"]["value"], reference);
        assert_eq!(meeting["basedOn"][0].get("reference"), None, "the practice has none of our ids");
        let who = &meeting["participant"][0]["individual"];
        assert!(who["identifier"]["value"] == "coach-north" && who["display"].to_string().contains("Coachnorth"), "{who}");
        assert_eq!(there(&app, "TESTA1", &made[1])["valueQuantity"]["value"].to_string(), "56.40");

        let provenance = app.stand_in.resources("TESTA1", "Provenance");
        assert_eq!(provenance.len(), 1, "one for what came together");
        let targets: BTreeSet<String> =
            path::all(&provenance[0], "target.reference").iter().map(|t| t.as_str().unwrap().to_owned()).collect();
        let expected: BTreeSet<String> = found.values()
            .map(|r| format!("{}/{}", r["resourceType"].as_str().unwrap(), r["id"].as_str().unwrap())).collect();
        assert_eq!(targets, expected);
        let delivery = app.rows("select id from delivery").await;
        let tag = path::all(&provenance[0], "meta.tag").into_iter().find(|t| t["system"] == RECORD).unwrap();
        assert_eq!(tag["code"], delivery[0][0]);
        let agent = &provenance[0]["agent"][0];
        assert_eq!(agent["who"]["identifier"]["value"], "coach-north");
        assert_eq!(agent["onBehalfOf"]["identifier"], json!({ "system": ODS, "value": "TESTLW" }));

        assert_eq!(practice_sees(&practice, &journey).await, ["filed"]);
        assert_eq!(app.count("delivery_attempt where verdict = 'delivered'").await, 1);
        assert_eq!(app.count("audit where interaction = 'delivery delivered' and target = 'Organization/TESTA1'").await, 1);
        assert_eq!(app.count("practice_copy where practice = 'TESTA1'").await, 5);
    }

    async fn the_persons_own_words_stay_the_persons(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let green_book = json!({
            "resourceType": "QuestionnaireResponse", "status": "completed", "subject": { "reference": journey.person },
            "authored": now(&app),
            "item": [{ "linkId": "keeps-me-well", "answer": [{ "valueString": "Singing" }] }],
        });
        record(&coach, &green_book).await;
        assert_eq!(app.count("delivery").await, 0);
    }

    async fn without_agreement_to_share_detail_only_coded_entries_go(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let made = transact(&coach, &[
            encounter(&app, &journey),
            activation(&app, &journey, "56.4", Some(3)),
            goal(&journey),
            sharing(&app, &journey, "deny"),
        ]).await;
        app.settled().await;
        let meeting = there(&app, "TESTA1", &made[0]);
        assert!(!meeting.to_string().contains("garden") && meeting.get("text").is_none(), "{meeting}");
        assert_eq!(path::text(&meeting, "type.coding.code"), Some("185317003"));
        assert_eq!(there(&app, "TESTA1", &made[1])["valueQuantity"]["value"].to_string(), "56.4");
        assert!(!is_there(&app, "TESTA1", &made[2]), "a goal in words alone is no coded entry");
        assert!(app.stand_in.resources("TESTA1", "Goal").iter().all(|g| !g.to_string().contains("library")));
        // What is recorded later keeps to it too, until the person says otherwise.
        let later = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        assert!(!there(&app, "TESTA1", &later).to_string().contains("garden"));
        app.clock.advance(MINUTE);
        let coach = app.staff("coach-north").await;
        record(&coach, &sharing(&app, &journey, "permit")).await;
        let open = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        assert!(there(&app, "TESTA1", &open).to_string().contains("garden"));
    }

    async fn a_practice_that_fails_for_a_while_has_each_thing_once_in_the_end(app: TestApp) {
        let faults = app.stand_in.faults();
        let answer = |status| Fault::Answer { status, retry_after: None };
        for (traffic, fault, count) in [
            (Traffic::Writes, answer(500), 1),
            (Traffic::Writes, answer(503), 3),
            (Traffic::Writes, answer(429), 1),
            (Traffic::Writes, Fault::DropReply, 1),
            (Traffic::Writes, Fault::DropReply, 2),
            (Traffic::Writes, Fault::DropRequest, 2),
            (Traffic::Reads, answer(502), 2),
            (Traffic::Reads, Fault::DropRequest, 3),
            (Traffic::Reads, answer(401), 1),
            (Traffic::Writes, answer(401), 1),
            (Traffic::Tokens, answer(503), 1),
            (Traffic::Tokens, Fault::DropReply, 1),
            (Traffic::All, answer(503), 4),
            (Traffic::All, Fault::DropReply, 5),
        ] {
            let said = format!("{count} x {traffic:?} {fault:?}");
            let journey = known(&app, "TESTA1", "routine").await;
            let coach = app.staff("coach-north").await;
            let struck = faults.struck();
            faults.next(count, Aim::at(traffic), fault);
            if traffic == Traffic::Tokens {
                // The token held is over, so that the practice is asked for a new one.
                app.clock.advance(HOUR);
            }
            let coach = if traffic == Traffic::Tokens { app.staff("coach-north").await } else { coach };
            let made = transact(&coach, &[encounter(&app, &journey), goal(&journey)]).await;
            time_passes(&app).await;
            assert!(faults.struck() > struck, "{said}: nothing failed");
            faults.clear();
            for kept in &made {
                assert!(is_there(&app, "TESTA1", kept), "{said}: {:?}", deliveries(&app).await);
            }
        }
        let provenances = app.stand_in.resources("TESTA1", "Provenance").len();
        assert_eq!(provenances, 14, "one for each unit of work");
        assert!(deliveries(&app).await.iter().all(|(state, _)| state == "delivered"));
    }

    async fn a_practice_without_transactions_has_each_thing_once_though_it_broke_off_between_them(app: TestApp) {
        app.stand_in.take_transactions(false);
        let faults = app.stand_in.faults();
        let answer = |status| Fault::Answer { status, retry_after: None };
        let kinds = [answer(503), answer(429), answer(504), Fault::DropReply, Fault::DropRequest];
        for (seed, fault) in kinds.into_iter().enumerate() {
            let journey = known(&app, "TESTA1", "routine").await;
            let coach = app.staff("coach-north").await;
            faults.seed(seed as u64);
            faults.next(1, Aim::at(Traffic::Writes), fault.clone());
            faults.sometimes(0.5, Aim::at(Traffic::Writes), fault.clone());
            let struck = faults.struck();
            let mut set = [
                goal(&journey),
                activation(&app, &journey, "56.40", Some(3)),
                encounter(&app, &journey),
                sharing(&app, &journey, "permit"),
            ];
            set[1]["note"] = json!([{ "text": "Filled in together" }]);
            let made = transact(&coach, &set).await;
            app.settled().await;
            faults.clear();
            time_passes(&app).await;
            assert!(faults.struck() > struck, "{fault:?}: nothing failed");
            for kept in &made {
                assert!(is_there(&app, "TESTA1", kept), "{fault:?}: {:?}", deliveries(&app).await);
            }
            // A correction goes the same way.
            let mut wrong = read(&coach, &made[2]).await;
            wrong["status"] = json!("entered-in-error");
            coach.put(format!("/fhir/{}", made[2]), &wrong).await.expect(200);
            time_passes(&app).await;
            assert_eq!(there(&app, "TESTA1", &made[2])["status"], "entered-in-error");
        }
        assert_eq!(app.stand_in.resources("TESTA1", "Provenance").len(), 10, "one for each unit of work");
        assert!(deliveries(&app).await.iter().all(|(state, _)| state == "delivered"));
    }

    async fn a_refused_token_is_renewed_at_once(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let faults = app.stand_in.faults();
        faults.next(1, Aim::at(Traffic::Writes), Fault::Answer { status: 401, retry_after: None });
        let kept = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        assert_eq!(faults.struck(), 1);
        assert!(is_there(&app, "TESTA1", &kept), "{:?}", deliveries(&app).await);
        assert_eq!(app.count("delivery_attempt").await, 1, "within the one attempt");
    }

    async fn retry_after_is_kept(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let faults = app.stand_in.faults();
        faults.next(1, Aim::at(Traffic::Writes), Fault::Answer { status: 503, retry_after: Some(600) });
        let kept = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        let practice = app.practice("TESTA1").await;
        assert_eq!(practice_sees(&practice, &journey).await, ["retrying"]);
        later(&app, Duration::from_secs(599)).await;
        assert_eq!(app.count("delivery_attempt").await, 1, "not a second sooner than asked");
        later(&app, Duration::from_secs(121)).await;
        assert!(is_there(&app, "TESTA1", &kept));
        let attempts = app.rows("select number, verdict, why from delivery_attempt order by number").await;
        assert_eq!(attempts[0][1..], [json!("retry"), json!("status-503")]);
        assert_eq!(attempts[1][1..], [json!("delivered"), json!("")]);
    }

    async fn a_practice_that_does_not_answer_in_time_has_each_thing_once_in_the_end(app: TestApp) {
        let (hung, slow) = (known(&app, "TESTA1", "routine").await, known(&app, "TESTA2", "routine").await);
        let faults = app.stand_in.faults();
        // The time limit of a request is 20 s, here in real time: one never answers, one has done it and answers late.
        faults.next(1, Aim::at(Traffic::Writes).of("TESTA1"), Fault::Hang);
        faults.next(1, Aim::at(Traffic::Writes).of("TESTA2"), Fault::Delay(Duration::from_secs(22)));
        let (north, central) = (app.staff("coach-north").await, app.staff("coach-central").await);
        let one = record(&north, &encounter(&app, &hung)).await;
        let other = record(&central, &encounter(&app, &slow)).await;
        for _ in 0..120 {
            if app.count("delivery_attempt where why = 'timeout'").await == 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        assert_eq!(deliveries(&app).await, vec![("unknown".to_owned(), "timeout".to_owned()); 2]);
        assert!(!is_there(&app, "TESTA1", &one));
        let practice = app.practice("TESTA2").await;
        assert_eq!(practice_sees(&practice, &slow).await, ["unknown"], "an unclear outcome is not hidden");
        time_passes(&app).await;
        there(&app, "TESTA1", &one);
        there(&app, "TESTA2", &other);
    }

    async fn what_a_practice_refuses_stops_at_once_and_goes_to_a_person(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        app.stand_in.faults().next(1, Aim::at(Traffic::Writes), Fault::Answer { status: 422, retry_after: None });
        record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        assert_eq!(deliveries(&app).await, [("refused".to_owned(), "status-422".to_owned())]);
        assert_eq!(asked_of_co_ordinator(&app, "delivery-failed").await, 1);
        let practice = app.practice("TESTA1").await;
        assert_eq!(practice_sees(&practice, &journey).await, ["rejected"]);
        let answer = app.rows("select answer from delivery_attempt").await;
        assert_ne!(answer[0][0], "", "what the practice said is kept");
        later(&app, 24 * HOUR).await;
        assert_eq!(app.count("delivery_attempt").await, 1);
    }

    async fn what_a_practice_does_not_take_in_72_hours_goes_to_a_person(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        app.stand_in.faults().sometimes(1.0, Aim::at(Traffic::All), Fault::Answer { status: 503, retry_after: None });
        record(&coach, &encounter(&app, &journey)).await;
        let began = app.clock.now();
        time_passes(&app).await;
        let tried = app.clock.now() - began;
        assert!((72..87).contains(&tried.num_hours()), "given up after {tried}");
        assert_eq!(deliveries(&app).await, [("needs-person".to_owned(), "retries-exhausted".to_owned())]);
        assert_eq!(asked_of_co_ordinator(&app, "delivery-failed").await, 1);
        let attempts = app.count("delivery_attempt").await;
        assert!((11..30).contains(&attempts), "{attempts}");
    }

    async fn what_is_of_one_person_arrives_in_order_and_holds_up_nobody_else(app: TestApp) {
        let (first, other) = (known(&app, "TESTA1", "routine").await, known(&app, "TESTA1", "routine").await);
        let coach = app.staff("coach-north").await;
        let faults = app.stand_in.faults();
        // Not a 503: with that a practice asks for a pause of everything.
        faults.next(1, Aim::at(Traffic::Writes), Fault::Answer { status: 500, retry_after: Some(600) });
        let one = record(&coach, &encounter(&app, &first)).await;
        app.settled().await;
        let two = record(&coach, &encounter(&app, &first)).await;
        let three = record(&coach, &goal(&first)).await;
        let theirs = record(&coach, &encounter(&app, &other)).await;
        app.settled().await;
        assert!(is_there(&app, "TESTA1", &theirs), "another person's does not wait");
        for kept in [&one, &two, &three] {
            assert!(!is_there(&app, "TESTA1", kept), "{kept} waits for the first");
        }
        later(&app, 20 * MINUTE).await;
        let written: Vec<u64> = [&one, &two, &three]
            .map(|kept| there(&app, "TESTA1", kept)["id"].as_str().unwrap().parse().unwrap()).to_vec();
        assert!(written.is_sorted(), "{written:?}");
    }

    async fn through_every_fault_at_once_nothing_is_lost_doubled_or_out_of_order(app: TestApp) {
        let mut people = Vec::new();
        for nth in 0..8 {
            people.push(known(&app, ["TESTA1", "TESTA2"][nth % 2], "routine").await);
        }
        let faults = app.stand_in.faults();
        faults.seed(20_260_302);
        let answer = |status| Fault::Answer { status, retry_after: None };
        faults.sometimes(0.15, Aim::at(Traffic::Writes), Fault::DropReply);
        faults.sometimes(0.10, Aim::at(Traffic::Writes), Fault::DropRequest);
        faults.sometimes(0.10, Aim::at(Traffic::All), answer(503));
        faults.sometimes(0.05, Aim::at(Traffic::All), answer(429));
        faults.sometimes(0.05, Aim::at(Traffic::Reads), Fault::DropRequest);
        let (north, central) = (app.staff("coach-north").await, app.staff("coach-central").await);
        let mut recorded: Vec<Vec<String>> = vec![Vec::new(); people.len()];
        for _ in 0..5 {
            for (nth, journey) in people.iter().enumerate() {
                let coach = if nth % 2 == 0 { &north } else { &central };
                recorded[nth].push(record(coach, &encounter(&app, journey)).await);
            }
        }
        // Hours of it, and then the practices recover: within the days in which it is tried, everything gets there.
        for _ in 0..6 {
            later(&app, 60 * MINUTE).await;
        }
        assert!(faults.struck() > 20, "{}", faults.struck());
        faults.clear();
        time_passes(&app).await;
        assert_eq!(deliveries(&app).await, vec![("delivered".to_owned(), String::new()); 40]);
        for (nth, kept) in recorded.iter().enumerate() {
            let practice = ["TESTA1", "TESTA2"][nth % 2];
            let written: Vec<u64> =
                kept.iter().map(|k| there(&app, practice, k)["id"].as_str().unwrap().parse().unwrap()).collect();
            assert!(written.is_sorted(), "{written:?}");
        }
        assert_eq!(ours_at(&app, "TESTA1").len() + ours_at(&app, "TESTA2").len(), 40);
        let provenances =
            app.stand_in.resources("TESTA1", "Provenance").len() + app.stand_in.resources("TESTA2", "Provenance").len();
        assert_eq!(provenances, 40);
        let gaps = app.count("delivery where attempts <> (select count(*) from delivery_attempt a where a.delivery = delivery.id)").await;
        assert_eq!(gaps, 0, "every attempt has its row");
    }

    async fn a_person_the_practice_does_not_know_so_is_a_persons_to_settle(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let coach = app.staff("coach-north").await;
        let mut expected = Vec::new();
        for (nth, reason) in ["patient-not-found", "birth-date-differs", "family-name-differs", "several-patients"].into_iter().enumerate() {
            let journey = refer(&app, &practice, "TESTA1", "routine").await;
            let number = &journey.nhs_number;
            match reason {
                "birth-date-differs" => registered(&app, "TESTA1", number, "Example", "1961-04-22").await,
                "family-name-differs" => registered(&app, "TESTA1", number, "Otherwise", "1951-04-22").await,
                "several-patients" => {
                    registered(&app, "TESTA1", number, "Example", "1951-04-22").await;
                    registered(&app, "TESTA1", number, "Example", "1951-04-22").await;
                }
                _ => {}
            }
            record(&coach, &encounter(&app, &journey)).await;
            app.settled().await;
            expected.push(("needs-person".to_owned(), reason.to_owned()));
            assert_eq!(deliveries(&app).await, expected);
            assert_eq!(asked_of_co_ordinator(&app, "delivery-failed").await, i64::try_from(nth).unwrap() + 1, "{reason}");
            assert_eq!(practice_sees(&practice, &journey).await, ["needs-person"]);
        }
        assert_eq!(ours_at(&app, "TESTA1").len(), 0, "nothing was written to anybody's record");
        let co_ordinator = app.staff("co-ordinator").await;
        let task = crate::journey::claim_next(&co_ordinator, "co-ordinator").await.expect(200).body;
        assert_eq!(path::text(&task, "code.coding.code"), Some("delivery-failed"));
        let text = task.to_string();
        assert!(!text.contains("999") && !text.contains("Example"), "{text}");
    }

    async fn a_correction_is_a_new_version_at_the_practice(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let kept = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        let first = there(&app, "TESTA1", &kept);
        for (nth, change) in ["Talked about the bus", "entered-in-error"].into_iter().enumerate() {
            let mut corrected = read(&coach, &kept).await;
            match change {
                "entered-in-error" => corrected["status"] = json!(change),
                text => corrected["reasonCode"] = json!([{ "text": text }]),
            }
            let builds_on = version(&corrected);
            coach.put(format!("/fhir/{kept}"), &corrected).if_match(builds_on).await.expect(200);
            app.settled().await;
            let now = there(&app, "TESTA1", &kept);
            assert!(now.to_string().contains(change), "{now}");
            assert_eq!((&now["id"], version(&now)), (&first["id"], version(&first) + i64::try_from(nth).unwrap() + 1));
        }
        assert_eq!(app.stand_in.resources("TESTA1", "Encounter").len(), 1);
        assert!(deliveries(&app).await.iter().all(|(state, _)| state == "delivered"));
    }

    async fn a_correction_whose_reply_is_lost_is_made_once(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let kept = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        let mut corrected = read(&coach, &kept).await;
        corrected["reasonCode"] = json!([{ "text": "Talked about the bus" }]);
        app.stand_in.faults().next(1, Aim::at(Traffic::Writes), Fault::DropReply);
        coach.put(format!("/fhir/{kept}"), &corrected).if_match(1).await.expect(200);
        time_passes(&app).await;
        let now = there(&app, "TESTA1", &kept);
        assert_eq!(version(&now), 2);
        assert!(deliveries(&app).await.iter().all(|(state, _)| state == "delivered"));
    }

    async fn what_the_practice_changed_itself_is_never_overwritten(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let kept = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        let mut edited = there(&app, "TESTA1", &kept);
        edited["reasonCode"] = json!([{ "text": "The doctor's own words" }]);
        let below = format!("Encounter/{}", edited["id"].as_str().unwrap());
        practice_writes(&app, "TESTA1", &below, &edited).await;
        let mut corrected = read(&coach, &kept).await;
        corrected["reasonCode"] = json!([{ "text": "Talked about the bus" }]);
        coach.put(format!("/fhir/{kept}"), &corrected).if_match(1).await.expect(200);
        app.settled().await;
        assert_eq!(there(&app, "TESTA1", &kept)["reasonCode"][0]["text"], "The doctor's own words");
        assert_eq!(deliveries(&app).await[1], ("needs-person".to_owned(), "version-conflict".to_owned()));
        assert_eq!(asked_of_co_ordinator(&app, "delivery-failed").await, 1);
    }

    async fn a_practice_without_endpoint_is_asked_for_once_and_gets_all_when_it_has_one(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let coach = app.staff("coach-north").await;
        let mut kept = Vec::new();
        for _ in 0..2 {
            let number = somebody();
            let journey = send(&app, &practice, &referral_of(&number, "TESTZ9", "routine")).await;
            // The new practice's system is one that stands here already.
            registered(&app, "TESTA2", &number, "Example", "1951-04-22").await;
            kept.push(record(&coach, &encounter(&app, &journey)).await);
            kept.push(record(&coach, &goal(&journey)).await);
            assert_eq!(practice_sees(&practice, &journey).await, ["no-route", "no-route"]);
        }
        app.settled().await;
        assert_eq!(deliveries(&app).await, vec![("no-route".to_owned(), "no-endpoint".to_owned()); 4]);
        assert_eq!(asked_of_co_ordinator(&app, "no-route").await, 1, "one Task for the practice");
        later(&app, 100 * HOUR).await;
        assert_eq!(app.count("delivery where state = 'no-route'").await, 4, "it does not expire");

        app.load(&practice_with_endpoint("TESTZ9", &app.stand_in.base("TESTA2"))).await;
        app.settled().await;
        for kept in &kept {
            there(&app, "TESTA2", kept);
        }
        let order: Vec<u64> =
            kept[..2].iter().map(|k| there(&app, "TESTA2", k)["id"].as_str().unwrap().parse().unwrap()).collect();
        assert!(order.is_sorted(), "in the order recorded: {order:?}");
    }

    async fn what_has_no_practice_waits_until_somebody_says_which(app: TestApp) {
        // A practice that is not affiliated does not make itself the receiver of its referrals.
        let sender = app.practice("TESTA4").await;
        let journey = send(&app, &sender, &referral_of(&somebody(), "", "routine")).await;
        let coach = app.staff("coach-north").await;
        let kept = [record(&coach, &encounter(&app, &journey)).await, record(&coach, &goal(&journey)).await];
        assert_eq!(deliveries(&app).await, vec![("no-route".to_owned(), "no-practice".to_owned()); 2]);
        assert_eq!(asked_of_co_ordinator(&app, "find-practice").await, 1, "one Task for the person");

        registered(&app, "TESTA2", &journey.nhs_number, "Example", "1951-04-22").await;
        let co_ordinator = app.staff("co-ordinator").await;
        let mut person = read(&co_ordinator, &journey.person).await;
        person["generalPractitioner"] = json!([{ "type": "Organization", "identifier": { "system": ODS, "value": "TESTA2" } }]);
        let system = app.system().await;
        system.put(format!("/fhir/{}", journey.person), &person).if_match(version(&person)).await.expect(200);
        app.settled().await;
        for kept in &kept {
            there(&app, "TESTA2", kept);
        }
    }

    async fn what_has_no_practice_goes_when_a_later_referral_says_which(app: TestApp) {
        let sender = app.practice("TESTA4").await;
        let journey = send(&app, &sender, &referral_of(&somebody(), "", "routine")).await;
        let coach = app.staff("coach-north").await;
        let kept = record(&coach, &encounter(&app, &journey)).await;
        registered(&app, "TESTA2", &journey.nhs_number, "Example", "1951-04-22").await;
        send(&app, &sender, &referral_of(&journey.nhs_number, "TESTA2", "routine")).await;
        app.settled().await;
        there(&app, "TESTA2", &kept);
    }

    async fn a_practice_found_that_has_no_endpoint_is_asked_for_too(app: TestApp) {
        let sender = app.practice("TESTA4").await;
        let journey = send(&app, &sender, &referral_of(&somebody(), "", "routine")).await;
        let coach = app.staff("coach-north").await;
        record(&coach, &encounter(&app, &journey)).await;
        let system = app.system().await;
        let mut person = read(&system, &journey.person).await;
        person["generalPractitioner"] = json!([{ "type": "Organization", "identifier": { "system": ODS, "value": "TESTZ9" } }]);
        system.put(format!("/fhir/{}", journey.person), &person).if_match(version(&person)).await.expect(200);
        app.settled().await;
        assert_eq!(deliveries(&app).await, [("no-route".to_owned(), "no-endpoint".to_owned())]);
        assert_eq!(asked_of_co_ordinator(&app, "no-route").await, 1, "nothing waits in silence");
    }

    async fn without_an_nhs_number_write_back_waits_for_identity(app: TestApp) {
        let sender = app.practice("TESTA1").await;
        let mut request = referral_of("", "TESTA1", "routine");
        request["contained"][0].as_object_mut().unwrap().remove("identifier");
        let journey = send(&app, &sender, &request).await;
        let coach = app.staff("coach-north").await;
        let kept = record(&coach, &encounter(&app, &journey)).await;
        app.settled().await;
        assert_eq!(deliveries(&app).await, [("no-route".to_owned(), "no-identity".to_owned())]);
        let number = somebody();
        registered(&app, "TESTA1", &number, "Example", "1951-04-22").await;
        let system = app.system().await;
        let mut person = read(&system, &journey.person).await;
        person["identifier"] = json!([{ "system": NHS_NUMBER, "value": number }]);
        system.put(format!("/fhir/{}", journey.person), &person).if_match(version(&person)).await.expect(200);
        app.settled().await;
        there(&app, "TESTA1", &kept);
    }

    async fn a_restart_in_the_middle_loses_and_doubles_nothing(app: TestApp) {
        let faults = app.stand_in.faults();
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        for fault in [Fault::Delay(Duration::from_millis(400)), Fault::DropReply, Fault::DropRequest] {
            let struck = faults.struck();
            faults.next(1, Aim::at(Traffic::Writes), fault.clone());
            let made = transact(&coach, &[encounter(&app, &journey), goal(&journey)]).await;
            under_way(&app, struck).await;
            app.restart().await;
            let waiting = record(&coach, &encounter(&app, &journey)).await;
            time_passes(&app).await;
            for kept in made.iter().chain([&waiting]) {
                there(&app, "TESTA1", kept);
            }
            assert!(deliveries(&app).await.iter().all(|(state, _)| state == "delivered"), "{fault:?}");
        }
        assert_eq!(app.stand_in.resources("TESTA1", "Provenance").len(), 6);
    }

    async fn a_service_that_ends_within_an_attempt_is_followed_by_one_that_looks_first(app: TestApp) {
        let faults = app.stand_in.faults();
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        // Once the practice has done it when we end, and once it has not.
        let mut leased_again = 0;
        for fault in [Fault::Delay(Duration::from_millis(400)), Fault::Hang] {
            let struck = faults.struck();
            faults.next(1, Aim::at(Traffic::Writes), fault.clone());
            let one = record(&coach, &encounter(&app, &journey)).await;
            under_way(&app, struck).await;
            app.kill();
            app.restart().await;
            let two = record(&coach, &goal(&journey)).await;
            assert!(!is_there(&app, "TESTA1", &two), "the lease of the one before it still runs");
            assert_eq!(app.count("delivery where settled_at is null and lease = 1").await, 1);
            app.clock.advance(Duration::from_secs(91));
            time_passes(&app).await;
            let order: Vec<u64> =
                [&one, &two].map(|k| there(&app, "TESTA1", k)["id"].as_str().unwrap().parse().unwrap()).into();
            assert!(order.is_sorted(), "{fault:?}: {order:?}");
            leased_again += 1;
            assert_eq!(app.count("delivery where lease = 2").await, leased_again, "taken up again, once");
        }
        assert_eq!(app.stand_in.resources("TESTA1", "Provenance").len(), 4);
    }

    async fn cause_delivery_and_audit_are_one_unit_of_work(app: TestApp) {
        let journey = known(&app, "TESTA1", "routine").await;
        let coach = app.staff("coach-north").await;
        let before = app.count("audit").await;
        let made = transact(&coach, &[encounter(&app, &journey), goal(&journey)]).await;
        let rows = app.rows("select items, created_at from delivery").await;
        for kept in &made {
            let (kind, id) = kept.split_once('/').unwrap();
            assert!(rows[0][0].as_str().unwrap().contains(id));
            let at = app.rows(&format!("select updated_at from resource where kind = '{kind}' and id = '{id}'")).await;
            assert_eq!(at[0][0], rows[0][1], "of one moment");
            assert_eq!(app.count(&format!("audit where interaction = 'create' and target = '{kept}'")).await, 1);
        }
        assert!(app.count("audit").await > before);
        // A refused one leaves none of the three.
        let (deliveries, audited) = (app.count("delivery").await, app.count("audit where interaction = 'create'").await);
        let mut wrong = encounter(&app, &journey);
        wrong["basedOn"] = json!([{ "reference": "ServiceRequest/none" }]);
        coach.post("/fhir/Encounter", &wrong).await.expect(422);
        assert_eq!(app.count("delivery").await, deliveries);
        assert_eq!(app.count("audit where interaction = 'create'").await, audited);
    }
}

/// Waits until one more request has met a fault at the practice.
async fn under_way(app: &TestApp, struck: usize) {
    for _ in 0..1000 {
        if app.stand_in.faults().struck() > struck {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing was sent");
}

/// A directory with one more practice of the North, whose system is at `address`.
fn practice_with_endpoint(ods: &str, address: &str) -> Value {
    let id = ods.to_lowercase();
    json!({ "resourceType": "Bundle", "type": "collection", "entry": [
        { "resource": {
            "resourceType": "Endpoint", "id": format!("fhir-{id}"), "status": "active",
            "connectionType": {
                "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "hl7-fhir-rest",
            },
            "payloadType": [{ "text": "FHIR R4" }],
            "address": address,
        }},
        { "resource": {
            "resourceType": "Organization", "id": id, "active": true, "name": "A new surgery",
            "identifier": [{ "system": ODS, "value": ods }],
            "endpoint": [{ "reference": format!("Endpoint/fhir-{id}") }],
        }},
    ]})
}
