//! Who is calling, what they may do, and which rows they may see.

use super::scope::{Interaction, Scopes};

/// The role that shares out the work of a whole Live Well organisation.
const CO_ORDINATOR: &str = "co-ordinator";
/// The roles that work with people of a locality (`https://livewell.example/CodeSystem/role`).
const LOCALITY_ROLES: [&str; 5] =
    ["health-coach", "link-worker", "smi-link-worker", "peer-support-worker", "volunteer"];

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
    /// Code in `https://livewell.example/CodeSystem/role`.
    pub role: String,
    /// `Location/id` of each locality they work in.
    pub localities: Vec<String>,
    /// Their name, to show who owns a task.
    pub display: Option<String>,
}

/// Which rows a caller may see: the row filter of every query, applied before limits and counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sees {
    /// Everything of the Live Well organisation, which is all the database holds.
    Everything,
    /// What belongs to one of these localities (`Location/id`), and what belongs to none: the work of a practice
    /// without a locality is open to all.
    Localities { localities: Vec<String> },
    /// What this organisation (ODS code) sent, and what concerns a person registered with it.
    Practice { ods: String },
    /// No row at all: evaluators, who get pseudonymised views only, and roles that are not known here.
    Nothing,
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
    pub fn sees(&self) -> Sees {
        match &self.standing {
            Standing::Service => Sees::Everything,
            Standing::Practice => Sees::Practice { ods: self.organization.clone() },
            Standing::Staff(member) => member.sees(),
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

impl StaffMember {
    fn sees(&self) -> Sees {
        match self.role.as_str() {
            CO_ORDINATOR => Sees::Everything,
            role if LOCALITY_ROLES.contains(&role) => Sees::Localities { localities: self.localities.clone() },
            _ => Sees::Nothing,
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
            role: role.into(),
            localities: localities.iter().map(|l| (*l).to_owned()).collect(),
            display: None,
        })
    }

    #[test]
    fn a_practice_sees_what_it_sent_and_who_is_registered_with_it() {
        assert_eq!(caller(Standing::Practice).sees(), Sees::Practice { ods: "TEST001".into() });
    }

    #[test]
    fn coordinators_and_systems_of_live_well_see_everything() {
        assert_eq!(caller(Standing::Service).sees(), Sees::Everything);
        assert_eq!(caller(staff("co-ordinator", &[])).sees(), Sees::Everything);
    }

    #[test]
    fn those_who_work_with_people_see_their_localities() {
        for role in LOCALITY_ROLES {
            let localities = vec!["Location/north".to_owned(), "Location/south".to_owned()];
            assert_eq!(
                caller(staff(role, &["Location/north", "Location/south"])).sees(),
                Sees::Localities { localities }
            );
            assert_eq!(caller(staff(role, &[])).sees(), Sees::Localities { localities: vec![] });
        }
    }

    #[test]
    fn an_evaluator_and_a_role_nobody_knows_see_nothing() {
        for role in ["evaluator", "", "Co-ordinator", "co-ordinator ", "administrator", "R9801"] {
            assert_eq!(caller(staff(role, &["Location/north"])).sees(), Sees::Nothing, "{role}");
        }
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
