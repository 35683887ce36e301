//! What each answer of a practice leads to.

use super::*;

#[tokio::test]
async fn a_2xx_that_says_nothing_usable_is_not_taken_for_delivered() {
    for (body, why) in [
        ("", Why::AnswerUnreadable),
        ("<html>ok</html>", Why::AnswerUnreadable),
        ("{}", Why::AnswerUnreadable),
        ("[]", Why::AnswerUnreadable),
        ("null", Why::AnswerUnreadable),
    ] {
        let practice = Practice::open().await;
        practice.fails([Fault::Body(body.into())]);
        assert_eq!(outbound().deliver(&job(&practice, set(), false), now()).await, Verdict::Unknown { why }, "{body}");
    }
    let practice = Practice::open().await;
    practice.fails([Fault::Endless]);
    assert_eq!(
        outbound().deliver(&job(&practice, set(), false), now()).await,
        Verdict::Unknown { why: Why::AnswerTooLarge }
    );
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    practice.fails([Fault::Body(deep)]);
    assert_eq!(
        outbound().deliver(&job(&practice, set(), false), now()).await,
        Verdict::Unknown { why: Why::AnswerUnreadable }
    );
}

#[tokio::test]
async fn the_wrong_patient_is_never_written_to() {
    let mut other = patient("p2");
    other["identifier"][0]["value"] = json!("9990000026");
    let mut left = patient("p3");
    left["active"] = json!(false);
    let with = |name: &str, value: Value| {
        let mut p = patient("p1");
        p[name] = value;
        p
    };
    let cases = [
        (vec![], Reason::PatientNotFound),
        (vec![other.clone()], Reason::PatientNotFound),
        (vec![left.clone()], Reason::PatientNotFound),
        (vec![with("id", json!("../Admin"))], Reason::PatientNotFound),
        (vec![patient("p1"), patient("p4")], Reason::SeveralPatients),
        (vec![with("birthDate", json!("1951-04-23"))], Reason::BirthDateDiffers),
        (vec![with("name", json!([{ "family": "Smith" }]))], Reason::FamilyNameDiffers),
    ];
    for (patients, reason) in cases {
        let practice = Practice::open().await;
        practice.told().patients = patients;
        practice.told().ignores_search = true;
        let verdict = outbound().deliver(&job(&practice, set(), false), now()).await;
        assert_eq!(verdict, Verdict::NeedsPerson { reason });
        assert!(practice.told().transactions.is_empty());
    }
    let practice = Practice::open().await;
    practice.told().patients = vec![other, left, patient("p1")];
    practice.told().ignores_search = true;
    receipts_of(outbound().deliver(&job(&practice, set(), false), now()).await);
    assert_once(&practice);
}

#[tokio::test]
async fn a_practice_without_post_search_is_asked_by_get() {
    let practice = Practice::open().await;
    practice.told().no_post_search = true;
    receipts_of(outbound().deliver(&job(&practice, set(), false), now()).await);
    assert_eq!(practice.requests("GET", "/fhir/Patient?identifier="), 1);
}

#[tokio::test]
async fn each_status_has_its_consequence() {
    let asked = |after: &str| vec![("retry-after", after.to_owned())];
    let retry =
        |after: Option<u64>, status| Verdict::Retry { after: after.map(Duration::from_secs), why: Why::Status(status) };
    let date = (now() + chrono::Duration::seconds(90)).to_rfc2822().replace("+0000", "GMT");
    let cases = [
        (429, asked("120"), retry(Some(120), 429)),
        (503, asked(&date), retry(Some(90), 503)),
        (503, asked("soon"), retry(None, 503)),
        (500, vec![], retry(None, 500)),
        (408, vec![], retry(None, 408)),
        (425, vec![], retry(None, 425)),
        (409, vec![], retry(None, 409)),
        (502, vec![], Verdict::Unknown { why: Why::Status(502) }),
        (504, vec![], Verdict::Unknown { why: Why::Status(504) }),
        (400, vec![], Verdict::Refused { why: Why::Status(400), outcome: None }),
        (403, vec![], Verdict::Refused { why: Why::Status(403), outcome: None }),
        (422, vec![], Verdict::Refused { why: Why::Status(422), outcome: None }),
        (501, vec![], Verdict::Refused { why: Why::Status(501), outcome: None }),
        (412, vec![], Verdict::NeedsPerson { reason: Reason::SeveralCopies }),
    ];
    for (status, headers, expected) in cases {
        let practice = Practice::open().await;
        practice.fails([Fault::Status(status, headers.clone(), json!({})), Fault::Status(status, headers, json!({}))]);
        assert_eq!(outbound().deliver(&job(&practice, set(), false), now()).await, expected, "{status}");
        assert_eq!(practice.holds("Encounter"), 0);
    }
}

#[tokio::test]
async fn a_refusal_keeps_what_the_practice_said_without_the_patient() {
    let practice = Practice::open().await;
    let outcome = json!({
        "resourceType": "OperationOutcome",
        "text": { "div": "Núñez" },
        "issue": [
            { "severity": "error", "code": "invalid", "diagnostics": "Núñez 9990000018", "details": { "text": "Núñez" },
              "expression": ["Encounter.class", "Patient.where(name='Núñez')", "Patient.identifier9990000018"] },
            { "severity": "Núñez", "code": "value" }
        ]
    });
    practice.fails([Fault::Status(422, vec![], outcome)]);
    let verdict = outbound().deliver(&job(&practice, set(), false), now()).await;
    let said = "error invalid at Encounter.class; ? value".to_owned();
    assert_eq!(verdict, Verdict::Refused { why: Why::Status(422), outcome: Some(said) });
    let many: Vec<Value> = (0..5000).map(|_| json!({ "severity": "error", "code": "invalid" })).collect();
    practice.fails([Fault::Status(422, vec![], json!({ "resourceType": "OperationOutcome", "issue": many[..1500] }))]);
    match outbound().deliver(&job(&practice, set(), false), now()).await {
        Verdict::Refused { outcome: Some(said), .. } => assert!(said.len() <= 2048 && said.len() > 1900),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn slow_and_absent_practices_are_told_apart() {
    let practice = Practice::open().await;
    practice.fails([Fault::Slow(Duration::from_millis(1500))]);
    let outbound = outbound();
    assert_eq!(outbound.deliver(&job(&practice, set(), false), now()).await, Verdict::Unknown { why: Why::Timeout });
    receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await);
    assert_once(&practice);
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut absent = job(&practice, set(), false);
    absent.endpoint.address = format!("http://{}/fhir", gone.local_addr().unwrap());
    drop(gone);
    assert_eq!(outbound.deliver(&absent, now()).await, Verdict::Retry { after: None, why: Why::Unreachable });
}

#[tokio::test]
async fn an_attempt_ends_within_its_limit_and_says_whether_it_had_sent() {
    let practice = Practice::open().await;
    let settings = OutboundSettings {
        allow_private_addresses: true,
        attempt_timeout: Duration::from_millis(300),
        ..OutboundSettings::default()
    };
    let outbound = Outbound::new(settings, key()).unwrap();
    practice.fails([Fault::Slow(Duration::from_secs(20))]);
    assert_eq!(outbound.deliver(&job(&practice, set(), false), now()).await, Verdict::Unknown { why: Why::Timeout });
    // Accepts connections, never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut waiting = job(&practice, set(), false);
    waiting.endpoint.address = format!("http://{}/fhir", silent.local_addr().unwrap());
    assert_eq!(outbound.deliver(&waiting, now()).await, Verdict::Retry { after: None, why: Why::Timeout });
}
