//! A practice's OperationOutcome without anything that could be about a patient.

use serde_json::Value;

/// Longest part of it that is kept.
const LIMIT: usize = 2048;

/// What an OperationOutcome says in severity, code and expression of each issue; none where it says nothing of these, or
/// is another thing.
pub fn redacted(outcome: &Value) -> Option<String> {
    if outcome.get("resourceType").and_then(Value::as_str) != Some("OperationOutcome") {
        return None;
    }
    let issues = outcome.get("issue").and_then(Value::as_array)?;
    let mut said = String::new();
    for issue in issues {
        let code = |name: &str| issue.get(name).and_then(Value::as_str).filter(|c| is_code(c)).unwrap_or("?");
        let mut line = format!("{} {}", code("severity"), code("code"));
        let places = issue.get("expression").or_else(|| issue.get("location")).and_then(Value::as_array);
        for place in places.into_iter().flatten().filter_map(Value::as_str).filter(|p| is_place(p)) {
            line.push_str(" at ");
            line.push_str(place);
        }
        if said.len() + line.len() + 2 > LIMIT {
            break;
        }
        if !said.is_empty() {
            said.push_str("; ");
        }
        said.push_str(&line);
    }
    (!said.is_empty()).then_some(said)
}

fn is_code(text: &str) -> bool {
    text.len() <= 40 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// An element path. Not a filter such as `where(value='…')`, nor digits enough for an identifier.
fn is_place(text: &str) -> bool {
    let fits = text.len() <= 200 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".[]_".contains(&b));
    fits && !text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 4)
}
