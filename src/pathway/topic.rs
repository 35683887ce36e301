//! Subscription topics: what can be heard of, as data (SubscriptionTopic, in R4 written as Basic with the extensions of
//! HL7's cross-version definition).

use serde_json::Value;

use crate::fhir::search::{Filter, referred};
use crate::fhir::{Resource, path, profiles};

/// Where R5's elements are in R4.
const R5: &str = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic.";
/// Where types are named by URL.
const TYPES: &str = "http://hl7.org/fhir/StructureDefinition/";

/// A topic.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its canonical URL: what a Subscription names as criteria.
    pub url: String,
    triggers: Vec<Trigger>,
    /// What else a notification names: type and reference parameter.
    shapes: Vec<(String, String)>,
    filters: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
struct Trigger {
    kind: String,
    interactions: Vec<String>,
    current: Option<Filter>,
    /// The element that must differ from the version before.
    changed: Option<String>,
}

/// One resource as it was and is.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    pub before: Option<&'a Resource>,
    pub now: &'a Resource,
    pub deleted: bool,
    /// Our Patient it is about, '' for none.
    pub person: &'a str,
}

impl Change<'_> {
    /// The interaction it came of, as topics name it.
    pub fn interaction(&self) -> &'static str {
        match (self.deleted, self.before) {
            (true, _) => "delete",
            (false, None) => "create",
            (false, Some(_)) => "update",
        }
    }
}

/// Every topic that comes with the software.
pub fn embedded() -> Vec<Topic> {
    let basics = profiles::resources().into_iter().filter(|resource| resource.kind() == "Basic");
    basics.map(|basic| Topic::from_resource(&basic).expect("embedded topics are read by a test")).collect()
}

impl Topic {
    /// Reads a topic. What is said in a way that is not understood here is refused: a criterion that is passed over
    /// would tell too much.
    pub fn from_resource(basic: &Resource) -> Result<Topic, String> {
        let extensions = basic.all("extension");
        let named = |name: &str| {
            let url = format!("{R5}{name}");
            extensions.iter().copied().filter(move |e| path::text(e, "url") == Some(url.as_str())).collect::<Vec<_>>()
        };
        let url = named("url").first().and_then(|e| path::text(e, "valueUri")).ok_or("it has no url")?.to_owned();
        let triggers = named("resourceTrigger").into_iter().map(Trigger::read).collect::<Result<Vec<_>, _>>()?;
        if triggers.is_empty() {
            return Err(format!("{url}: it has no resourceTrigger"));
        }
        let pair = |e: &Value, name: &str| Some((type_of(e)?, said(e, name)?.to_owned()));
        let filters = named("canFilterBy").into_iter().filter_map(|e| pair(e, "filterParameter")).collect();
        let shapes = named("notificationShape").into_iter().filter_map(|e| {
            let (kind, include) = pair(e, "include")?;
            Some((kind, include.rsplit(':').next()?.to_owned()))
        });
        Ok(Topic { url, triggers, shapes: shapes.collect(), filters })
    }

    /// The types whose changes it tells of, each once.
    pub fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = self.triggers.iter().map(|t| t.kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// The parameters by which it is filtered: type and code.
    pub fn filters(&self) -> &[(String, String)] {
        &self.filters
    }

    /// Whether a change is one of those it tells of.
    pub fn tells_of(&self, change: &Change<'_>) -> bool {
        self.triggers.iter().any(|trigger| trigger.fires(change))
    }

    /// What a notification of this resource names beside it.
    pub fn context(&self, resource: &Resource) -> Vec<String> {
        let shapes = self.shapes.iter().filter(|(kind, _)| kind == resource.kind());
        shapes.flat_map(|(_, code)| referred(resource, code)).collect()
    }
}

impl Trigger {
    fn read(extension: &Value) -> Result<Trigger, String> {
        let kind = type_of(extension).ok_or("a trigger names no resource")?;
        let interactions = all(extension, "supportedInteraction").filter_map(value).map(str::to_owned).collect();
        let criteria: Vec<&Value> = all(extension, "queryCriteria").collect();
        let current = criteria.iter().find_map(|c| said(c, "current"));
        if !criteria.is_empty() && (current.is_none() || criteria.iter().any(|c| said(c, "previous").is_some())) {
            return Err(format!("{kind}: of queryCriteria, current is understood here"));
        }
        let current = current.map(|query| Filter::parse(&format!("{kind}?{query}"), "", 0)).transpose()?;
        let changed = said(extension, "fhirPathCriteria").map(|expression| {
            let element = expression.strip_prefix("%previous.").and_then(|rest| rest.split_once(" != %current."));
            match element {
                Some((before, now)) if before == now => Ok(now.to_owned()),
                _ => Err(format!("{kind}: of fhirPathCriteria, `%previous.x != %current.x` is understood here")),
            }
        });
        Ok(Trigger { kind, interactions, current, changed: changed.transpose()? })
    }

    fn fires(&self, change: &Change<'_>) -> bool {
        change.now.kind() == self.kind
            && self.interactions.iter().any(|interaction| interaction == change.interaction())
            && self.current.as_ref().is_none_or(|filter| filter.matches(change.now, change.person))
            && self.changed.as_ref().is_none_or(|element| {
                change.before.is_some_and(|before| before.all(element) != change.now.all(element))
            })
    }
}

fn all<'a>(extension: &'a Value, name: &'a str) -> impl Iterator<Item = &'a Value> {
    path::all(extension, "extension").into_iter().filter(move |e| path::text(e, "url") == Some(name))
}

fn value(extension: &Value) -> Option<&str> {
    let fields = extension.as_object()?;
    fields.iter().find(|(name, _)| name.starts_with("value")).and_then(|(_, value)| value.as_str())
}

fn said<'a>(extension: &'a Value, name: &'a str) -> Option<&'a str> {
    all(extension, name).find_map(value)
}

fn type_of(extension: &Value) -> Option<String> {
    said(extension, "resource")?.strip_prefix(TYPES).map(str::to_owned)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fhir::systems::REFERRAL_REFERENCE;

    fn resource(value: Value) -> Resource {
        Resource::from_value(value).unwrap()
    }

    fn told(before: Option<&Resource>, now: &Resource, deleted: bool) -> Vec<String> {
        let change = Change { before, now, deleted, person: "" };
        let mut topics: Vec<String> = embedded()
            .iter()
            .filter(|topic| topic.tells_of(&change))
            .map(|topic| topic.url.rsplit('/').next().unwrap().to_owned())
            .collect();
        topics.sort();
        topics
    }

    #[test]
    fn each_topic_tells_of_its_changes_and_of_no_others() {
        let referral = |status: &str| {
            resource(json!({ "resourceType": "ServiceRequest", "id": "r", "status": status,
                "identifier": [{ "system": REFERRAL_REFERENCE, "value": "LW-1" }] }))
        };
        let context = resource(json!({ "resourceType": "ServiceRequest", "id": "c", "status": "active" }));
        let task = |status: &str, note: &str| {
            resource(json!({ "resourceType": "Task", "id": "t", "status": status, "description": note,
                "focus": { "reference": "ServiceRequest/r" } }))
        };
        let encounter = resource(json!({ "resourceType": "Encounter", "id": "e", "status": "finished" }));
        let patient = resource(json!({ "resourceType": "Patient", "id": "p" }));
        for (before, now, deleted, topics) in [
            (None, referral("active"), false, vec!["referral-received"]),
            (None, context, false, vec![]),
            (Some(referral("active")), referral("completed"), false, vec!["referral-status-changed"]),
            (Some(referral("active")), referral("active"), false, vec![]),
            (None, task("requested", "a"), false, vec!["referral-status-changed", "task-changed"]),
            (
                Some(task("requested", "a")),
                task("accepted", "a"),
                false,
                vec!["referral-status-changed", "task-changed"],
            ),
            (Some(task("requested", "a")), task("requested", "b"), false, vec!["task-changed"]),
            (None, encounter.clone(), false, vec!["record-added"]),
            (Some(encounter.clone()), encounter.clone(), false, vec![]),
            (Some(encounter.clone()), encounter, true, vec![]),
            (None, patient, false, vec![]),
        ] {
            assert_eq!(told(before.as_ref(), &now, deleted), topics, "{now:?} {}", before.is_some());
        }
    }

    #[test]
    fn a_notification_of_a_task_names_the_referral_too() {
        let task = resource(json!({ "resourceType": "Task", "focus": { "reference": "ServiceRequest/r" } }));
        let topics = embedded();
        let changed = topics.iter().find(|t| t.url.ends_with("/task-changed")).unwrap();
        assert_eq!(changed.context(&task), ["ServiceRequest/r"]);
        assert_eq!(changed.kinds(), ["Task"]);
    }

    #[test]
    fn every_filter_that_a_topic_offers_is_understood() {
        for topic in embedded() {
            assert!(!topic.filters().is_empty(), "{}", topic.url);
            for (kind, code) in topic.filters() {
                assert!(Filter::parse(&format!("{kind}?{code}=x"), "", 0).is_ok(), "{} {kind} {code}", topic.url);
                assert!(topic.kinds().contains(&kind.as_str()), "{} {kind}", topic.url);
            }
        }
    }

    #[test]
    fn a_criterion_that_is_not_understood_is_refused_and_not_passed_over() {
        let topic = |criterion: Value| {
            let trigger = json!({ "url": format!("{R5}resourceTrigger"), "extension": [
                { "url": "resource", "valueUri": format!("{TYPES}Task") }, criterion ] });
            let url = json!({ "url": format!("{R5}url"), "valueUri": "https://x.example/t" });
            Topic::from_resource(&resource(json!({ "resourceType": "Basic", "extension": [url, trigger] })))
        };
        assert!(topic(json!({ "url": "supportedInteraction", "valueCode": "create" })).is_ok());
        for criterion in [
            json!({ "url": "fhirPathCriteria", "valueString": "%current.status = 'x'" }),
            json!({ "url": "fhirPathCriteria", "valueString": "%previous.status != %current.priority" }),
            json!({ "url": "queryCriteria", "extension": [{ "url": "previous", "valueString": "status=x" }] }),
            json!({ "url": "queryCriteria", "extension": [{ "url": "current", "valueString": "focus:ServiceRequest.status=x" }] }),
        ] {
            assert!(topic(criterion.clone()).is_err(), "{criterion}");
        }
    }
}
