//! Profiles, tags and labels: what is in use, and how they are put on and taken off.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::conditional::{condition, made};
use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, build, on_each_database};

fn meta(meta: &Value) -> Value {
    build::parameters(&[("meta", "valueMeta", meta.clone())])
}

fn tag(code: &str) -> Value {
    json!({ "tag": [{ "system": "https://practice.example/tags", "code": code }] })
}

fn answered(answer: &Answer) -> &Value {
    assert_eq!(answer.body["parameter"][0]["name"], "return");
    &answer.body["parameter"][0]["valueMeta"]
}

fn codes(meta: &Value, set: &str) -> Vec<String> {
    let all = meta[set].as_array().into_iter().flatten();
    all.map(|one| one.as_str().or(one["code"].as_str()).unwrap().to_owned()).collect()
}

async fn found(caller: &Caller, search: &str) -> usize {
    caller.get(search).await.expect(200).resources().len()
}

on_each_database! {
    async fn labels_are_put_on_and_taken_off_without_a_new_version(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let resource = made(&practice, &condition("a", "x")).await;
        let at = format!("Condition/{}", resource["id"].as_str().unwrap());
        app.clock.advance(std::time::Duration::from_secs(60));
        let sent = json!({ "tag": tag("spring")["tag"], "security": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R" }],
            "profile": ["https://practice.example/StructureDefinition/x"] });
        let added = practice.post(format!("{at}/$meta-add"), &meta(&sent)).await.expect(200);
        for (set, code) in [("tag", "spring"), ("security", "R"), ("profile", "https://practice.example/StructureDefinition/x")] {
            assert_eq!(codes(answered(&added), set), [code]);
        }
        // Again, and with another display: a set is a set.
        let mut again = sent.clone();
        again["tag"][0]["display"] = json!("Spring");
        assert_eq!(answered(&practice.post(format!("{at}/$meta-add"), &meta(&again)).await.expect(200)), answered(&added));
        let read = practice.get(at.as_str()).await.expect(200);
        assert_eq!((read.version(), &read.body["meta"]), (1, answered(&added)));
        assert_eq!(read.body["meta"]["lastUpdated"], resource["meta"]["lastUpdated"]);
        assert_eq!(app.count("resource_history where kind = 'Condition'").await, 0);
        for search in ["_tag=https://practice.example/tags%7Cspring", "_security=R", "_profile=https://practice.example/StructureDefinition/x"] {
            assert_eq!(found(&practice, &format!("Condition?{search}")).await, 1, "{search}");
        }
        practice.put(at.as_str(), &read.body).if_match(1).await.expect(200);
        let mut gone = sent.clone();
        gone["tag"].as_array_mut().unwrap().push(json!({ "code": "nobody has" }));
        let left = practice.post(format!("{at}/$meta-delete"), &meta(&gone)).await.expect(200);
        assert_eq!(["tag", "security", "profile"].map(|set| codes(answered(&left), set).len()), [0, 0, 0]);
        for search in ["_tag=spring", "_security=R", "_profile=https://practice.example/StructureDefinition/x"] {
            assert_eq!(found(&practice, &format!("Condition?{search}")).await, 0, "{search}");
        }
        assert_eq!(practice.get(at.as_str()).await.expect(200).version(), 1);
        assert_eq!(app.count("audit where interaction = '$meta-add'").await, 2);
        assert_eq!(app.count("audit where interaction = '$meta-delete'").await, 1);
        // A coach labels what is Live Well's; nobody what is another's.
        let referral = practice.post("ServiceRequest", &build::referral_with(build::person(build::ADA))).await.expect(201);
        let coach = app.staff("coach-north").await;
        let task = coach.get(format!("Task?focus=ServiceRequest/{}", referral.id())).await.expect(200).resources().remove(0);
        let (task, person) = (format!("Task/{}", task["id"].as_str().unwrap()), task["for"]["reference"].as_str().unwrap().to_owned());
        for ours in [&task, &person] {
            assert_eq!(codes(answered(&coach.post(format!("{ours}/$meta-add"), &meta(&tag("call-early"))).await.expect(200)), "tag"), ["call-early"]);
        }
        coach.post(format!("ServiceRequest/{}/$meta-add", referral.id()), &meta(&tag("x"))).await.expect(403);
        practice.post(format!("{person}/$meta-add"), &meta(&tag("x"))).await.expect(403);
        // What Live Well flags its sender does not take off.
        let mut request = build::referral();
        request["requester"] = build::organization("TESTA2");
        let flagged = practice.post("ServiceRequest", &request).await.expect(201);
        let at = format!("ServiceRequest/{}", flagged.id());
        let flag = json!({ "tag": [{ "system": "https://livewell.example/CodeSystem/referral-flag", "code": "other-requester" }] });
        practice.post(format!("{at}/$meta-delete"), &meta(&flag)).await.expect(403);
        assert!(codes(&practice.get(at.as_str()).await.expect(200).body["meta"], "tag").contains(&"other-requester".to_owned()));
        let claimed = coach.send(Method::POST, format!("{task}/$claim")).if_match(1).await.expect(200);
        assert_eq!(codes(&claimed.body["meta"], "tag"), ["call-early"]);
    }

    async fn what_cannot_be_labelled_is_refused_and_left_as_it_is(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let resource = made(&practice, &condition("a", "x")).await;
        let at = format!("Condition/{}", resource["id"].as_str().unwrap());
        let before = app.stored().await;
        let ask = |caller: &Caller, what: &str, sent: &Value| caller.post(format!("{at}/{what}"), sent);
        let subsetted = json!({ "tag": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED" }] });
        for wrong in [json!({ "resourceType": "Parameters" }), meta(&subsetted), meta(&json!({ "tag": [{ "display": "no code" }] }))] {
            ask(&practice, "$meta-add", &wrong).await.expect(422);
        }
        ask(&practice, "$meta-add", &meta(&json!({ "tags": [] }))).await.expect(400);
        ask(&app.practice("TESTA2").await, "$meta-add", &meta(&tag("x"))).await.expect(404);
        ask(&app.client("reader", "TESTA1", "system/Condition.rs").await, "$meta-delete", &meta(&tag("x"))).await.expect(403);
        practice.post("ValueSet/role/$meta-add", &meta(&tag("x"))).await.expect(405);
        practice.get(format!("{at}/$meta-add")).await.expect(405);
        assert_eq!((app.stored().await, practice.get(at.as_str()).await.expect(200).body), (before, resource));
        practice.send(Method::DELETE, at.as_str()).await.expect(204);
        ask(&practice, "$meta-add", &meta(&tag("x"))).await.expect(410);
    }

    async fn of_many_labels_at_once_none_is_lost(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let resource = made(&practice, &condition("a", "x")).await;
        let at = format!("Condition/{}/$meta-add", resource["id"].as_str().unwrap());
        let mut asked = JoinSet::new();
        for n in 0..8 {
            asked.spawn(practice.post(at.as_str(), &meta(&tag(&format!("t{n}")))).into_future());
        }
        let answers: Vec<Answer> = asked.join_all().await;
        let done = answers.iter().filter(|answer| answer.status == 200).count();
        assert!(done > 0 && answers.iter().all(|a| matches!(a.status, 200 | 409 | 503)), "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
        let kept = practice.get(at.replace("$meta-add", "$meta")).await.expect(200);
        assert_eq!(codes(answered(&kept), "tag").len(), done);
        assert_eq!(found(&practice, "Condition?_tag:missing=false").await, 1);
    }

    async fn what_is_in_use_is_told_as_far_as_it_may_be_seen(app: TestApp) {
        let (one, other) = (app.practice("TESTA1").await, app.practice("TESTA2").await);
        for (caller, code) in [(&one, "ours"), (&one, "also-ours"), (&other, "theirs")] {
            let mut labelled = condition(code, "x");
            labelled["meta"] = tag(code);
            made(caller, &labelled).await;
        }
        let mut observation = json!({ "resourceType": "Observation", "status": "final", "code": { "text": "x" } });
        observation["meta"] = tag("measured");
        made(&one, &observation).await;
        let of = async |caller: &Caller, path: &str| codes(answered(&caller.get(path).await.expect(200)), "tag");
        assert_eq!(of(&one, "Condition/$meta").await, ["also-ours", "ours"]);
        assert_eq!(of(&other, "Condition/$meta").await, ["theirs"]);
        assert_eq!(of(&one, "/fhir/$meta").await, ["also-ours", "measured", "ours"]);
        assert_eq!(of(&app.client("narrow", "TESTA1", "system/Observation.s").await, "/fhir/$meta").await, ["measured"]);
        let posted = one.post("Condition/$meta", &json!({ "resourceType": "Parameters" })).await.expect(200);
        assert!(answered(&posted).get("versionId").is_none());
        app.client("reads-only", "TESTA1", "system/Condition.r").await.get("Condition/$meta").await.expect(403);
        app.client("reads-only-2", "TESTA1", "system/Condition.r").await.get("/fhir/$meta").await.expect(403);
        one.get("Nonsense/$meta").await.expect(404);
        one.get("Condition/$meta?colour=red").await.expect(400);
        assert!(app.count("audit where interaction = '$meta'").await >= 5);
    }
}
