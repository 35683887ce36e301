//! Who sees what: the sender, the registered practice and Live Well's own; to everybody else it does not exist.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::caller::Caller;
use crate::support::{TestApp, app::row, build, on_each_database};

/// A referral of Bert (TESTA2, central) by TESTA1, worked on once: its id, its person, its Task, the Encounter.
struct Worked {
    referral: String,
    person: String,
    task: String,
    encounter: String,
}

async fn worked(app: &TestApp) -> Worked {
    let referral = build::referral_with(build::person(build::BERT));
    let referral = app.practice("TESTA1").await.post("ServiceRequest", &referral).await.expect(201).id();
    let coach = app.staff("coach-central").await;
    let task = coach.get(format!("Task?focus=ServiceRequest/{referral}")).await.expect(200).resources().remove(0);
    let person = task["for"]["reference"].as_str().unwrap().to_owned();
    let encounter = build::encounter(&format!("ServiceRequest/{referral}"), &person);
    let encounter = coach.post("Encounter", &encounter).await.expect(201).id();
    let person = person.strip_prefix("Patient/").unwrap().to_owned();
    Worked { referral, person, task: task["id"].as_str().unwrap().to_owned(), encounter }
}

impl Worked {
    fn paths(&self) -> Vec<String> {
        vec![
            format!("ServiceRequest/{}", self.referral),
            format!("ServiceRequest/{}/_history/1", self.referral),
            format!("ServiceRequest/{}/_history", self.referral),
            format!("ServiceRequest/{}/$status", self.referral),
            format!("Patient/{}", self.person),
            format!("Patient/{}/_history", self.person),
            format!("Task/{}", self.task),
            format!("Task/{}/_history/1", self.task),
            format!("Encounter/{}", self.encounter),
        ]
    }

    fn searches(&self) -> Vec<String> {
        let number = format!("https://fhir.nhs.uk/Id/nhs-number%7C{}", build::BERT.0);
        vec![
            format!("ServiceRequest?_id={}", self.referral),
            format!("ServiceRequest?patient={}", self.person),
            format!("ServiceRequest?patient.identifier={number}"),
            format!("Patient?identifier={number}"),
            format!("Patient?family={}", build::BERT.1),
            format!("Task?focus=ServiceRequest/{}", self.referral),
            format!("Task?patient={}", self.person),
            format!("Encounter?patient.identifier={number}"),
        ]
    }
}

/// How many a search finds, by its entries and by its total.
async fn found(caller: &Caller, search: &str) -> (usize, Value) {
    let answer = caller.get(format!("{search}&_total=accurate")).await.expect(200);
    (answer.resources().len(), answer.body["total"].clone())
}

/// The path with another id, that nothing has.
fn missing(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts[1] = "01999999-0000-7000-8000-000000000000";
    parts.join("/")
}

on_each_database! {
    async fn the_sender_and_the_registered_practice_see_the_referral_and_what_came_of_it(app: TestApp) {
        let worked = worked(&app).await;
        for practice in ["TESTA1", "TESTA2"] {
            let practice = app.practice(practice).await;
            for path in worked.paths().iter().filter(|path| practice.id == "practice-testa2" || !path.starts_with("Patient")) {
                practice.get(path.as_str()).await.expect(200);
            }
            for search in worked.searches().iter().filter(|s| practice.id == "practice-testa2" || !s.starts_with("Patient")) {
                assert_eq!(found(&practice, search).await, (1, json!(1)), "{}: {search}", practice.id);
            }
        }
    }

    async fn to_another_practice_what_it_may_not_see_is_what_does_not_exist(app: TestApp) {
        let worked = worked(&app).await;
        let stranger = app.practice("TESTA3").await;
        for path in worked.paths() {
            let hidden = stranger.get(path.as_str()).header("X-Request-Id", "r-1").await.expect(404);
            let absent = stranger.get(missing(&path)).header("X-Request-Id", "r-1").await.expect(404);
            assert_eq!(hidden.text, absent.text, "{path}");
            assert_eq!(hidden.headers.len(), absent.headers.len(), "{path}");
        }
        for search in worked.searches() {
            assert_eq!(found(&stranger, &search).await, (0, json!(0)), "{search}");
        }
        let request = app.practice("TESTA1").await.get(format!("ServiceRequest/{}", worked.referral)).await.body;
        let mut absent = request.clone();
        absent["id"] = json!("01999999-0000-7000-8000-000000000000");
        let hidden = stranger.put(format!("ServiceRequest/{}", worked.referral), &request).if_match(1).await.expect(404);
        let absent = stranger.put(missing(&format!("ServiceRequest/{}", worked.referral)), &absent).if_match(1).await;
        assert_eq!(hidden.text, absent.expect(404).text);
        // Nor is it a subject for the stranger's own referral.
        let mut mine = build::referral();
        mine["subject"] = json!({ "reference": format!("Patient/{}", worked.person) });
        stranger.post("ServiceRequest", &mine).await.expect(422);
        let outcome = build::parameters(&[("outcome", "valueCode", json!("accepted"))]);
        let nothing = build::parameters(&[]);
        for (operation, given) in [("$claim", &nothing), ("$release", &nothing), ("$complete", &outcome)] {
            let path = format!("Task/{}/{operation}", worked.task);
            let hidden = stranger.post(path.as_str(), given).if_match(1).await;
            let absent = stranger.post(missing(&path), given).if_match(1).await;
            assert_eq!((hidden.status, &hidden.text), (absent.status, &absent.text), "{operation}");
            assert!(hidden.status == 403 || hidden.status == 404, "{}", hidden.text);
        }
    }

    async fn a_coach_sees_their_own_locality_and_what_has_none(app: TestApp) {
        let worked = worked(&app).await;
        let nowhere = build::referral_with(build::person(build::DAN));
        let nowhere = app.practice("TESTA4").await.post("ServiceRequest", &nowhere).await.expect(201).id();
        let (own, other) = (app.staff("coach-central").await, app.staff("coach-north").await);
        for path in worked.paths() {
            own.get(path.as_str()).await.expect(200);
            other.get(path.as_str()).await.expect(404);
        }
        for search in worked.searches() {
            assert_eq!(found(&own, &search).await, (1, json!(1)), "{search}");
            assert_eq!(found(&other, &search).await, (0, json!(0)), "{search}");
        }
        for everyone in [own, other, app.staff("link-south").await] {
            everyone.get(format!("ServiceRequest/{nowhere}")).await.expect(200);
        }
        for path in worked.paths() {
            app.staff("co-ordinator").await.get(path.as_str()).await.expect(200);
            app.system().await.get(path.as_str()).await.expect(200);
        }
    }

    async fn who_moves_to_another_practice_is_seen_there_and_no_longer_where_they_were(app: TestApp) {
        let worked = worked(&app).await;
        let path = format!("Patient/{}", worked.person);
        let coach = app.staff("coach-central").await;
        let read = coach.get(path.as_str()).await.expect(200);
        let moved = build::registered_at(read.body.clone(), "TESTA3");
        coach.put(path.as_str(), &moved).if_match(read.version()).await.expect(200);
        let (before, after) = (app.practice("TESTA2").await, app.practice("TESTA3").await);
        for path in worked.paths() {
            before.get(path.as_str()).await.expect(404);
            after.get(path.as_str()).await.expect(200);
        }
        for search in worked.searches() {
            assert_eq!(found(&before, &search).await, (0, json!(0)), "{search}");
            assert_eq!(found(&after, &search).await, (1, json!(1)), "{search}");
        }
        // The sender keeps sight of what it sent.
        app.practice("TESTA1").await.get(format!("ServiceRequest/{}", worked.referral)).await.expect(200);
    }

    async fn an_evaluator_sees_no_person(app: TestApp) {
        let worked = worked(&app).await;
        app.load(&json!({
            "resourceType": "PractitionerRole", "id": "evaluator", "active": true,
            "practitioner": { "display": "Eva Luator" },
            "organization": { "reference": "Organization/live-well" },
            "code": [{ "coding": [{ "system": "https://livewell.example/CodeSystem/role", "code": "evaluator" }] }],
        }))
        .await;
        let evaluator = app.staff("evaluator").await;
        for path in worked.paths() {
            evaluator.get(path.as_str()).await.expect(404);
        }
        for search in worked.searches() {
            assert_eq!(found(&evaluator, &search).await, (0, json!(0)), "{search}");
        }
        evaluator.get("PlanDefinition?status=active").await.expect(200);
    }

    async fn whose_role_has_ended_or_is_elsewhere_is_no_member_of_staff(app: TestApp) {
        let role = |id: &str, organization: &str, period: Value| json!({
            "resourceType": "PractitionerRole", "id": id, "active": true, "period": period,
            "practitioner": { "display": "Somebody" },
            "organization": { "reference": organization },
            "identifier": [{ "system": "https://staff.example/Id", "value": id }],
            "code": [{ "coding": [{ "system": "https://livewell.example/CodeSystem/role", "code": "health-coach" }] }],
        });
        let (ours, practice) = ("Organization/live-well", "Organization/testa1");
        for (id, organization, period, works) in [
            ("here", ours, json!({ "start": "2026-01-01" }), true),
            ("gone", ours, json!({ "end": "2026-02-28" }), false),
            ("to-come", ours, json!({ "start": "2027-01-01" }), false),
            ("elsewhere", practice, json!({ "start": "2026-01-01" }), false),
        ] {
            app.load(&role(id, organization, period)).await;
            let named = app.speaker().await.acting_for(id);
            named.get("Task?status=requested").await.expect(if works { 200 } else { 403 });
        }
        app.staff("here").await.get("Task?status=requested").await.expect(200);
        app.staff("gone").await.get("Task?status=requested").await.expect(403);
    }

    async fn without_a_token_nothing_is_told(app: TestApp) {
        let worked = worked(&app).await;
        let practice = app.practice("TESTA1").await;
        for path in worked.paths().iter().chain(&worked.searches()) {
            for credentials in ["", "Bearer nonsense", "Basic dXNlcjpwYXNz"] {
                let refused = practice.get(path.as_str()).header("Authorization", credentials).await.expect(401);
                assert!(refused.header("www-authenticate").starts_with("Bearer"), "{:?}", refused.headers);
                assert_eq!(refused.issue(), "login");
            }
        }
        app.settled().await;
        let before = app.stored().await;
        practice.post("ServiceRequest", &build::referral()).header("Authorization", "").await.expect(401);
        practice.post("", &build::transaction([])).header("Authorization", "").await.expect(401);
        assert_eq!(app.stored().await, before);
        practice.get("metadata").header("Authorization", "").await.expect(200);
    }

    async fn scopes_say_which_interactions_a_client_has_with_which_types(app: TestApp) {
        let made = app.practice("TESTA1").await.post("ServiceRequest", &build::referral()).await.expect(201);
        let path = format!("ServiceRequest/{}", made.id());
        // Scope, and what is answered to read, search, create and update.
        for (at, (scope, answers)) in [
            ("system/ServiceRequest.r", [200, 403, 403, 403]),
            ("system/ServiceRequest.s", [403, 200, 403, 403]),
            ("system/ServiceRequest.c", [403, 403, 201, 403]),
            ("system/ServiceRequest.u", [403, 403, 403, 200]),
            ("system/ServiceRequest.read", [200, 200, 403, 403]),
            ("system/ServiceRequest.write", [403, 403, 201, 200]),
            ("system/Patient.cruds", [403, 403, 403, 403]),
            ("system/*.rs", [200, 200, 403, 403]),
        ].into_iter().enumerate() {
            let client = app.client(&format!("scoped-{at}"), "TESTA1", scope).await;
            let asked = [
                client.get(path.as_str()).await,
                client.get("ServiceRequest?status=active").await,
                client.post("ServiceRequest", &build::referral()).await,
                client.put(path.as_str(), &made.body).await,
            ];
            assert_eq!(asked.each_ref().map(|answer| answer.status), answers, "{scope}");
            for refused in asked.iter().filter(|answer| answer.status == 403) {
                assert!(refused.text.contains("system/ServiceRequest."), "{}", refused.text);
            }
            let by_form = client.send(Method::POST, "ServiceRequest/_search");
            let by_form = by_form.text("application/x-www-form-urlencoded", "status=active").await;
            assert_eq!(by_form.status, answers[1], "{scope}");
            for below in ["/_history/1", "/_history", "/$status"] {
                assert_eq!(client.get(format!("{path}{below}")).await.status, answers[0], "{scope} {below}");
            }
        }
    }

    async fn each_entry_of_a_bundle_needs_its_scope(app: TestApp) {
        let client = app.client("referrals-only", "TESTA1", "system/ServiceRequest.cruds").await;
        let before = app.stored().await;
        let urn = build::urn();
        let mut referral = build::referral();
        referral["subject"] = json!({ "reference": urn });
        let bundle = build::transaction([(build::urn(), referral), (urn, build::person(build::ADA))]);
        let refused = client.post("", &bundle).await.expect(403);
        assert!(refused.text.contains("system/Patient.c"), "{}", refused.text);
        assert_eq!(app.stored().await, before);
        client.post("", &build::transaction([(build::urn(), build::referral())])).await.expect(200);
    }

    async fn work_is_taken_with_the_scope_to_change_tasks(app: TestApp) {
        app.practice("TESTA1").await.post("ServiceRequest", &build::referral()).await.expect(201);
        let mut registration = row("coach-who-only-reads", "TESTLW", "system/Task.rs");
        registration.staff = "PractitionerRole/coach-north".to_owned();
        let reader = app.register(registration).await;
        assert_eq!(reader.get("Task?status=requested").await.expect(200).resources().len(), 1);
        let next = build::parameters(&[("role", "valueCode", json!("health-coach"))]);
        reader.post("Task/$claim-next", &next).await.expect(403);
        app.staff("coach-north").await.post("Task/$claim-next", &next).await.expect(200);
    }

    async fn a_system_that_speaks_for_staff_is_the_person_it_names(app: TestApp) {
        let worked = worked(&app).await;
        app.practice("TESTA1").await.post("ServiceRequest", &build::referral()).await.expect(201);
        let speaker = app.speaker().await;
        let next = build::parameters(&[("role", "valueCode", json!("health-coach"))]);
        speaker.post("Task/$claim-next", &next).await.expect(403);
        let north = speaker.clone().acting_for("coach-north");
        north.get(format!("ServiceRequest/{}", worked.referral)).await.expect(404);
        let taken = north.post("Task/$claim-next", &next).await.expect(200);
        assert_eq!(taken.body["owner"]["reference"], "PractitionerRole/coach-north");
        speaker.clone().acting_for("coach-central").get(format!("ServiceRequest/{}", worked.referral)).await.expect(200);
        let actors = app.rows("select distinct actor from audit where client = 'live-well-speaker' order by actor").await;
        assert!(actors.contains(&vec![json!("PractitionerRole/coach-north")]), "{actors:?}");
        speaker.clone().acting_for("nobody").get("Task?status=requested").await.expect(403);
        for nonsense in ["!!", "bm90IGpzb24="] {
            let ask = speaker.get("Task?status=requested").header("NHSD-Requesting-Practitioner", nonsense);
            assert!(ask.await.expect(400).text.contains("NHSD-Requesting-Practitioner"));
        }
        // A practice that sends the header is still that practice.
        let practice = app.practice("TESTA3").await.acting_for("coach-central");
        practice.get(format!("ServiceRequest/{}", worked.referral)).await.expect(404);
        practice.post("Task/$claim-next", &next).await.expect(403);
    }

    async fn every_disclosure_and_every_change_is_on_the_audit_trail(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let made = practice.post("ServiceRequest", &build::referral()).header("X-Request-Id", "request-1").await.expect(201);
        let path = format!("ServiceRequest/{}", made.id());
        practice.get(path.as_str()).await.expect(200);
        practice.get(format!("{path}/_history/1")).await.expect(200);
        practice.get(format!("{path}/_history")).await.expect(200);
        practice.get(format!("{path}/$status")).await.expect(200);
        practice.get(format!("ServiceRequest?patient.identifier={}", build::ADA.0)).await.expect(200);
        practice.get("Task?status=requested").await.expect(200);
        let mut request = made.body.clone();
        request["note"] = json!([{ "text": "Mornings." }]);
        practice.put(path.as_str(), &request).if_match(1).await.expect(200);
        let rows = "select interaction, target, organization, outcome from audit where client = 'practice-testa1' order by id";
        let trail = app.rows(rows).await;
        for (interaction, target) in [
            ("create", path.clone()),
            ("read", path.clone()),
            ("vread", format!("{path}/_history/1")),
            ("history-instance", path.clone()),
            ("$status", path.clone()),
            ("search-type", "ServiceRequest".to_owned()),
            ("search-type", "Task".to_owned()),
            ("update", path.clone()),
        ] {
            let expected = vec![json!(interaction), json!(target), json!("TESTA1"), json!("success")];
            assert!(trail.contains(&expected), "{interaction} {target}: {trail:#?}");
        }
        assert!(!format!("{trail:?}").contains(build::ADA.0));
        let first = app.rows("select request_id, person from audit where interaction = 'create' and client = 'practice-testa1'").await;
        let person = app.rows("select id from person").await;
        assert_eq!(first[0], [json!("request-1"), person[0][0].clone()]);
    }
}
