//! The constraints of UK Core's profiles, each by hand: there is no FHIRPath engine here.
//!
//! Source: `ElementDefinition.constraint` of the UK Core R4 StructureDefinitions. A constraint of another key is not checked.

use serde_json::{Map, Value};

use crate::fhir::{Severity, path};

/// A constraint a differential declares on an element.
pub(super) struct Constraint {
    pub(super) key: &'static str,
    pub(super) severity: Severity,
    /// The sentence of the StructureDefinition, for people.
    pub(super) human: String,
    pub(super) holds: fn(&Element<'_>) -> bool,
}

/// The object a constraint is on.
pub(super) struct Element<'a>(&'a Map<String, Value>);

const COLLECTOR: &str = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Specimen.collection.collector";
const MEDIA_LINK: &str = "http://hl7.org/fhir/5.0/StructureDefinition/extension-DiagnosticReport.media.link";

type Said = (&'static str, fn(&Element<'_>) -> bool);

const KNOWN: &[Said] = &[
    ("ukcore-bodstr-001", |b| ["location", "description", "image"].iter().any(|name| b.has(name))),
    ("ukcore-diag-lab-001", |d| {
        const ISSUED: &[&str] = &["partial", "preliminary", "final", "amended", "corrected", "appended"];
        d.has("issued") || !d.text("status").is_some_and(|status| ISSUED.contains(&status))
    }),
    ("ukcore-diag-lab-002", |d| !d.extended("media", MEDIA_LINK) || d.all("media.link.reference").is_empty()),
    ("ukcore-imm-001", |i| i.text("status") != Some("not-done") || i.has("statusReason")),
    ("ukcore-obs-grplab-001", |o| !o.valued()),
    ("ukcore-obs-lab-001", |o| o.valued() || o.has("dataAbsentReason") || o.has("note")),
    ("ukcore-obs-vs-001", |o| o.all("code.coding.system").iter().any(|s| s.as_str() == Some("http://loinc.org"))),
    ("ukcore-spec-001", |c| !c.extended("collector", COLLECTOR) || c.all("collector.reference").is_empty()),
];

impl Constraint {
    /// The constraints an ElementDefinition declares, as far as they are known here.
    pub(super) fn read(element: &Value) -> impl Iterator<Item = Constraint> {
        let declared = element.get("constraint").and_then(Value::as_array).into_iter().flatten();
        declared.filter_map(|constraint| {
            let text = |name: &str| constraint.get(name).and_then(Value::as_str);
            let (key, holds) = KNOWN.iter().find(|(key, _)| text("key") == Some(key))?;
            let severity = if text("severity") == Some("warning") { Severity::Warning } else { Severity::Error };
            Some(Constraint { key, severity, human: text("human").unwrap_or_default().to_owned(), holds: *holds })
        })
    }
}

impl<'a> Element<'a> {
    pub(super) fn of(fields: &'a Map<String, Value>) -> Element<'a> {
        Element(fields)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    fn valued(&self) -> bool {
        self.0.keys().any(|key| key.starts_with("value"))
    }

    fn all(&self, dotted: &str) -> Vec<&Value> {
        let (first, rest) = dotted.split_once('.').unwrap_or((dotted, ""));
        self.0.get(first).map(|value| path::all(value, rest)).unwrap_or_default()
    }

    /// Whether an element carries this extension.
    fn extended(&self, name: &str, url: &str) -> bool {
        self.all(&format!("{name}.extension.url")).iter().any(|found| found.as_str() == Some(url))
    }
}
