//! Value sets and code systems that are kept as resources: expanded, asked for a code and searched by, as far as the caller
//! may see them, and never in the place of those that come with the software.

use serde_json::{Value, json};

use crate::conditional::made;
use crate::support::app::run_with;
use crate::support::caller::{Answer, Caller};
use crate::support::{Database, TestApp, build, on_each_database};

const ROLES: &str = "https://livewell.example/ValueSet/role";
const ROLE: &str = "https://livewell.example/CodeSystem/role";
const WALKS: &str = "https://council.example/CodeSystem/walks";

fn set(id: &str, compose: Value) -> Value {
    json!({ "resourceType": "ValueSet", "id": id, "url": format!("https://council.example/ValueSet/{id}"), "version": "1",
        "status": "active", "compose": compose })
}

fn walks() -> Value {
    json!({ "resourceType": "CodeSystem", "id": "walks", "url": WALKS, "status": "active", "content": "complete",
        "hierarchyMeaning": "is-a", "concept": [
            { "code": "outdoors", "display": "Outdoors", "concept": [
                { "code": "park", "display": "In a park" }, { "code": "hill", "display": "Up a hill" }] },
            { "code": "indoors", "display": "Indoors" }] })
}

fn directory() -> Value {
    let below = json!([{ "property": "concept", "op": "is-a", "value": "outdoors" }]);
    let all = [
        walks(),
        set("outdoors", json!({ "include": [{ "system": WALKS, "filter": below }] })),
        set(
            "easy",
            json!({ "include": [{ "valueSet": ["https://council.example/ValueSet/outdoors"] }],
            "exclude": [{ "system": WALKS, "concept": [{ "code": "hill" }] }] }),
        ),
        set("with-roles", json!({ "include": [{ "valueSet": [ROLES] }, { "system": WALKS }] })),
        set(
            "clinical",
            json!({ "include": [{ "system": "http://snomed.info/sct",
            "filter": [{ "property": "concept", "op": "is-a", "value": "404684003" }] }] }),
        ),
        set("loose", json!({ "include": [{ "valueSet": ["https://nobody.example/ValueSet/x"] }] })),
    ];
    let entry: Vec<Value> = all.iter().map(|resource| json!({ "resource": resource })).collect();
    json!({ "resourceType": "Bundle", "type": "collection", "entry": entry })
}

fn codes(answer: &Answer) -> Vec<String> {
    let contains = answer.body["expansion"]["contains"].as_array().into_iter().flatten();
    contains.map(|c| c["code"].as_str().unwrap().to_owned()).collect()
}

fn result(answer: &Answer) -> &Value {
    &answer.body["parameter"][0]["valueBoolean"]
}

fn coded(system: &str, code: &str) -> Value {
    json!({ "resourceType": "Condition", "subject": build::by_number(build::ADA.0),
        "code": { "coding": [{ "system": system, "code": code }] } })
}

async fn found(caller: &Caller, search: &str) -> Vec<String> {
    let all = caller.get(search).await.expect(200).resources();
    let mut codes: Vec<String> =
        all.iter().map(|r| r["code"]["coding"][0]["code"].as_str().unwrap().to_owned()).collect();
    codes.sort();
    codes
}

on_each_database! {
    async fn kept_value_sets_are_expanded_and_asked_for_codes(app: TestApp) {
        app.load(&directory()).await;
        let caller = app.practice("TESTA1").await;
        for (of, all) in [("outdoors", vec!["outdoors", "park", "hill"]), ("easy", vec!["outdoors", "park"])] {
            let url = format!("https://council.example/ValueSet/{of}");
            let by_url = caller.get(format!("ValueSet/$expand?url={url}")).await.expect(200);
            assert_eq!((codes(&by_url), &by_url.body["url"]), (all.iter().map(|c| (*c).to_owned()).collect(), &json!(url)));
            assert_eq!(codes(&caller.get(format!("ValueSet/{of}/$expand")).await.expect(200)), all);
            let ask = async |code: &str| {
                let by_url = caller.get(format!("ValueSet/$validate-code?url={url}&system={WALKS}&code={code}")).await.expect(200);
                let by_id = caller.get(format!("ValueSet/{of}/$validate-code?system={WALKS}&code={code}")).await.expect(200);
                assert_eq!(result(&by_url), result(&by_id));
                result(&by_url) == true
            };
            assert!(ask("park").await && !ask("indoors").await);
            assert_eq!(ask("hill").await, of == "outdoors");
        }
        assert_eq!(codes(&caller.get("ValueSet/$expand?url=https://council.example/ValueSet/easy%7C1").await.expect(200)).len(), 2);
        caller.get("ValueSet/$expand?url=https://council.example/ValueSet/easy%7C2").await.expect(404);
        let both = codes(&caller.get("ValueSet/with-roles/$expand").await.expect(200));
        assert!(both.contains(&"volunteer".to_owned()) && both.contains(&"indoors".to_owned()), "{both:?}");
        let sent = json!({ "resourceType": "Parameters", "parameter": [{ "name": "valueSet", "resource":
            { "resourceType": "ValueSet", "status": "active", "compose": { "include": [{ "valueSet": ["https://council.example/ValueSet/easy"] }] } } }] });
        assert_eq!(codes(&caller.post("ValueSet/$expand", &sent).await.expect(200)), ["outdoors", "park"]);
        for (of, needs) in [("clinical", "http://snomed.info/sct"), ("loose", "https://nobody.example/ValueSet/x")] {
            let refused = caller.get(format!("ValueSet/{of}/$expand")).await.expect(422);
            assert!(refused.issue() == "too-costly" && refused.text.contains(needs), "{}", refused.text);
        }
        let unknown = caller.get("ValueSet/clinical/$validate-code?system=http://snomed.info/sct&code=1").await.expect(422);
        assert_eq!(unknown.issue(), "not-found");
        let found = caller.get(format!("CodeSystem/$lookup?system={WALKS}&code=park")).await.expect(200);
        assert!(found.text.contains("In a park"), "{}", found.text);
        for at in [format!("CodeSystem/$subsumes?system={WALKS}&"), "CodeSystem/walks/$subsumes?".to_owned()] {
            let answer = caller.get(format!("{at}codeA=outdoors&codeB=park")).await.expect(200);
            assert_eq!(answer.body["parameter"][0]["valueCode"], "subsumes");
        }
        assert_eq!(result(&caller.get("CodeSystem/walks/$validate-code?code=swim").await.expect(200)), false);
        caller.get("CodeSystem/nobody/$validate-code?code=swim").await.expect(404);
    }

    async fn a_search_by_a_value_set_finds_its_codes(app: TestApp) {
        app.load(&directory()).await;
        let practice = app.practice("TESTA1").await;
        for (system, code) in [(ROLE, "volunteer"), (ROLE, "plumber"), (WALKS, "park"), (WALKS, "hill"), ("urn:other", "volunteer")] {
            made(&practice, &coded(system, code)).await;
        }
        let easy = "https://council.example/ValueSet/easy";
        for (search, codes) in [
            (format!("code:in={ROLES}"), vec!["volunteer"]),
            (format!("code:not-in={ROLES}"), vec!["hill", "park", "plumber", "volunteer"]),
            (format!("code:in={easy}"), vec!["park"]),
            (format!("code:not-in={easy}&code:not-in={ROLES}"), vec!["hill", "plumber", "volunteer"]),
        ] {
            assert_eq!(found(&practice, &format!("Condition?{search}")).await, codes, "{search}");
        }
        let observation = json!({ "resourceType": "Observation", "status": "final", "code": { "text": "x" } });
        let park = practice.get("Condition?code=park").await.expect(200).resources();
        let mut about = observation.clone();
        about["focus"] = json!([{ "reference": format!("Condition/{}", park[0]["id"].as_str().unwrap()) }]);
        let about = made(&practice, &about).await;
        let by_chain = practice.get(format!("Observation?focus:Condition.code:in={easy}")).await.expect(200).resources();
        assert_eq!(by_chain.iter().map(|r| r["id"].clone()).collect::<Vec<_>>(), [about["id"].clone()]);
        // Also as a condition of a write.
        practice.post("Condition", &coded(WALKS, "park")).header("If-None-Exist", format!("code:in={easy}")).await.expect(200);
        for unlisted in ["https://council.example/ValueSet/clinical", "https://nobody.example/ValueSet/x"] {
            practice.get(format!("Condition?code:in={unlisted}")).await.expect(400);
            practice.post("Condition", &coded(WALKS, "park")).header("If-None-Exist", format!("code:in={unlisted}")).await.expect(422);
        }
        // Who may not read value sets does not learn what is in those that are kept.
        let narrow = app.client("narrow", "TESTA1", "system/Condition.s").await;
        narrow.get(format!("Condition?code:in={easy}")).await.expect(400);
        assert_eq!(found(&narrow, &format!("Condition?code:in={ROLES}")).await, ["volunteer"]);
    }
}

fn writable(database: Database) {
    run_with(
        database,
        |config| config.fhir.read_only = Vec::new(),
        |app: TestApp| async move {
            let (one, other) = (app.practice("TESTA1").await, app.practice("TESTA2").await);
            let system = made(&one, &walks()).await;
            let own = set("own", json!({ "include": [{ "system": WALKS }] }));
            let own = made(&one, &own).await;
            let url = own["url"].as_str().unwrap();
            assert_eq!(codes(&one.get(format!("ValueSet/$expand?url={url}")).await.expect(200)).len(), 4);
            assert_eq!(
                codes(&one.get(format!("ValueSet/{}/$expand", own["id"].as_str().unwrap())).await.expect(200)).len(),
                4
            );
            // To another practice they are not there.
            other.get(format!("ValueSet/$expand?url={url}")).await.expect(404);
            other.get(format!("ValueSet/{}/$expand", own["id"].as_str().unwrap())).await.expect(404);
            other
                .get(format!("CodeSystem/{}/$validate-code?code=park", system["id"].as_str().unwrap()))
                .await
                .expect(404);
            other.get(format!("CodeSystem/$lookup?system={WALKS}&code=park")).await.expect(404);
            other.get(format!("Condition?code:in={url}")).await.expect(400);
            // And what comes with the software stays what it is.
            let mut ours = set("role", json!({ "include": [{ "system": ROLE, "concept": [{ "code": "plumber" }] }] }));
            ours["url"] = json!(ROLES);
            made(&one, &ours).await;
            let mut roles = walks();
            roles["url"] = json!(ROLE);
            made(&one, &roles).await;
            assert!(
                codes(&one.get(format!("ValueSet/$expand?url={ROLES}")).await.expect(200))
                    .contains(&"health-coach".to_owned())
            );
            assert_eq!(
                result(&one.get(format!("CodeSystem/$validate-code?url={ROLE}&code=park")).await.expect(200)),
                false
            );
            // One that goes round in circles, and one that is made of too much.
            let round = set(
                "round",
                json!({ "include": [{ "valueSet": ["https://council.example/ValueSet/round", url] }, { "system": WALKS }] }),
            );
            let round = made(&one, &round).await;
            assert_eq!(
                codes(&one.get(format!("ValueSet/{}/$expand", round["id"].as_str().unwrap())).await.expect(200)).len(),
                4
            );
            let include: Vec<Value> = (0..501).map(|_| json!({ "system": WALKS })).collect();
            let large = made(&one, &set("large", json!({ "include": include }))).await;
            one.get(format!("ValueSet/{}/$expand", large["id"].as_str().unwrap())).await.expect(422);
            one.get(format!("ValueSet/$expand?url={}", large["url"].as_str().unwrap())).await.expect(422);
        },
    );
}

#[test]
fn definitions_that_a_practice_keeps_are_its_own_and_replace_nothing_on_sqlite() {
    writable(Database::Sqlite);
}

#[test]
fn definitions_that_a_practice_keeps_are_its_own_and_replace_nothing_on_postgres() {
    writable(Database::Postgres);
}
