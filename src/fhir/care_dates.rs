//! When the care that a resource is about took place, as `Patient/$everything` asks by start and end.

use serde_json::Value;

use super::when::Interval;

/// The elements of R4's resources that say when something happened, the telling ones first: what took place before when
/// it was planned, and that before when it was written down.
const ELEMENTS: [&str; 31] = [
    "period",
    "executionPeriod",
    "performedDateTime",
    "performedPeriod",
    "effectiveDateTime",
    "effectivePeriod",
    "effectiveInstant",
    "occurrenceDateTime",
    "occurrencePeriod",
    "occurredDateTime",
    "occurredPeriod",
    "onsetDateTime",
    "onsetPeriod",
    "whenHandedOver",
    "whenPrepared",
    "start",
    "startDate",
    "sent",
    "received",
    "authored",
    "authoredOn",
    "dateTime",
    "date",
    "issued",
    "recordedDate",
    "recorded",
    "dateAsserted",
    "statusDate",
    "created",
    "timestamp",
    "lastModified",
];

/// When the care of a resource took place; nothing where it says no time, as a Patient does not.
pub fn care_dates(resource: &Value) -> Option<Interval> {
    ELEMENTS.iter().find_map(|element| Interval::of_element(resource.get(element)?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_took_place_comes_before_what_was_written_down() {
        let observation = json!({ "effectiveDateTime": "2024-05-01", "issued": "2026-01-01T10:00:00Z" });
        assert_eq!(care_dates(&observation), Interval::parse("2024-05-01"));
        let encounter = json!({ "period": { "start": "2024-05-01T10:00:00Z" } });
        assert_eq!(care_dates(&encounter).unwrap().high, super::super::when::ALWAYS_AFTER);
        assert_eq!(care_dates(&json!({ "birthDate": "1957-03-04" })), None);
    }
}
