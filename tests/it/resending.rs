//! Sending again: nothing is made twice, and nothing is merged that the sender did not name as one.

use serde_json::{Value, json};

use crate::referral::tasks_of;
use crate::support::{TestApp, build, on_each_database};

fn together(referral: &Value, person: Value) -> Value {
    let urn = build::urn();
    let mut referral = referral.clone();
    referral["subject"] = json!({ "reference": urn });
    build::transaction([(build::urn(), referral), (urn, person)])
}

on_each_database! {
    async fn a_resent_referral_creates_nothing_new(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let referral = build::referral();
        let first = practice.post("ServiceRequest", &referral).await.expect(201);
        let stored = app.stored().await;
        app.clock.advance(std::time::Duration::from_secs(3600));
        let again = practice.post("ServiceRequest", &referral).await.expect(200);
        assert_eq!(again.body, first.body);
        assert_eq!(again.header("etag"), first.header("etag"));
        assert_eq!(app.stored().await, stored);
    }

    async fn the_same_identifier_with_other_content_is_a_conflict_that_says_what_to_do(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut referral = build::referral();
        let first = practice.post("ServiceRequest", &referral).await.expect(201).id();
        let stored = app.stored().await;
        referral["reasonCode"][0]["text"] = json!("Something else.");
        let refused = practice.post("ServiceRequest", &referral).await.expect(409);
        assert_eq!(refused.issue(), "conflict");
        assert!(refused.text.contains("If-Match") && refused.text.contains(&first), "{}", refused.text);
        assert_eq!(app.stored().await, stored);
    }

    async fn what_takes_a_referral_back_is_not_sent_as_if_it_were_new(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let referral = build::referral();
        let first = practice.post("ServiceRequest", &referral).await.expect(201);
        let stored = app.stored().await;
        let mut again = referral.clone();
        for status in ["revoked", "entered-in-error", "on-hold", "draft", "completed", "unknown"] {
            again["status"] = json!(status);
            let alone = practice.post("ServiceRequest", &again);
            let elsewhere = "identifier=https://practice.example/Id/other|1";
            let unless = practice.post("ServiceRequest", &again).header("If-None-Exist", elsewhere);
            let put = practice.put(format!("ServiceRequest?{elsewhere}"), &again);
            let bundle = build::transaction([(build::urn(), again.clone())]);
            let beside = build::transaction([(build::urn(), build::referral()), (build::urn(), again.clone())]);
            let (bundle, beside) = (practice.post("", &bundle), practice.post("", &beside));
            for asked in [alone, unless, put, bundle, beside] {
                let refused = asked.await.expect(409);
                assert_eq!(refused.issue(), "conflict", "{status}");
                assert!(refused.text.contains("If-Match") && refused.text.contains(&first.id()), "{}", refused.text);
            }
        }
        assert_eq!(app.stored().await, stored);
        assert_eq!(tasks_of(&app, &first.id()).await[0]["status"], "requested");

        let mut revoked = first.body.clone();
        revoked["status"] = json!("revoked");
        practice.put(format!("ServiceRequest/{}", first.id()), &revoked).if_match(1).await.expect(200);
        again["status"] = json!("revoked");
        assert_eq!(practice.post("ServiceRequest", &again).await.expect(200).version(), 2, "it says what is so");
        // And comes along with the next referral, as what was before it.
        let history = build::transaction([(build::urn(), build::referral()), (build::urn(), again.clone())]);
        assert_eq!(practice.post("", &history).await.expect(200).made().len(), 2);
        assert_eq!(app.count("referral").await, 2);
        let theirs = app.practice("TESTA2").await.post("ServiceRequest", &again).await.expect(201);
        assert_eq!(theirs.body["status"], "revoked", "an identifier is its sender's own");
    }

    async fn what_never_was_a_referral_may_come_as_often_as_it_likes(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut request = build::referral();
        for status in ["draft", "draft", "on-hold"] {
            request["status"] = json!(status);
            practice.post("ServiceRequest", &request).await.expect(201);
        }
        request["status"] = json!("active");
        let made = practice.post("ServiceRequest", &request).await.expect(201).id();
        assert_eq!(tasks_of(&app, &made).await.len(), 1);
    }

    async fn a_resent_bundle_gets_the_first_answer_again(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let referral = build::referral();
        let first = practice.post("", &together(&referral, build::person(build::ADA))).await.expect(200);
        let stored = app.stored().await;
        app.clock.advance(std::time::Duration::from_secs(60));
        // The sender makes up new names for its entries each time.
        let again = practice.post("", &together(&referral, build::person(build::ADA))).await.expect(200);
        assert_eq!(again.body, first.body);
        assert_eq!(app.stored().await, stored);
        let changed = together(&referral, build::person(build::BERT));
        practice.post("", &changed).await.expect(409);
        assert_eq!(app.stored().await, stored);
    }

    async fn what_is_read_beside_a_resent_referral_is_read_anew_wherever_it_stands(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let read = json!({ "request": { "method": "GET", "url": "ServiceRequest?status=active" } });
        let with_reads = |referral: &Value, places: &[usize]| {
            let mut bundle = together(referral, build::person(build::ADA));
            for place in places {
                bundle["entry"].as_array_mut().unwrap().insert(*place, read.clone());
            }
            bundle
        };
        for at_first in [vec![], vec![2], vec![0, 2]] {
            let referral = build::referral();
            let first = practice.post("", &with_reads(&referral, &at_first)).await.expect(200).body;
            let writes = |answer: &Value| {
                let entries = answer["entry"].as_array().unwrap().iter();
                entries.filter(|entry| entry["resource"]["type"] != "searchset").cloned().collect::<Vec<_>>()
            };
            assert_eq!(writes(&first).len(), 2);
            for places in [vec![], vec![0], vec![1], vec![2], vec![0, 1, 4]] {
                let again = practice.post("", &with_reads(&referral, &places)).await.expect(200).body;
                assert_eq!(again["entry"].as_array().unwrap().len(), 2 + places.len());
                assert_eq!(writes(&again), writes(&first), "{at_first:?}, then {places:?}");
                for place in places {
                    assert_eq!(again["entry"][place]["resource"]["type"], "searchset", "{at_first:?}");
                }
            }
        }
        let referral = build::referral();
        let alone = practice.post("ServiceRequest", &referral).await.expect(201);
        let mut beside = build::transaction([(build::urn(), referral)]);
        beside["entry"].as_array_mut().unwrap().insert(0, read);
        let again = practice.post("", &beside).await.expect(200).body;
        let location = again["entry"][1]["response"]["location"].as_str().unwrap();
        assert!(location.starts_with(&format!("ServiceRequest/{}/", alone.id())), "{again}");
    }

    async fn what_the_sender_wrote_in_any_version_is_no_conflict_when_it_is_sent_again(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let referral = build::referral();
        let first = practice.post("ServiceRequest", &referral).await.expect(201);
        let at = format!("ServiceRequest/{}", first.id());
        let mut changed = first.body.clone();
        changed["reasonCode"][0]["text"] = json!("Moved here, and is alone in the evenings.");
        let second = practice.put(at.as_str(), &changed).if_match(1).await.expect(200);
        let mut sent = referral.clone();
        sent["reasonCode"] = changed["reasonCode"].clone();
        let stored = app.stored().await;
        // As it was, as it is now, and as it was read.
        for again in [&referral, &sent, &second.body] {
            let answer = practice.post("ServiceRequest", again).await.expect(200);
            assert_eq!((answer.body, answer.headers["etag"].clone()), (second.body.clone(), second.headers["etag"].clone()));
        }
        sent["reasonCode"][0]["text"] = json!("What nobody wrote before.");
        practice.post("ServiceRequest", &sent).await.expect(409);
        assert_eq!(app.stored().await, stored);
        assert_eq!(tasks_of(&app, &first.id()).await.len(), 1);
    }

    async fn a_person_who_comes_along_changed_is_no_resend(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut referral = build::referral_with(build::person(build::ADA));
        let first = practice.post("ServiceRequest", &referral).await.expect(201);
        assert_eq!(practice.post("ServiceRequest", &referral).await.expect(200).body, first.body);
        let stored = app.stored().await;
        referral["contained"][0]["telecom"] = json!([{ "system": "phone", "value": "01632 960222" }]);
        assert_eq!(practice.post("ServiceRequest", &referral).await.expect(409).issue(), "conflict");
        assert_eq!(app.stored().await, stored);
    }

    async fn a_referral_that_came_in_a_bundle_is_known_when_it_comes_alone(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let referral = build::referral();
        let first = practice.post("", &together(&referral, build::person(build::ADA))).await.expect(200);
        let [at, patient] = &first.made()[..] else { panic!("two entries") };
        let read = practice.get(at.as_str()).await.expect(200).body;
        let stored = app.stored().await;
        let mut contained = build::referral_with(build::person(build::ADA));
        contained["identifier"] = referral["identifier"].clone();
        let mut by_reference = referral.clone();
        by_reference["subject"] = json!({ "reference": patient });
        // By number, with the person in it, and by the reference that the Bundle was answered with.
        for alone in [&referral, &contained, &by_reference] {
            assert_eq!(practice.post("ServiceRequest", alone).await.expect(200).body, read);
        }
        assert_eq!(practice.post("", &together(&referral, build::person(build::ADA))).await.expect(200).body, first.body);
        let mut another = referral.clone();
        another["subject"] = build::by_number(build::BERT.0);
        practice.post("ServiceRequest", &another).await.expect(409);
        let mut other = referral.clone();
        other["priority"] = json!("urgent");
        practice.post("ServiceRequest", &other).await.expect(409);
        assert_eq!(app.stored().await, stored);
    }

    async fn a_bundle_is_known_again_after_its_referral_was_changed(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let bundle = together(&build::referral(), build::person(build::ADA));
        let first = practice.post("", &bundle).await.expect(200);
        let at = first.made()[0].clone();
        let mut changed = practice.get(at.as_str()).await.expect(200).body;
        changed["priority"] = json!("urgent");
        practice.put(at.as_str(), &changed).if_match(1).await.expect(200);
        let stored = app.stored().await;
        assert_eq!(practice.post("", &bundle).await.expect(200).body, first.body);
        assert_eq!(app.stored().await, stored);
    }

    async fn if_none_exist_answers_with_what_is_there(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let referral = build::referral();
        let value = referral["identifier"][0]["value"].as_str().unwrap().to_owned();
        let criteria = format!("identifier=https://practice.example/Id/referral|{value}");
        let ask = || practice.post("ServiceRequest", &referral).header("If-None-Exist", criteria.clone());
        let first = ask().await.expect(201);
        let stored = app.stored().await;
        assert_eq!(ask().await.expect(200).id(), first.id());
        assert_eq!(app.stored().await, stored);
    }

    async fn a_bundle_whose_patient_is_there_already_refers_to_that_one(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let bundle = || {
            let mut bundle = together(&build::referral(), build::person(build::ADA));
            let criteria = format!("identifier=https://fhir.nhs.uk/Id/nhs-number|{}", build::ADA.0);
            bundle["entry"][1]["request"]["ifNoneExist"] = json!(criteria);
            bundle
        };
        let first = practice.post("", &bundle()).await.expect(200);
        let again = practice.post("", &bundle()).await.expect(200);
        let status = |answer: &crate::support::caller::Answer, at: usize| {
            answer.body["entry"][at]["response"]["status"].as_str().unwrap().to_owned()
        };
        assert_eq!((status(&first, 1), status(&again, 1)), ("201 Created".to_owned(), "200 OK".to_owned()));
        assert_eq!(again.made()[1], first.made()[1]);
        assert_ne!(again.made()[0], first.made()[0]);
        let referral = practice.get(again.made()[0].as_str()).await.expect(200).body;
        assert_eq!(referral["subject"]["reference"], first.made()[1]);
        assert_eq!(app.count("person").await, 1);
    }

    async fn what_another_sent_is_not_what_if_none_exist_means(app: TestApp) {
        // Bert's own practice sees what TESTA1 and Live Well call him, and still sends its own.
        let sender = app.practice("TESTA1").await;
        let first = sender.post("Patient", &build::person(build::BERT)).await.expect(201).id();
        let registered = app.practice("TESTA2").await;
        let criteria = format!("identifier=https://fhir.nhs.uk/Id/nhs-number|{}", build::BERT.0);
        let ask = || registered.post("Patient", &build::person(build::BERT)).header("If-None-Exist", criteria.clone());
        let own = ask().await.expect(201).id();
        assert_ne!(own, first);
        assert_eq!(ask().await.expect(200).id(), own);
        assert_eq!(app.count("person").await, 1);
    }

    async fn the_same_idempotency_key_is_the_same_request(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut referral = build::referral();
        referral.as_object_mut().unwrap().remove("identifier");
        let ask = |body: &Value| practice.post("ServiceRequest", body).header("Idempotency-Key", "key-1");
        let first = ask(&referral).await.expect(201);
        let stored = app.stored().await;
        assert_eq!(ask(&referral).await.expect(200).id(), first.id());
        let mut other = referral.clone();
        other["reasonCode"][0]["text"] = json!("Something else.");
        ask(&other).await.expect(422);
        assert_eq!(app.stored().await, stored);
        // A key is its client's own.
        let elsewhere = app.practice("TESTA2").await;
        let theirs = elsewhere.post("ServiceRequest", &other).header("Idempotency-Key", "key-1").await.expect(201);
        assert_ne!(theirs.id(), first.id());

        let bundle = together(&build::referral(), build::person(build::ADA));
        let made = practice.post("", &bundle).header("Idempotency-Key", "key-2").await.expect(200);
        let again = practice.post("", &bundle).header("Idempotency-Key", "key-2").await.expect(200);
        assert_eq!(again.body, made.body);
    }

    async fn without_an_identifier_two_referrals_are_two(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut referral = build::referral();
        referral.as_object_mut().unwrap().remove("identifier");
        let first = practice.post("ServiceRequest", &referral).await.expect(201).id();
        let second = practice.post("ServiceRequest", &referral).await.expect(201).id();
        assert_ne!(first, second);
        assert_eq!((tasks_of(&app, &first).await.len(), tasks_of(&app, &second).await.len()), (1, 1));
    }

    async fn an_identifier_is_its_senders_own(app: TestApp) {
        let referral = build::referral();
        let first = app.practice("TESTA1").await.post("ServiceRequest", &referral).await.expect(201).id();
        let second = app.practice("TESTA2").await.post("ServiceRequest", &referral).await.expect(201).id();
        assert_ne!(first, second);
    }

    async fn a_referral_sent_twice_at_once_is_made_once(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let referral = build::referral();
        practice.token().await;
        let asked: Vec<_> = (0..8)
            .map(|_| {
                let (practice, referral) = (practice.clone(), referral.clone());
                tokio::spawn(async move { practice.post("ServiceRequest", &referral).await.status })
            })
            .collect();
        let mut answers = Vec::new();
        for answer in asked {
            answers.push(answer.await.unwrap());
        }
        answers.sort_unstable();
        assert_eq!(answers, [200, 200, 200, 200, 200, 200, 200, 201]);
        assert_eq!((app.count("referral").await, app.count("task").await), (1, 1));
    }
}
