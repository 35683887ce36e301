//! What leaves, and what never does.
#![expect(clippy::unwrap_used, reason = "tests")]

mod published;

use super::*;
use crate::fhir::path;

struct Case {
    person: BTreeSet<String>,
    copies: BTreeMap<String, PracticeCopy>,
    directory: BTreeMap<String, Logical>,
    author: Logical,
    organization: Logical,
    preferences: Preferences,
    own_words: BTreeSet<String>,
}

fn case() -> Case {
    let coach = Logical {
        kind: "PractitionerRole".into(),
        identifier: Some(("https://livewell.example/Id/staff".into(), "HC1".into())),
        display: Some("Ann Example, health coach".into()),
        role: CodeTable::embedded().coding("job-health-coach"),
    };
    let organization = Logical {
        kind: "Organization".into(),
        identifier: Some(("https://fhir.nhs.uk/Id/ods-organization-code".into(), "TEST01".into())),
        display: Some("Live Well".into()),
        role: None,
    };
    Case {
        person: ["Patient/ours".to_owned(), "Patient/sent".to_owned()].into(),
        copies: BTreeMap::new(),
        directory: [
            ("PractitionerRole/hc".to_owned(), coach.clone()),
            ("Organization/lw".to_owned(), organization.clone()),
        ]
        .into(),
        author: coach,
        organization,
        preferences: Preferences::default(),
        own_words: BTreeSet::new(),
    }
}

impl Case {
    fn written(&self, detail: Detail, resources: &[&Resource]) -> Vec<Outgoing> {
        let records: Vec<Record<'_>> = resources.iter().map(|resource| Record { resource, version: 3 }).collect();
        outgoing(&Contents {
            delivery_id: "d-1",
            recorded: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
            records: &records,
            person: &self.person,
            copies: &self.copies,
            directory: &self.directory,
            author: &self.author,
            organization: &self.organization,
            detail,
            own_words: &self.own_words,
            preferences: &self.preferences,
            codes: CodeTable::embedded(),
        })
    }
}

fn encounter() -> Resource {
    Resource::from_value(json!({
        "resourceType": "Encounter", "id": "e1", "meta": { "versionId": "3", "security": [{ "code": "R" }] },
        "text": { "status": "generated", "div": "<div>SECRET-WORDS</div>" },
        "contained": [
            { "resourceType": "Patient", "id": "p", "name": [{ "family": "SECRET-WORDS" }] },
            { "resourceType": "QuestionnaireResponse", "id": "gb", "item": [{ "text": "SECRET-WORDS" }] },
            { "resourceType": "Location", "id": "place", "name": "Community hall" }
        ],
        "identifier": [{ "system": "https://elsewhere.example/Id", "value": "77" }],
        "extension": [
            { "url": "https://x.example/said", "valueString": "SECRET-NOTE" },
            { "url": "https://x.example/about", "valueReference": { "reference": "#gb" } }
        ],
        "status": "finished",
        "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR", "display": "virtual <b>" },
        "type": [{ "coding": [{ "system": "http://snomed.info/sct", "code": "1", "display": "First contact" }], "text": "SECRET-NOTE" }],
        "subject": { "reference": "#p" },
        "basedOn": [{ "reference": "ServiceRequest/r1", "identifier": { "system": "https://gp.example", "value": "REF1" } }],
        "participant": [{ "individual": { "reference": "PractitionerRole/hc" } }, { "individual": { "display": "SECRET-NOTE" } }],
        "location": [{ "location": { "reference": "#place" } }],
        "serviceProvider": { "reference": "Organization/lw/_history/2" },
        "period": { "start": "2026-05-03T09:00:00Z" }
    }))
    .unwrap()
}

fn observation() -> Resource {
    Resource::from_value(json!({
        "resourceType": "Observation", "id": "o1", "status": "final",
        "code": { "coding": [{ "system": "http://snomed.info/sct", "code": "2", "display": "Activation score" }], "text": "SECRET-NOTE" },
        "subject": { "reference": "Patient/sent", "display": "SECRET-NOTE" },
        "encounter": { "reference": "Encounter/e1", "display": "SECRET-NOTE" },
        "effectiveDateTime": "2026-05-03",
        "valueQuantity": { "value": serde_json::from_str::<Value>("56.40").unwrap(), "code": "{score}" },
        "derivedFrom": [{ "reference": "QuestionnaireResponse/q1" }],
        "hasMember": [{ "reference": "https://other.example/fhir/Observation/9" }],
        "note": [{ "text": "SECRET-NOTE" }],
        "component": [{ "code": { "coding": [{ "code": "5", "display": "Level" }] }, "valueInteger": 2 }, { "code": { "text": "SECRET-NOTE" }, "valueString": "SECRET-NOTE" }]
    }))
    .unwrap()
}

fn goal(description: Value) -> Resource {
    Resource::from_value(json!({
        "resourceType": "Goal", "id": "g1", "lifecycleStatus": "active", "description": description,
        "subject": { "reference": "Patient/ours" }, "statusReason": "SECRET-NOTE",
        "target": [{ "detailString": "SECRET-NOTE", "dueDate": "2026-08-01" }]
    }))
    .unwrap()
}

fn text_of(out: &[Outgoing]) -> String {
    out.iter().map(|o| o.resource.to_string()).collect()
}

#[test]
fn what_leaves_carries_our_identifier_and_none_of_our_ids() {
    let out = case().written(Detail::Full, &[&observation(), &encounter()]);
    let keys: Vec<&str> = out.iter().map(|o| o.key.as_str()).collect();
    assert_eq!(keys, ["Encounter/e1", "Observation/o1", "Provenance/d-1"]);
    for o in &out[..2] {
        assert!(o.resource.get("id").is_none() && o.resource["meta"].get("versionId").is_none());
        let ours: Vec<_> =
            o.resource["identifier"].as_array().unwrap().iter().filter(|i| i["system"] == RECORD_SYSTEM).collect();
        assert_eq!(ours, [&json!({ "system": RECORD_SYSTEM, "value": record_id(&o.key) })]);
        assert_eq!(o.resource["subject"], json!({ "reference": PRACTICE_PATIENT }));
        assert_eq!(o.resource["meta"]["tag"][0]["code"], "3");
    }
    assert_eq!(out[0].resource["identifier"][0]["value"], "77");
    assert_eq!(out[0].resource["meta"]["security"][0]["code"], "R");
    assert_eq!(out[1].resource["valueQuantity"]["value"].to_string(), "56.40");
}

#[test]
fn references_are_ones_the_practice_can_follow() {
    let out = case().written(Detail::Full, &[&encounter(), &observation()]);
    let e = &out[0].resource;
    assert_eq!(e["participant"][0]["individual"]["identifier"]["value"], "HC1");
    assert_eq!(e["participant"][0]["individual"]["display"], "Ann Example, health coach");
    assert!(e["participant"][0]["individual"].get("reference").is_none());
    assert_eq!(e["serviceProvider"]["identifier"]["value"], "TEST01");
    assert_eq!(
        e["basedOn"][0],
        json!({ "type": "ServiceRequest", "identifier": { "system": "https://gp.example", "value": "REF1" } })
    );
    assert_eq!(e["contained"].as_array().unwrap().len(), 1, "only the place is still named");
    assert_eq!(e["location"][0]["location"]["reference"], "#place");
    let o = &out[1].resource;
    assert_eq!(o["encounter"], json!({ "reference": full_url("Encounter/e1") }));
    assert_eq!(o["hasMember"][0]["identifier"]["value"], "https://other.example/fhir/Observation/9");
    assert!(o["hasMember"][0].get("reference").is_none());
    let targets = path::all(&out[2].resource, "target.reference");
    assert_eq!(targets, [&json!(full_url("Encounter/e1")), &json!(full_url("Observation/o1"))]);
}

/// The person's wellbeing plan in their own words.
fn green_book(status: &str) -> Resource {
    Resource::from_value(json!({
        "resourceType": "QuestionnaireResponse", "id": "q1", "status": status,
        "identifier": { "system": "https://elsewhere.example/Id", "value": "77" },
        "subject": { "reference": "Patient/ours" }, "source": { "reference": "Patient/ours" }, "authored": "2026-05-03",
        "item": [{ "linkId": "keeps-me-well", "answer": [{ "valueString": "SECRET-WORDS" }] }],
    }))
    .unwrap()
}

#[test]
fn the_green_book_does_not_leave_without_agreement_and_is_not_mentioned() {
    let answers = green_book("completed");
    for detail in [Detail::Full, Detail::CodedOnly] {
        let mut case = case();
        if detail == Detail::CodedOnly {
            // Agreed to once, and no detail is shared any more.
            case.own_words.insert("QuestionnaireResponse/q1".into());
        }
        let out = case.written(detail, &[&answers, &encounter(), &observation()]);
        let text = text_of(&out);
        assert!(!text.contains("SECRET-WORDS") && !text.contains("Questionnaire") && !text.contains("#gb"), "{text}");
    }
    assert!(case().written(Detail::Full, &[&answers]).is_empty());
}

#[test]
fn the_green_book_leaves_whole_where_the_person_agreed() {
    let mut case = case();
    case.own_words.insert("QuestionnaireResponse/q1".into());
    let out = case.written(Detail::Full, &[&green_book("completed"), &observation()]);
    assert_eq!(
        out.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(),
        ["QuestionnaireResponse/q1", "Observation/o1", "Provenance/d-1"]
    );
    let words = &out[0].resource;
    assert_eq!(words["identifier"], json!({ "system": RECORD_SYSTEM, "value": "q1" }), "R4 lets it have one");
    assert_eq!(words["item"][0]["answer"][0]["valueString"], "SECRET-WORDS");
    assert_eq!(
        (&words["subject"], &words["source"]),
        (&json!({ "reference": PRACTICE_PATIENT }), &json!({ "reference": PRACTICE_PATIENT }))
    );
    assert!(!words["text"].to_string().contains("SECRET"), "the narrative is of codes, as any");
    assert_eq!(out[1].resource["derivedFrom"][0]["reference"], full_url("QuestionnaireResponse/q1"));
    case.preferences.questionnaires = Share::None;
    assert!(case.written(Detail::Full, &[&green_book("completed")]).is_empty(), "the practice wants none");
}

#[test]
fn of_a_green_book_that_is_shared_no_more_only_its_withdrawal_reaches_the_practice() {
    let mut case = case();
    let copy = PracticeCopy { reference: "QuestionnaireResponse/9".into(), version: None };
    case.copies.insert("QuestionnaireResponse/q1".into(), copy);
    assert!(case.written(Detail::Full, &[&green_book("amended")]).is_empty());
    for detail in [Detail::Full, Detail::CodedOnly] {
        let out = case.written(detail, &[&green_book("entered-in-error")]);
        assert!(out[0].previous.is_some() && out[0].resource["status"] == "entered-in-error");
        assert!(out[0].resource.get("item").is_none() && !text_of(&out).contains("SECRET"), "{}", text_of(&out));
    }
}

#[test]
fn a_denial_leaves_codes_times_and_figures_only() {
    let described = goal(
        json!({ "coding": [{ "system": "http://snomed.info/sct", "code": "3", "display": "Walks" }], "text": "SECRET-NOTE" }),
    );
    let out = case().written(Detail::CodedOnly, &[&encounter(), &observation(), &described]);
    let text = text_of(&out);
    assert!(!text.contains("SECRET"), "{text}");
    assert!(!text.contains("\"div\"") && !text.contains("\"note\"") && !text.contains("Community hall"));
    assert_eq!(out[0].resource["period"]["start"], "2026-05-03T09:00:00Z");
    assert_eq!(out[0].resource["participant"][0]["individual"]["display"], "Ann Example, health coach");
    assert_eq!(out[1].resource["valueQuantity"]["value"].to_string(), "56.40");
    assert_eq!(out[1].resource["component"][0]["valueInteger"], 2);
    assert_eq!(out[2].resource["target"], json!([{ "dueDate": "2026-08-01" }]));
    let full = text_of(&case().written(Detail::Full, &[&observation()]));
    assert!(full.contains("SECRET-NOTE"), "with no denial the notes of staff go");
}

#[test]
fn what_has_no_code_is_no_coded_entry_unless_it_corrects_one() {
    let words = goal(json!({ "text": "SECRET-NOTE" }));
    let mut case = case();
    assert!(case.written(Detail::CodedOnly, &[&words]).is_empty());
    let copy = PracticeCopy { reference: "Goal/55".into(), version: Some("1".into()) };
    case.copies.insert("Goal/g1".into(), copy.clone());
    let out = case.written(Detail::CodedOnly, &[&words]);
    assert_eq!(out[0].resource["description"], json!({ "text": "Not shared" }));
    assert_eq!(out[0].previous, Some(copy));
    assert_eq!(out[1].resource["target"][0]["reference"], "Goal/55");
    assert_eq!(out[1].resource["activity"]["coding"][0]["code"], "UPDATE");
}

#[test]
fn an_entry_the_practice_already_has_is_named_by_its_own_reference() {
    let mut case = case();
    case.copies.insert("Encounter/e1".into(), PracticeCopy { reference: "Encounter/123".into(), version: None });
    let out = case.written(Detail::Full, &[&observation()]);
    assert_eq!(out[0].resource["encounter"]["reference"], "Encounter/123");
    assert!(out[0].previous.is_none());
}

#[test]
fn the_narrative_is_escaped_and_made_of_terms_only() {
    let out = case().written(Detail::Full, &[&encounter(), &observation()]);
    let div = out[0].resource["text"]["div"].as_str().unwrap();
    assert!(
        div.contains("virtual &lt;b&gt;, First contact, finished, 3 May 2026, Ann Example, health coach, Live Well"),
        "{div}"
    );
    assert!(!div.contains("SECRET") && !div.contains("<b>"));
    let div = out[1].resource["text"]["div"].as_str().unwrap();
    assert!(div.contains("Activation score, 56.40, Level 2, final, 3 May 2026"), "{div}");
}

#[test]
fn another_person_is_never_taken_for_this_one() {
    let mut value = observation().into_value();
    value["focus"] = json!([{ "reference": "Patient/someone-else" }, { "reference": "Patient/ours" }]);
    let out = case().written(Detail::Full, &[&Resource::from_value(value).unwrap()]);
    assert_eq!(out[0].resource["focus"], json!([{ "reference": PRACTICE_PATIENT }]));
}

#[test]
fn a_full_url_is_stable_and_differs_between_types() {
    assert_eq!(full_url("Encounter/a"), full_url("Encounter/a"));
    assert_ne!(full_url("Encounter/a"), full_url("Goal/a"));
    let id = full_url("Encounter/a");
    assert!(uuid::Uuid::parse_str(id.strip_prefix("urn:uuid:").unwrap()).is_ok());
}

#[test]
fn what_lost_its_words_is_not_left_as_half_an_entry() {
    let observed = Resource::from_value(json!({
        "resourceType": "Observation", "id": "o2", "status": "final", "code": { "coding": [{ "code": "2" }] },
        "component": [{ "code": { "text": "SECRET-NOTE" }, "valueInteger": 2 }],
        "referenceRange": [{ "text": "SECRET-NOTE", "appliesTo": [{ "coding": [{ "code": "x" }] }] }]
    }));
    let mut aim = goal(json!({ "coding": [{ "code": "3" }] })).into_value();
    aim["target"] = json!([
        { "measure": { "text": "SECRET-NOTE" }, "detailInteger": 5, "dueDate": "2026-08-01" },
        { "measure": { "coding": [{ "code": "4" }] }, "detailInteger": 6 }
    ]);
    let consent = Resource::from_value(json!({
        "resourceType": "Consent", "id": "c1", "status": "active", "scope": { "coding": [{ "code": "patient-privacy" }] },
        "policy": [{ "uri": "https://policy.example/share" }], "sourceAttachment": { "title": "SECRET-NOTE" },
        "provision": { "type": "deny" }
    }));
    let out = case()
        .written(Detail::CodedOnly, &[&observed.unwrap(), &Resource::from_value(aim).unwrap(), &consent.unwrap()]);
    assert!(out[0].resource.get("component").is_none() && out[0].resource.get("referenceRange").is_none());
    let targets =
        json!([{ "dueDate": "2026-08-01" }, { "measure": { "coding": [{ "code": "4" }] }, "detailInteger": 6 }]);
    assert_eq!(out[1].resource["target"], targets);
    assert_eq!(out[2].resource["policy"][0]["uri"], "https://policy.example/share");
    assert_eq!(out[2].resource["patient"]["reference"], PRACTICE_PATIENT);
    assert!(!text_of(&out).contains("SECRET"));
}

#[test]
fn whoever_was_there_has_the_code_of_their_role() {
    let role = |o: &Outgoing| {
        let codes = path::all(&o.resource, "participant.type.coding.code");
        codes.into_iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    for detail in [Detail::Full, Detail::CodedOnly] {
        assert_eq!(role(&case().written(detail, &[&encounter()])[0]), ["R9807"]);
        let mut alone = encounter().into_value();
        alone.as_object_mut().unwrap().shift_remove("participant");
        let out = case().written(detail, &[&Resource::from_value(alone).unwrap()]);
        assert_eq!(role(&out[0]), ["PPRF", "R9807"], "who recorded it was there");
        assert_eq!(out[0].resource["participant"][0]["individual"]["identifier"]["value"], "HC1");
    }
}

#[test]
fn a_practice_gets_what_it_wants_and_every_correction_of_what_it_has() {
    let mut case = case();
    case.preferences.goals = Share::None;
    case.preferences.sessions = Share::Summary;
    let described = goal(json!({ "text": "Walk to the library" }));
    let out = case.written(Detail::Full, &[&encounter(), &observation(), &described]);
    let keys: Vec<&str> = out.iter().map(|o| o.key.as_str()).collect();
    assert_eq!(keys, ["Encounter/e1", "Observation/o1", "Provenance/d-1"]);
    assert!(out[0].resource.get("extension").is_none() && out[0].resource["type"][0]["coding"][0]["code"] == "1");
    case.copies.insert("Goal/g1".into(), PracticeCopy { reference: "Goal/55".into(), version: None });
    assert_eq!(case.written(Detail::Full, &[&described])[0].key, "Goal/g1");
}

#[test]
fn an_entry_of_which_only_the_identifier_is_known_there_is_named_by_it() {
    let mut case = case();
    case.copies.insert("Encounter/e1".into(), PracticeCopy { reference: String::new(), version: None });
    let out = case.written(Detail::Full, &[&observation()]);
    let expected = json!({ "type": "Encounter", "identifier": { "system": RECORD_SYSTEM, "value": "e1" }, "display": "SECRET-NOTE" });
    assert_eq!(out[0].resource["encounter"], expected);
    let corrected = case.written(Detail::Full, &[&encounter()]);
    assert_eq!(corrected[1].resource["target"][0]["reference"], full_url("Encounter/e1"));
    assert_eq!(corrected[1].resource["activity"]["coding"][0]["code"], "UPDATE");
}
