//! What an act asks of the database before it knows anything, in one statement: whether a referral, a person and a
//! practice are there, and whether somebody hears of what is going to change.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::query::Query;
use super::{At, Practice, StoreError, Tx, directory};
use crate::pathway::affiliation::Ours;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// The organisation (ODS) whose referrals are meant.
    pub sender: String,
    /// Business identifiers of referrals (system, value).
    pub referrals: BTreeSet<(String, String)>,
    /// NHS numbers.
    pub people: BTreeSet<String>,
    /// ODS codes.
    pub practices: BTreeSet<String>,
    /// The Live Well organisation (ODS), whose affiliations count for a practice.
    pub ours: String,
    /// When they have to hold.
    pub now: At,
    /// Whether some subscription listens.
    pub listened: bool,
}

/// What of it is there.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub referrals: HashSet<(String, String)>,
    pub people: HashSet<String>,
    pub practices: HashMap<String, Practice>,
    /// Some subscription listens.
    pub listened: bool,
}

/// What is asked for, its key, the rest of its key or what is known of it, and a resource.
type Row = (String, String, String, Option<String>);

impl Questions {
    /// How many things are asked for.
    pub fn len(&self) -> usize {
        self.referrals.len() + self.people.len() + self.practices.len()
    }

    /// Nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn query(&self) -> Query {
        let mut query = Query::default();
        for (system, value) in &self.referrals {
            next(&mut query)
                .push("select 'referral', i.system, i.value, null from referral_identifier i where i.sender = ")
                .bind(self.sender.as_str())
                .push(" and i.system = ")
                .bind(system.as_str())
                .push(" and i.value = ")
                .bind(value.as_str());
        }
        for number in &self.people {
            next(&mut query)
                .push("select 'person', p.nhs_number, '', null from person p where p.nhs_number = ")
                .bind(number.as_str());
        }
        for ods in &self.practices {
            practice(next(&mut query), ods);
        }
        if !self.practices.is_empty() {
            organization(next(&mut query), &self.ours);
        }
        if self.listened {
            next(&mut query)
                .push("select 'listened', '', '', null where exists (select 1 from subscription where state <> 'off')");
        }
        query
    }
}

fn next(query: &mut Query) -> &mut Query {
    if query.is_empty() { query } else { query.push(" union all ") }
}

/// A practice, with the affiliations that name it, one a line.
fn practice(query: &mut Query, ods: &str) {
    query
        .push("select s.* from (select 'practice' as what, l.value, r.id, (select string_agg(a.body, ")
        .bind("\n")
        .push(
            ") from lookup m \
             join resource a on a.kind = 'OrganizationAffiliation' and a.id = m.id \
             where m.kind = 'OrganizationAffiliation' and m.param = 'participating-organization' \
             and m.value = 'Organization/' || r.id and m.system = '' and a.sender = '' and not a.deleted) as body",
        );
    with_code(query, ods);
}

/// The Organization of Live Well.
fn organization(query: &mut Query, ods: &str) {
    query.push("select s.* from (select 'ours' as what, l.value, r.id, null as body");
    with_code(query, ods);
}

/// The end of a question about the first Organization of the directory with an ODS code.
fn with_code(query: &mut Query, ods: &str) {
    query
        .push(
            " from lookup l join resource r on r.kind = 'Organization' and r.id = l.id \
             where l.kind = 'Organization' and l.param = 'identifier' and l.value = ",
        )
        .bind(ods)
        .push(" and l.system = ")
        .bind(crate::fhir::systems::ODS)
        .push(" and r.sender = '' and not r.deleted order by l.id limit 1) s");
}

impl Tx {
    /// What of all this is there.
    pub async fn found(&mut self, questions: &Questions) -> Result<Found, StoreError> {
        let mut found = Found::default();
        if questions.is_empty() {
            return Ok(found);
        }
        let rows: Vec<Row> = self.rows(questions.query()).await?;
        let organization = rows.iter().find(|(what, ..)| what == "ours").map(|(_, _, id, _)| id.clone());
        let ours = Ours { ods: &questions.ours, organization: organization.as_deref().unwrap_or_default() };
        for (what, key, other, body) in rows {
            match what.as_str() {
                "referral" => drop(found.referrals.insert((key, other))),
                "person" => drop(found.people.insert(key)),
                "listened" => found.listened = true,
                "practice" => {
                    let affiliations = body.as_deref().unwrap_or_default();
                    let practice = directory::as_practice(key.clone(), other, affiliations, ours, questions.now)?;
                    found.practices.insert(key, practice);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// A practice and the locality that its affiliation with Live Well (`ours`, ODS) gives it now.
    pub async fn practice(&mut self, ods: &str, ours: &str, now: At) -> Result<Option<Practice>, StoreError> {
        let practices = BTreeSet::from([ods.to_owned()]);
        let found = self.found(&Questions { practices, ours: ours.to_owned(), now, ..Questions::default() }).await?;
        Ok(found.practices.into_values().next())
    }
}
