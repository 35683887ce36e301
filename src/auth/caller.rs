//! Who is calling, what they may do, and which rows they may see.

use super::scope::{Interaction, Scopes};
use crate::store::Sight;

/// The one on whose behalf a request runs: read from the access token, and from the acting person it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The registered client.
    pub client_id: String,
    /// ODS code of the organisation the client is registered for. Never taken from a request.
    pub organization: String,
    /// What the token was granted.
    pub scopes: Scopes,
    pub standing: Standing,
}

/// In what capacity the client calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A system of an organisation that is not Live Well's: a practice, or anybody else who refers.
    Practice,
    /// A member of Live Well's staff: the client is one, or names the acting one on each request.
    Staff(StaffMember),
    /// A system of the Live Well organisation on its own behalf.
    Service,
}

/// A member of staff, as the directory knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaffMember {
    /// `PractitionerRole/id`.
    pub practitioner_role: String,
    /// Codes in `https://livewell.example/CodeSystem/role`.
    pub roles: Vec<String>,
    /// Location ids of the localities they work in.
    pub localities: Vec<String>,
}

/// The token lacks a scope. The answer is 403 with this text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "This needs the scope system/{resource_type}.{letter}, which the access token does not carry. Ask for it when \
     getting the token; if it is not granted then, the client is not registered for it.",
    letter = interaction.letter()
)]
pub struct Forbidden {
    pub resource_type: String,
    pub interaction: Interaction,
}

impl Caller {
    /// Which rows this caller may see.
    pub fn sees(&self) -> Sight {
        match &self.standing {
            Standing::Service => Sight::Everything,
            Standing::Practice => Sight::Practice(self.organization.clone()),
            Standing::Staff(member) => Sight::of_staff(&member.roles, &member.localities),
        }
    }

    /// Whether the token's scopes allow this interaction with resources of this type. Says nothing about rows. Each
    /// entry of a batch or transaction is asked for on its own.
    pub fn may(&self, resource_type: &str, interaction: Interaction) -> Result<(), Forbidden> {
        if self.scopes.allows(resource_type, interaction) {
            Ok(())
        } else {
            Err(Forbidden { resource_type: resource_type.to_owned(), interaction })
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    fn caller(standing: Standing) -> Caller {
        Caller {
            client_id: "client".into(),
            organization: "TEST001".into(),
            scopes: Scopes::parse("system/Task.ru system/*.s").unwrap(),
            standing,
        }
    }

    fn staff(role: &str, localities: &[&str]) -> Standing {
        Standing::Staff(StaffMember {
            practitioner_role: "PractitionerRole/one".into(),
            roles: vec![role.into()],
            localities: localities.iter().map(|l| (*l).to_owned()).collect(),
        })
    }

    #[test]
    fn a_practice_sees_what_it_sent_and_who_is_registered_with_it() {
        assert_eq!(caller(Standing::Practice).sees(), Sight::Practice("TEST001".into()));
    }

    #[test]
    fn coordinators_and_systems_of_live_well_see_everything() {
        assert_eq!(caller(Standing::Service).sees(), Sight::Everything);
        assert_eq!(caller(staff("co-ordinator", &[])).sees(), Sight::Everything);
        assert_eq!(caller(staff("health-coach", &["north"])).sees(), Sight::Localities(vec!["north".to_owned()]));
    }

    #[test]
    fn a_refusal_names_the_scope_that_is_missing() {
        let caller = caller(Standing::Service);
        assert_eq!(caller.may("Task", Interaction::Update), Ok(()));
        assert_eq!(caller.may("Patient", Interaction::Search), Ok(()));
        let refusal = caller.may("ServiceRequest", Interaction::Create).unwrap_err();
        assert!(refusal.to_string().starts_with("This needs the scope system/ServiceRequest.c,"), "{refusal}");
        assert!(caller.may("Task", Interaction::Delete).is_err());
        assert!(caller.may("*", Interaction::Read).is_err());
    }
}
