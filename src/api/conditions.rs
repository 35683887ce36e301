//! Request headers that make a request conditional or shape its answer.

use super::error::Error;
use super::state::Call;
use crate::fhir::{Invalid, Issue, IssueCode};

/// What an answer carries beside its status (`Prefer: return=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    Representation,
    Minimal,
    OperationOutcome,
}

/// `Prefer: return=...`; the whole resource where it is not said.
pub(super) fn preferred(call: &Call) -> Return {
    let prefer = call.headers.get_all("prefer").iter().filter_map(|v| v.to_str().ok());
    let wanted = prefer.flat_map(|v| v.split([',', ';'])).find_map(|p| p.trim().strip_prefix("return="));
    match wanted {
        Some("minimal") => Return::Minimal,
        Some("OperationOutcome") => Return::OperationOutcome,
        _ => Return::Representation,
    }
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

/// The version that `If-Match` names: `W/"3"`, or leniently `"3"` and `3`.
pub(super) fn if_match(call: &Call) -> Result<Option<i64>, Error> {
    condition(call, "if-match")?.map(version).transpose()
}

/// The version an ETag names.
pub(super) fn version(tag: &str) -> Result<i64, Error> {
    let trimmed = tag.trim();
    let inner = trimmed.strip_prefix("W/").unwrap_or(trimmed).trim_matches('"');
    inner.parse().map_err(|_| {
        Invalid::malformed(Issue::general(
            IssueCode::Invalid,
            "If-Match is the ETag that was read with the resource, for example W/\"3\".",
        ))
        .into()
    })
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
