//! Which affiliations make an organisation a practice that Live Well serves, and give it a locality.

use chrono::{DateTime, Utc};

use crate::fhir::when::Interval;
use crate::fhir::{Resource, path, systems};

/// The Live Well organisation, as affiliations may name it.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    pub ods: &'a str,
    /// Id of its Organization, '' where the directory has none.
    pub organization: &'a str,
}

/// Whether an OrganizationAffiliation is one with Live Well that holds now: `organization` is ours, it is not said to be
/// inactive, and its period is not over or still to come.
pub fn counts(affiliation: &Resource, ours: Ours<'_>, now: DateTime<Utc>) -> bool {
    let said = affiliation.value();
    let active = said.get("active").and_then(serde_json::Value::as_bool) != Some(false);
    let period = said.get("period").and_then(Interval::of_element);
    let now = now.timestamp_micros();
    active && period.is_none_or(|period| period.low <= now && now < period.high) && is_with(affiliation, ours)
}

fn is_with(affiliation: &Resource, ours: Ours<'_>) -> bool {
    let Some(named) = affiliation.value().get("organization") else { return false };
    let by_code = path::text(named, "identifier.system") == Some(systems::ODS)
        && path::text(named, "identifier.value") == Some(ours.ods);
    let reference = path::text(named, "reference").unwrap_or_default();
    let by_id = reference.strip_prefix("Organization/").and_then(|rest| rest.split('/').next());
    !ours.ods.is_empty() && (by_code || by_id.is_some_and(|id| !id.is_empty() && id == ours.organization))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_what_is_with_us_and_holds_now_counts() {
        let now = "2026-03-02T09:00:00Z".parse().unwrap();
        let ours = Ours { ods: "TESTLW", organization: "live-well" };
        let with = |changes: Value| {
            let mut said = json!({
                "resourceType": "OrganizationAffiliation", "active": true,
                "organization": { "reference": "Organization/live-well" },
            });
            said.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            Resource::from_value(said).unwrap()
        };
        let by_code = |ods: &str| json!({ "organization": { "identifier": { "system": systems::ODS, "value": ods } } });
        for (changes, expected) in [
            (json!({}), true),
            (json!({ "active": null }), true),
            (json!({ "active": false }), false),
            (json!({ "period": { "start": "2026-03-02" } }), true),
            (json!({ "period": { "start": "2026-03-03" } }), false),
            (json!({ "period": { "end": "2026-03-02" } }), true),
            (json!({ "period": { "start": "2020", "end": "2026-03-01" } }), false),
            (json!({ "organization": { "reference": "Organization/live-well/_history/2" } }), true),
            (json!({ "organization": { "reference": "Organization/other" } }), false),
            (json!({ "organization": null }), false),
            (by_code("TESTLW"), true),
            (by_code("TESTZ9"), false),
        ] {
            assert_eq!(counts(&with(changes.clone()), ours, now), expected, "{changes}");
        }
        assert!(!counts(&with(json!({})), Ours { ods: "", organization: "" }, now), "nobody's affiliations");
    }
}
