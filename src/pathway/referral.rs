//! What a referral is, how it came, how urgent it is, and the reference a person can read out.

use std::fmt;

use serde_json::Value;

use crate::fhir::{Resource, systems};

/// What this ServiceRequest is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A referral: it gets a first Task.
    Referral,
    /// Context, such as history or another service's order: kept, without a Task.
    Context { why: Why },
}

/// Why a ServiceRequest is context and not a referral.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is no ServiceRequest.
    NotAServiceRequest,
    /// Its status is another than `active`.
    NotActive,
    /// It is `basedOn` one of ours: our own onward referral.
    BasedOnOurs,
    /// A `performer` names another organisation.
    OtherPerformer,
}

/// What has to be known about ourselves to tell a referral.
pub struct Ours<'a> {
    /// The ODS code of the Live Well organisation.
    pub ods: &'a str,
    /// Whether a literal reference to an Organization, as the request has it, is the Live Well organisation.
    pub is_our_organization: &'a dyn Fn(&str) -> bool,
    /// Whether a `basedOn` Reference is one of our ServiceRequests or CarePlans.
    pub is_one_of_ours: &'a dyn Fn(&Value) -> bool,
}

/// Whether a ServiceRequest is a referral to us: `active`, not `basedOn` one of ours, and without a `performer` that names
/// another organisation. A practitioner, a role, a service or a bare display names none.
pub fn standing(request: &Resource, ours: &Ours<'_>) -> Standing {
    let why = if request.kind() != "ServiceRequest" {
        Some(Why::NotAServiceRequest)
    } else if request.value().get("status").and_then(Value::as_str) != Some("active") {
        Some(Why::NotActive)
    } else if request.all("basedOn").into_iter().any(|based_on| (ours.is_one_of_ours)(based_on)) {
        Some(Why::BasedOnOurs)
    } else if request.all("performer").into_iter().any(|performer| names_another(request, performer, ours)) {
        Some(Why::OtherPerformer)
    } else {
        None
    };
    why.map_or(Standing::Referral, |why| Standing::Context { why })
}

/// Whether a performer names an organisation that is not ours: by its identifier, or by a reference to an Organization.
fn names_another(request: &Resource, performer: &Value, ours: &Ours<'_>) -> bool {
    if let Some(ods) = ods_of(performer.get("identifier")) {
        return !ods.eq_ignore_ascii_case(ours.ods);
    }
    let kind = performer.get("type").and_then(Value::as_str);
    let Some(reference) = performer.get("reference").and_then(Value::as_str) else {
        // An Organization known by another number than ODS cannot be ours.
        return kind == Some("Organization") && performer.get("identifier").is_some();
    };
    if let Some(id) = reference.strip_prefix('#') {
        let contained = request.all("contained").into_iter().find(|c| c.get("id").and_then(Value::as_str) == Some(id));
        return contained.is_some_and(|contained| {
            let is_organization = contained.get("resourceType").and_then(Value::as_str) == Some("Organization");
            is_organization && !is_ours(contained, ours)
        });
    }
    let is_organization =
        kind.map_or_else(|| type_of(reference) == Some("Organization"), |kind| kind == "Organization");
    is_organization && !(ours.is_our_organization)(reference)
}

fn is_ours(organization: &Value, ours: &Ours<'_>) -> bool {
    let identifiers = organization.get("identifier").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    identifiers.iter().filter_map(|i| ods_of(Some(i))).any(|ods| ods.eq_ignore_ascii_case(ours.ods))
}

fn ods_of(identifier: Option<&Value>) -> Option<&str> {
    let identifier = identifier?;
    let is_ods = identifier.get("system").and_then(Value::as_str) == Some(systems::ODS);
    identifier.get("value").and_then(Value::as_str).filter(|_| is_ods)
}

/// The type in a literal reference: `Organization` of `https://a.example/fhir/Organization/1` and of `Organization/1`.
fn type_of(reference: &str) -> Option<&str> {
    let without_version = reference.split("/_history/").next().unwrap_or(reference);
    without_version.rsplit('/').nth(1)
}

/// How the person came to be referred: the first `category` in the entry-route system, `other` where there is none.
pub fn entry_route(request: &Resource) -> &str {
    let codings = request.all("category.coding");
    let route = codings.into_iter().find(|c| c.get("system").and_then(Value::as_str) == Some(systems::ENTRY_ROUTE));
    route.and_then(|coding| coding.get("code")).and_then(Value::as_str).unwrap_or("other")
}

/// The rank of a request priority in the queue: `stat` 0, `asap` 1, `urgent` 2, `routine`, absent or unknown 3.
pub fn priority_rank(priority: &str) -> i16 {
    match priority {
        "stat" => 0,
        "asap" => 1,
        "urgent" => 2,
        _ => 3,
    }
}

/// The reference of a referral that a person can read out: `LW-7K3M-92QX`.
///
/// Digits and consonants without those that are taken for another (0 and O, 1, I and L, 5 and S), so that nothing is
/// misheard and no word appears. About 280 thousand million values: the caller draws again where one is in use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReferralReference(String);

impl ReferralReference {
    const ALPHABET: &[u8; 26] = b"2346789BCDFGHJKMNPQRTVWXYZ";

    /// Makes a reference of random bits.
    pub fn from_bits(bits: u64) -> ReferralReference {
        let base = Self::ALPHABET.len() as u64;
        let mut rest = bits;
        let mut letters = std::iter::repeat_with(|| {
            let letter = Self::ALPHABET[(rest % base) as usize];
            rest /= base;
            char::from(letter)
        });
        let mut group = || letters.by_ref().take(4).collect::<String>();
        ReferralReference(format!("LW-{}-{}", group(), group()))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReferralReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    fn stands(fields: Value) -> Standing {
        let mut request = json!({ "resourceType": "ServiceRequest", "status": "active", "intent": "order" });
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let ours = Ours {
            ods: "TESTLW",
            is_our_organization: &|reference| reference == "Organization/live-well",
            is_one_of_ours: &|based_on| based_on["reference"] == "ServiceRequest/known",
        };
        standing(&Resource::from_value(request).unwrap(), &ours)
    }

    fn context(why: Why) -> Standing {
        Standing::Context { why }
    }

    #[test]
    fn an_active_request_is_a_referral_whoever_performs_it_here() {
        let contained = json!([{ "resourceType": "Organization", "id": "us", "identifier": [
            { "system": "https://other.example", "value": "1" }, { "system": systems::ODS, "value": "TESTLW" }] }]);
        for fields in [
            json!({}),
            json!({ "performer": [{ "reference": "Organization/live-well" }] }),
            json!({ "performer": [{ "identifier": { "system": systems::ODS, "value": "testlw" } }] }),
            json!({ "performer": [{ "display": "Live Well" }] }),
            json!({ "performer": [{ "reference": "PractitionerRole/1" }, { "reference": "HealthcareService/2" }] }),
            json!({ "performer": [{ "reference": "urn:uuid:a", "type": "Practitioner" }] }),
            json!({ "performer": [{ "reference": "#us" }], "contained": contained }),
            json!({ "basedOn": [{ "reference": "CarePlan/of-the-practice" }] }),
        ] {
            assert_eq!(stands(fields.clone()), Standing::Referral, "{fields}");
        }
    }

    #[test]
    fn a_request_that_names_another_organisation_is_context() {
        let contained = json!([{ "resourceType": "Organization", "id": "o", "name": "Another" }]);
        for fields in [
            json!({ "performer": [{ "reference": "Organization/other" }] }),
            json!({ "performer": [{ "reference": "Organization/live-well" }, { "reference": "Organization/other" }] }),
            json!({ "performer": [{ "reference": "https://a.example/fhir/Organization/live-well/_history/2" }] }),
            json!({ "performer": [{ "identifier": { "system": systems::ODS, "value": "TESTA1" } }] }),
            json!({ "performer": [{ "type": "Organization", "identifier": { "system": "https://x.example", "value": "1" } }] }),
            json!({ "performer": [{ "type": "Organization", "reference": "urn:uuid:a" }] }),
            json!({ "performer": [{ "reference": "#o" }], "contained": contained }),
        ] {
            assert_eq!(stands(fields.clone()), context(Why::OtherPerformer), "{fields}");
        }
    }

    #[test]
    fn what_is_not_active_or_ours_already_is_context() {
        for status in ["draft", "on-hold", "revoked", "completed", "entered-in-error", "unknown"] {
            assert_eq!(stands(json!({ "status": status })), context(Why::NotActive));
        }
        let onward = json!({ "basedOn": [{ "reference": "X/1" }, { "reference": "ServiceRequest/known" }] });
        assert_eq!(stands(onward), context(Why::BasedOnOurs));
    }

    #[test]
    fn the_entry_route_is_found_among_other_categories() {
        let request = |category: Value| {
            Resource::from_value(json!({ "resourceType": "ServiceRequest", "category": category })).unwrap()
        };
        let said = request(json!([
            { "coding": [{ "system": "https://other.example", "code": "self" }] },
            { "coding": [{ "system": systems::ENTRY_ROUTE, "code": "ltc-review" }] },
        ]));
        assert_eq!(entry_route(&said), "ltc-review");
        assert_eq!(entry_route(&request(json!([{ "text": "anything" }]))), "other");
    }

    #[test]
    fn priorities_rank_as_the_queue_sorts() {
        let ranks: Vec<i16> = ["stat", "asap", "urgent", "routine", ""].map(priority_rank).to_vec();
        assert_eq!(ranks, [0, 1, 2, 3, 3]);
    }

    #[test]
    fn a_reference_is_short_readable_and_spread() {
        let mut seen = HashSet::new();
        for n in 0..10_000u64 {
            let reference = ReferralReference::from_bits(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let text = reference.as_str();
            assert_eq!((text.len(), &text[..3], &text[7..8]), (12, "LW-", "-"));
            assert!(text[3..].bytes().all(|b| b == b'-' || ReferralReference::ALPHABET.contains(&b)), "{text}");
            assert!(seen.insert(reference));
        }
        assert_eq!(ReferralReference::from_bits(u64::MAX), ReferralReference::from_bits(u64::MAX));
    }
}
