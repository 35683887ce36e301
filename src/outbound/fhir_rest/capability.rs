//! What a practice's system can do, as its CapabilityStatement says; asked now and then, and remembered.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Duration, Utc};
use serde_json::Value;

use super::session::Session;
use crate::fhir::path;
use crate::pathway::delivery::Verdict;

/// How long an answer is believed, and how long it is that there was none.
const BELIEVED: Duration = Duration::hours(1);
const SILENCE: Duration = Duration::minutes(5);

/// Practices remembered; with more, all are asked again.
const MOST: usize = 20_000;

/// Whether each practice takes transactions, by its base, and until when that is believed.
#[derive(Default)]
pub(in crate::outbound) struct Capabilities {
    kept: Mutex<HashMap<String, (bool, DateTime<Utc>)>>,
}

impl Capabilities {
    /// Whether the practice takes transactions. One that publishes no statement that can be read is taken to: most do, and
    /// it says so if it does not.
    pub(super) async fn takes_transactions(
        &self,
        session: &mut Session<'_>,
        now: DateTime<Utc>,
    ) -> Result<bool, Verdict> {
        let base = session.url(&[]).to_string();
        let known = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&base).copied();
        if let Some((takes, until)) = known
            && until > now
        {
            return Ok(takes);
        }
        let answer = session.get(session.url(&["metadata"])).await?;
        if answer.may_pass() {
            return Err(session.refusal(&answer));
        }
        let said = if answer.status == 200 { answer.json().ok().as_ref().and_then(takes_transactions) } else { None };
        let until = now + if said.is_some() { BELIEVED } else { SILENCE };
        let takes = said.unwrap_or(true);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(base, (takes, until));
        Ok(takes)
    }
}

/// What a CapabilityStatement says of transactions; none where it is no such thing.
fn takes_transactions(statement: &Value) -> Option<bool> {
    if path::text(statement, "resourceType") != Some("CapabilityStatement") {
        return None;
    }
    let rest = path::all(statement, "rest").into_iter().find(|rest| path::text(rest, "mode") == Some("server"))?;
    Some(path::all(rest, "interaction.code").into_iter().any(|code| code == "transaction"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_statement_says_of_transactions_is_read() {
        let says = |interaction: Value| {
            takes_transactions(&json!({
                "resourceType": "CapabilityStatement",
                "rest": [{ "mode": "client" }, { "mode": "server", "interaction": interaction }]
            }))
        };
        assert_eq!(says(json!([{ "code": "batch" }, { "code": "transaction" }])), Some(true));
        assert_eq!(says(json!([{ "code": "batch" }])), Some(false));
        assert_eq!(says(json!([])), Some(false));
        for other in [json!({}), json!({ "resourceType": "Bundle" }), json!({ "resourceType": "CapabilityStatement" })]
        {
            assert_eq!(takes_transactions(&other), None);
        }
    }
}
