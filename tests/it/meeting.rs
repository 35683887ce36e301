//! Units of work that meet on the same people, Tasks and practices at the same moment: none undoes what another did, and
//! none waits for one that waits for it.

use serde_json::{Value, json};

use crate::support::caller::{Answer, Ask};
use crate::support::{TestApp, build, on_each_database};

/// The `n`th NHS number of the test range whose check digit holds.
fn number(n: usize) -> String {
    let check = |stem: &str| {
        let sum: usize =
            stem.bytes().zip((2..=10).rev()).map(|(digit, weight)| usize::from(digit - b'0') * weight).sum();
        (11 - sum % 11) % 11
    };
    let stems = (10..).map(|at| format!("999{at:06}"));
    stems.filter(|stem| check(stem) != 10).map(|stem| format!("{stem}{}", check(&stem))).nth(n).unwrap()
}

async fn both(one: Ask, other: Ask) -> (Answer, Answer) {
    let (one, other) = (tokio::spawn(one.into_future()), tokio::spawn(other.into_future()));
    (one.await.unwrap(), other.await.unwrap())
}

/// A referral with a contained Patient that says this much of the person.
fn teaching(number: &str, what: &Value) -> Value {
    let mut patient = json!({ "resourceType": "Patient",
        "identifier": [{ "system": "https://fhir.nhs.uk/Id/nhs-number", "value": number }] });
    patient.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
    build::referral_with(patient)
}

fn entries(resources: &[Value]) -> Value {
    build::transaction(resources.iter().map(|resource| (build::urn(), resource.clone())))
}

on_each_database! {
    async fn what_two_referrals_teach_of_a_person_is_all_known(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        practice.token().await;
        for n in 0..8 {
            let number = number(n);
            practice.post("ServiceRequest", &build::referral_of(&number)).await.expect(201);
            let born = json!({ "birthDate": "1950-01-01", "generalPractitioner": [build::organization("TESTA1")] });
            let called = json!({ "name": [{ "family": "Testfamily" }] });
            let (one, other) = both(
                practice.post("ServiceRequest", &teaching(&number, &born)),
                practice.post("ServiceRequest", &teaching(&number, &called)),
            )
            .await;
            assert_eq!((one.status, other.status), (201, 201));
        }
        let known = app.rows("select distinct birth_date, family, practice from person").await;
        assert_eq!(known, [[json!("1950-01-01"), json!("Testfamily"), json!("TESTA1")]]);
    }

    async fn a_number_that_staff_correct_is_not_put_back_by_a_referral_that_comes_meanwhile(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let staff = app.staff("co-ordinator").await;
        practice.token().await;
        staff.token().await;
        for n in 0..6 {
            let (was, right) = (number(2 * n), number(2 * n + 1));
            practice.post("ServiceRequest", &build::referral_of(&was)).await.expect(201);
            let person = app.rows(&format!("select id from person where nhs_number = '{was}'")).await[0][0].clone();
            let at = format!("Patient/{}", person.as_str().unwrap());
            let mut ours = staff.get(at.as_str()).await.expect(200).body;
            ours["identifier"][0]["value"] = json!(right);
            ours["birthDate"] = json!("1940-02-02");
            let called = json!({ "name": [{ "family": "Testfamily" }] });
            let (put, came) = both(
                staff.put(at.as_str(), &ours).if_match(1),
                practice.post("ServiceRequest", &teaching(&was, &called)),
            )
            .await;
            assert!(matches!(put.status, 200 | 412) && came.status == 201, "{} {}", put.text, came.text);
            let now = staff.get(at.as_str()).await.expect(200).body["identifier"][0]["value"].clone();
            let known = app.rows(&format!("select nhs_number from person where id = {person}").replace('"', "'")).await;
            assert_eq!(known[0][0], now, "where it is sent is what is shown");
        }
    }

    async fn a_record_never_waits_for_a_practice_that_is_known(app: TestApp) {
        let system = app.client("other", "TESTB9", "system/*.cruds").await;
        let practice = app.practice("TESTA1").await;
        let coach = app.staff("coach-north").await;
        system.token().await;
        practice.token().await;
        coach.token().await;
        for n in 0..8 {
            let number = number(n);
            let referral = system.post("ServiceRequest", &build::referral_of(&number)).await.expect(201).id();
            let person = app.rows(&format!("select id from person where nhs_number = '{number}'")).await[0][0].clone();
            let person = format!("Patient/{}", person.as_str().unwrap());
            let registered = json!({ "birthDate": "1950-01-01", "generalPractitioner": [build::organization("TESTA1")] });
            both(
                system.post("ServiceRequest", &teaching(&number, &registered)),
                coach.post("Encounter", &build::encounter(&format!("ServiceRequest/{referral}"), &person)),
            )
            .await;
        }
        let stuck = "delivery d join person p on p.id = d.person where d.practice = '' and p.practice <> ''";
        assert_eq!(app.count(stuck).await, 0);
    }

    async fn a_patient_that_a_referral_names_is_not_deleted_beside_it(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        practice.token().await;
        for n in 0..8 {
            let patient = practice.post("Patient", &build::patient(&number(n), "Testfamily", "1950-01-01")).await.expect(201);
            let at = format!("Patient/{}", patient.id());
            let mut referral = build::referral();
            referral["subject"] = json!({ "reference": at });
            let (gone, came) = both(
                practice.send(reqwest::Method::DELETE, at.as_str()),
                practice.post("ServiceRequest", &referral),
            )
            .await;
            assert!(
                matches!((gone.status, came.status), (409, 201) | (204, 422)),
                "{} {}: {} {}", gone.status, came.status, gone.text, came.text
            );
        }
    }

    async fn transactions_about_the_same_people_in_any_order_never_deadlock(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let other = app.practice("TESTA2").await;
        practice.token().await;
        other.token().await;
        let about = |numbers: [usize; 2]| entries(&numbers.map(|n| build::referral_of(&number(n))));
        // Nobody knows them yet, and then both do.
        for _ in 0..4 {
            let asked = (0..8).map(|n| {
                let who = if n % 2 == 0 { &practice } else { &other };
                tokio::spawn(who.post("", &about(if n % 4 < 2 { [0, 1] } else { [1, 0] })).into_future())
            });
            for asked in asked.collect::<Vec<_>>() {
                let answer = asked.await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text);
            }
        }
        assert_eq!((app.count("referral").await, app.count("person").await), (64, 2));
        assert_eq!(app.deadlocks().await, 0);
    }

    async fn recording_changing_a_task_and_withdrawing_never_deadlock(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let coach = app.staff("coach-north").await;
        practice.token().await;
        coach.token().await;
        for n in 0..12 {
            let number = number(n);
            let ada = teaching(&number, &json!({ "birthDate": "1950-01-01", "name": [{ "family": "Testfamily" }],
                "generalPractitioner": [build::organization("TESTA1")] }));
            let referral = practice.post("ServiceRequest", &ada).await.expect(201).body;
            let id = referral["id"].as_str().unwrap();
            let rows = app.rows(&format!("select id, person from task where referral = '{id}'")).await;
            let (task, person) = (rows[0][0].as_str().unwrap(), rows[0][1].as_str().unwrap());
            let claimed = coach.post(format!("Task/{task}/$claim"), &Value::Null).if_match(1).await.expect(200).body;
            let mut withdrawn = referral.clone();
            withdrawn["status"] = json!("revoked");
            let withdraw = practice.put(format!("ServiceRequest/{id}"), &withdrawn).if_match(1);
            let beside = match n % 2 {
                0 => coach.post("Encounter", &build::encounter(&format!("ServiceRequest/{id}"), &format!("Patient/{person}"))),
                _ => {
                    let mut failed = claimed;
                    failed["status"] = json!("failed");
                    coach.put(format!("Task/{task}"), &failed).if_match(2)
                }
            };
            let (withdrawn, beside) = both(withdraw, beside).await;
            assert!(matches!(withdrawn.status, 200 | 409), "{}", withdrawn.text);
            assert!(matches!(beside.status, 200 | 201 | 409 | 412 | 422), "{}", beside.text);
        }
        assert_eq!(app.deadlocks().await, 0);
    }
}
