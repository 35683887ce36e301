//! The person a system acts for, as it says on each request: the header `NHSD-Requesting-Practitioner`, a FHIR
//! PractitionerRole in JSON and base64 (BaRS API, header parameter RequestingPractitioner).

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use crate::fhir::check::is_id;

use super::strict_json::{self, NotStrict};

/// The header's name, in the lower case in which header names are compared.
pub const HEADER: &str = "nhsd-requesting-practitioner";
/// The longest header value that is looked at, in octets.
pub const MAX_OCTETS: usize = 8192;

const PADDED_OR_NOT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Who acts, by what the directory can be asked for. Names at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActingPractitioner {
    /// `PractitionerRole.id`, as this service gave it.
    pub id: Option<String>,
    /// `PractitionerRole.identifier`: system and value.
    pub identifiers: Vec<(String, String)>,
}

/// Why the header names nobody. The answer is 400 with this text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadActingPractitioner {
    #[error("NHSD-Requesting-Practitioner is longer than {MAX_OCTETS} octets; send only id, identifier and code.")]
    TooLong,
    #[error("NHSD-Requesting-Practitioner is not base64 (standard or URL-safe).")]
    Base64,
    #[error("NHSD-Requesting-Practitioner is not a FHIR resource in JSON, in UTF-8, once it is decoded from base64.")]
    Json,
    #[error("The resource in NHSD-Requesting-Practitioner says a member twice; say each once.")]
    Repeated,
    #[error("The resource in NHSD-Requesting-Practitioner is not a PractitionerRole.")]
    ResourceType,
    #[error("PractitionerRole.id in NHSD-Requesting-Practitioner is not a FHIR id (1 to 64 of A-Z a-z 0-9 - .).")]
    Id,
    #[error(
        "PractitionerRole.identifier in NHSD-Requesting-Practitioner is not a list of identifiers, each with system and value."
    )]
    Identifier,
    #[error(
        "The PractitionerRole in NHSD-Requesting-Practitioner has neither id nor identifier; name the acting person by one."
    )]
    Nobody,
}

impl ActingPractitioner {
    /// Reads the header's value.
    pub fn parse(header: &str) -> Result<ActingPractitioner, BadActingPractitioner> {
        if header.len() > MAX_OCTETS {
            return Err(BadActingPractitioner::TooLong);
        }
        let json = decode(header.trim()).ok_or(BadActingPractitioner::Base64)?;
        let role: Value = strict_json::object(&json).map_err(|fault| match fault {
            NotStrict::Repeated => BadActingPractitioner::Repeated,
            NotStrict::Shape => BadActingPractitioner::Json,
        })?;
        if role.get("resourceType").and_then(Value::as_str) != Some("PractitionerRole") {
            return Err(BadActingPractitioner::ResourceType);
        }
        let id = match role.get("id") {
            None => None,
            Some(id) => Some(id.as_str().filter(|id| is_id(id)).ok_or(BadActingPractitioner::Id)?.to_owned()),
        };
        let identifiers = match role.get("identifier") {
            None => Vec::new(),
            Some(list) => identifiers(list).ok_or(BadActingPractitioner::Identifier)?,
        };
        if id.is_none() && identifiers.is_empty() {
            return Err(BadActingPractitioner::Nobody);
        }
        Ok(ActingPractitioner { id, identifiers })
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, PADDED_OR_NOT).decode(text).ok()
}

/// A text to look something up by; PostgreSQL refuses some control characters.
fn is_said(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains(char::is_control)
}

fn identifiers(list: &Value) -> Option<Vec<(String, String)>> {
    let said = |identifier: &Value, member: &str| {
        identifier.get(member).and_then(Value::as_str).filter(|text| is_said(text)).map(str::to_owned)
    };
    list.as_array()?.iter().map(|identifier| Some((said(identifier, "system")?, said(identifier, "value")?))).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use base64::engine::general_purpose::{STANDARD as B64, STANDARD_NO_PAD, URL_SAFE as B64_URL, URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::*;

    const SDS_ROLE: &str = "https://fhir.nhs.uk/Id/sds-role-profile-id";

    fn parse(json: &str) -> Result<ActingPractitioner, BadActingPractitioner> {
        ActingPractitioner::parse(&B64.encode(json))
    }

    #[test]
    fn the_acting_person_is_named_by_id_or_by_identifier_in_every_kind_of_base64() {
        // "?>~" makes characters that differ between the two alphabets.
        let role = json!({"resourceType": "PractitionerRole", "id": "role-1", "code": [{"text": "?>~?>~?>~ÿÿ"}],
            "identifier": [{"system": SDS_ROLE, "value": "100334993514"}]})
        .to_string();
        let expected = ActingPractitioner {
            id: Some("role-1".into()),
            identifiers: vec![(SDS_ROLE.into(), "100334993514".into())],
        };
        let standard = B64.encode(&role);
        assert!(standard.contains(['+', '/']));
        for header in [
            standard.clone(),
            STANDARD_NO_PAD.encode(&role),
            B64_URL.encode(&role),
            URL_SAFE_NO_PAD.encode(&role),
            format!(" {standard}\t"),
        ] {
            assert_eq!(ActingPractitioner::parse(&header), Ok(expected.clone()), "{header}");
        }
    }

    #[test]
    fn the_example_of_the_booking_and_referral_standard_is_read() {
        let role = parse(
            r#"{"resourceType":"PractitionerRole","identifier":[{"system":"https://fhir.nhs.uk/Id/sds-role-profile-id",
            "value":"100334993514"}],"code":[{"coding":[{"display":"General practitioner"}]}]}"#,
        )
        .unwrap();
        assert_eq!(role, ActingPractitioner { id: None, identifiers: vec![(SDS_ROLE.into(), "100334993514".into())] });
        assert_eq!(parse(r#"{"resourceType":"PractitionerRole","id":"a"}"#).unwrap().id.as_deref(), Some("a"));
    }

    #[test]
    fn what_names_nobody_is_refused_with_the_reason() {
        use BadActingPractitioner::*;
        for (json, fault) in [
            ("", Json),
            ("[]", Json),
            ("\"PractitionerRole/one\"", Json),
            ("{\"resourceType\":\"PractitionerRole\"", Json),
            (r#"{"id":"a"}"#, ResourceType),
            (r#"{"resourceType":"Practitioner","id":"a"}"#, ResourceType),
            (r#"{"resourceType":["PractitionerRole"],"id":"a"}"#, ResourceType),
            (r#"{"resourceType":"PractitionerRole","id":"a","id":"b"}"#, Repeated),
            (r#"{"resourceType":"PractitionerRole","id":"a","\u0069d":"b"}"#, Repeated),
            (r#"{"resourceType":"PractitionerRole","identifier":[{"system":"s","value":"a","value":"b"}]}"#, Repeated),
            (r#"{"resourceType":"PractitionerRole"}"#, Nobody),
            (r#"{"resourceType":"PractitionerRole","identifier":[]}"#, Nobody),
            (r#"{"resourceType":"PractitionerRole","id":""}"#, Id),
            (r#"{"resourceType":"PractitionerRole","id":null}"#, Id),
            (r#"{"resourceType":"PractitionerRole","id":7}"#, Id),
            (r#"{"resourceType":"PractitionerRole","id":"../Patient/1"}"#, Id),
            (r#"{"resourceType":"PractitionerRole","id":"a' or '1'='1"}"#, Id),
            (r#"{"resourceType":"PractitionerRole","id":"a","identifier":{"system":"s","value":"v"}}"#, Identifier),
            (r#"{"resourceType":"PractitionerRole","id":"a","identifier":[{"value":"v"}]}"#, Identifier),
            (r#"{"resourceType":"PractitionerRole","id":"a","identifier":[{"system":"s","value":" "}]}"#, Identifier),
            (r#"{"resourceType":"PractitionerRole","id":"a","identifier":[{"system":"s","value":1}]}"#, Identifier),
            (
                r#"{"resourceType":"PractitionerRole","id":"a","identifier":[{"system":"s","value":"1\u0000"}]}"#,
                Identifier,
            ),
        ] {
            assert_eq!(parse(json), Err(fault), "{json}");
        }
        for header in ["{\"resourceType\"}", "a b", "====", "-+-+", "\u{e9}"] {
            assert_eq!(ActingPractitioner::parse(header), Err(Base64), "{header}");
        }
        assert_eq!(ActingPractitioner::parse(&"A".repeat(MAX_OCTETS + 1)), Err(TooLong));
        assert_eq!(ActingPractitioner::parse(&"A".repeat(MAX_OCTETS)), Err(Json));
    }
}
