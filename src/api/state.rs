//! What every door works with.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::Notify;

use super::edge::RequestIds;
use super::error::Error;
use super::format::Format;
use super::page::PageSeal;
use super::profiles::ProfileChecks;
use super::refusals::Asked;
use super::types::Types;
use super::view::View;
use crate::auth::acting;
use crate::auth::admit::{NotAdmitted, admit};
use crate::auth::caller::{Caller, Standing};
use crate::auth::scope::Interaction;
use crate::auth::tokens::TokenEndpoint;
use crate::fhir::codec::Limits;
use crate::fhir::terminology::Terminology;
use crate::store::Store;
use crate::time::Clock;
use crate::workflow::{Actor, Asking, House, Staff, terminology};

/// Shared by all requests.
pub struct Doors {
    pub store: Store,
    pub house: Arc<House>,
    pub tokens: TokenEndpoint,
    pub profiles: ProfileChecks,
    pub types: Types,
    pub clock: Clock,
    pub limits: Limits,
    /// The public keys of the service, as a JSON Web Key Set, at a moment.
    pub jwks: PublicKeys,
    pub seal: PageSeal,
    /// Told when something may be ready to be delivered.
    pub wake: Arc<Notify>,
    /// Held connections and settings that `/readyz` and `/metrics` report.
    pub started_at: DateTime<Utc>,
}

/// What is published of the service's keys at a moment.
type PublicKeys = Box<dyn Fn(DateTime<Utc>) -> Value + Send + Sync>;

/// State of the router.
pub type State = Arc<Doors>;

impl Doors {
    /// The base of the FHIR API.
    pub fn fhir_base(&self) -> String {
        self.house.fhir_base()
    }
}

/// Who asks, already admitted: what an entry of a Bundle comes with.
#[derive(Clone)]
pub(super) struct Admitted {
    pub caller: Caller,
    pub actor: Actor,
    pub now: DateTime<Utc>,
}

/// An authenticated request, as handlers see it.
pub(super) struct Call {
    pub doors: State,
    pub caller: Caller,
    pub actor: Actor,
    pub format: Format,
    pub headers: HeaderMap,
    /// The query, decoded, in its order.
    pub query: Vec<(String, String)>,
    pub request_id: String,
    pub now: DateTime<Utc>,
    /// Nothing of the answer leaves but whether it can be given.
    pub rehearsed: bool,
}

/// In the extensions of a request whose answer is only looked at by ourselves.
#[derive(Clone)]
pub(super) struct Rehearsed;

impl FromRequestParts<State> for Call {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, doors: &State) -> Result<Call, Error> {
        // No id holds a NUL, and PostgreSQL refuses to look for one.
        if parts.uri.path().contains("%00") {
            return Err(crate::workflow::Error::NotFound.into());
        }
        let query = query_of(parts)?;
        let mut format = Format::wanted(&parts.headers, &query)?;
        // A part is for who reads: who writes is answered with what was stored.
        let reads = matches!(parts.method, Method::GET | Method::HEAD) || parts.uri.path().ends_with("/_search");
        if !reads {
            format.view = View::Whole;
        }
        let rehearsed = parts.extensions.remove::<Rehearsed>().is_some();
        let Admitted { caller, actor, now } = match parts.extensions.remove() {
            Some(admitted) => admitted,
            None => admitted(parts, doors).await?,
        };
        if let Some(asked) = parts.extensions.get::<Asked>().filter(|_| !rehearsed) {
            asked.by(&actor, now);
        }
        Ok(Call {
            doors: Arc::clone(doors),
            caller,
            actor,
            format,
            headers: parts.headers.clone(),
            query,
            request_id: request_id(parts),
            now,
            rehearsed,
        })
    }
}

async fn admitted(parts: &Parts, doors: &State) -> Result<Admitted, Error> {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let now = doors.clock.now();
    // The directory may have been loaded since this instance started, by another process.
    doors.house.learn_organization(&doors.store).await?;
    let ours = &doors.house.organization();
    let admitted =
        admit(&doors.store, text("authorization"), text(acting::HEADER), ours, &doors.house.roles, now).await;
    if let (Err(NotAdmitted::Forbidden(_, refused)), Some(asked)) = (&admitted, parts.extensions.get::<Asked>()) {
        asked.by_refused(refused, now);
    }
    let caller = admitted?;
    let actor = actor(&caller, ours);
    Ok(Admitted { caller, actor, now })
}

/// The decoded query of a request.
pub(super) fn query_of(parts: &Parts) -> Result<Vec<(String, String)>, Error> {
    let unreadable = || {
        crate::fhir::Invalid::malformed(crate::fhir::Issue::general(
            crate::fhir::IssueCode::Invalid,
            "The query of this URL is not readable. Encode it as application/x-www-form-urlencoded.",
        ))
    };
    if !is_well_encoded(parts.uri.query().unwrap_or_default()) {
        return Err(unreadable().into());
    }
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
    Ok(query.map(|query| query.0).map_err(|_| unreadable())?)
}

/// Whether each `%` begins two hexadecimal digits and all together say UTF-8. A decoder that guesses would search for
/// something else than was asked.
fn is_well_encoded(query: &str) -> bool {
    let mut bytes = query.bytes();
    let mut said = Vec::with_capacity(query.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            said.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => said.extend(u8::try_from(high * 16 + low)),
            _ => return false,
        }
    }
    std::str::from_utf8(&said).is_ok()
}

fn request_id(parts: &Parts) -> String {
    parts.extensions.get::<RequestIds>().map(|ids| ids.request.clone()).unwrap_or_default()
}

fn actor(caller: &Caller, ours: &str) -> Actor {
    let staff = match &caller.standing {
        Standing::Staff(member) => Some(Staff {
            reference: member.practitioner_role.clone(),
            roles: member.roles.clone(),
            localities: member.localities.clone(),
        }),
        Standing::Practice | Standing::Service => None,
    };
    Actor {
        client: caller.client_id.clone(),
        organization: caller.organization.clone(),
        ours: !ours.is_empty() && caller.organization == ours,
        staff,
        sight: caller.sees(),
        scopes: caller.scopes.clone(),
    }
}

impl Call {
    /// The question that this request is.
    pub(super) fn asking(&self) -> Asking<'_> {
        let (store, house) = (&self.doors.store, &*self.doors.house);
        Asking { store, house, actor: &self.actor, now: self.now, request_id: &self.request_id }
    }

    /// Whether this deployment has the interaction with the type, and the token's scopes allow it.
    pub(super) fn may(&self, kind: &str, interaction: Interaction) -> Result<(), Error> {
        self.doors.types.have(kind, interaction)?;
        Ok(self.caller.may(kind, interaction)?)
    }

    /// The code systems and value sets at hand, with what this caller keeps here of those it asks for (type and canonical).
    pub(super) async fn terminology(&self, wanted: Vec<(&'static str, String)>) -> Result<Arc<Terminology>, Error> {
        let house = &self.doors.house;
        if wanted.iter().all(|(kind, canonical)| house.terminology.has(kind, canonical)) {
            return Ok(Arc::clone(&house.terminology));
        }
        let mut tx = self.doors.store.read().await?;
        Ok(terminology(&mut tx, house, &self.actor, wanted).await?)
    }

    /// The first value of a header, as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
