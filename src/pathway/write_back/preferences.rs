//! What a practice wants written into its record, by kind of entry.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::own_words::OWN_WORDS;
use crate::fhir::Resource;
use crate::fhir::codes::CodeTable;

/// How much of an entry is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// As it was recorded.
    #[default]
    Full,
    /// What it is, how it stands and when; none of its particulars.
    Summary,
    /// Nothing.
    None,
}

/// Which kinds of entry a practice wants. A correction of something it has always goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preferences {
    /// Contacts that failed: no answer, did not attend, cancelled.
    pub attempts: Share,
    /// Contacts, the first meeting and sessions.
    pub sessions: Share,
    /// PAM and other measures.
    pub measures: Share,
    pub goals: Share,
    /// The plan: in summary, because its particulars are the person's and the coach's own work.
    pub plan: Share,
    pub consents: Share,
    /// Onward referrals.
    pub referrals: Share,
    pub signposts: Share,
    pub reviews: Share,
    /// That the support ended, and how.
    pub closure: Share,
    /// Letters and messages to the person.
    pub letters: Share,
    /// The person's own words, where they share them.
    pub questionnaires: Share,
}

impl Default for Preferences {
    fn default() -> Preferences {
        let full = Share::Full;
        Preferences {
            attempts: full,
            sessions: full,
            measures: full,
            goals: full,
            plan: Share::Summary,
            consents: full,
            referrals: full,
            signposts: full,
            reviews: full,
            closure: full,
            letters: full,
            questionnaires: full,
        }
    }
}

impl Preferences {
    /// How much of this resource the practice wants.
    pub fn share(&self, resource: &Resource, codes: &CodeTable) -> Share {
        let says = |element: &str, names: &[&str]| {
            resource.all(element).into_iter().any(|concept| names.iter().any(|name| codes.is(name, concept)))
        };
        match resource.kind() {
            "Encounter" if says("type", &["activity-service-closed"]) => self.closure,
            "Encounter" if says("type", &["activity-service-review", "review-of-care-plan"]) => self.reviews,
            "Encounter" if says("type", &["activity-signposting"]) => self.signposts,
            "Encounter" if resource.text("status") == Some("cancelled") => self.attempts,
            "Encounter" => self.sessions,
            "Observation" => self.measures,
            "Goal" => self.goals,
            "CarePlan" => self.plan,
            "Consent" => self.consents,
            "ServiceRequest" => self.referrals,
            "Communication" if says("topic", &["activity-service-closed"]) => self.closure,
            "Communication" if says("topic", &["activity-signposting"]) => self.signposts,
            "Communication" => self.letters,
            OWN_WORDS => self.questionnaires,
            _ => Share::None,
        }
    }
}

/// What a summary keeps, beside what every resource of the kind must have: identity, what it is, how it stands, when, and
/// whom it hangs on.
const SUMMARY: &[&str] = &[
    "resourceType",
    "id",
    "meta",
    "language",
    "identifier",
    "contained",
    "status",
    "lifecycleStatus",
    "achievementStatus",
    "intent",
    "priority",
    "class",
    "type",
    "category",
    "code",
    "title",
    "description",
    "scope",
    "policy",
    "policyRule",
    "subject",
    "patient",
    "encounter",
    "basedOn",
    "instantiatesCanonical",
    "period",
    "startDate",
    "startCodeableConcept",
    "statusDate",
    "dateTime",
    "created",
    "authoredOn",
    "authored",
    "questionnaire",
    "source",
    "sent",
    "effectiveDateTime",
    "effectivePeriod",
    "issued",
    "valueQuantity",
    "valueCodeableConcept",
    "valueInteger",
    "component",
    "author",
    "expressedBy",
    "performer",
    "participant",
    "serviceProvider",
    "organization",
    "requester",
    "sender",
    "recipient",
    "topic",
    "reasonCode",
    "goal",
    "provision",
    "occurrenceDateTime",
    "occurrencePeriod",
];

/// Takes out the particulars.
pub(super) fn summarise(resource: &mut Value) {
    let Value::Object(fields) = resource else { return };
    fields.retain(|name, _| SUMMARY.contains(&name.trim_start_matches('_')));
    if fields.get("resourceType").and_then(Value::as_str) == Some("CarePlan") {
        // A plan's description is its text.
        fields.shift_remove("description");
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn is(kind: &str, element: &str, code: &str, status: &str) -> Resource {
        let concept = CodeTable::embedded().concept(code).unwrap_or(json!({}));
        Resource::from_value(json!({ "resourceType": kind, "status": status, element: [concept] })).unwrap()
    }

    #[test]
    fn each_kind_of_entry_has_its_preference() {
        let nothing = Share::None;
        let none = Preferences {
            attempts: nothing,
            sessions: nothing,
            measures: nothing,
            goals: nothing,
            plan: nothing,
            consents: nothing,
            referrals: nothing,
            signposts: nothing,
            reviews: nothing,
            closure: nothing,
            letters: nothing,
            questionnaires: nothing,
        };
        let only = |change: fn(&mut Preferences)| {
            let mut preferences = none.clone();
            change(&mut preferences);
            preferences
        };
        let kinds: [(Resource, Preferences); 12] = [
            (is("Encounter", "type", "did-not-attend", "cancelled"), only(|p| p.attempts = Share::Full)),
            (is("Encounter", "type", "telephone-encounter", "finished"), only(|p| p.sessions = Share::Full)),
            (is("Encounter", "type", "activity-service-review", "finished"), only(|p| p.reviews = Share::Full)),
            (is("Encounter", "type", "activity-signposting", "finished"), only(|p| p.signposts = Share::Full)),
            (is("Encounter", "type", "activity-service-closed", "finished"), only(|p| p.closure = Share::Full)),
            (is("Observation", "category", "category-survey", "final"), only(|p| p.measures = Share::Full)),
            (is("Goal", "category", "", "active"), only(|p| p.goals = Share::Full)),
            (is("CarePlan", "category", "", "active"), only(|p| p.plan = Share::Full)),
            (is("Consent", "category", "", "active"), only(|p| p.consents = Share::Full)),
            (is("ServiceRequest", "category", "", "active"), only(|p| p.referrals = Share::Full)),
            (is("Communication", "category", "", "completed"), only(|p| p.letters = Share::Full)),
            (is("QuestionnaireResponse", "category", "", "completed"), only(|p| p.questionnaires = Share::Full)),
        ];
        for (at, (resource, preferences)) in kinds.iter().enumerate() {
            let share = preferences.share(resource, CodeTable::embedded());
            assert_eq!((share, preferences == &none), (Share::Full, false), "{at}");
            assert_eq!(none.share(resource, CodeTable::embedded()), Share::None, "{at}");
        }
    }

    #[test]
    fn a_summary_has_no_particulars() {
        let mut plan = json!({
            "resourceType": "CarePlan", "status": "active", "intent": "plan", "title": "Getting out", "description": "SECRET",
            "subject": { "reference": "Patient/1" }, "period": { "start": "2026-03-02" }, "goal": [{ "reference": "Goal/1" }],
            "activity": [{ "detail": { "status": "scheduled", "description": "SECRET" } }], "note": [{ "text": "SECRET" }]
        });
        summarise(&mut plan);
        assert!(
            !plan.to_string().contains("SECRET")
                && plan["title"] == "Getting out"
                && plan["goal"][0]["reference"] == "Goal/1"
        );
        let mut goal = json!({
            "resourceType": "Goal", "lifecycleStatus": "active", "description": { "text": "Walk" },
            "target": [{ "dueDate": "2026-08-01", "detailString": "SECRET" }], "statusReason": "SECRET"
        });
        summarise(&mut goal);
        assert!(!goal.to_string().contains("SECRET") && goal["description"]["text"] == "Walk");
    }
}
