//! R4's invariants that look at values, each as a function of one object.
//!
//! Source of each rule: the constraint of that key in the R4 StructureDefinition of the type.

use std::cmp::Ordering;
use std::collections::HashSet;

use serde_json::{Map, Value};

/// A rule on the fields of one object: its key in R4, and the sentence that says why it is broken, if it is.
pub(super) struct ValueRule {
    pub(super) key: &'static str,
    pub(super) broken_by: fn(&Fields<'_>) -> Option<&'static str>,
}

/// An object, read by element name.
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

/// Type, key, function.
type Said = (&'static str, &'static str, fn(&Fields<'_>) -> Option<&'static str>);

const RULES: &[Said] = &[
    ("AllergyIntolerance", "ait-1", |a| {
        let missing = !a.has("clinicalStatus") && !a.coded("verificationStatus", "entered-in-error");
        missing.then_some("clinicalStatus is needed unless verificationStatus is entered-in-error")
    }),
    ("AllergyIntolerance", "ait-2", |a| {
        let both = a.has("clinicalStatus") && a.coded("verificationStatus", "entered-in-error");
        both.then_some("clinicalStatus must be absent when verificationStatus is entered-in-error")
    }),
    ("Appointment", "app-3", |a| {
        let planned = (a.has("start") && a.has("end")) || a.is("status", &["proposed", "cancelled", "waitlist"]);
        (!planned).then_some("start and end are needed unless status is proposed, cancelled or waitlist")
    }),
    ("Appointment", "app-4", |a| {
        let wrong = a.has("cancelationReason") && !a.is("status", &["noshow", "no-show", "cancelled"]);
        wrong.then_some("cancelationReason is only for status cancelled or noshow")
    }),
    ("Bundle", "bdl-1", |b| {
        let wrong = b.has("total") && !b.is("type", &["searchset", "history"]);
        wrong.then_some("total is only for a searchset or a history")
    }),
    ("Bundle", "bdl-9", |b| {
        let whole = b.0.get("identifier").map(|i| i.get("system").is_some() && i.get("value").is_some());
        let wrong = b.is("type", &["document"]) && whole != Some(true);
        wrong.then_some("a document needs an identifier with system and value")
    }),
    ("Bundle", "bdl-10", |b| {
        (b.is("type", &["document"]) && !b.has("timestamp")).then_some("a document needs a timestamp")
    }),
    ("Bundle", "bdl-11", |b| {
        let wrong = b.is("type", &["document"]) && !b.begins_with("Composition");
        wrong.then_some("the first entry of a document is its Composition")
    }),
    ("Bundle", "bdl-12", |b| {
        let wrong = b.is("type", &["message"]) && !b.begins_with("MessageHeader");
        wrong.then_some("the first entry of a message is its MessageHeader")
    }),
    ("Bundle.entry", "bdl-8", |e| {
        let versioned = e.text("fullUrl").is_some_and(|url| url.contains("/_history/"));
        versioned.then_some("fullUrl cannot name a version")
    }),
    ("CapabilityStatement", "cpb-3", |c| {
        let endpoint = c.items("messaging").iter().any(|m| m.get("endpoint").is_some());
        (endpoint && !c.is("kind", &["instance"])).then_some("messaging.endpoint is only for kind instance")
    }),
    ("CapabilityStatement", "cpb-14", |c| {
        let wrong = c.is("kind", &["instance"]) && !c.has("implementation");
        wrong.then_some("kind instance needs implementation")
    }),
    ("Condition", "con-4", |c| {
        let abated = c.0.keys().any(|k| k.starts_with("abatement"));
        let over = ["resolved", "remission", "inactive"].iter().any(|code| c.coded("clinicalStatus", code));
        (abated && !over).then_some("abatement needs clinicalStatus inactive, resolved or remission")
    }),
    ("Condition", "con-5", |c| {
        let both = c.has("clinicalStatus") && c.coded("verificationStatus", "entered-in-error");
        both.then_some("clinicalStatus must be absent when verificationStatus is entered-in-error")
    }),
    ("Group", "grp-1", |g| {
        let descriptive = g.has("member") && g.0.get("actual") != Some(&Value::Bool(true));
        descriptive.then_some("member is only for an actual group")
    }),
    ("Linkage", "lnk-1", |l| (l.items("item").len() < 2).then_some("at least two items are needed")),
    ("List", "lst-3", |l| {
        let dated = l.items("entry").iter().any(|e| e.get("date").is_some());
        (dated && !l.is("mode", &["working"])).then_some("entry.date is only for mode working")
    }),
    ("MedicationDispense", "mdd-1", |m| {
        let early = m.before("whenHandedOver", "whenPrepared");
        early.then_some("whenHandedOver cannot be before whenPrepared")
    }),
    ("Observation", "obs-7", |o| {
        let valued = o.0.keys().any(|k| k.starts_with("value") || k.starts_with("_value"));
        if !valued || !o.has("component") {
            return None;
        }
        let own: HashSet<_> = o.0.get("code").map(codings).unwrap_or_default().into_iter().collect();
        let again = |c: &Value| c.get("code").map(codings).unwrap_or_default().iter().any(|c| own.contains(c));
        let repeated = o.items("component").iter().any(again);
        repeated.then_some("a component cannot repeat the code of an Observation that has a value")
    }),
    ("Organization", "org-2", |o| {
        o.any_use("address", "home").then_some("an organization's address cannot have use home")
    }),
    ("Organization", "org-3", |o| {
        o.any_use("telecom", "home").then_some("an organization's telecom cannot have use home")
    }),
    ("Period", "per-1", |p| p.before("end", "start").then_some("start cannot be after end")),
    ("Questionnaire.item", "que-1", |i| {
        let hollow = i.is("type", &["group"]) && !i.has("item");
        let filled = i.is("type", &["display"]) && i.has("item");
        (hollow || filled).then_some("a group needs items, and a display has none")
    }),
    ("Questionnaire.item", "que-3", |i| {
        (i.is("type", &["display"]) && i.has("code")).then_some("a display has no code")
    }),
    ("Questionnaire.item", "que-6", |i| {
        let wrong = i.is("type", &["display"]) && (i.has("required") || i.has("repeats"));
        wrong.then_some("a display has neither required nor repeats")
    }),
    ("Questionnaire.item", "que-8", |i| {
        (i.is("type", &["group", "display"]) && i.has("initial")).then_some("a group or display has no initial value")
    }),
    ("Questionnaire.item", "que-9", |i| {
        (i.is("type", &["display"]) && i.has("readOnly")).then_some("a display has no readOnly")
    }),
    ("Questionnaire.item", "que-10", |i| {
        const WITH_LENGTH: &[&str] = &["boolean", "decimal", "integer", "string", "text", "url", "open-choice"];
        let wrong = i.has("maxLength") && !i.is("type", WITH_LENGTH);
        wrong.then_some("maxLength is only for boolean, decimal, integer, string, text, url and open-choice")
    }),
    ("Questionnaire.item", "que-12", |i| {
        // The text of the rule says more than one, its expression more than two; only both agreeing is an error.
        let wrong = i.items("enableWhen").len() > 2 && !i.has("enableBehavior");
        wrong.then_some("several enableWhen need enableBehavior")
    }),
    ("Questionnaire.item", "que-13", |i| {
        let wrong = i.items("initial").len() > 1 && i.0.get("repeats") != Some(&Value::Bool(true));
        wrong.then_some("several initial values are only for an item that repeats")
    }),
    ("Questionnaire.item.enableWhen", "que-7", |w| {
        let wrong = w.is("operator", &["exists"]) && !w.has("answerBoolean");
        wrong.then_some("operator exists needs answerBoolean")
    }),
    ("Range", "rng-2", |r| {
        let bound = |name| r.0.get(name).and_then(|q| Some((q.get("value")?.as_f64()?, q.get("unit"), q.get("code"))));
        let reversed = match (bound("low"), bound("high")) {
            (Some((low, lu, lc)), Some((high, hu, hc))) => lu == hu && lc == hc && low > high,
            _ => false,
        };
        reversed.then_some("low cannot be above high")
    }),
    ("RiskAssessment.prediction", "ras-2", |p| {
        let over = p.0.get("probabilityDecimal").and_then(Value::as_f64).is_some_and(|p| p > 100.0);
        over.then_some("a probability is at most 100")
    }),
    ("Timing.repeat", "tim-4", |t| t.negative("duration").then_some("duration cannot be negative")),
    ("Timing.repeat", "tim-5", |t| t.negative("period").then_some("period cannot be negative")),
];

/// The rules of a type.
pub(super) fn rules_of(name: &str) -> Vec<ValueRule> {
    let said = RULES.iter().filter(|(of, ..)| *of == name);
    said.map(|(_, key, broken_by)| ValueRule { key, broken_by: *broken_by }).collect()
}

impl Fields<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name) || self.0.contains_key(&format!("_{name}"))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    fn is(&self, name: &str, one_of: &[&str]) -> bool {
        self.text(name).is_some_and(|text| one_of.contains(&text))
    }

    fn items(&self, name: &str) -> &[Value] {
        self.0.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a CodeableConcept carries this code in a system of HL7's terminology.
    fn coded(&self, name: &str, code: &str) -> bool {
        let Some(codings) = self.0.get(name).and_then(|c| c.get("coding")).and_then(Value::as_array) else {
            return false;
        };
        codings.iter().any(|c| c.get("code").and_then(Value::as_str) == Some(code))
    }

    /// Whether the first entry's resource is of this type.
    fn begins_with(&self, resource_type: &str) -> bool {
        let first = self.items("entry").first().and_then(|e| e.get("resource"));
        first.and_then(|r| r.get("resourceType")).and_then(Value::as_str) == Some(resource_type)
    }

    fn any_use(&self, name: &str, code: &str) -> bool {
        self.items(name).iter().any(|i| i.get("use").and_then(Value::as_str) == Some(code))
    }

    fn negative(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_f64).is_some_and(|n| n < 0.0)
    }

    /// Whether one moment certainly lies before another; a date and a time within it are not comparable.
    fn before(&self, one: &str, other: &str) -> bool {
        match (self.text(one), self.text(other)) {
            (Some(one), Some(other)) => compared(one, other) == Some(Ordering::Less),
            _ => false,
        }
    }
}

/// System and code of each coding that has both.
fn codings(concept: &Value) -> Vec<(&str, &str)> {
    let codings = concept.get("coding").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let pair = |c| Some((Value::get(c, "system")?.as_str()?, Value::get(c, "code")?.as_str()?));
    codings.iter().filter_map(pair).collect()
}

/// Which of two R4 dates or times comes first, as far as their common precision tells.
fn compared(one: &str, other: &str) -> Option<Ordering> {
    if let (Ok(one), Ok(other)) =
        (chrono::DateTime::parse_from_rfc3339(one), chrono::DateTime::parse_from_rfc3339(other))
    {
        return Some(one.cmp(&other));
    }
    // A date has no zone: the days are compared as they are written.
    let (one, other) = (one.get(..10).unwrap_or(one), other.get(..10).unwrap_or(other));
    let common = one.len().min(other.len());
    Some(one.get(..common)?.cmp(other.get(..common)?)).filter(|order| *order != Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::super::tables::tables;
    use super::*;

    #[test]
    fn every_rule_names_a_type_of_r4() {
        for (name, key, _) in RULES {
            assert!(tables().named(name).is_some(), "{key}: no type {name}");
        }
    }

    #[test]
    fn moments_compare_only_as_far_as_both_say() {
        assert_eq!(compared("2024", "2024-05"), None);
        assert_eq!(compared("2024-06", "2024-05-01"), Some(Ordering::Greater));
        assert_eq!(compared("2024-05-01T10:00:00+01:00", "2024-05-01T09:30:00Z"), Some(Ordering::Less));
        assert_eq!(compared("2024-05-01T10:00:00Z", "2024-05-01"), None);
    }
}
