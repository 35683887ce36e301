//! `ConceptMap/$translate`.

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::TRANSLATE;
use super::inputs::{Inputs, missing};
use super::value_sets::not_found;
use crate::api::error::Error;
use crate::api::state::Call;
use crate::auth::scope::Interaction;
use crate::fhir::path;
use crate::fhir::terminology::{Translation, Wanted};
use crate::workflow;

/// `ConceptMap/$translate` and `ConceptMap/{id}/$translate`.
pub(in crate::api) async fn translate(id: Option<Path<String>>, call: Call, body: Bytes) -> Result<Response, Error> {
    call.may("ConceptMap", Interaction::Read)?;
    let call = &call;
    let inputs = Inputs::read(call, &TRANSLATE, &body)?;
    let terminology = &call.doors.house.terminology;
    let map = match &id {
        Some(Path(id)) => Some(terminology.canonical("ConceptMap", id).ok_or(workflow::Error::NotFound)?),
        None => inputs.text("url")?,
    };
    let (coding, concept) = (inputs.value("coding", "Coding")?, inputs.value("codeableConcept", "CodeableConcept")?);
    let codings = coding.into_iter().chain(concept.map(|c| path::all(c, "coding")).unwrap_or_default());
    let coded = |coding| Some((path::text(coding, "code")?, path::text(coding, "system")));
    let mut sent: Vec<(&str, Option<&str>)> = codings.filter_map(coded).collect();
    if let Some(code) = inputs.text("code")? {
        sent.push((code, inputs.text("system")?));
    }
    if sent.is_empty() {
        return Err(missing("code", "code with system, coding, or codeableConcept: one of the three"));
    }
    let mut found = Vec::new();
    for (code, system) in sent {
        let wanted = Wanted {
            code,
            system,
            map,
            source: inputs.text("source")?,
            target: inputs.text("target")?,
            target_system: inputs.text("targetsystem")?,
            reverse: inputs.flag("reverse")?,
        };
        let none = || not_found("No concept map of this canonical, or between these value sets, is held here.");
        found.extend(terminology.translate(&wanted).ok_or_else(none)?);
    }
    let result = found.iter().any(Translation::matches);
    let mut parameters = vec![json!({ "name": "result", "valueBoolean": result })];
    if !result {
        parameters.push(json!({ "name": "message", "valueString": "No map held here translates this code." }));
    }
    parameters.extend(found.iter().map(matched));
    let said = json!({ "resourceType": "Parameters", "parameter": parameters });
    Ok(call.format.value(StatusCode::OK, &said))
}

fn matched(translation: &Translation) -> Value {
    let mut concept = json!({ "system": translation.system, "code": translation.code });
    if let Some(display) = &translation.display {
        concept["display"] = json!(display);
    }
    json!({ "name": "match", "part": [
        { "name": "equivalence", "valueCode": translation.equivalence },
        { "name": "concept", "valueCoding": concept },
        { "name": "source", "valueUri": translation.map },
    ] })
}
