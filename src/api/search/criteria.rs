//! From the parameters of a search to what it asks, as far as this caller may ask it.

use super::super::error::Error;
use super::super::state::Call;
use super::request::{Request, refuse};
use super::trail::{PARAMETERS, TRAIL};
use crate::auth::scope::Interaction;
use crate::fhir::search::{
    Context, Criterion, Refused, absent, in_compartment, own_task_parameters, params, read as read_one, types_asked,
    value_sets,
};
use crate::store::At;

/// The conditions of a search, and the parameters that were passed over.
pub(super) async fn read(call: &Call, kind: &str, request: &Request) -> Result<(Vec<Criterion>, Vec<String>), Error> {
    let base = call.doors.fhir_base();
    let terminology = call.terminology(value_sets(&request.filters)).await?;
    let listed = |canonical: &str| terminology.codes(canonical);
    let context = Context { base: &base, now: At::from(call.now).0, value_set: &listed, queue: true };
    let mut criteria = Vec::new();
    let mut ignored = Vec::new();
    for (name, value) in &request.filters {
        match read_one(&context, kind, name, value) {
            Ok(criterion) => criteria.push(criterion),
            Err(Refused::Because(text)) => return Err(refuse(kind, name, &text)),
            Err(Refused::Unknown) if request.lenient => ignored.push(name.clone()),
            Err(Refused::Unknown) => return Err(unknown(kind, name)),
        }
    }
    if let Some(patient) = &request.patient {
        let inside = in_compartment(&context, kind, patient);
        criteria.push(inside.ok_or_else(|| refuse(kind, "", "This type is never in the compartment of a Patient."))?);
    }
    // What is asked of another type is told by the answer, so the token has to allow searching that type too.
    for asked in types_asked(&criteria) {
        if asked == TRAIL {
            let text = "The audit trail is searched by itself: AuditEvent?patient=..., AuditEvent?entity=...";
            return Err(refuse(kind, "", text));
        }
        call.may(asked, Interaction::Search)?;
    }
    Ok((criteria, ignored))
}

/// The names by which a type is searched.
pub(crate) fn names(kind: &str) -> Vec<(&'static str, &'static str)> {
    let mut names: Vec<_> = params(kind).map(|p| (p.code, p.compares.code())).collect();
    if kind == TRAIL {
        names.retain(|(code, _)| PARAMETERS.contains(code));
    }
    if kind == "Task" {
        names.extend(own_task_parameters().map(|(code, compares)| (code, compares.code())));
    }
    names
}

/// A parameter that this type does not have here.
fn unknown(kind: &str, name: &str) -> Error {
    let known: Vec<&str> = names(kind).into_iter().map(|(code, _)| code).collect();
    let code = name.split([':', '.']).next().unwrap_or_default();
    let why = absent().iter().find(|absent| absent.kind == kind && absent.code == code);
    let why = why.map_or_else(String::new, |absent| format!(" R4 defines it; {}.", absent.why));
    let text = format!(
        "{kind} is not searched by this parameter here.{why} It is searched by: {}. Send Prefer: handling=lenient to pass over \
         what is not known.",
        known.join(", ")
    );
    refuse(kind, name, &text)
}
