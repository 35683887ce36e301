//! The person's own words: what they wrote down themselves in a QuestionnaireResponse, such as their wellbeing plan (the
//! "Green Book"). They stay the person's until the person agrees that their practice gets them.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::consent::{Detail, denies_detail, detail, is_later, is_research, permits};
use crate::fhir::systems::ODS;
use crate::fhir::when::Interval;
use crate::fhir::{Resource, path};

/// The kind of resource that holds them.
pub const OWN_WORDS: &str = "QuestionnaireResponse";

/// The system of `Consent.provision.class` that names kinds of resources.
const RESOURCE_TYPES: &str = "http://hl7.org/fhir/resource-types";

/// What of a provision is understood here.
const UNDERSTOOD: [&str; 7] = ["id", "type", "period", "actor", "class", "data", "provision"];

/// The practice, as a Consent may name it in `provision.actor`.
#[derive(Clone, Debug)]
pub struct Reader {
    /// ODS code.
    pub ods: String,
    /// `Organization/id` in our directory, where it is there.
    pub organization: Option<String>,
}

/// Whether the person agreed that this practice gets this QuestionnaireResponse (`QuestionnaireResponse/id`). `consents`
/// are those that Live Well recorded, and those of others that deny.
///
/// An agreement is an `active` Consent that permits it by name: in a provision whose `class` is the resource type
/// QuestionnaireResponse, or whose `data` names this one (meaning `instance`). That detail may be shared is not enough. It
/// ends with its `period`, and by whatever the person denied since. One with a condition that is not understood here (an
/// actor who is somebody else, a purpose, an action) is none.
pub fn shares_own_words(consents: &[Resource], response: &str, reader: &Reader, now: DateTime<Utc>) -> bool {
    let denials: Vec<&Resource> = consents.iter().filter(|c| denies_detail(c)).collect();
    detail(consents, reader, now) == Detail::Full
        && consents.iter().any(|consent| {
            permits(consent)
                && !is_research(consent)
                && consent.value().get("modifierExtension").is_none()
                && consent.value().get("provision").is_some_and(|p| covers(p, response, reader, now))
                && denials.iter().all(|denial| is_later(consent, denial))
        })
}

fn covers(provision: &Value, response: &str, reader: &Reader, now: DateTime<Utc>) -> bool {
    let Some(fields) = provision.as_object().filter(|_| conditions_hold(provision, reader, now)) else { return false };
    let names = |element: &str, named: &dyn Fn(&&Value) -> bool| {
        fields.get(element).map(|_| path::all(provision, element).iter().any(named))
    };
    let class = names("class", &|class| {
        path::text(class, "system") == Some(RESOURCE_TYPES) && path::text(class, "code") == Some(OWN_WORDS)
    });
    let data = names("data", &|data| {
        path::text(data, "meaning") == Some("instance") && path::text(data, "reference.reference") == Some(response)
    });
    // Both together mean what is of both.
    let here = path::text(provision, "type") == Some("permit")
        && class.or(data).is_some()
        && class.unwrap_or(true)
        && data.unwrap_or(true);
    here || path::all(provision, "provision").into_iter().any(|inner| covers(inner, response, reader, now))
}

/// Whether a provision is about this practice and this time, and says nothing that is not understood here.
pub(super) fn conditions_hold(provision: &Value, reader: &Reader, now: DateTime<Utc>) -> bool {
    let Some(fields) = provision.as_object() else { return false };
    let within = fields.get("period").is_none_or(|period| is_within(period, now));
    let meant =
        fields.get("actor").is_none_or(|_| path::all(provision, "actor.reference").iter().any(|r| is(r, reader)));
    fields.keys().all(|name| UNDERSTOOD.contains(&name.as_str())) && within && meant
}

/// Leaves of a QuestionnaireResponse what says that it is one, of whom and how it stands.
pub(super) fn withhold(response: &mut Value) {
    let Value::Object(fields) = response else { return };
    let kept = ["resourceType", "id", "meta", "identifier", "questionnaire", "status", "subject", "authored"];
    fields.retain(|name, _| kept.contains(&name.as_str()));
}

fn is_within(period: &Value, now: DateTime<Utc>) -> bool {
    let now = now.timestamp_micros();
    let end = |name: &str, holds: &dyn Fn(Interval) -> bool| {
        period.get(name).is_none_or(|said| said.as_str().and_then(Interval::parse).is_some_and(holds))
    };
    end("start", &|start| start.low <= now) && end("end", &|end| now < end.high)
}

fn is(reference: &Value, reader: &Reader) -> bool {
    let by_identifier = path::text(reference, "identifier.system") == Some(ODS)
        && path::text(reference, "identifier.value") == Some(reader.ods.as_str());
    by_identifier && !reader.ods.is_empty()
        || reader.organization.is_some() && path::text(reference, "reference") == reader.organization.as_deref()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn consent(provision: Value, at: &str) -> Resource {
        Resource::from_value(json!({
            "resourceType": "Consent", "status": "active", "scope": { "coding": [{ "code": "patient-privacy" }] },
            "dateTime": at, "provision": provision,
        }))
        .unwrap()
    }

    fn of_class() -> Value {
        json!({ "type": "permit", "class": [{ "system": RESOURCE_TYPES, "code": OWN_WORDS }] })
    }

    fn with(mut provision: Value, name: &str, value: Value) -> Value {
        provision[name] = value;
        provision
    }

    fn shares(consents: &[Resource]) -> bool {
        let reader = Reader { ods: "TESTA1".into(), organization: Some("Organization/a1".into()) };
        let now = "2026-06-01T12:00:00Z".parse().unwrap();
        shares_own_words(consents, "QuestionnaireResponse/gb", &reader, now)
    }

    fn agreed(provision: Value) -> bool {
        shares(&[consent(provision, "2026-05-03")])
    }

    #[test]
    fn they_are_shared_where_the_person_agreed_to_that_and_to_nothing_less() {
        assert!(!shares(&[]), "no word on it is no agreement");
        assert!(!agreed(json!({ "type": "permit" })), "detail is not the person's own words");
        assert!(agreed(of_class()));
        assert!(agreed(json!({ "type": "permit", "provision": [of_class()] })));
        let one = |id: &str, meaning: &str| json!({ "type": "permit", "data": [{ "meaning": meaning, "reference": { "reference": id } }] });
        assert!(agreed(one("QuestionnaireResponse/gb", "instance")));
        assert!(!agreed(one("QuestionnaireResponse/other", "instance")));
        assert!(!agreed(one("QuestionnaireResponse/gb", "related")));
        let both = with(of_class(), "data", one("QuestionnaireResponse/other", "instance")["data"].clone());
        assert!(!agreed(both), "of this kind, and that one only");
        let observations = json!({ "type": "permit", "class": [{ "system": RESOURCE_TYPES, "code": "Observation" }] });
        assert!(!agreed(observations));
        let mut inactive = consent(of_class(), "2026-05-03").value().clone();
        inactive["status"] = json!("inactive");
        assert!(!shares(&[Resource::from_value(inactive).unwrap()]), "it was taken back");
        let mut research = consent(of_class(), "2026-05-03").value().clone();
        research["scope"] = json!({ "coding": [{ "code": "research" }] });
        assert!(!shares(&[Resource::from_value(research).unwrap()]), "that is about the evaluation");
    }

    #[test]
    fn conditions_are_kept_and_one_that_is_not_understood_makes_it_none() {
        let actor = |reference: Value| with(of_class(), "actor", json!([{ "role": {}, "reference": reference }]));
        assert!(agreed(actor(json!({ "reference": "Organization/a1" }))));
        assert!(agreed(actor(json!({ "identifier": { "system": ODS, "value": "TESTA1" } }))));
        assert!(!agreed(actor(json!({ "reference": "Organization/a2" }))));
        assert!(!agreed(actor(json!({ "identifier": { "system": ODS, "value": "TESTA2" } }))));
        let period = |start: &str, end: &str| with(of_class(), "period", json!({ "start": start, "end": end }));
        for (start, end, holds) in [
            ("2026-05-03", "2026-06-01", true),
            ("2026-05-03", "2026-05-31", false),
            ("2026-06-02", "2027-01-01", false),
            ("2026-05-03", "soon", false),
        ] {
            assert_eq!(agreed(period(start, end)), holds, "{start} {end}");
        }
        let outer = json!({ "type": "permit", "period": { "end": "2026-05-31" }, "provision": [of_class()] });
        assert!(!agreed(outer), "what holds it has ended");
        for condition in ["purpose", "action", "securityLabel", "code", "dataPeriod", "modifierExtension", "extension"]
        {
            assert!(!agreed(with(of_class(), condition, json!([{}]))), "{condition}");
        }
    }

    #[test]
    fn whatever_was_denied_since_ends_it() {
        let deny = |at: &str| consent(json!({ "type": "deny" }), at);
        let agree = |at: &str| consent(of_class(), at);
        assert!(!shares(&[agree("2026-05-03"), deny("2026-05-04")]));
        assert!(!shares(&[agree("2026-05-03"), deny("2026-05-03")]), "on the same day the denial stands");
        assert!(!shares(&[deny("2026-05-03"), agree("2026-05-04")]), "other detail is denied still");
        let all = || consent(json!({ "type": "permit" }), "2026-05-04");
        assert!(shares(&[deny("2026-05-03"), all(), agree("2026-05-05")]));
        let open = consent(json!({ "type": "permit" }), "2026-05-05");
        assert!(
            !shares(&[agree("2026-05-03"), deny("2026-05-04"), open]),
            "detail is shared again, these words are not"
        );
        let research = Resource::from_value(json!({
            "resourceType": "Consent", "status": "active", "scope": { "coding": [{ "code": "research" }] },
            "dateTime": "2026-05-20", "provision": { "type": "deny" },
        }));
        assert!(shares(&[agree("2026-05-03"), research.unwrap()]), "no to the evaluation is another matter");
    }
}
