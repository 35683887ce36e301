//! `CodeSystem/$lookup`, `CodeSystem/$validate-code` and `CodeSystem/$subsumes`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::definitions::{OfId, of_id, with};
use super::inputs::{Inputs, missing};
use super::value_sets::{not_found, result, unprocessable, verdict};
use super::{LOOKUP, Operation, SUBSUMES, VALIDATE_IN_CODE_SYSTEM};
use crate::api::error::Error;
use crate::api::state::Call;
use crate::auth::scope::Interaction;
use crate::fhir::path;
use crate::fhir::terminology::{CodeSystem, Concept, Terminology};

/// `CodeSystem/$lookup`.
pub(in crate::api) async fn lookup(call: Call, body: Bytes) -> Result<Response, Error> {
    call.may("CodeSystem", Interaction::Read)?;
    let inputs = Inputs::read(&call, &LOOKUP, &body)?;
    let (system, code) = match (inputs.text("code")?, inputs.value("coding", "Coding")?) {
        (Some(code), None) => (inputs.text("system")?, Some(code)),
        (None, Some(coding)) => (path::text(coding, "system"), path::text(coding, "code")),
        _ => return Err(missing("code", "code with system, or coding: one of the two")),
    };
    let code = code.ok_or_else(|| unprocessable("coding", "A coding needs its system and its code."))?;
    let system = system.ok_or_else(|| missing("system", "the URI of the code system"))?;
    let held = Held::by_url(&call, system, inputs.text("version")?).await?;
    let system = held.system()?;
    let concept = system.concept(code).ok_or_else(|| not_found("The code system has no such code here."))?;
    let wanted = inputs.texts("property")?;
    Ok(call.format.value(StatusCode::OK, &said_of(system, concept, &wanted)))
}

/// What a code system says of a concept; of its properties only those that are wanted, where some are.
fn said_of(system: &CodeSystem, concept: &Concept, wanted: &[&str]) -> Value {
    let mut parameters = vec![json!({ "name": "name", "valueString": system.name })];
    parameters.extend(system.version.as_ref().map(|v| json!({ "name": "version", "valueString": v })));
    let display = concept.display.as_deref().unwrap_or(&concept.code);
    parameters.push(json!({ "name": "display", "valueString": display }));
    for designation in &concept.designations {
        let part = |name: &str, kind: &str| {
            designation.get(name).map(|value| json!({ "name": name, format!("value{kind}"): value }))
        };
        let parts = [part("language", "Code"), part("use", "Coding"), part("value", "String")];
        parameters.push(json!({ "name": "designation", "part": parts.into_iter().flatten().collect::<Vec<Value>>() }));
    }
    let mut property = |code: &str, kind: &str, value: &Value| {
        if wanted.is_empty() || wanted.contains(&code) {
            let parts = json!([{ "name": "code", "valueCode": code }, { "name": "value", kind: value }]);
            parameters.push(json!({ "name": "property", "part": parts }));
        }
    };
    if let Some(definition) = &concept.definition {
        property("definition", "valueString", &json!(definition));
    }
    for parent in system.parents(&concept.code) {
        property("parent", "valueCode", &json!(parent));
    }
    for child in system.children(&concept.code) {
        property("child", "valueCode", &json!(child));
    }
    for own in concept.properties.iter().filter(|own| path::text(own, "code") != Some("parent")) {
        let value = own.as_object().and_then(|own| own.iter().find(|(key, _)| key.starts_with("value")));
        if let (Some(code), Some((kind, value))) = (path::text(own, "code"), value) {
            property(code, kind, value);
        }
    }
    json!({ "resourceType": "Parameters", "parameter": parameters })
}

/// `CodeSystem/$validate-code` and `CodeSystem/{id}/$validate-code`.
pub(in crate::api) async fn validate_code(
    id: Option<Path<String>>,
    call: Call,
    body: Bytes,
) -> Result<Response, Error> {
    call.may("CodeSystem", Interaction::Read)?;
    let call = &call;
    let inputs = Inputs::read(call, &VALIDATE_IN_CODE_SYSTEM, &body)?;
    let (coding, concept) = (inputs.value("coding", "Coding")?, inputs.value("codeableConcept", "CodeableConcept")?);
    let codings: Vec<&Value> =
        coding.into_iter().chain(concept.map(|c| path::all(c, "coding")).unwrap_or_default()).collect();
    let url = match inputs.text("url")? {
        Some(url) => Some(url),
        None => codings.first().and_then(|coding| path::text(coding, "system")),
    };
    let held = Held::read(call, &VALIDATE_IN_CODE_SYSTEM, id, ("url", url), inputs.text("version")?).await?;
    let system = held.system()?;
    let of_system = codings.iter().find(|c| path::text(c, "system").is_none_or(|s| s == system.url));
    let (code, display) = match (inputs.text("code")?, of_system) {
        (Some(code), None) if codings.is_empty() => (Some(code), inputs.text("display")?),
        (None, Some(coding)) => (path::text(coding, "code"), path::text(coding, "display")),
        (None, None) if !codings.is_empty() => {
            let said = "No coding is of this code system.";
            return Ok(call.format.value(StatusCode::OK, &result(false, Some(said), None)));
        }
        _ => return Err(missing("code", "code, coding, or codeableConcept: one of the three")),
    };
    let code = code.ok_or_else(|| unprocessable("coding", "A coding needs its code."))?;
    match system.concept(code) {
        Some(concept) => Ok(verdict(call, display, concept.display.as_deref())),
        None if system.complete => {
            let said = "The code system has no such code.";
            Ok(call.format.value(StatusCode::OK, &result(false, Some(said), None)))
        }
        None => Err(not_found("Only a part of this code system is held here, and the code is not in it.")),
    }
}

/// `CodeSystem/$subsumes` and `CodeSystem/{id}/$subsumes`.
pub(in crate::api) async fn subsumes(id: Option<Path<String>>, call: Call, body: Bytes) -> Result<Response, Error> {
    call.may("CodeSystem", Interaction::Read)?;
    let call = &call;
    let inputs = Inputs::read(call, &SUBSUMES, &body)?;
    let coding = |name: &'static str| inputs.value(name, "Coding");
    let (a, b) = (coding("codingA")?, coding("codingB")?);
    let code = |name: &'static str, coding: Option<&'_ Value>| -> Result<String, Error> {
        let sent = inputs.text(name)?.or_else(|| coding.and_then(|c| path::text(c, "code"))).map(str::to_owned);
        sent.ok_or_else(|| missing(name, "a code of the code system, or as a coding"))
    };
    let (code_a, code_b) = (code("codeA", a)?, code("codeB", b)?);
    let systems: Vec<&str> = [a, b].into_iter().flatten().filter_map(|c| path::text(c, "system")).collect();
    let named = inputs.text("system")?.or(systems.first().copied());
    let held = Held::read(call, &SUBSUMES, id, ("system", named), inputs.text("version")?).await?;
    let system = held.system()?;
    if systems.iter().any(|s| *s != system.url) {
        return Err(unprocessable("codingB", "Both codes are of the same code system."));
    }
    let outcome = system.subsumption(&code_a, &code_b).ok_or_else(|| {
        not_found(
            "How these codes lie to each other is not known here: one is not held, or the levels do not say is-a.",
        )
    })?;
    let said =
        json!({ "resourceType": "Parameters", "parameter": [{ "name": "outcome", "valueCode": outcome.code() }] });
    Ok(call.format.value(StatusCode::OK, &said))
}

/// The code system that an operation is about: its URI (with a version, where one is asked for), and where it is.
struct Held {
    canonical: String,
    terminology: Arc<Terminology>,
}

impl Held {
    /// By its id, or by its URI, which is sent as the parameter of this name.
    async fn read(
        call: &Call,
        operation: &Operation,
        id: Option<Path<String>>,
        (name, url): (&str, Option<&str>),
        version: Option<&str>,
    ) -> Result<Held, Error> {
        let Some(Path(id)) = id else {
            return Held::by_url(call, url.ok_or_else(|| missing(name, "the URI of the code system"))?, version).await;
        };
        match of_id(call, operation, "CodeSystem", &id).await? {
            OfId::AtHand(url) => Held::by_url(call, &url, version).await,
            OfId::Kept(definition) => {
                let url = path::text(&definition, "url").ok_or_else(|| not_found("This code system has no URI."))?;
                Ok(Held { canonical: url.to_owned(), terminology: with(call, &definition).await? })
            }
        }
    }

    async fn by_url(call: &Call, url: &str, version: Option<&str>) -> Result<Held, Error> {
        let canonical = version.map_or_else(|| url.to_owned(), |version| format!("{url}|{version}"));
        let terminology = call.terminology(vec![("CodeSystem", canonical.clone())]).await?;
        Ok(Held { canonical, terminology })
    }

    fn system(&self) -> Result<&CodeSystem, Error> {
        let system = self.terminology.code_system(&self.canonical);
        system
            .ok_or_else(|| not_found("No code system of this URI and version is held here. Ask a terminology server."))
    }
}
