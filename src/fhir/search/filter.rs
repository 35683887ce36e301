//! A search that is held against resources in memory: whether a change is what a subscriber asked for, whether a resource
//! is one that an export asked for.

use super::criterion::{Criterion, Persons};
use super::grammar::{Context, Refused, read};
use super::held::matches;
use super::parameters::param;
use super::rows::all_rows;
use super::words::too_much;
use crate::fhir::{Resource, check, path};

/// `Type?code=value&...`: all conditions hold together. What no resource by itself can answer is refused when it is read,
/// never passed over: a filter that is passed over widens what is told.
#[derive(Clone, Debug)]
pub struct Filter {
    kind: String,
    criteria: Vec<Criterion>,
}

impl Filter {
    /// Reads a search. `base` is that of the FHIR API, '' where references are relative; `now` is in microseconds since
    /// 1970 UTC.
    ///
    /// # Errors
    /// A sentence that names the parameter and says what is taken.
    pub fn parse(text: &str, base: &str, now: i64) -> Result<Filter, String> {
        let (kind, query) = text.split_once('?').unwrap_or((text, ""));
        if !check::is_resource_type(kind) {
            return Err("This is not Type?parameter=value with a FHIR resource type.".to_owned());
        }
        let query: Vec<(String, String)> = serde_urlencoded::from_str(query)
            .map_err(|_| "The search is not readable; percent-encode it.".to_owned())?;
        if let Some(why) = too_much(&query) {
            return Err(why);
        }
        let context = Context { base, now, value_set: &|_| None, queue: false };
        let criteria = query.iter().map(|(name, value)| condition(&context, kind, name, value));
        Ok(Filter { kind: kind.to_owned(), criteria: criteria.collect::<Result<_, _>>()? })
    }

    /// The resource type it is about.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether a resource, about `person` (id of our Patient, '' for none), is one that the search finds.
    pub fn matches(&self, resource: &Resource, person: &str) -> bool {
        resource.kind() == self.kind
            && matches(resource, &all_rows(resource), Some(person), &self.criteria) == Some(true)
    }
}

fn condition(context: &Context<'_>, kind: &str, name: &str, value: &str) -> Result<Criterion, String> {
    let plain: String = name.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
    match read(context, kind, name, value) {
        Ok(criterion) if tells_by_itself(&criterion) => Ok(criterion),
        Err(Refused::Because(why)) => Err(format!("{kind} is not filtered by {plain} so. {why}")),
        Ok(_) | Err(Refused::Unknown) => Err(format!(
            "{kind} is not filtered by {plain} here. Filters take {kind}'s own search parameters; none that follows a \
             reference, asks for a person by an identifier, or for when the resource was changed."
        )),
    }
}

/// Whether a resource answers this by itself.
fn tells_by_itself(criterion: &Criterion) -> bool {
    match criterion {
        Criterion::Chain { .. } | Criterion::Has { .. } | Criterion::Queue(_) | Criterion::LastUpdated(..) => false,
        Criterion::Persons(Persons { nhs_numbers, identifiers, .. }) => {
            nhs_numbers.is_empty() && identifiers.is_empty()
        }
        Criterion::Any(any) => any.iter().all(tells_by_itself),
        _ => true,
    }
}

/// What a reference parameter of this type points at in a resource: `focus` of a Task.
pub fn referred(resource: &Resource, code: &str) -> Vec<String> {
    let Some(param) = param(resource.kind(), code) else { return Vec::new() };
    param.values(resource).into_iter().filter_map(|value| path::text(value, "reference").map(str::to_owned)).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    const BASE: &str = "https://lw.example/fhir";

    fn task() -> Resource {
        Resource::from_value(json!({
            "resourceType": "Task", "id": "t1", "status": "requested", "intent": "order", "priority": "urgent",
            "code": { "coding": [{ "system": "https://x.example", "code": "contact", "display": "Contact" }, { "code": "bare" }] },
            "focus": { "reference": "ServiceRequest/r1" },
            "for": { "reference": "Patient/sent" },
            "owner": { "reference": "PractitionerRole/coach" },
            "authoredOn": "2026-03-02T09:00:00Z",
            "identifier": [{ "system": "https://id.example", "value": "7" }],
        }))
        .unwrap()
    }

    #[test]
    fn a_filter_finds_what_the_same_search_would_find() {
        for (filter, found) in [
            ("Task", true),
            ("Task?", true),
            ("Task?status=requested", true),
            ("Task?status=requested,accepted", true),
            ("Task?status=accepted", false),
            ("Task?status:not=accepted", true),
            ("Task?status:not=requested", false),
            ("Task?priority=urgent&status=requested", true),
            ("Task?code=contact", true),
            ("Task?code=https://x.example|contact", true),
            ("Task?code=https%3A%2F%2Fx.example%7Ccontact", true),
            ("Task?code=https://x.example|", true),
            ("Task?code=|bare", true),
            ("Task?code=|contact", false),
            ("Task?code=https://y.example|contact", false),
            ("Task?code:text=con", true),
            ("Task?focus=ServiceRequest/r1", true),
            ("Task?focus=r1", true),
            ("Task?focus=https://lw.example/fhir/ServiceRequest/r1", true),
            ("Task?focus=ServiceRequest/r", false),
            ("Task?focus=Patient/r1", false),
            ("Task?owner=coach", true),
            ("Task?owner:missing=true", false),
            ("Task?performer:missing=true", true),
            ("Task?patient=ours", true),
            ("Task?patient=Patient/ours", true),
            ("Task?patient=sent", true),
            ("Task?patient=another", false),
            ("Task?authored-on=gt2026-03", false),
            ("Task?authored-on=ge2026-03-02&authored-on=lt2026-03-03", true),
            ("Task?_id=t1&status=requested", true),
            ("Task?_id=t1&status=rejected", false),
            ("Task?identifier=https://id.example|7", true),
            ("Task?identifier=8", false),
            ("Encounter?status=requested", false),
        ] {
            assert_eq!(Filter::parse(filter, BASE, 0).unwrap().matches(&task(), "ours"), found, "{filter}");
        }
    }

    #[test]
    fn a_filter_that_no_resource_answers_by_itself_is_refused_and_named() {
        for (filter, named) in [
            ("", "resource type"),
            ("Tasks?status=requested", "resource type"),
            ("Task?colour=red", "colour"),
            ("Task?due=gt2026", "due"),
            ("Task?overdue=true", "overdue"),
            ("Task?authored-on=tomorrow", "authored-on"),
            ("Task?status:above=x", "status:above"),
            ("Task?focus:ServiceRequest.status=x", "focus:ServiceRequest.status"),
            ("Task?patient.identifier=7", "patient.identifier"),
            ("Task?patient:identifier=7", "patient:identifier"),
            ("Task?_has:Provenance:target:agent=x", "_has"),
            ("Task?_lastUpdated=gt2026", "_lastUpdated"),
            ("Task?code:in=https://livewell.example/ValueSet/task-code", "code:in"),
            ("Task?status=", "status"),
        ] {
            let refused = Filter::parse(filter, BASE, 0).unwrap_err();
            assert!(refused.contains(named), "{filter}: {refused}");
        }
        let many = format!("Task?status={}", "a,".repeat(201));
        assert!(Filter::parse(&many, BASE, 0).unwrap_err().contains("at most"));
    }

    #[test]
    fn nobody_is_not_the_person_of_a_resource_without_one() {
        assert!(!Filter::parse("Task?patient=x", BASE, 0).unwrap().matches(&task(), ""));
        assert_eq!(referred(&task(), "focus"), ["ServiceRequest/r1"]);
        assert!(referred(&task(), "status").is_empty() && referred(&task(), "none").is_empty());
    }
}
