//! What small code systems, value sets and concept maps say.

use serde_json::{Value, json};

use super::*;

const ANIMALS: &str = "https://example.org/animals";
const PETS: &str = "https://example.org/ValueSet/pets";

fn animals() -> Value {
    json!({ "resourceType": "CodeSystem", "url": ANIMALS, "version": "2", "title": "Animals", "content": "complete", "concept": [
        { "code": "animal", "display": "Animal", "property": [{ "code": "notSelectable", "valueBoolean": true }], "concept": [
            { "code": "cat", "display": "Cat", "property": [{ "code": "legs", "valueInteger": 4 }] },
            { "code": "bird", "display": "Bird", "property": [{ "code": "legs", "valueInteger": 2 }], "concept": [{ "code": "wren" }] },
            { "code": "dodo", "property": [{ "code": "status", "valueCode": "retired" }, { "code": "parent", "valueCode": "bird" }] },
        ] },
        { "code": "stone" },
    ] })
}

fn value_set(id: &str, compose: Value) -> Value {
    json!({ "resourceType": "ValueSet", "url": format!("https://example.org/ValueSet/{id}"), "version": "1", "compose": compose })
}

fn filtered(property: &str, op: &str, value: &str) -> Value {
    json!({ "include": [{ "system": ANIMALS, "filter": [{ "property": property, "op": op, "value": value }] }] })
}

fn terminology() -> Terminology {
    let map = json!({ "resourceType": "ConceptMap", "url": "https://example.org/map", "sourceUri": PETS, "targetUri": "https://example.org/sounds-set",
        "group": [{ "source": ANIMALS, "target": "https://example.org/sounds", "element": [
            { "code": "cat", "display": "Cat", "target": [{ "code": "miaow", "display": "Miaow", "equivalence": "equivalent" }] },
            { "code": "bird", "target": [{ "code": "miaow", "equivalence": "disjoint" }] },
        ] }] });
    let sets = [
        value_set(
            "pets",
            json!({ "include": [{ "system": ANIMALS, "concept": [{ "code": "cat", "display": "House cat" }, { "code": "bird" }] }] }),
        ),
        value_set("all", json!({ "include": [{ "system": ANIMALS }] })),
        value_set("birds", filtered("concept", "is-a", "bird")),
        value_set("below-bird", filtered("concept", "descendent-of", "bird")),
        value_set("four-legs", filtered("legs", "=", "4")),
        value_set("children", filtered("parent", "=", "animal")),
        value_set("pattern", filtered("code", "regex", "b.*")),
        value_set(
            "no-birds",
            json!({ "include": [{ "system": ANIMALS }], "exclude": [{ "valueSet": ["https://example.org/ValueSet/birds"] }] }),
        ),
        value_set("pet-birds", json!({ "include": [{ "valueSet": [PETS, "https://example.org/ValueSet/birds|1"] }] })),
        value_set(
            "two",
            json!({ "include": [{ "valueSet": [PETS] }, { "system": ANIMALS, "concept": [{ "code": "stone" }] }] }),
        ),
        value_set(
            "clinical",
            json!({ "include": [{ "system": "http://snomed.info/sct", "filter": [{ "property": "concept", "op": "is-a", "value": "1" }] }, { "system": ANIMALS }] }),
        ),
        value_set("loose", json!({ "include": [{ "valueSet": ["https://example.org/ValueSet/nobody"] }] })),
        value_set(
            "itself",
            json!({ "include": [{ "valueSet": ["https://example.org/ValueSet/itself", PETS] }, { "valueSet": ["https://example.org/ValueSet/itself"] }] }),
        ),
        value_set(
            "gender",
            json!({ "include": [{ "valueSet": ["http://hl7.org/fhir/ValueSet/administrative-gender"] }] }),
        ),
    ];
    let (animals, map) = (animals(), map);
    Terminology::from_resources([&animals, &map].into_iter().chain(&sets))
}

#[track_caller]
fn listed(set: &str, codes: &[&str]) {
    let members = terminology().expand(&format!("https://example.org/ValueSet/{set}")).unwrap();
    assert_eq!(members.iter().map(|m| m.code.as_str()).collect::<Vec<_>>(), codes);
}

#[test]
fn a_value_set_is_listed_in_the_order_of_its_definition() {
    listed("pets", &["cat", "bird"]);
    listed("all", &["animal", "cat", "bird", "wren", "dodo", "stone"]);
    listed("two", &["cat", "bird", "stone"]);
    listed("itself", &[]);
    listed("gender", &["female", "male", "other", "unknown"]);
}

#[test]
fn a_filter_takes_what_the_code_system_says() {
    listed("birds", &["bird", "wren", "dodo"]);
    listed("below-bird", &["wren", "dodo"]);
    listed("four-legs", &["cat"]);
    listed("children", &["cat", "bird", "dodo"]);
}

#[test]
fn what_is_excluded_or_in_only_one_of_two_sets_is_out() {
    listed("no-birds", &["animal", "cat", "stone"]);
    listed("pet-birds", &["bird"]);
}

#[test]
fn a_member_says_its_display_and_whether_it_may_be_chosen() {
    let of = |set: &str| terminology().expand(&format!("https://example.org/ValueSet/{set}")).unwrap();
    assert_eq!(of("pets")[0].display.as_deref(), Some("House cat"), "the value set's own word comes first");
    let all = of("all");
    assert_eq!(all[1].display.as_deref(), Some("Cat"));
    assert!(all[0].heading && !all[1].heading && all[4].inactive && !all[1].inactive);
}

#[test]
fn what_is_not_at_hand_is_said_and_never_guessed() {
    let why = |set: &str| terminology().expand(&format!("https://example.org/ValueSet/{set}")).unwrap_err();
    let not_held = |systems: &[&str], sets: &[&str]| Unlistable::NotHeld {
        systems: systems.iter().map(|s| (*s).to_owned()).collect(),
        value_sets: sets.iter().map(|s| (*s).to_owned()).collect(),
    };
    assert_eq!(why("clinical"), not_held(&["http://snomed.info/sct"], &[]));
    assert_eq!(why("pattern"), not_held(&[ANIMALS], &[]));
    assert_eq!(why("loose"), not_held(&[], &["https://example.org/ValueSet/nobody"]));
    assert_eq!(why("nobody"), Unlistable::NotFound);
    assert_eq!(terminology().expand(&format!("{PETS}|9")), Err(Unlistable::NotFound), "that version is not here");
    let currencies = "http://hl7.org/fhir/ValueSet/currencies";
    assert_eq!(terminology().expand(currencies), Err(not_held(&[], &[currencies])));
}

#[test]
fn a_code_is_in_a_set_or_not_or_nobody_here_knows() {
    let holds = |set: &str, system: Option<&str>, code: &str| {
        terminology().holds_code(&format!("https://example.org/ValueSet/{set}"), system, code)
    };
    assert_eq!(holds("pets", Some(ANIMALS), "cat"), Membership::Member);
    assert_eq!(holds("pets", None, "cat"), Membership::Member);
    assert_eq!(holds("pets", Some("https://example.org/other"), "cat"), Membership::Foreign);
    assert_eq!(holds("clinical", Some("http://snomed.info/sct"), "73211009"), Membership::Unknown);
    assert_eq!(holds("clinical", Some(ANIMALS), "unicorn"), Membership::Foreign);
    assert_eq!(holds("clinical", None, "unicorn"), Membership::Unknown);
    assert_eq!(holds("nobody", None, "cat"), Membership::Unknown);
    let of_r4 =
        |set: &str, code: &str| terminology().holds_code(&format!("http://hl7.org/fhir/ValueSet/{set}"), None, code);
    assert_eq!(of_r4("administrative-gender", "female"), Membership::Member);
    assert_eq!(of_r4("administrative-gender", "masculino"), Membership::Foreign);
    assert_eq!(of_r4("currencies", "GBP"), Membership::Unknown, "the definitions do not list them");
}

#[test]
fn a_value_set_that_is_sent_is_listed_like_one_that_is_here() {
    let sent = value_set(
        "sent",
        json!({ "include": [{ "valueSet": [PETS] }], "exclude": [{ "system": ANIMALS, "concept": [{ "code": "cat" }] }] }),
    );
    let members = terminology().expand_definition(&sent).unwrap();
    assert_eq!(members.iter().map(|m| m.code.as_str()).collect::<Vec<_>>(), ["bird"]);
    let include = json!({ "valueSet": [PETS] });
    let too_much = value_set("sent", json!({ "include": vec![include; 2000] }));
    assert_eq!(terminology().expand_definition(&too_much), Err(Unlistable::TooMuch));
}

#[test]
fn codes_of_one_system_lie_above_or_below_each_other() {
    let terminology = terminology();
    let animals = terminology.code_system(ANIMALS).unwrap();
    for (one, other, how) in [
        ("animal", "wren", Some(Subsumption::Subsumes)),
        ("wren", "animal", Some(Subsumption::SubsumedBy)),
        ("dodo", "bird", Some(Subsumption::SubsumedBy)),
        ("cat", "cat", Some(Subsumption::Equivalent)),
        ("cat", "wren", Some(Subsumption::NotSubsumed)),
        ("cat", "unicorn", None),
    ] {
        assert_eq!(animals.subsumption(one, other), how, "{one} {other}");
    }
    assert_eq!(terminology.below(ANIMALS, "bird").unwrap(), ["bird", "wren", "dodo"]);
    assert_eq!(terminology.below(ANIMALS, "unicorn"), None);
    assert_eq!(terminology.below("http://snomed.info/sct", "1"), None);
    assert!(terminology.code_system(&format!("{ANIMALS}|2")).is_some());
    assert!(terminology.code_system(&format!("{ANIMALS}|3")).is_none());
}

#[test]
fn levels_that_group_do_not_say_is_a() {
    let mut grouped = animals();
    grouped["hierarchyMeaning"] = json!("grouped-by");
    let birds = value_set("birds", filtered("concept", "is-a", "bird"));
    let terminology = Terminology::from_resources([&grouped, &birds]);
    assert_eq!(terminology.code_system(ANIMALS).unwrap().subsumption("animal", "cat"), None);
    assert!(terminology.expand("https://example.org/ValueSet/birds").is_err());
}

#[test]
fn a_concept_map_translates_there_and_back() {
    let terminology = terminology();
    let to = |wanted: Wanted<'_>| terminology.translate(&wanted);
    let cat = Wanted { code: "cat", system: Some(ANIMALS), ..Wanted::default() };
    let found = to(cat).unwrap();
    assert_eq!((found[0].code.as_str(), found[0].equivalence.as_str()), ("miaow", "equivalent"));
    assert!(found[0].matches() && !to(Wanted { code: "bird", ..cat }).unwrap()[0].matches());
    assert_eq!(to(Wanted { code: "stone", ..cat }), Some(vec![]));
    assert_eq!(to(Wanted { map: Some("https://example.org/nobody"), ..cat }), None);
    assert_eq!(to(Wanted { source: Some(PETS), ..cat }).unwrap().len(), 1);
    let back =
        Wanted { code: "miaow", system: Some("https://example.org/sounds"), target: Some(PETS), reverse: true, ..cat };
    assert_eq!(to(back).unwrap()[0].code, "cat");
}
