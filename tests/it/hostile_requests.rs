//! Bad addresses, headers, searches and changes at a running server, refused as bad bodies are.

use serde_json::{Value, json};

use crate::hostile::{JSON, SR, referral, refused};
use crate::support::{TestApp, on_each_database};
use crate::wire::Wire;

/// A bad request: line, headers, status. Its text holds canaries where a person's data might stand.
type Odd = (&'static str, &'static [(&'static str, &'static [u8])], u16);

const TYPED: (&str, &[u8]) = ("Content-Type", JSON.as_bytes());

const ODD: [Odd; 66] = [
    ("DELETE /fhir/Patient", &[], 400),
    ("PATCH /fhir/Patient", &[], 415),
    ("PUT /fhir/Patient", &[TYPED], 400),
    ("OPTIONS /fhir/Patient", &[], 405),
    ("BREW /fhir/Patient", &[], 405),
    ("POST /fhir/metadata", &[TYPED], 405),
    ("PUT /fhir", &[], 405),
    ("GET /fhir/Task/$claim-next", &[], 405),
    ("DELETE /livez", &[], 405),
    ("GET /oauth/token", &[], 405),
    ("GET /Canaryfeather", &[], 404),
    ("DELETE /fhir/", &[], 405),
    ("GET /fhir//Patient", &[], 404),
    ("GET /fhir/Patient/Canaryfeather", &[], 404),
    ("GET /fhir/Canaryfeather/1", &[], 404),
    ("GET /fhir/Patient/a/b/c/d", &[], 404),
    ("GET /fhir/Patient/%ff", &[], 400),
    ("GET /fhir/%ff%fe", &[], 400),
    ("GET /fhir/Patient/%00", &[], 404),
    ("GET /fhir/Patient/..%2f..%2fetc%2fpasswd", &[], 404),
    ("GET /fhir/Patient/../../etc/passwd", &[], 404),
    ("GET /fhir/Patient/'%20or%201=1--", &[], 404),
    ("GET /fhir/Patient/x/_history/Canaryfeather", &[], 404),
    ("GET /fhir/Patient/x/_history/99999999999999999999", &[], 404),
    ("GET /fhir/Patient/x/_history", &[], 404),
    ("GET /fhir/Patient/x/_history/%ff", &[], 400),
    ("GET /fhir/Patient?_format=Canaryfeather", &[], 406),
    ("GET /fhir/Patient", &[("Accept", b"text/csv")], 406),
    ("GET /fhir/Patient", &[("Accept", b"application/fhir+json;q=0")], 406),
    ("GET /fhir/Patient?identifier=%ff", &[], 400),
    ("GET /fhir/Patient?identifier=%zz", &[], 400),
    ("GET /fhir/Patient?identifier=%", &[], 400),
    ("GET /fhir/Patient?identifier=Canaryfeather%00", &[], 400),
    ("GET /fhir/Patient?identifier=", &[], 400),
    ("GET /fhir/Patient?identifier=,", &[], 400),
    ("GET /fhir/Patient?identifier:not=,,,", &[], 400),
    ("GET /fhir/Patient?_id=,", &[], 400),
    ("GET /fhir/Patient?family=,", &[], 400),
    ("GET /fhir/Patient?identifier:Canaryfeather=x", &[], 400),
    ("GET /fhir/Patient?Canaryfeather=Zebulonia", &[], 400),
    ("GET /fhir/Patient?birthdate=1931-13-45", &[], 400),
    ("GET /fhir/Patient?birthdate=zz1931-07-13", &[], 400),
    ("GET /fhir/Patient?birthdate=Canaryfeather", &[], 400),
    ("GET /fhir/Patient?birthdate=99999-01-01", &[], 400),
    ("GET /fhir/Patient?_lastUpdated=yesterday", &[], 400),
    ("GET /fhir/Patient?_lastUpdated=%C3%A91", &[], 400),
    ("GET /fhir/Patient?_count=Canaryfeather", &[], 400),
    ("GET /fhir/Patient?_count=99999999999999999999", &[], 400),
    ("GET /fhir/Patient?_total=Canaryfeather", &[], 400),
    ("GET /fhir/Patient?_sort=Canaryfeather", &[], 400),
    ("GET /fhir/Patient?_page=Canaryfeather", &[], 400),
    ("GET /fhir/Patient?_page=QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQQ", &[], 400),
    ("GET /fhir/Patient?_include=Patient:Canaryfeather", &[], 400),
    ("GET /fhir/Condition?subject:Canaryfeather=x", &[], 400),
    ("GET /fhir/ServiceRequest?requester:Canaryfeather=x", &[], 400),
    ("GET /fhir/Task?status=,", &[], 400),
    ("GET /fhir/Task?due=Canaryfeather", &[], 400),
    ("GET /fhir/Task?overdue=Canaryfeather", &[], 400),
    ("GET /fhir/Task?_sort=Canaryfeather", &[], 400),
    ("GET /fhir/Task?Canaryfeather=Zebulonia", &[], 400),
    ("POST /fhir/Patient/_search", &[TYPED], 415),
    ("POST /fhir/Canaryfeather/_search", &[("Content-Type", b"application/x-www-form-urlencoded")], 404),
    ("POST /oauth/introspect", &[TYPED], 415),
    ("GET /fhir/ServiceRequest/Canaryfeather/$status", &[], 404),
    ("POST /fhir/Task/Canaryfeather/$claim", &[], 404),
    ("POST /fhir/Task/%00/$claim", &[], 404),
];

on_each_database! {
    async fn an_odd_address_method_or_query_is_refused_with_its_reason(app: TestApp) {
        let practice = Wire::of(&app.practice("TESTA1").await).await;
        let send = |(line, headers, status): Odd| {
            let practice = practice.clone();
            (line.to_owned(), async move {
                let heard = practice.send(line, headers, b"").await;
                assert!(status != 405 || heard.header("allow").is_some_and(|a| !a.is_empty()), "{line}: no Allow");
                (heard, status, String::new())
            })
        };
        refused(&app, ODD.into_iter().map(send)).await;

        let head = practice.send("HEAD /fhir/metadata", &[], b"").await;
        assert_eq!((head.status, head.text.as_str()), (200, ""));
        let head = practice.send("HEAD /fhir/Patient/Canaryfeather", &[], b"").await;
        assert_eq!((head.status, head.text.as_str()), (404, ""));
    }
}

on_each_database! {
    async fn a_search_of_a_hundred_thousand_conditions_is_refused(app: TestApp) {
        let practice = Wire::of(&app.practice("TESTA1").await).await;
        let form = "application/x-www-form-urlencoded";
        let values = |name: &str, separator: &str| {
            (0..100_000).map(|n| format!("Zebulonia{n}")).collect::<Vec<_>>().join(separator).replacen("Zeb", &format!("{name}=Zeb"), 1)
        };
        let many: String = (0..100_000).map(|n| format!("identifier=Zebulonia{n}&")).collect();
        let few: String = (0..51).map(|n| format!("identifier=Zebulonia{n}&")).collect();
        let mut bad = Vec::new();
        for kind in ["Patient", "Task", "ServiceRequest"] {
            for body in [values("_id", ","), values("patient.identifier", ","), values("status", ","), many.clone(), few.clone()] {
                let practice = practice.clone();
                bad.push((format!("{kind}: {}", &body[..30]), async move {
                    (practice.post(&format!("/fhir/{kind}/_search"), form, body.as_bytes()).await, 400, String::new())
                }));
            }
        }
        refused(&app, bad.into_iter()).await;
        // What does not even fit in an address is for HTTP itself to refuse.
        let heard = practice.get(&format!("/fhir/Patient?{many}")).await;
        assert!((400..500).contains(&heard.status), "{}", heard.head);
        let good: String = (0..49).map(|n| format!("identifier=Zebulonia{n}&")).collect();
        assert_eq!(practice.post("/fhir/Patient/_search", form, good.as_bytes()).await.status, 200);
        let good = (0..200).map(|n| format!("https://example.org/x|Zebulonia{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(practice.post("/fhir/Patient/_search", form, format!("identifier={good}").as_bytes()).await.status, 200);
    }
}

on_each_database! {
    async fn a_header_that_cannot_be_followed_is_refused_and_never_passed_over(app: TestApp) {
        let practice = Wire::of(&app.practice("TESTA1").await).await;
        let made = practice.json(SR, &referral("known")).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let body = referral("other").to_string();
        let long = vec![b'k'; 256];
        let create: [(&'static str, &[u8], u16); 13] = [
            ("If-None-Exist", b"", 422),
            ("If-None-Exist", b"name=Canaryfeather", 422),
            ("If-None-Exist", b"identifier=", 422),
            ("If-None-Exist", b"identifier=a&name=Canaryfeather", 422),
            ("If-None-Exist", b"identifier=Canaryfeather%00", 422),
            ("If-None-Exist", b"identifier=\xe9", 400),
            ("Idempotency-Key", b"", 400),
            ("Idempotency-Key", b"two words", 400),
            ("Idempotency-Key", &long, 400),
            ("Idempotency-Key", b"\xe9", 400),
            ("Accept", b"text/csv", 406),
            ("Content-Encoding", b"gzip", 415),
            ("Content-Type", b"application/fhir+json\xe9", 415),
        ];
        let send = |(name, value, status): (&'static str, &'static [u8], u16)| {
            let (practice, body) = (practice.clone(), body.clone());
            (format!("{name}: {}", String::from_utf8_lossy(value)), async move {
                let typed = if name == "Content-Type" { vec![(name, value)] } else { vec![TYPED, (name, value)] };
                (practice.send(&format!("POST {SR}"), &typed, body.as_bytes()).await, status, String::new())
            })
        };
        refused(&app, create.map(|(n, v, s)| (n, &*v.to_vec().leak(), s)).into_iter().map(send)).await;

        // Two of a kind, and what is no header at all.
        let twice: [(&str, &[u8]); 3] =
            [TYPED, ("If-None-Exist", b"identifier=a"), ("If-None-Exist", b"identifier=b")];
        assert_eq!(practice.send(&format!("POST {SR}"), &twice, body.as_bytes()).await.status, 400);
        for control in [b"a\x01b".as_slice(), b"a\0b", b"a\x7fb"] {
            for name in ["X-Request-Id", "Prefer", "If-Match", "Idempotency-Key"] {
                let heard = practice.send(&format!("POST {SR}"), &[TYPED, (name, control)], body.as_bytes()).await;
                assert_eq!(heard.status, 400, "{name} {control:?}: {}", heard.head);
            }
        }
        // An id that is not safe to log is replaced, and what is asked for in words nobody knows is not asked for.
        let odd: [(&str, &[u8]); 3] = [TYPED, ("X-Request-Id", b"Canaryfeather {x} \xe9"), ("Prefer", b"return=Canaryfeather; handling=\xe9")];
        let heard = practice.send("GET /fhir/Patient?_count=1", &odd, b"").await;
        assert_eq!(heard.status, 200);
        assert!(!heard.head.contains("Canaryfeather"), "{}", heard.head);
    }
}

on_each_database! {
    async fn a_change_that_is_not_allowed_is_refused_and_changes_nothing(app: TestApp) {
        let practice = Wire::of(&app.practice("TESTA1").await).await;
        let coach = Wire::of(&app.staff("coach-north").await).await;
        let made = practice.json(SR, &referral("known")).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let request = made.value();
        let at = format!("ServiceRequest/{}", request["id"].as_str().unwrap());
        let found = practice.get(&format!("/fhir/Task?focus={at}")).await.value();
        let task = found["entry"][0]["resource"].clone();
        let task_at = format!("Task/{}", task["id"].as_str().unwrap());
        let changed = |of: &Value, element: &str, to: Value| {
            let mut changed = of.clone();
            changed[element] = to;
            changed.to_string()
        };
        let complete = |outcome: &str| {
            let code = json!({ "name": "outcome", "valueCode": outcome });
            json!({ "resourceType": "Parameters", "parameter": [code] }).to_string()
        };
        let put = |path: &str| format!("PUT /fhir/{path}");
        let on = |operation: &str| format!("POST /fhir/{task_at}/{operation}");
        let first = Some("W/\"1\"");
        let bad = [
            ("a stale version", &practice, put(&at), Some("W/\"7\""), request.to_string(), 412, ""),
            ("a version in words", &practice, put(&at), Some("Canaryfeather"), request.to_string(), 400, ""),
            ("a list of stale versions", &practice, put(&at), Some("W/\"7\", W/\"2\""), request.to_string(), 412, ""),
            ("any version among others", &practice, put(&at), Some("*, W/\"1\""), request.to_string(), 400, ""),
            ("an empty version", &practice, put(&at), Some(""), request.to_string(), 400, ""),
            ("a version beyond numbers", &practice, put(&at), Some("W/\"99999999999999999999\""), request.to_string(), 412, ""),
            ("another id than the URL's", &practice, put("ServiceRequest/Canaryfeather"), first, request.to_string(), 400, "ServiceRequest.id"),
            ("another type than the URL's", &practice, put(&at.replace("ServiceRequest", "Patient")), first, request.to_string(), 400, "resourceType"),
            ("what is not there", &practice, put("ServiceRequest/nothing"), first, changed(&request, "id", json!("nothing")), 404, ""),
            ("a Task without a version", &coach, put(&task_at), None, task.to_string(), 428, ""),
            ("a stale Task", &coach, put(&task_at), Some("W/\"7\""), task.to_string(), 412, ""),
            ("a jump to completed", &coach, put(&task_at), first, changed(&task, "status", json!("completed")), 422, "Task.status"),
            ("a state that is none of ours", &coach, put(&task_at), first, changed(&task, "status", json!("draft")), 422, "Task.status"),
            ("a state that does not exist", &coach, put(&task_at), first, changed(&task, "status", json!("Canaryfeather")), 400, "Task.status"),
            ("another focus", &coach, put(&task_at), first, changed(&task, "focus", json!({ "reference": "ServiceRequest/1" })), 422, "Task.focus"),
            ("another person", &coach, put(&task_at), first, changed(&task, "for", json!({ "reference": "Patient/1" })), 422, "Task.for"),
            ("a Task of Live Well from a practice", &practice, put(&task_at), first, task.to_string(), 403, ""),
            ("a claim by a practice", &practice, on("$claim"), None, String::new(), 403, ""),
            ("a stale claim", &coach, on("$claim"), Some("W/\"7\""), String::new(), 412, ""),
            ("completed before it is begun", &coach, on("$complete"), None, complete("accepted"), 422, "Task"),
            ("released before it is taken", &coach, on("$release"), None, String::new(), 422, "Task.status"),
            ("completed without an outcome", &coach, on("$complete"), None, json!({ "resourceType": "Parameters" }).to_string(), 422, "Parameters.parameter"),
            ("completed with noise", &coach, on("$complete"), None, "Canaryfeather".to_owned(), 400, ""),
            ("a claim of nothing", &coach, "POST /fhir/Task/nothing/$claim".to_owned(), None, String::new(), 404, ""),
        ];
        let send = |(what, caller, line, version, body, status, expression): (&'static str, &Wire, String, Option<&'static str>, String, u16, &'static str)| {
            let caller = caller.clone();
            (what.to_owned(), async move {
                let mut headers: Vec<(&str, &[u8])> = vec![TYPED];
                headers.extend(version.map(|v| ("If-Match", v.as_bytes())));
                (caller.send(&line, &headers, body.as_bytes()).await, status, expression.to_owned())
            })
        };
        refused(&app, bad.into_iter().map(send)).await;
        for (path, version) in [(&at, &request), (&task_at, &task)] {
            assert_eq!(&practice.get(&format!("/fhir/{path}")).await.value(), version, "{path} was changed");
        }
    }
}
