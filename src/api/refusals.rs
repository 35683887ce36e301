//! Refused requests go on the audit trail: what a caller may not do (403), and what is not there for them to see (404),
//! whichever route it was. Not there and not theirs are written alike.

use std::sync::{Arc, OnceLock};

use axum::extract::{MatchedPath, Request, State as Extract};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use chrono::{DateTime, Utc};

use super::edge::RequestIds;
use super::state::State;
use crate::auth::admit::Refused;
use crate::fhir::check::{is_id, is_resource_type};
use crate::store::{AuditRow, audit_id};
use crate::workflow::Actor;

/// Where a request says who asked, once that is known.
#[derive(Clone, Default)]
pub(super) struct Asked(Arc<OnceLock<Who>>);

struct Who {
    client: String,
    organization: String,
    actor: String,
    now: DateTime<Utc>,
}

impl Asked {
    /// A caller who was admitted.
    pub(super) fn by(&self, actor: &Actor, now: DateTime<Utc>) {
        let staff = actor.staff.as_ref().map(|staff| staff.reference.clone()).unwrap_or_default();
        self.set(&actor.client, &actor.organization, staff, now);
    }

    /// A client with a good token that was not admitted.
    pub(super) fn by_refused(&self, refused: &Refused, now: DateTime<Utc>) {
        self.set(&refused.client, &refused.organization, String::new(), now);
    }

    fn set(&self, client: &str, organization: &str, actor: String, now: DateTime<Utc>) {
        let who = Who { client: client.to_owned(), organization: organization.to_owned(), actor, now };
        let _ = self.0.set(who);
    }
}

/// Lets a request through, and notes it when it was refused.
pub(super) async fn noted(Extract(doors): Extract<State>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let interaction = interaction(request.method(), &route);
    let target = target(request.uri().path());
    let request_id = request.extensions().get::<RequestIds>().map(|ids| ids.request.clone()).unwrap_or_default();
    let asked = Asked::default();
    request.extensions_mut().insert(asked.clone());
    let response = next.run(request).await;
    let status = response.status();
    let is_refusal = status == StatusCode::FORBIDDEN || status == StatusCode::NOT_FOUND && target.contains('/');
    if let Some(who) = asked.0.get().filter(|_| is_refusal) {
        doors.store.refuse(AuditRow {
            id: audit_id(who.now.into()),
            at: who.now.into(),
            client: who.client.clone(),
            organization: who.organization.clone(),
            actor: who.actor.clone(),
            interaction,
            target,
            person: String::new(),
            request_id,
            outcome: status.as_u16().to_string(),
            times: 1,
        });
    }
    response
}

/// The interaction that a route is, in the words of the audit trail.
fn interaction(method: &Method, route: &str) -> String {
    if let Some(operation) = route.split('/').find(|segment| segment.starts_with('$')) {
        return operation.to_owned();
    }
    let below = route.strip_prefix("/fhir").unwrap_or_default().trim_matches('/');
    let segments: Vec<&str> = below.split('/').filter(|segment| !segment.is_empty()).collect();
    let word = match (segments.as_slice(), method.as_str()) {
        (["_search"], _) | ([], "GET" | "HEAD") => "search-system",
        ([], _) => "transaction",
        (["_history"], _) => "history-system",
        ([_, "_history"], _) => "history-type",
        ([_, _, "_history"], _) => "history-instance",
        ([_, _, "_history", _], _) => "vread",
        ([_, "_search"] | [_, _, _], _) | ([_], "GET" | "HEAD") => "search-type",
        (_, "POST") => "create",
        (_, "PUT") => "update",
        (_, "PATCH") => "patch",
        (_, "DELETE") => "delete",
        _ => "read",
    };
    word.to_owned()
}

/// `Type/id` or the type that a path names; nothing else of it is kept.
fn target(path: &str) -> String {
    let mut segments = path.strip_prefix("/fhir").unwrap_or_default().split('/').filter(|s| !s.is_empty());
    let Some(kind) = segments.next().filter(|kind| is_resource_type(kind)) else { return String::new() };
    match segments.next().filter(|id| is_id(id)) {
        Some(id) => format!("{kind}/{id}"),
        None => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_an_interaction_and_its_path_tells_a_type_and_an_id_only() {
        for (method, route, word) in [
            (Method::GET, "/fhir/{kind}/{id}", "read"),
            (Method::GET, "/fhir/{kind}/{id}/_history/{version}", "vread"),
            (Method::GET, "/fhir/{kind}/{id}/_history", "history-instance"),
            (Method::GET, "/fhir/{kind}/_history", "history-type"),
            (Method::GET, "/fhir/_history", "history-system"),
            (Method::GET, "/fhir/{kind}", "search-type"),
            (Method::POST, "/fhir/{kind}/_search", "search-type"),
            (Method::GET, "/fhir/{kind}/{id}/{of}", "search-type"),
            (Method::POST, "/fhir/{kind}", "create"),
            (Method::PUT, "/fhir/{kind}/{id}", "update"),
            (Method::PATCH, "/fhir/{kind}", "patch"),
            (Method::DELETE, "/fhir/{kind}/{id}", "delete"),
            (Method::POST, "/fhir/Task/{id}/$claim", "$claim"),
            (Method::GET, "/fhir/$export-file/{id}/{file}", "$export-file"),
            (Method::POST, "/fhir", "transaction"),
            (Method::GET, "/fhir", "search-system"),
            (Method::POST, "/fhir/_search", "search-system"),
        ] {
            assert_eq!(interaction(&method, route), word, "{method} {route}");
        }
        for (path, told) in [
            ("/fhir/Patient/a-1", "Patient/a-1"),
            ("/fhir/Patient/a%20b", "Patient"),
            ("/fhir/Patient/_history", "Patient"),
            ("/fhir/Patient/$export", "Patient"),
            ("/fhir/Nobody/a", ""),
            ("/fhir", ""),
        ] {
            assert_eq!(target(path), told, "{path}");
        }
    }
}
