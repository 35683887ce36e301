//! From a request's credentials to its caller.

use chrono::{DateTime, Utc};

use super::acting::{ActingPractitioner, BadActingPractitioner};
use super::caller::{Caller, StaffMember, Standing};
use super::scope::Scopes;
use super::token::{MAX_LIFETIME_SECONDS, bearer, hash};
use crate::fhir::Resource;
use crate::fhir::search::Criterion;
use crate::pathway::role::{RoleMap, is_active, localities_of};
use crate::store::{Credentials, Page, Sight, Store, StoreError, Tx};

/// Why a request has no caller.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// No token, or one that is not good any more: 401.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// The header that names the acting person cannot be read: 400.
    #[error(transparent)]
    Unreadable(#[from] BadActingPractitioner),
    /// A good token, and still not: 403.
    #[error("{0}")]
    Forbidden(String, Refused),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whose token it was.
#[derive(Clone, Debug)]
pub struct Refused {
    pub client: String,
    /// ODS code of its organisation.
    pub organization: String,
}

fn forbidden(client: &Credentials, text: String) -> NotAdmitted {
    let by = Refused { client: client.client.clone(), organization: client.organization.clone() };
    NotAdmitted::Forbidden(text, by)
}

const NO_TOKEN: &str = "This needs an access token: get one at the token_endpoint that \
    /fhir/.well-known/smart-configuration names, and send it as Authorization: Bearer.";
const BAD_TOKEN: &str = "The access token is not known, has expired, or its client was shut out. Get a new one at the \
    token endpoint.";

/// The caller that an `Authorization` header and, from a system that speaks for staff, an acting practitioner mean.
/// `ours` is the ODS code of the Live Well organisation.
pub async fn admit(
    store: &Store,
    authorization: Option<&str>,
    acting: Option<&str>,
    ours: &str,
    roles: &RoleMap,
    now: DateTime<Utc>,
) -> Result<Caller, NotAdmitted> {
    let token = bearer(authorization.ok_or(NotAdmitted::Unauthenticated(NO_TOKEN))?)
        .map_err(|_| NotAdmitted::Unauthenticated(BAD_TOKEN))?;
    // Not beyond the longest it may live either, give or take what the clocks of instances differ: one that was set back
    // makes no token live longer.
    let latest = now + chrono::Duration::seconds(i64::from(MAX_LIFETIME_SECONDS) + 60);
    let lives = |found: &Credentials| found.expires_at.time() > now && found.expires_at.time() <= latest;
    let found = store.credentials(&hash(token)).await?.filter(lives);
    let client = found.ok_or(NotAdmitted::Unauthenticated(BAD_TOKEN))?;
    let scopes = client.scopes.parse::<Scopes>().map_err(|_| NotAdmitted::Unauthenticated(BAD_TOKEN))?;

    let standing = if client.organization != ours || ours.is_empty() {
        Standing::Practice
    } else if !client.staff.is_empty() {
        Standing::Staff(member(&client, roles, now)?)
    } else if client.speaks_for_staff {
        match acting {
            Some(header) => {
                let role = acting_member(&mut store.read().await?, &client, header, now).await?;
                Standing::Staff(as_member(&role, roles))
            }
            None => {
                let text = "This client speaks for staff: name the acting person in NHSD-Requesting-Practitioner, as \
                            base64 of their FHIR PractitionerRole.";
                return Err(forbidden(&client, text.to_owned()));
            }
        }
    } else {
        Standing::Service
    };
    Ok(Caller { client_id: client.client, organization: client.organization, scopes, standing })
}

/// The member of staff a client is.
fn member(client: &Credentials, roles: &RoleMap, now: DateTime<Utc>) -> Result<StaffMember, NotAdmitted> {
    let role = client.role()?.filter(|role| is_active(role, now));
    role.map(|role| as_member(&role, roles)).ok_or_else(|| {
        let text =
            format!("{}, whom this client acts as, is not in the directory or not active. Load it.", client.staff);
        forbidden(client, text)
    })
}

/// The PractitionerRole that a system names in `NHSD-Requesting-Practitioner`.
async fn acting_member(
    tx: &mut Tx,
    client: &Credentials,
    header: &str,
    now: DateTime<Utc>,
) -> Result<Resource, NotAdmitted> {
    let acting = ActingPractitioner::parse(header)?;
    let mut named = Vec::new();
    if let Some(id) = &acting.id {
        named.extend(tx.directory_resource("PractitionerRole", id).await?);
    }
    for (system, value) in acting.identifiers {
        let word = Criterion::identifier(value, Some(system));
        let found = tx.search("PractitionerRole", &[word], &Sight::Directory, &[], &Page::first(2)).await?;
        if let [only] = found.matches.as_slice() {
            named.push(only.resource()?);
        }
    }
    if named.windows(2).any(|pair| pair[0].reference() != pair[1].reference()) {
        let text =
            "NHSD-Requesting-Practitioner names several members of staff, by its id and its identifiers. Name one.";
        return Err(forbidden(client, text.to_owned()));
    }
    if let Some(role) = named.pop()
        && is_active(&role, now)
        && tx.is_at(&role, &client.organization).await?
    {
        return Ok(role);
    }
    let text = "The acting person that NHSD-Requesting-Practitioner names is not in the directory, not active, or at \
                another organisation. Name them by the id or an identifier of their PractitionerRole.";
    Err(forbidden(client, text.to_owned()))
}

fn as_member(role: &Resource, roles: &RoleMap) -> StaffMember {
    StaffMember { practitioner_role: role.reference(), roles: roles.roles_of(role), localities: localities_of(role) }
}
