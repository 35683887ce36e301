//! The doors: what callers reach over HTTP. The only room that knows axum.

mod bundle;
mod conditions;
mod deliveries;
mod delivery_metrics;
pub mod edge;
mod error;
mod export;
mod format;
mod health;
mod history;
mod inner;
mod listing;
mod metadata;
mod oauth;
mod openapi;
mod operations;
mod page;
mod profiles;
mod refusals;
mod resources;
mod search;
pub mod serve;
mod state;
mod subscriptions;
mod tasks;
mod types;
mod view;
mod write;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::middleware;
use axum::routing::{any, get, post};
use axum::{Extension, Router};

pub use page::PageSeal;
pub use profiles::ProfileChecks;
pub use state::{Doors, State};
pub use types::Types;

use error::Error;
use inner::Inner;
use operations::{code_systems, concept_maps, everything, meta, validate, value_sets};

/// Every route of the service.
pub fn router(doors: State) -> Router {
    let noted = || middleware::from_fn_with_state(Arc::clone(&doors), refusals::noted);
    let entries = fhir().route_layer(noted()).fallback(no_such_path).method_not_allowed_fallback(not_for_entries);
    let inner = Inner::new(entries.with_state(Arc::clone(&doors)));
    fhir()
        // Bundles.
        .route("/fhir", post(bundle::take))
        .route("/fhir/", post(bundle::take))
        .layer(Extension(inner))
        .route_layer(noted())
        // For whoever looks after the service.
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        // How to get in, and what is there.
        .route("/openapi.json", get(openapi::document))
        .route("/fhir/.well-known/smart-configuration", get(oauth::configuration))
        .route("/.well-known/jwks.json", get(oauth::keys))
        .route("/oauth/token", post(oauth::token))
        .route("/oauth/introspect", post(oauth::introspect))
        // Doors that are planned and not built yet.
        .route("/fhir/$process-message", any(not_built))
        .route("/cds-services", any(not_built))
        .route("/cds-services/", any(not_built))
        .route("/cds-services/{*rest}", any(not_built))
        .route("/app", any(not_built))
        .route("/app/", any(not_built))
        .route("/app/{*rest}", any(not_built))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        // The edge holds the limit.
        .layer(DefaultBodyLimit::disable())
        .with_state(doors)
}

/// The routes of FHIR resources, which an entry of a Bundle goes as well.
fn fhir() -> Router<State> {
    Router::new()
        .route("/fhir/metadata", get(metadata::metadata))
        .route("/fhir", get(search::system::by_url))
        .route("/fhir/", get(search::system::by_url))
        .route("/fhir/_search", post(search::system::by_form))
        .route(
            "/fhir/{kind}",
            get(search::by_url)
                .post(write::create)
                .put(write::update_by_criteria)
                .patch(write::patch_by_criteria)
                .delete(write::delete_by_criteria),
        )
        .route("/fhir/{kind}/_search", post(search::by_form))
        .route(
            "/fhir/{kind}/{id}",
            get(resources::read_one).put(write::update).patch(write::patch).delete(write::delete),
        )
        .route("/fhir/{kind}/{id}/{of}", get(search::in_compartment))
        .route("/fhir/_history", get(history::of_all))
        .route("/fhir/{kind}/_history", get(history::of_type))
        .route("/fhir/{kind}/{id}/_history", get(history::of_instance))
        .route("/fhir/{kind}/{id}/_history/{version}", get(resources::read_version))
        // What is right, what is held, what words mean.
        .route("/fhir/{kind}/$validate", post(validate::validate))
        .route("/fhir/{kind}/{id}/$validate", get(validate::validate_one).post(validate::validate_one))
        .route("/fhir/{kind}/{id}/$meta", get(meta::meta).post(meta::meta))
        .route("/fhir/{kind}/$meta", get(meta::of_type).post(meta::of_type))
        .route("/fhir/$meta", get(meta::of_all).post(meta::of_all))
        .route("/fhir/{kind}/{id}/$meta-add", post(meta::add))
        .route("/fhir/{kind}/{id}/$meta-delete", post(meta::delete))
        .route("/fhir/Patient/{id}/$everything", get(everything::everything).post(everything::everything))
        .route("/fhir/ValueSet/$expand", get(value_sets::expand).post(value_sets::expand))
        .route("/fhir/ValueSet/{id}/$expand", get(value_sets::expand).post(value_sets::expand))
        .route("/fhir/ValueSet/$validate-code", get(value_sets::validate_code).post(value_sets::validate_code))
        .route("/fhir/ValueSet/{id}/$validate-code", get(value_sets::validate_code).post(value_sets::validate_code))
        .route("/fhir/CodeSystem/$lookup", get(code_systems::lookup).post(code_systems::lookup))
        .route("/fhir/CodeSystem/$validate-code", get(code_systems::validate_code).post(code_systems::validate_code))
        .route(
            "/fhir/CodeSystem/{id}/$validate-code",
            get(code_systems::validate_code).post(code_systems::validate_code),
        )
        .route("/fhir/CodeSystem/$subsumes", get(code_systems::subsumes).post(code_systems::subsumes))
        .route("/fhir/CodeSystem/{id}/$subsumes", get(code_systems::subsumes).post(code_systems::subsumes))
        .route("/fhir/ConceptMap/$translate", get(concept_maps::translate).post(concept_maps::translate))
        .route("/fhir/ConceptMap/{id}/$translate", get(concept_maps::translate).post(concept_maps::translate))
        // The queue, and what became of a referral.
        .route("/fhir/Task/$claim-next", post(tasks::claim_next))
        .route("/fhir/Task/{id}/$claim", post(tasks::claim))
        .route("/fhir/Task/{id}/$release", post(tasks::release))
        .route("/fhir/Task/{id}/$complete", post(tasks::complete))
        .route("/fhir/ServiceRequest/{id}/$deliveries", get(deliveries::of_referral).post(deliveries::of_referral))
        .route("/fhir/ServiceRequest/{id}/$status", get(tasks::status).post(tasks::status))
        // What a subscriber asks.
        .route("/fhir/Subscription/$status", get(subscriptions::statuses).post(subscriptions::statuses))
        .route("/fhir/Subscription/{id}/$status", get(subscriptions::status).post(subscriptions::status))
        .route("/fhir/Subscription/{id}/$events", get(subscriptions::events).post(subscriptions::events))
        .route("/fhir/Subscription/{id}/$new-secret", post(subscriptions::new_secret))
        // Everything, for the organisation's own systems.
        .route("/fhir/$export", get(export::system))
        .route("/fhir/Patient/$export", get(export::patient))
        .route("/fhir/Group/{id}/$export", get(export::group))
        .route("/fhir/$export-status/{id}", get(export::status).delete(export::cancel))
        .route("/fhir/$export-file/{id}/{file}", get(export::file))
}

async fn not_built(method: Method) -> Error {
    crate::workflow::Error::NotSupported(format!("{method} is not supported here yet. /fhir/metadata lists what is."))
        .into()
}

async fn no_such_path() -> Error {
    crate::workflow::Error::NotFound.into()
}

async fn no_such_method(method: Method) -> Error {
    Error::NotAllowed(format!("{method} is not for this path; Allow says which methods are."))
}

/// Of an entry of a Bundle, whose answer has no Allow.
async fn not_for_entries(method: Method) -> Error {
    Error::NotAllowed(format!(
        "{method} is not for the url of this entry. POST goes to Type; GET, PUT, PATCH and DELETE go to Type/id, or to \
         Type?criteria."
    ))
}
