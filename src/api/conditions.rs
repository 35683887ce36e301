//! Request headers that make a request conditional or shape its answer.

use super::error::Error;
use super::format::SHAPING;
use super::state::Call;
use crate::fhir::etag::Tags;
use crate::fhir::{Invalid, Issue, IssueCode};
use crate::workflow;

/// What an answer carries beside its status (`Prefer: return=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    Representation,
    Minimal,
    OperationOutcome,
}

/// `Prefer: return=...`, where it is said.
pub(super) fn preferred(call: &Call) -> Option<Return> {
    let prefer = call.headers.get_all("prefer").iter().filter_map(|v| v.to_str().ok());
    prefer.flat_map(|v| v.split([',', ';'])).find_map(|p| match p.trim().strip_prefix("return=")? {
        "minimal" => Some(Return::Minimal),
        "OperationOutcome" => Some(Return::OperationOutcome),
        "representation" => Some(Return::Representation),
        _ => None,
    })
}

/// Whether unknown search parameters are passed over (`Prefer: handling=lenient`). A filter that is passed over widens
/// what is found, so that has to be asked for.
pub(super) fn lenient(call: &Call) -> bool {
    prefers(call, "handling=lenient")
}

/// Whether `Prefer` names this.
pub(super) fn prefers(call: &Call, wanted: &str) -> bool {
    let prefer = call.headers.get_all("prefer").iter().filter_map(|v| v.to_str().ok());
    prefer.flat_map(|v| v.split([',', ';'])).any(|p| p.trim() == wanted)
}

/// The value of a header on which a request depends. One that cannot be read, or is there twice, must not pass for none:
/// what was to be done on a condition would be done without it.
pub(super) fn condition<'a>(call: &'a Call, name: &'static str) -> Result<Option<&'a str>, Error> {
    let mut values = call.headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    match (first.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => {
            let text = format!("The header {name} is sent once, in visible ASCII characters.");
            Err(Invalid::malformed(Issue::general(IssueCode::Invalid, text)).into())
        }
    }
}

/// The versions that `If-Match` names.
pub(super) fn if_match(call: &Call) -> Result<Option<Tags>, Error> {
    condition(call, "if-match")?.map(|text| tags("If-Match", text)).transpose()
}

/// The versions that `If-None-Match` names.
pub(super) fn if_none_match(call: &Call) -> Result<Option<Tags>, Error> {
    condition(call, "if-none-match")?.map(|text| tags("If-None-Match", text)).transpose()
}

/// Whether a write is only for what is not there yet: `If-None-Match: *`, which is all it can say of a write.
pub(super) fn only_if_absent(tags: Option<&Tags>) -> Result<bool, Error> {
    match tags {
        None => Ok(false),
        Some(Tags::Any) => Ok(true),
        Some(Tags::Versions(_)) => {
            let text = "Of a write If-None-Match says * or nothing. To change one version, send If-Match.";
            Err(Invalid::malformed(Issue::general(IssueCode::Invalid, text)).into())
        }
    }
}

/// Reads entity tags.
pub(super) fn tags(name: &str, text: &str) -> Result<Tags, Error> {
    Tags::parse(text).ok_or_else(|| {
        let text = format!("{name} is the ETag that was read with the resource, a list of such, or *: W/\"3\".");
        Invalid::malformed(Issue::general(IssueCode::Invalid, text)).into()
    })
}

/// The criteria in the query of a conditional request, as a query.
pub(super) fn criteria(call: &Call, kind: &str) -> Result<String, Error> {
    let criteria: Vec<&(String, String)> = call.query.iter().filter(|(n, _)| !SHAPING.contains(&n.as_str())).collect();
    if criteria.is_empty() {
        let text = format!("Say which {kind} is meant: by its id in the path, or by criteria such as identifier.");
        return Err(Invalid::malformed(Issue::error(IssueCode::Required, kind, text)).into());
    }
    let query = serde_urlencoded::to_string(&criteria).map_err(|_| workflow::Error::NotFound)?;
    Ok(query.replace('+', "%20"))
}

/// `Idempotency-Key`: at most 255 visible characters.
pub(super) fn idempotency_key(call: &Call) -> Result<Option<String>, Error> {
    match call.headers.get("idempotency-key") {
        None => Ok(None),
        Some(value) => match value.to_str() {
            Ok(key) if (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Some(key.to_owned()))
            }
            _ => Err(Invalid::malformed(Issue::general(
                IssueCode::Invalid,
                "Idempotency-Key is 1 to 255 visible ASCII characters, for example a UUID.",
            ))
            .into()),
        },
    }
}
