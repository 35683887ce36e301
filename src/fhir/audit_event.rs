//! What the words of the audit trail are in FHIR's AuditEvent (<https://hl7.org/fhir/R4/auditevent.html>): type, subtype,
//! action and outcome, with the codes of HL7 and DICOM that R4's value sets list.

use serde_json::{Value, json};

use super::search::Word;
use super::systems::AUDITED;

/// DICOM's codes of events and of roles in them.
const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
/// HL7's code for a FHIR interaction, as `AuditEvent.type`.
const EVENT: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
/// FHIR's interactions, as `AuditEvent.subtype`.
const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
/// What becomes of a record in its life.
const LIFECYCLE: &str = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle";

/// A code with its system and what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coded {
    pub system: &'static str,
    pub code: &'static str,
    pub display: &'static str,
}

impl Coded {
    /// `Coding`.
    pub fn coding(&self) -> Value {
        json!({ "system": self.system, "code": self.code, "display": self.display })
    }

    /// Whether a search by token means it.
    fn is(&self, word: &Word) -> bool {
        match word {
            Word::Is { value, system } => self.code == value && system.as_deref().is_none_or(|of| of == self.system),
            Word::Of(system) => self.system == system,
            Word::Begins(_) | Word::Contains(_) => false,
        }
    }
}

const fn coded(system: &'static str, code: &'static str, display: &'static str) -> Coded {
    Coded { system, code, display }
}

/// The client, where it got something.
pub const DESTINATION: Coded = coded(DCM, "110152", "Destination Role ID");
/// The client, where it brought something.
pub const SOURCE: Coded = coded(DCM, "110153", "Source Role ID");

/// What an interaction is in an AuditEvent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub event: Coded,
    pub subtype: Option<Coded>,
    /// `C`, `R`, `U`, `D` or `E`.
    pub action: &'static str,
}

const REST: Coded = coded(EVENT, "rest", "RESTful Operation");

const fn rest(action: &'static str, code: &'static str) -> Meaning {
    Meaning { event: REST, subtype: Some(coded(INTERACTION, code, code)), action }
}

/// The words of the audit trail with a meaning of their own.
const NAMED: [(&str, Meaning); 17] = [
    ("read", rest("R", "read")),
    ("vread", rest("R", "vread")),
    ("history-instance", rest("R", "history-instance")),
    ("history-type", rest("R", "history-type")),
    ("history-system", rest("R", "history-system")),
    ("search-type", rest("E", "search-type")),
    ("search-system", rest("E", "search-system")),
    ("create", rest("C", "create")),
    // What was there already was answered.
    ("conditional create", rest("R", "create")),
    ("resend", rest("R", "create")),
    ("update", rest("U", "update")),
    ("patch", rest("U", "patch")),
    ("delete", rest("D", "delete")),
    ("transaction", rest("E", "transaction")),
    (
        "token",
        Meaning {
            event: coded(DCM, "110114", "User Authentication"),
            subtype: Some(coded(DCM, "110122", "Login")),
            action: "E",
        },
    ),
    ("load", Meaning { event: coded(DCM, "110107", "Import"), subtype: None, action: "U" }),
    ("$export download", Meaning { event: coded(DCM, "110106", "Export"), subtype: None, action: "R" }),
];

/// Those that are told by how they begin.
const BEGIN: [(&str, Meaning); 3] = [("$", rest("E", "operation")), ("delivery ", TOLD), ("subscription ", TOLD)];

/// What the service did by itself to bring something to somebody.
const TOLD: Meaning =
    Meaning { event: coded(LIFECYCLE, "transmit", "Transmit Record Lifecycle Event"), subtype: None, action: "E" };

/// What a word of the audit trail means.
pub fn meaning(interaction: &str) -> Meaning {
    let named = NAMED.iter().find(|(word, _)| *word == interaction);
    let begun = || BEGIN.iter().find(|(begin, _)| interaction.starts_with(begin));
    named.or_else(begun).map_or(rest("E", "operation"), |(_, meaning)| *meaning)
}

/// Whether the word says more than its meaning, and is told beside it.
pub fn says_more(interaction: &str) -> bool {
    meaning(interaction).subtype.is_none_or(|subtype| subtype.code != interaction)
}

/// By what the trail is searched of what an interaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Facet {
    Type,
    Subtype,
    Action,
}

/// The words of the trail that a search by token means, or with `not` all others: those that are named, and how others
/// begin.
pub fn meant(facet: Facet, any: &[Word], not: bool) -> (Vec<String>, Vec<&'static str>) {
    let is = |word: &str, meaning: &Meaning| {
        let own = coded_word(word, any);
        own || any.iter().any(|wanted| match facet {
            Facet::Type => meaning.event.is(wanted),
            Facet::Subtype => meaning.subtype.is_some_and(|subtype| subtype.is(wanted)),
            Facet::Action => matches!(wanted, Word::Is { value, .. } if value == meaning.action),
        })
    };
    let mut named: Vec<String> =
        NAMED.iter().filter(|(word, meaning)| is(word, meaning) != not).map(|(word, _)| (*word).to_owned()).collect();
    let begin = BEGIN.iter().filter(|(_, meaning)| is("", meaning) != not).map(|(begin, _)| *begin).collect();
    // A word of ours that is told by how it begins.
    if facet == Facet::Subtype && !not {
        named.extend(any.iter().filter_map(|wanted| match wanted {
            Word::Is { value, system } if system.as_deref().is_none_or(|of| of == AUDITED) => Some(value.clone()),
            _ => None,
        }));
    }
    (named, begin)
}

/// Whether a word of the trail itself is asked for, by its own system.
fn coded_word(word: &str, any: &[Word]) -> bool {
    let own = |wanted: &Word| matches!(wanted, Word::Is { value, system: Some(of) } if of == AUDITED && value == word);
    !word.is_empty() && any.iter().any(own)
}

/// `AuditEvent.outcome`: done, refused, or refused because nobody could be sure who asked.
pub fn outcome(said: &str) -> &'static str {
    match said {
        "success" => "0",
        "401" => "8",
        _ => "4",
    }
}

/// What the trail says of these outcomes: those words, or with `true` all others.
pub fn outcomes_meant(any: &[Word], not: bool) -> (Vec<String>, bool) {
    let wants = |code: &str| any.iter().any(|word| matches!(word, Word::Is { value, .. } if value == code)) != not;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match (wants("0"), wants("4"), wants("8")) {
        (true, true, true) => (Vec::new(), true),
        (true, true, false) => (words(&["401"]), true),
        (false, true, true) => (words(&["success"]), true),
        (false, true, false) => (words(&["success", "401"]), true),
        (true, false, true) => (words(&["success", "401"]), false),
        (true, false, false) => (words(&["success"]), false),
        (false, false, true) => (words(&["401"]), false),
        (false, false, false) => (Vec::new(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(value: &str) -> Vec<Word> {
        vec![Word::of_value(value)]
    }

    #[test]
    fn a_word_of_the_trail_is_an_interaction_of_fhir_or_an_event_of_dicom() {
        for (word, event, subtype, action) in [
            ("read", "rest", Some("read"), "R"),
            ("search-type", "rest", Some("search-type"), "E"),
            ("create", "rest", Some("create"), "C"),
            ("delete", "rest", Some("delete"), "D"),
            ("$claim", "rest", Some("operation"), "E"),
            ("$export download", "110106", None, "R"),
            ("token", "110114", Some("110122"), "E"),
            ("delivery delivered", "transmit", None, "E"),
            ("what comes later", "rest", Some("operation"), "E"),
        ] {
            let meaning = meaning(word);
            assert_eq!((meaning.event.code, meaning.subtype.map(|s| s.code), meaning.action), (event, subtype, action));
        }
        assert!(says_more("$claim") && says_more("resend") && says_more("load") && !says_more("read"));
    }

    #[test]
    fn a_search_by_token_finds_the_words_that_mean_it() {
        let named = |facet, any: &[Word], not| meant(facet, any, not).0;
        assert_eq!(named(Facet::Action, &is("D"), false), ["delete"]);
        assert_eq!(named(Facet::Subtype, &is("create"), false), ["create", "conditional create", "resend", "create"]);
        assert_eq!(meant(Facet::Subtype, &is("operation"), false).1, ["$"]);
        assert_eq!(named(Facet::Type, &is("110114"), false), ["token"]);
        assert_eq!(meant(Facet::Type, &is("rest"), true).1, ["delivery ", "subscription "]);
        let own = [Word::Is { value: "$claim".to_owned(), system: Some(AUDITED.to_owned()) }];
        assert_eq!(meant(Facet::Subtype, &own, false), (vec!["$claim".to_owned()], vec![]));
        let other = [Word::Is { value: "read".to_owned(), system: Some("http://other.example".to_owned()) }];
        assert_eq!(meant(Facet::Subtype, &other, false), (vec![], vec![]));
    }

    #[test]
    fn each_outcome_is_told_apart() {
        for said in ["success", "403", "404", "401"] {
            for wanted in ["0", "4", "8"] {
                for not in [false, true] {
                    let (words, others) = outcomes_meant(&is(wanted), not);
                    let found = words.iter().any(|word| word == said) != others;
                    assert_eq!(found, (outcome(said) == wanted) != not, "{said} by {wanted} {not}");
                }
            }
        }
    }
}
