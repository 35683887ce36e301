//! What a practice, or the transport, says of a message after it was sent.
//!
//! NHS messaging answers in steps: MESH itself reports what it could not hand over, the receiving system says that it can
//! read the message (infrastructure acknowledgement), then that it knows the patient (business acknowledgement; ITK3
//! response codes), and at last somebody files the entries or rejects them. Steps may be missing, late, or come twice.

use serde_json::Value;

use super::redacted::redacted;
use crate::fhir::path;
use crate::fhir::systems::MESSAGE_EVENT;

/// How far a message got. The order is that of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// MESH took it, and hands it over.
    Transport,
    /// The practice's system can read it.
    Infrastructure,
    /// The practice knows the patient.
    Business,
    /// Somebody at the practice has decided on it.
    Filing,
}

/// One answer about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// The stage was passed.
    Passed(Stage),
    /// It ended there. `why` is a short code (`itk-30002`, `mesh-14`, `record-rejected`), `said` what an OperationOutcome
    /// said without anything that could be about a patient.
    Failed { stage: Stage, why: String, said: String },
}

/// An answer, and the message it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Identifier of our message: its `Bundle.identifier`, which is also its `Bundle.id`.
    pub message: String,
    pub acknowledgement: Acknowledgement,
}

/// Response codes that say "it is here already" (ITK3: duplicate message, duplicate document). What is sent again because
/// an answer was lost is answered so: the first one arrived.
const DUPLICATES: [&str; 2] = ["20007", "20008"];

/// Reads an answer: a message Bundle whose MessageHeader names ours in `response`.
///
/// The stage is that of the ITK3 response code in `OperationOutcome.issue.details`: 1xxxx and 2xxxx infrastructure (20013
/// success), 3xxxx business (30002 and 30003: the patient is not this practice's). Without one it is the code of the
/// event: `record-filed` or `record-rejected`; else an acknowledgement of the infrastructure, as
/// `MessageHeader.response.code` says.
pub fn read(bundle: &Value) -> Option<Answered> {
    if path::text(bundle, "resourceType") != Some("Bundle") || path::text(bundle, "type") != Some("message") {
        return None;
    }
    let resources = path::all(bundle, "entry.resource");
    let of_type = |kind: &str| resources.iter().copied().find(|r| path::text(r, "resourceType") == Some(kind));
    let header = of_type("MessageHeader")?;
    // Ours has no such character, and PostgreSQL holds no zero.
    let message = path::text(header, "response.identifier").filter(|m| !m.contains(char::is_control))?.to_owned();
    let outcome = of_type("OperationOutcome");
    let went_well = path::text(header, "response.code") == Some("ok");
    let said = outcome.and_then(redacted).unwrap_or_default();
    let code = outcome.and_then(response_code);
    let event = (path::text(header, "eventCoding.system") == Some(MESSAGE_EVENT))
        .then(|| path::text(header, "eventCoding.code"))
        .flatten();
    let (stage, passed, why) = match (event, code) {
        (Some("record-filed"), _) => (Stage::Filing, went_well, "not-filed".to_owned()),
        (Some("record-rejected"), code) => {
            (Stage::Filing, false, code.map_or("record-rejected".to_owned(), |code| format!("itk-{code}")))
        }
        (_, Some(code)) => (stage_of(&code), is_positive(&code), format!("itk-{code}")),
        (_, None) => (Stage::Infrastructure, went_well, "not-processed".to_owned()),
    };
    let acknowledgement =
        if passed { Acknowledgement::Passed(stage) } else { Acknowledgement::Failed { stage, why, said } };
    Some(Answered { message, acknowledgement })
}

/// The first ITK response code: five digits.
fn response_code(outcome: &Value) -> Option<String> {
    let codes = path::all(outcome, "issue.details.coding.code").into_iter().filter_map(Value::as_str);
    codes.filter(|c| c.len() == 5 && c.bytes().all(|b| b.is_ascii_digit())).map(str::to_owned).next()
}

fn stage_of(code: &str) -> Stage {
    if code.starts_with('3') { Stage::Business } else { Stage::Infrastructure }
}

fn is_positive(code: &str) -> bool {
    // 30004: known here, and recently deceased.
    matches!(code, "20013" | "30001" | "30004") || DUPLICATES.contains(&code)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(event: &str, response: &str, code: Option<&str>) -> Value {
        let mut entries = vec![json!({ "resource": {
            "resourceType": "MessageHeader",
            "eventCoding": { "system": MESSAGE_EVENT, "code": event },
            "response": { "identifier": "m-1", "code": response }
        } })];
        if let Some(code) = code {
            entries.push(json!({ "resource": { "resourceType": "OperationOutcome", "issue": [{
                "severity": "error", "code": "processing", "diagnostics": "Ada Testperson is not known",
                "details": { "coding": [{ "system": "https://fhir.nhs.uk/STU3/CodeSystem/ITK-ResponseCode-1", "code": code }] }
            }] } }));
        }
        json!({ "resourceType": "Bundle", "type": "message", "entry": entries })
    }

    fn said(event: &str, response: &str, code: Option<&str>) -> (Stage, Option<String>) {
        match read(&answer(event, response, code)).unwrap() {
            Answered { message, acknowledgement: Acknowledgement::Passed(stage) } => {
                assert_eq!(message, "m-1");
                (stage, None)
            }
            Answered { acknowledgement: Acknowledgement::Failed { stage, why, said }, .. } => {
                assert!(!said.contains("Testperson"), "{said}");
                (stage, Some(why))
            }
        }
    }

    #[test]
    fn each_response_code_has_its_stage_and_its_sense() {
        use Stage::*;
        let failed = |code: &str| Some(format!("itk-{code}"));
        for (code, stage, why) in [
            ("20013", Infrastructure, None),
            ("20007", Infrastructure, None),
            ("20008", Infrastructure, None),
            ("10001", Infrastructure, failed("10001")),
            ("20009", Infrastructure, failed("20009")),
            ("20010", Infrastructure, failed("20010")),
            ("20015", Infrastructure, failed("20015")),
            ("30001", Business, None),
            ("30004", Business, None),
            ("30002", Business, failed("30002")),
            ("30003", Business, failed("30003")),
        ] {
            assert_eq!(said("write-back-response", "fatal-error", Some(code)), (stage, why), "{code}");
        }
    }

    #[test]
    fn without_a_response_code_the_header_decides() {
        assert_eq!(said("write-back-response", "ok", None), (Stage::Infrastructure, None));
        let (stage, why) = said("write-back-response", "fatal-error", None);
        assert_eq!((stage, why.as_deref()), (Stage::Infrastructure, Some("not-processed")));
        assert_eq!(said("record-filed", "ok", None), (Stage::Filing, None));
        let (stage, why) = said("record-rejected", "ok", None);
        assert_eq!((stage, why.as_deref()), (Stage::Filing, Some("record-rejected")));
    }

    #[test]
    fn what_answers_nothing_of_ours_is_no_answer() {
        let mut without = answer("record-filed", "ok", None);
        without["entry"][0]["resource"].as_object_mut().unwrap().remove("response");
        let mut other = answer("record-filed", "ok", None);
        other["type"] = json!("document");
        for value in [without, other, json!({}), json!([]), json!("x"), json!({ "resourceType": "Bundle" })] {
            assert_eq!(read(&value), None, "{value}");
        }
    }
}
