//! The transaction: everything that is missing at the practice, in one Bundle, all or nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::wire::version_of;
use super::look::{Step, is_id, kind};
use super::session::Session;
use crate::pathway::delivery::{Verdict, Why};
use crate::pathway::write_back::{
    Outgoing, PRACTICE_PATIENT, PracticeCopy, RECORD_SYSTEM, full_url, name_references, record_id,
};

/// What became of a transaction.
pub(super) enum Written {
    /// Done. One for each of the outgoing: where it is, as far as the answer says.
    At(Vec<Option<PracticeCopy>>),
    /// 409, 412, or what was to be corrected is gone: something there is not as expected.
    Conflict(u16),
}

/// Sends what `steps` say is to be created or corrected. `patient` is the practice's own, `Patient/…`.
pub(super) async fn send(
    session: &mut Session<'_>,
    outgoing: &[Outgoing],
    steps: &[Step],
    patient: &str,
) -> Result<Written, Verdict> {
    let names = names(outgoing, steps, patient);
    let sent: Vec<usize> =
        (0..steps.len()).filter(|at| matches!(steps.get(*at), Some(Step::Create | Step::Correct(_)))).collect();
    let entries: Vec<Value> =
        outgoing.iter().zip(steps).filter_map(|(o, step)| entry(session, o, step, &names)).collect();
    let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries });
    let body = serde_json::to_vec(&bundle).map_err(|_| Verdict::Retry { after: None, why: Why::RequestNotMade })?;
    let answer = session.transact(body).await?;
    match answer.status {
        200..=299 => {
            // It is written, or may be: an answer that cannot be read leaves it to the next look.
            let said = answer.json().map_err(|why| Verdict::Unknown { why })?;
            let entries = answered(&said).ok_or(Verdict::Unknown { why: Why::AnswerUnreadable })?;
            let mut at: Vec<Option<PracticeCopy>> = steps.iter().map(|step| step.there().cloned()).collect();
            for (index, entry) in sent.into_iter().zip(entries) {
                if let (Some(slot), Some(o)) = (at.get_mut(index), outgoing.get(index)) {
                    *slot = placed(entry, kind(o));
                }
            }
            Ok(Written::At(at))
        }
        status @ (409 | 412) => {
            session.nothing_is_unclear();
            Ok(Written::Conflict(status))
        }
        // What was to be corrected is gone; looking says so in the right words.
        status @ (404 | 410) if steps.iter().any(|step| matches!(step, Step::Correct(_))) => {
            session.nothing_is_unclear();
            Ok(Written::Conflict(status))
        }
        // A gateway that got no answer does not know whether the practice wrote.
        status @ (502 | 504) => Err(Verdict::Unknown { why: Why::Status(status) }),
        _ => {
            session.nothing_is_unclear();
            Err(session.refusal(&answer))
        }
    }
}

/// What stands for what: the practice's Patient, and entries that are there already.
pub(super) fn names(outgoing: &[Outgoing], steps: &[Step], patient: &str) -> BTreeMap<String, String> {
    let there = outgoing.iter().zip(steps).filter_map(|(o, step)| match step {
        Step::There(copy) | Step::Correct(copy) => Some((full_url(&o.key), copy.reference.clone())),
        Step::Create | Step::LeftOut => None,
    });
    there.chain([(PRACTICE_PATIENT.to_owned(), patient.to_owned())]).collect()
}

fn entry(session: &Session<'_>, o: &Outgoing, step: &Step, names: &BTreeMap<String, String>) -> Option<Value> {
    let mut resource = o.resource.clone();
    name_references(&mut resource, names);
    match step {
        Step::Create => {
            let mut request = json!({ "method": "POST", "url": kind(o) });
            // A Provenance has no identifier; it stands or falls with its targets.
            if kind(o) != "Provenance" {
                request["ifNoneExist"] = json!(format!("identifier={RECORD_SYSTEM}|{}", record_id(&o.key)));
            }
            Some(json!({ "fullUrl": full_url(&o.key), "resource": resource, "request": request }))
        }
        Step::Correct(copy) => {
            let (kind, id) = copy.reference.split_once('/')?;
            resource["id"] = json!(id);
            let mut request = json!({ "method": "PUT", "url": copy.reference });
            if let Some(version) = &copy.version {
                request["ifMatch"] = json!(format!("W/\"{version}\""));
            }
            Some(json!({ "fullUrl": session.url(&[kind, id]).as_str(), "resource": resource, "request": request }))
        }
        Step::There(_) | Step::LeftOut => None,
    }
}

/// The entries of a transaction-response; an absent or empty list is none.
fn answered(said: &Value) -> Option<&[Value]> {
    if said.get("resourceType").and_then(Value::as_str) != Some("Bundle") {
        return None;
    }
    Some(said.get("entry").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default())
}

/// Where the practice says an entry of the transaction is.
fn placed(entry: &Value, kind: &str) -> Option<PracticeCopy> {
    let response = entry.get("response")?;
    if !response.get("status").and_then(Value::as_str)?.starts_with('2') {
        return None;
    }
    let etag = response.get("etag").and_then(Value::as_str).and_then(version_of);
    location(response.get("location").and_then(Value::as_str)?, etag, kind)
}

/// `Encounter/123` out of `https://…/Encounter/123/_history/1`. The origin is not used: everything is read below the
/// practice's configured base.
pub(super) fn location(said: &str, etag: Option<String>, kind: &str) -> Option<PracticeCopy> {
    let mut parts = said.split('/').skip_while(|part| *part != kind).skip(1);
    let id = parts.next().filter(|id| is_id(id))?;
    let history = parts.next().filter(|p| *p == "_history").and_then(|_| parts.next()).and_then(version_of);
    Some(PracticeCopy { reference: format!("{kind}/{id}"), version: etag.or(history) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(location_said: &str) -> Option<PracticeCopy> {
        placed(&json!({ "response": { "status": "201 Created", "location": location_said } }), "Encounter")
    }

    #[test]
    fn a_location_is_read_however_it_is_written() {
        let copy = |id: &str, version: Option<&str>| {
            Some(PracticeCopy { reference: format!("Encounter/{id}"), version: version.map(str::to_owned) })
        };
        assert_eq!(at("Encounter/123/_history/1"), copy("123", Some("1")));
        assert_eq!(at("/fhir/Encounter/123"), copy("123", None));
        assert_eq!(at("https://elsewhere.example/a/Encounter/a.b-c/_history/7"), copy("a.b-c", Some("7")));
        for hostile in [
            "",
            "Encounter",
            "Encounter/",
            "Encounter/..",
            "Encounter/a b",
            "Encounter/%2e%2e",
            "Patient/1",
            "Encounter/1?x=y",
        ] {
            assert_eq!(at(hostile), None, "{hostile}");
        }
    }
}
