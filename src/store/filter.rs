//! The row filter: what a caller may see, compiled into every query before limits and counts.

use super::sql::Query;

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

impl Sight {
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
                    " and (r.person = '' or not exists (select 1 from referral f where f.person = r.person) \
                     or exists (select 1 from referral f where f.person = r.person and f.locality in (''",
                );
                for locality in localities {
                    query.push(", ").bind(locality.as_str());
                }
                query.push(")))");
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
