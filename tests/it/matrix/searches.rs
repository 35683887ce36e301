//! Every search: by each parameter of each type, through references both ways, what comes along, totals, histories and
//! validation.

use livewell::fhir::Resource;
use livewell::fhir::search::{IndexRow, rows};
use serde_json::{Value, json};

use super::NOTHING;
use super::world::World;
use crate::support::caller::{Answer, Caller};

/// The kinds of search, by the word that begins what is told of them.
pub(super) fn kinds() -> Vec<String> {
    ["parameter", "missing", "chain", "has", "include", "revinclude", "history", "total"].map(str::to_owned).to_vec()
}

/// What a caller was shown of the sender's by searching for it.
pub(super) async fn leaks(world: &World, stranger: &Caller) -> Vec<String> {
    let mut leaks = Vec::new();
    for said in &world.types {
        let kind = said["type"].as_str().unwrap();
        let Some(at) = world.at(kind) else { continue };
        for (how, query) in questions(world, said, kind) {
            let asked = format!("{kind}?{query}&_count=100&_total=accurate");
            let answer = stranger.get(asked.as_str()).await;
            assert_ne!(answer.status / 100, 5, "{asked}: {}", answer.text);
            found(world, &answer, &format!("{how} {asked}"), &mut leaks);
        }
        // Counted alone.
        let counted = stranger.get(format!("{kind}?_id={}&_summary=count", world.id(kind).unwrap())).await;
        if counted.body["total"] != 0 {
            leaks.push(format!("total {kind}: {}", counted.text));
        }
        for scope in [format!("{kind}/_history?_count=500"), format!("Patient/{}/{kind}", world.id("Patient").unwrap())]
        {
            let answer = stranger.get(scope.as_str()).await;
            found(world, &answer, &format!("history {scope}"), &mut leaks);
        }
        leaks.extend(validated(stranger, kind, &at).await);
    }
    let all = stranger.get("_history?_count=500").await.expect(200);
    found(world, &all, "history _history", &mut leaks);
    leaks
}

/// Notes what of the sender's is among the resources of an answer.
fn found(world: &World, answer: &Answer, asked: &str, leaks: &mut Vec<String>) {
    let kept = world.ids();
    let shown: Vec<Value> = answer.resources().iter().map(|shown| shown["id"].clone()).collect();
    if let Some(id) = shown.iter().find(|id| id.as_str().is_some_and(|id| kept.contains(&id))) {
        leaks.push(format!("{asked} shows {id}"));
    }
    let matches =
        answer.body["entry"].as_array().into_iter().flatten().filter(|e| e["search"]["mode"] == "match").count();
    if let Some(total) = answer.body["total"].as_u64().filter(|_| matches < 100)
        && total != matches as u64
        && answer.body["type"] == "searchset"
    {
        leaks.push(format!("{asked} counts {total} and shows {matches}"));
    }
}

/// How each type is asked about what the sender keeps of it.
fn questions(world: &World, said: &Value, kind: &str) -> Vec<(&'static str, String)> {
    let mut questions = Vec::new();
    let id = world.id(kind).unwrap();
    let found = values(world, kind);
    for parameter in said["searchParam"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        for (_, value) in found.iter().filter(|(param, _)| param == name) {
            questions.push(("parameter", format!("{name}={}", encoded(value))));
            questions.push(("parameter", format!("{name}={}&_id={id}", encoded(value))));
        }
        if !name.starts_with('_') && kind != "AuditEvent" {
            questions.push(("missing", format!("{name}:missing=true&_id={id}")));
            questions.push(("missing", format!("{name}:missing=false&_id={id}")));
        }
    }
    questions.push(("parameter", format!("_id={id}")));
    questions.push(("parameter", format!("_id={id}&_lastUpdated=ge2000")));
    if kind == "AuditEvent" {
        questions.push(("parameter", format!("entity={}", world.at("ServiceRequest").unwrap())));
        questions.push(("parameter", format!("patient={}", world.id("Patient").unwrap())));
        questions.push(("parameter", "date=ge2000&action=C".to_owned()));
        return questions;
    }
    // Through a reference of the sender's own, and back.
    for (param, target) in found.iter().filter(|(_, value)| value.contains('/') && !value.contains(':')) {
        let Some((to, to_id)) = target.split_once('/').filter(|(to, to_id)| world.id(to) == Some(to_id)) else {
            continue;
        };
        questions.push(("chain", format!("{param}:{to}._id={to_id}")));
        questions.push(("chain", format!("{param}:{to}._lastUpdated=ge2000&_id={id}")));
    }
    for from in world.kept.keys().filter(|from| *from != "AuditEvent") {
        for (param, _) in values(world, from).iter().filter(|(_, value)| Some(value) == world.at(kind).as_ref()) {
            questions.push(("has", format!("_has:{from}:{param}:_id={}", world.id(from).unwrap())));
            questions.push(("revinclude", format!("_revinclude={from}:{param}")));
            questions.push(("include", format!("_id={id}&_revinclude={from}:{param}")));
        }
    }
    for include in said["searchInclude"].as_array().into_iter().flatten().take(20) {
        questions.push(("include", format!("_include={}", include.as_str().unwrap())));
    }
    questions
}

/// By which values the sender's resource of a type is found: what the index has of it.
fn values(world: &World, kind: &str) -> Vec<(String, String)> {
    let Some(kept) = world.kept.get(kind) else { return Vec::new() };
    let resource = Resource::from_value(kept.clone()).unwrap();
    let instant = |micros: i64| {
        chrono::DateTime::from_timestamp_micros(micros).map(|t| t.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
    };
    let value = |row: IndexRow| match row {
        IndexRow::Word { param, value, system } if system.contains("://") => Some((param, format!("{system}|{value}"))),
        IndexRow::Word { param, value, .. } if !param.contains(':') => Some((param, value)),
        IndexRow::Time { param, low, .. } => Some((param, format!("ge{}", instant(low)?))),
        IndexRow::Number { param, range, .. } => Some((param, format!("ge{}", range.low.0))),
        _ => None,
    };
    let mut found: Vec<(String, String)> = rows(&resource, false).into_iter().filter_map(value).collect();
    // At most a few of one parameter: they are all found alike.
    found.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
    found
}

/// Whether validation of something that refers to it tells whether it is there.
async fn validated(stranger: &Caller, kind: &str, at: &str) -> Vec<String> {
    let mut answers = Vec::new();
    let nothing = format!("{kind}/{NOTHING}");
    for target in [at, nothing.as_str()] {
        let about = json!({ "resourceType": "Basic", "code": { "text": "x" }, "subject": { "reference": target } });
        let answer = stranger.post("Basic/$validate?mode=create", &about).header("X-Request-Id", "r").await;
        answers.push(super::told(&answer, target));
    }
    match answers[0] == answers[1] {
        true => Vec::new(),
        false => vec![format!("validate {at}: {} and not {}", answers[0], answers[1])],
    }
}

fn encoded(text: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:".contains(&b);
    let one = |b: u8| if safe(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.replace('\\', "\\\\").replace(',', "\\,").replace('$', "\\$").bytes().map(one).collect()
}
