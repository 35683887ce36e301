//! `ValueSet/$expand` and `ValueSet/$validate-code`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use uuid::Uuid;

use super::definitions::{OfId, of_id, with};
use super::inputs::{Inputs, missing, place};
use super::{EXPAND, Operation, VALIDATE_IN_VALUE_SET};
use crate::api::error::Error;
use crate::api::state::Call;
use crate::auth::scope::Interaction;
use crate::fhir::terminology::{Member, Membership, Terminology, Unlistable};
use crate::fhir::when::instant;
use crate::fhir::{Invalid, Issue, IssueCode, path};

/// Codes in one answer at most; more are had in parts, by `offset` and `count`.
const MOST: usize = 5_000;

/// `ValueSet/$expand` and `ValueSet/{id}/$expand`.
pub(in crate::api) async fn expand(id: Option<Path<String>>, call: Call, body: Bytes) -> Result<Response, Error> {
    call.may("ValueSet", Interaction::Read)?;
    let inputs = Inputs::read(&call, &EXPAND, &body)?;
    let meant = Meant::read(&call, &EXPAND, &inputs, id).await?;
    expanded(&call, &inputs, &meant)
}

/// `ValueSet/$validate-code` and `ValueSet/{id}/$validate-code`.
pub(in crate::api) async fn validate_code(
    id: Option<Path<String>>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    call.may("ValueSet", Interaction::Read)?;
    let inputs = Inputs::read(&call, &VALIDATE_IN_VALUE_SET, &body)?;
    let meant = Meant::read(&call, &VALIDATE_IN_VALUE_SET, &inputs, id).await?;
    validated(&call, &inputs, &meant)
}

/// The value set that is meant, and what it is read with.
struct Meant {
    set: Set,
    terminology: Arc<Terminology>,
}

/// By its canonical, or whole.
enum Set {
    Canonical(String),
    Whole(Value),
}

impl Meant {
    async fn read(
        call: &Call,
        operation: &Operation,
        inputs: &Inputs,
        id: Option<Path<String>>,
    ) -> Result<Meant, Error> {
        let set = match (id, inputs.text("url")?, inputs.resource("valueSet")?) {
            (Some(Path(id)), ..) => match of_id(call, operation, "ValueSet", &id).await? {
                OfId::AtHand(canonical) => Set::Canonical(canonical),
                OfId::Kept(definition) => Set::Whole(definition),
            },
            (None, Some(url), None) => Set::Canonical(match inputs.text("valueSetVersion")? {
                Some(version) if !url.contains('|') => format!("{url}|{version}"),
                _ => url.to_owned(),
            }),
            (None, None, Some(given)) => Set::Whole(given.clone()),
            (None, Some(_), Some(_)) => {
                return Err(unprocessable("valueSet", "Send the value set by its url or whole, not both."));
            }
            (None, None, None) => return Err(missing("url", "the canonical of a value set")),
        };
        let terminology = match &set {
            Set::Canonical(canonical) => call.terminology(vec![("ValueSet", canonical.clone())]).await?,
            Set::Whole(definition) => with(call, definition).await?,
        };
        Ok(Meant { set, terminology })
    }

    fn members(&self) -> Result<Vec<Member>, Error> {
        match &self.set {
            Set::Canonical(canonical) => self.terminology.expand(canonical),
            Set::Whole(definition) => self.terminology.expand_definition(definition),
        }
        .map_err(|why| unlistable(&why))
    }

    /// What a code is to this value set.
    fn holds(&self, system: &str, code: &str) -> Result<Membership, Error> {
        match &self.set {
            Set::Canonical(canonical) if !self.terminology.has_value_set(canonical) => {
                Err(unlistable(&Unlistable::NotFound))
            }
            Set::Canonical(canonical) => Ok(self.terminology.holds_code(canonical, Some(system), code)),
            Set::Whole(definition) => {
                self.terminology.holds_in_definition(definition, Some(system), code).map_err(|why| unlistable(&why))
            }
        }
    }
}

fn expanded(call: &Call, inputs: &Inputs, meant: &Meant) -> Result<Response, Error> {
    let mut members = meant.members()?;
    let words: Vec<String> =
        inputs.text("filter")?.unwrap_or_default().to_lowercase().split_whitespace().map(str::to_owned).collect();
    let active_only = inputs.flag("activeOnly")?;
    members.retain(|member| fits(member, &words) && !(active_only && member.inactive));

    let (total, offset) = (members.len(), inputs.count("offset")?.unwrap_or(0));
    let count = inputs.count("count")?;
    if count.unwrap_or(total).min(total) > MOST {
        let text = format!("This value set has more than {MOST} codes. Read it in parts, by offset and count.");
        return Err(too_costly(&text));
    }
    let page = members.iter().skip(offset).take(count.unwrap_or(MOST));
    let mut parameters = vec![json!({ "name": "offset", "valueInteger": offset })];
    if inputs.flag("includeDesignations")? {
        let text = "Designations are not given here: includeDesignations was passed over.";
        parameters.push(json!({ "name": "warning", "valueString": text }));
    }
    let mut value_set = match &meant.set {
        Set::Canonical(canonical) => described(meant.terminology.value_set(canonical), canonical),
        Set::Whole(definition) => described(Some(definition), ""),
    };
    value_set["expansion"] = json!({
        "identifier": format!("urn:uuid:{}", Uuid::new_v4()),
        "timestamp": instant(call.now),
        "total": total,
        "offset": offset,
        "parameter": parameters,
        "contains": page.map(contained).collect::<Vec<Value>>(),
    });
    if value_set["expansion"]["contains"].as_array().is_some_and(Vec::is_empty) {
        value_set["expansion"].as_object_mut().map(|expansion| expansion.shift_remove("contains"));
    }
    Ok(call.format.value(StatusCode::OK, &value_set))
}

/// Whether every word is in the code or the display.
fn fits(member: &Member, words: &[String]) -> bool {
    let within = format!("{} {}", member.code, member.display.as_deref().unwrap_or_default()).to_lowercase();
    words.iter().all(|word| within.contains(word))
}

fn contained(member: &Member) -> Value {
    let mut contained = json!({ "system": member.system, "code": member.code });
    if member.heading {
        contained["abstract"] = json!(true);
    }
    if member.inactive {
        contained["inactive"] = json!(true);
    }
    if let Some(display) = &member.display {
        contained["display"] = json!(display);
    }
    contained
}

/// The head of a value set, without what it is made of. One that R4 requires has no more than its canonical here.
fn described(definition: Option<&Value>, canonical: &str) -> Value {
    let mut head = json!({ "resourceType": "ValueSet" });
    match definition {
        Some(definition) => {
            for name in ["id", "url", "version", "name", "title", "status"] {
                if let Some(value) = definition.get(name) {
                    head[name] = value.clone();
                }
            }
        }
        None => head["url"] = json!(canonical),
    }
    if head.get("status").is_none() {
        head["status"] = json!("active");
    }
    head
}

fn validated(call: &Call, inputs: &Inputs, meant: &Meant) -> Result<Response, Error> {
    let codings = codings(inputs)?;
    let mut unknown = false;
    for (system, code, display) in &codings {
        match meant.holds(system, code)? {
            Membership::Member => {
                let right = meant.terminology.display(system, code);
                return Ok(verdict(call, display.as_deref(), right));
            }
            Membership::Unknown => unknown = true,
            Membership::Foreign => {}
        }
    }
    if unknown {
        let text = "Whether this code is in the value set cannot be told here: the code system is not held. Ask a \
            terminology server.";
        return Err(not_held(text));
    }
    let said = "The code is not in the value set.";
    Ok(call.format.value(StatusCode::OK, &result(false, Some(said), None)))
}

/// System, code and display of each coding that was sent, however it was sent.
fn codings(inputs: &Inputs) -> Result<Vec<(String, String, Option<String>)>, Error> {
    let coded = |coding: &Value| {
        let text = |name: &str| path::text(coding, name).map(str::to_owned);
        Some((text("system")?, text("code")?, text("display")))
    };
    let one = |coding: &Value, name: &str| {
        coded(coding).map(|c| vec![c]).ok_or_else(|| unprocessable(name, "A coding needs its system and its code."))
    };
    match (inputs.text("code")?, inputs.value("coding", "Coding")?, inputs.value("codeableConcept", "CodeableConcept")?)
    {
        (Some(code), None, None) => {
            let system = inputs.text("system")?.ok_or_else(|| missing("system", "the URI of the code system"))?;
            let display = inputs.text("display")?.map(str::to_owned);
            Ok(vec![(system.to_owned(), code.to_owned(), display)])
        }
        (None, Some(coding), None) => one(coding, "coding"),
        (None, None, Some(concept)) => {
            let codings: Vec<_> = path::all(concept, "coding").into_iter().filter_map(coded).collect();
            if codings.is_empty() {
                return Err(unprocessable("codeableConcept", "A concept needs a coding with its system and its code."));
            }
            Ok(codings)
        }
        _ => Err(missing("code", "code with system, coding, or codeableConcept: one of the three")),
    }
}

/// The answer for a code that is right, and the display that was sent for it.
pub(super) fn verdict(call: &Call, sent: Option<&str>, right: Option<&str>) -> Response {
    let fits = |right: &str| sent.is_none_or(|sent| sent.eq_ignore_ascii_case(right));
    let said = match right {
        Some(right) if !fits(right) => {
            result(false, Some("The code is right, the display is not its own."), Some(right))
        }
        None if sent.is_some() => result(true, Some("The display was not checked: it is not held here."), None),
        right => result(true, None, right),
    };
    call.format.value(StatusCode::OK, &said)
}

pub(super) fn result(result: bool, message: Option<&str>, display: Option<&str>) -> Value {
    let mut parameters = vec![json!({ "name": "result", "valueBoolean": result })];
    parameters.extend(message.map(|text| json!({ "name": "message", "valueString": text })));
    parameters.extend(display.map(|text| json!({ "name": "display", "valueString": text })));
    json!({ "resourceType": "Parameters", "parameter": parameters })
}

/// Why a value set is not listed, for the caller.
fn unlistable(why: &Unlistable) -> Error {
    match why {
        Unlistable::NotFound => not_found("No value set of this canonical and version is held here."),
        Unlistable::TooMuch => too_costly("This value set includes more than is put together here."),
        Unlistable::NotHeld { systems, value_sets } => {
            let held: Vec<&str> = systems.iter().chain(value_sets).map(String::as_str).collect();
            let text = format!(
                "This value set cannot be listed here: it needs what is not held, which is {}. Ask a terminology server.",
                held.join(", ")
            );
            too_costly(&text)
        }
    }
}

fn too_costly(text: &str) -> Error {
    Invalid::unprocessable(Issue::general(IssueCode::TooCostly, text)).into()
}

fn not_held(text: &str) -> Error {
    Invalid::unprocessable(Issue::general(IssueCode::NotFound, text)).into()
}

pub(super) fn not_found(text: &str) -> Error {
    Error::NoSuchDefinition(text.to_owned())
}

pub(super) fn unprocessable(name: &str, text: &str) -> Error {
    Invalid::unprocessable(Issue::error(IssueCode::Invalid, place(name), text)).into()
}
