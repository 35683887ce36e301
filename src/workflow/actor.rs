//! Who does an act, as far as acts care.

use crate::fhir::scope::Scopes;
use crate::store::Sight;

/// The caller of an act.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Client id, for the audit trail and idempotency.
    pub client: String,
    /// ODS code of the caller's organisation.
    pub organization: String,
    /// The organisation is Live Well's own.
    pub ours: bool,
    /// The acting member of staff.
    pub staff: Option<Staff>,
    /// What the caller may see.
    pub sight: Sight,
    /// What the caller's token allows.
    pub scopes: Scopes,
}

/// A member of Live Well's staff.
#[derive(Clone, Debug)]
pub struct Staff {
    /// `PractitionerRole/id`.
    pub reference: String,
    /// Local role codes.
    pub roles: Vec<String>,
    /// Location ids of their localities; empty for one who works in all.
    pub localities: Vec<String>,
}

impl Actor {
    /// The service itself: its worker and its command line.
    pub fn service(organization: &str) -> Actor {
        Actor {
            client: "livewell".to_owned(),
            organization: organization.to_owned(),
            ours: true,
            staff: None,
            sight: Sight::Everything,
            scopes: Scopes::all(),
        }
    }
}

impl Staff {
    /// Looks after everyone's work.
    pub fn co_ordinates(&self) -> bool {
        self.roles.iter().any(|role| role == "co-ordinator")
    }

    /// May do what is for this role: those who have it, and co-ordinators.
    pub fn may_do_work_for(&self, role: &str) -> bool {
        self.co_ordinates() || self.roles.iter().any(|own| own == role)
    }

    /// Works in every locality: co-ordinators do, and whoever has none of their own.
    pub fn works_everywhere(&self) -> bool {
        self.localities.is_empty() || self.co_ordinates()
    }

    /// Works in this locality (Location id); '' is everyone's.
    pub fn works_in(&self, locality: &str) -> bool {
        self.works_everywhere() || locality.is_empty() || self.localities.iter().any(|own| own == locality)
    }
}
