//! Who we are to others, where a token may go, and what is never called.

use super::*;

#[tokio::test]
async fn a_practice_without_a_smart_configuration_is_called_without_a_token() {
    let practice = Practice::open().await;
    let outbound = outbound();
    receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await);
    assert_eq!(practice.requests("GET", "/fhir/.well-known/"), 1, "asked once, then believed for a while");
    assert_eq!(practice.requests("POST", "/token"), 0);
}

#[tokio::test]
async fn a_smart_configuration_that_names_no_token_endpoint_is_the_same_as_none() {
    let practice = Practice::open().await;
    practice.told().smart = Some(json!({ "token_endpoint_auth_methods_supported": ["private_key_jwt"] }));
    receipts_of(outbound().deliver(&job(&practice, set(), false), now()).await);
    assert_eq!(practice.requests("POST", "/token"), 0);
}

#[tokio::test]
async fn a_token_is_got_once_kept_and_renewed_before_it_ends() {
    let practice = Practice::open().await;
    let key = key();
    practice.wants_tokens(key.public_jwks(now()));
    let outbound = outbound_with(true, key);
    for (seconds, issued) in [(0, 1), (100, 1), (269, 1), (271, 2), (500, 2)] {
        receipts_of(outbound.deliver(&job(&practice, set(), true), now() + chrono::Duration::seconds(seconds)).await);
        assert_eq!(practice.told().issued, issued, "after {seconds} s");
    }
    assert_once(&practice);
}

#[tokio::test]
async fn a_401_renews_the_token_once_and_then_stops() {
    let practice = Practice::open().await;
    let key = key();
    practice.wants_tokens(key.public_jwks(now()));
    let outbound = outbound_with(true, key);
    receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    practice.told().tokens.clear();
    receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await);
    assert_eq!(practice.told().issued, 2);
    practice.told().instead.insert("/fhir/Patient/_search".into(), (401, vec![], String::new()));
    let verdict = outbound.deliver(&job(&practice, set(), true), now()).await;
    assert_eq!(verdict, Verdict::Refused { why: Why::Status(401), outcome: None });
    assert_eq!(practice.told().issued, 3, "one renewal");
    practice.told().instead.clear();
    practice.fails([Fault::Status(401, vec![], json!({}))]);
    let fresh = vec![another()];
    receipts_of(outbound.deliver(&job(&practice, fresh, false), now()).await);
    assert_eq!(practice.holds("Encounter"), 2);
}

#[tokio::test]
async fn what_the_token_endpoint_says_decides() {
    let cases = [
        (
            400,
            json!({ "error": "invalid_client", "error_description": "9990000018" }),
            Verdict::Refused { why: Why::TokenRefused, outcome: Some("invalid_client".into()) },
        ),
        (400, json!({ "error": "Núñez 9990000018" }), Verdict::Refused { why: Why::TokenRefused, outcome: None }),
        (503, json!({}), Verdict::Retry { after: None, why: Why::Status(503) }),
        (
            200,
            json!({ "access_token": "a\nb", "token_type": "bearer" }),
            Verdict::Retry { after: None, why: Why::AnswerUnreadable },
        ),
        (
            200,
            json!({ "access_token": "a", "token_type": "mac" }),
            Verdict::Retry { after: None, why: Why::AnswerUnreadable },
        ),
        (200, json!({}), Verdict::Retry { after: None, why: Why::AnswerUnreadable }),
        (302, json!({}), Verdict::Refused { why: Why::TokenRefused, outcome: None }),
    ];
    for (status, body, expected) in cases {
        let practice = Practice::open().await;
        practice.wants_tokens(json!({}));
        practice.told().token_answer = Some((status, body.clone()));
        assert_eq!(outbound().deliver(&job(&practice, set(), false), now()).await, expected, "{status} {body}");
        assert_eq!(practice.requests("POST", "/fhir"), 0);
    }
}

#[tokio::test]
async fn nothing_is_sent_to_another_origin_than_the_practices_own() {
    let (practice, canary) = (Practice::open().await, Practice::open().await);
    let key = key();
    practice.wants_tokens(key.public_jwks(now()));
    let outbound = outbound_with(true, key.clone());
    // The practice says its entries are elsewhere.
    practice.fails([Fault::LocateAt(canary.base())]);
    assert_eq!(receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await).len(), 3);
    // The practice sends us elsewhere.
    for (path, method_status) in [("/fhir/Patient/_search", 307), ("/fhir/Patient/_search", 302)] {
        let to = vec![("location", format!("{}/Patient", canary.base()))];
        practice.told().instead.insert(path.into(), (method_status, to, String::new()));
        let verdict = outbound.deliver(&job(&practice, set(), true), now()).await;
        assert_eq!(verdict, Verdict::Refused { why: Why::Status(method_status), outcome: None });
    }
    practice.told().instead.clear();
    practice.fails([Fault::Status(308, vec![("location", canary.base())], json!({}))]);
    let verdict = outbound.deliver(&job(&practice, vec![another()], false), now()).await;
    assert_eq!(verdict, Verdict::Refused { why: Why::Status(308), outcome: None });
    // The practice says that tokens are got elsewhere, without TLS.
    practice.told().smart = Some(json!({ "token_endpoint": format!("http://{}/token", canary.address) }));
    let stranger = outbound_with(true, key);
    let verdict = stranger.deliver(&job(&practice, set(), false), now()).await;
    assert_eq!(verdict, Verdict::Refused { why: Why::TokenEndpointUnusable, outcome: None });
    assert!(canary.told().seen.is_empty(), "{:?}", canary.told().seen);
}

#[tokio::test]
async fn without_the_switch_no_local_listener_is_ever_reached() {
    let canary = Practice::open().await;
    let outbound = outbound_with(false, key());
    let port = canary.address.port();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "0x7f000001",
        "2130706433",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "user@127.0.0.1",
        "localhost.",
    ];
    for scheme in ["http", "https"] {
        for host in hosts {
            let url = format!("{scheme}://{host}:{port}/fhir");
            let mut job = job(&canary, set(), false);
            job.endpoint.address = url.clone();
            let verdict = outbound.deliver(&job, now()).await;
            assert_eq!(verdict, Verdict::Refused { why: Why::AddressRefused, outcome: None }, "{url}");
            assert!(matches!(outbound.fetch_key_set(&url).await, Err(KeySetError::Address(_))), "{url}");
        }
    }
    assert!(canary.told().seen.is_empty());
}

#[tokio::test]
async fn a_key_set_is_fetched_within_its_limits() {
    let owner = Practice::open().await;
    let outbound = outbound();
    let url = format!("http://{}/keys", owner.address);
    let put = |status: u16, headers: Vec<(&'static str, String)>, body: String| {
        owner.told().instead.insert("/keys".into(), (status, headers, body));
    };
    put(200, vec![("cache-control", "public, max-age=120".into())], key().public_jwks(now()).to_string());
    let got = outbound.fetch_key_set(&url).await.unwrap();
    assert_eq!(got.document["keys"][0]["kty"], "EC");
    assert_eq!(got.max_age, Some(Duration::from_secs(120)));
    let keys = |n: usize| json!({ "keys": vec![json!({ "kty": "EC" }); n] }).to_string();
    put(200, vec![], keys(20));
    assert!(outbound.fetch_key_set(&url).await.is_ok());
    for body in [
        keys(21),
        "{}".into(),
        "[]".into(),
        "x".into(),
        r#"{"keys":["x"]}"#.into(),
        format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(70_000)),
    ] {
        put(200, vec![], body);
        assert_eq!(outbound.fetch_key_set(&url).await.unwrap_err(), KeySetError::NotAKeySet);
    }
    put(302, vec![("location", url.replace("/keys", "/other"))], String::new());
    assert_eq!(outbound.fetch_key_set(&url).await.unwrap_err(), KeySetError::NotFetched(Why::Status(302)));
    assert_eq!(owner.requests("GET", "/other"), 0);
}

#[test]
fn nothing_of_a_patient_or_a_key_is_printed() {
    let outbound = format!("{:?}", outbound());
    assert_eq!(outbound, "Outbound");
    let match_ = PatientMatch { nhs_number: "9990000018".into(), birth_date: None, family: Some("Núñez".into()) };
    let printed = format!("{:?} {:?}", match_, set());
    assert!(
        !printed.contains("9990000018") && !printed.contains("Núñez") && !printed.contains("identifier"),
        "{printed}"
    );
}
