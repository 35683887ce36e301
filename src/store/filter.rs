//! The row filter: what a caller may see, compiled into every query before limits and counts.

use super::query::Query;

/// Which rows a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Everything the Live Well organisation holds.
    Everything,
    /// People with a referral in one of these localities (Location ids), or in none.
    Localities(Vec<String>),
    /// What this organisation (ODS) sent and what came of it, and people registered with it; never the words that a
    /// person wrote for themselves.
    Practice(String),
    /// The directory only.
    Directory,
}

/// The role that shares out the work of a whole Live Well organisation.
const CO_ORDINATOR: &str = "co-ordinator";
/// The roles that work with people of a locality (`https://livewell.example/CodeSystem/role`).
const LOCALITY_ROLES: [&str; 5] =
    ["health-coach", "link-worker", "smi-link-worker", "peer-support-worker", "volunteer"];

impl Sight {
    /// What a member of staff with these roles and localities sees: a co-ordinator everything, those who work with people
    /// their localities (and everything where they have none of their own), evaluators and unknown roles the directory
    /// only: pseudonymised views are not built yet.
    pub fn of_staff(roles: &[String], localities: &[String]) -> Sight {
        let works_with_people = roles.iter().any(|role| LOCALITY_ROLES.contains(&role.as_str()));
        let co_ordinates = roles.iter().any(|role| role == CO_ORDINATOR);
        if co_ordinates || works_with_people && localities.is_empty() {
            Sight::Everything
        } else if works_with_people {
            Sight::Localities(localities.to_vec())
        } else {
            Sight::Directory
        }
    }

    /// Adds the condition on `resource r`.
    ///
    /// The directory (no sender, no person) is open to every caller. Membership is decided now, by the person's
    /// registered practice of today, not by what it was when a row was written.
    pub(super) fn restrict(&self, query: &mut Query) {
        match self {
            Sight::Everything => {}
            Sight::Directory => {
                query.push(" and r.person = '' and r.sender = ''");
            }
            Sight::Localities(localities) => {
                query.push(
                    // A Subscription that no member of staff made is its system's own.
                    " and (r.kind <> 'Subscription' or exists (select 1 from subscription s where s.id = r.id \
                     and s.staff <> '')) and (r.person = '' \
                     or exists (select 1 from referral f where f.person = r.person and f.locality in (''",
                );
                for locality in localities {
                    query.push(", ").bind(locality.as_str());
                }
                // Last: it is hardly ever so, and whoever was found before does not pay for it.
                query.push(")) or not exists (select 1 from referral f where f.person = r.person))");
            }
            Sight::Practice(organization) => {
                query.push(" and ((r.person = '' and r.sender = '') or r.sender = ").bind(organization.as_str());
                // The person's own words (the Green Book) stay the person's.
                query.push(
                    " or (r.kind <> 'QuestionnaireResponse' and (exists (select 1 from referral f \
                     where f.id = r.referral and r.referral <> '' and f.sender = ",
                );
                query.bind(organization.as_str());
                query.push(") or exists (select 1 from person p where p.id = r.person and p.practice = ");
                query.bind(organization.as_str()).push("))))");
            }
        }
    }
}

impl Sight {
    /// Adds the condition on `audit`: who sees everything sees all that was done; who works with the people of a
    /// locality, what was done about them; a practice, what its own clients did.
    pub(super) fn restrict_trail(&self, query: &mut Query) {
        match self {
            Sight::Everything => {}
            Sight::Directory => {
                query.push(" and 1 = 0");
            }
            Sight::Localities(localities) => {
                query.push(
                    " and audit.person || '' <> '' and (not exists (select 1 from referral f where f.person = audit.person) \
                     or exists (select 1 from referral f where f.person = audit.person and f.locality in (''",
                );
                for locality in localities {
                    query.push(", ").bind(locality.as_str());
                }
                query.push(")))");
            }
            Sight::Practice(organization) => {
                query.push(" and audit.organization || '' = ").bind(organization.as_str());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sees(role: &str, localities: &[&str]) -> Sight {
        let localities: Vec<String> = localities.iter().map(|l| (*l).to_owned()).collect();
        Sight::of_staff(&[role.to_owned()], &localities)
    }

    #[test]
    fn those_who_work_with_people_see_their_localities() {
        for role in LOCALITY_ROLES {
            let localities = vec!["north".to_owned(), "south".to_owned()];
            assert_eq!(sees(role, &["north", "south"]), Sight::Localities(localities));
            assert_eq!(sees(role, &[]), Sight::Everything);
        }
        assert_eq!(sees("co-ordinator", &["north"]), Sight::Everything);
    }

    #[test]
    fn an_evaluator_and_a_role_nobody_knows_see_no_person() {
        for role in ["evaluator", "", "Co-ordinator", "co-ordinator ", "administrator", "R9801"] {
            assert_eq!(sees(role, &["north"]), Sight::Directory, "{role}");
        }
    }
}
