//! The audit trail as it is searched: newest first or oldest first, page by page, whoever may see it.
//!
//! What leads a search is an index in the order of ids, which is that of time; all else is looked at row by row. A search
//! that nothing leads goes through the trail from its end, as far as the page is long.

use super::criteria::{list, persons};
use super::query::Query;
use super::{AuditRow, Sight, StoreError, Tx};
use crate::fhir::search::Persons;

/// A search of the audit trail; all conditions hold together.
#[derive(Clone, Debug, Default)]
pub struct TrailSearch {
    pub tests: Vec<TrailTest>,
    pub oldest_first: bool,
    /// The row after which the page begins.
    pub after: Option<String>,
    pub limit: i64,
}

/// A condition on an audit row. Of several values one has to be met.
#[derive(Clone, Debug)]
pub enum TrailTest {
    Ids(Vec<String>),
    /// From the first moment to before the second, in microseconds since 1970 UTC.
    At(Vec<(i64, i64)>),
    /// It concerns one of these people.
    Persons(Persons),
    /// One of these was touched, in whichever version: `Type/id`.
    Targets(Vec<String>),
    /// A member of staff acted: `PractitionerRole/id`.
    Actors(Vec<String>),
    /// A client did it, or any client of an organisation (ODS).
    Agents {
        clients: Vec<String>,
        organizations: Vec<String>,
    },
    Interactions(Interactions),
    /// `success`, or statuses it was refused with; with `not`, none of them.
    Outcomes {
        any: Vec<String>,
        not: bool,
    },
}

/// Which interactions: by name, and by how their names begin.
#[derive(Clone, Debug, Default)]
pub struct Interactions {
    pub named: Vec<String>,
    pub begin: Vec<&'static str>,
}

/// What a part of a search is led by.
enum Lead {
    Person(String),
    /// Rows that are about nobody, of what was touched as it stands, and in one of its versions.
    Target(String),
    VersionOf(String),
    Actor(String),
    Organization(String),
    Refused,
    /// The order of ids.
    All,
}

/// How long before its row a moment may lie that an earlier release wrote: its ids are of when the row was made.
const SLACK: i64 = 3_600_000_000;

const COLUMNS: &str = "select audit.id, audit.at, audit.client, audit.organization, audit.actor, audit.interaction, audit.target, audit.person, \
                       audit.request_id, audit.outcome, audit.times from audit where ";

impl Tx {
    /// A page of the audit trail, and whether there is more behind it.
    pub async fn search_trail(
        &mut self,
        search: &TrailSearch,
        sight: &Sight,
    ) -> Result<(Vec<AuditRow>, bool), StoreError> {
        let mut query = Query::new("");
        for (at, lead) in self.leads(search, sight).await?.iter().enumerate() {
            query.push(if at == 0 { COLUMNS } else { " union all " });
            if at > 0 {
                query.push(COLUMNS);
            }
            conditions(&mut query, lead, search, sight);
            if let Some(after) = &search.after {
                query
                    .push(if search.oldest_first { " and audit.id > " } else { " and audit.id < " })
                    .bind(after.as_str());
            }
        }
        if query.is_empty() {
            return Ok((Vec::new(), false));
        }
        query.push(if search.oldest_first { " order by id limit " } else { " order by id desc limit " });
        query.bind(search.limit + 1);
        let mut rows: Vec<AuditRow> = self.rows(query).await?;
        let limit = usize::try_from(search.limit).unwrap_or(0);
        let more = rows.len() > limit;
        rows.truncate(limit);
        Ok((rows, more))
    }

    /// One row, if this caller may see it.
    pub async fn audit_row(&mut self, id: &str, sight: &Sight) -> Result<Option<AuditRow>, StoreError> {
        let one = TrailTest::Ids(vec![id.to_owned()]);
        let mut query = Query::new(COLUMNS);
        query.push("1 = 1");
        condition(&mut query, &one, sight);
        sight.restrict_trail(&mut query);
        Ok(self.rows(query).await?.pop())
    }

    /// How many rows match in all.
    pub async fn count_trail(&mut self, search: &TrailSearch, sight: &Sight) -> Result<i64, StoreError> {
        let mut total = 0;
        for lead in self.leads(search, sight).await? {
            let mut query = Query::new("select count(*) from audit where ");
            conditions(&mut query, &lead, search, sight);
            let counted: Vec<(i64,)> = self.rows(query).await?;
            total += counted.first().map_or(0, |c| c.0);
        }
        Ok(total)
    }

    /// What leads the search: parts that no row is in two of.
    async fn leads(&mut self, search: &TrailSearch, sight: &Sight) -> Result<Vec<Lead>, StoreError> {
        for test in &search.tests {
            match test {
                TrailTest::Targets(targets) => {
                    let targets = distinct(targets.iter().cloned());
                    let whole = targets.iter().cloned().map(Lead::Target);
                    let mut leads: Vec<Lead> = whole.chain(targets.iter().cloned().map(Lead::VersionOf)).collect();
                    leads.extend(self.people_of(&targets).await?.into_iter().map(Lead::Person));
                    return Ok(leads);
                }
                TrailTest::Persons(named) => {
                    let mut query = Query::new("");
                    persons(&mut query, named, sight);
                    let found: Vec<(String,)> = self.rows(query).await?;
                    let people = distinct(found.into_iter().map(|(person,)| person));
                    return Ok(people.into_iter().map(Lead::Person).collect());
                }
                _ => {}
            }
        }
        for test in &search.tests {
            match test {
                TrailTest::Actors(actors) => {
                    return Ok(distinct(actors.iter().cloned()).into_iter().map(Lead::Actor).collect());
                }
                TrailTest::Outcomes { any, not } if any.iter().all(|outcome| outcome != "success") != *not => {
                    return Ok(vec![Lead::Refused]);
                }
                TrailTest::Agents { clients, organizations } if !matches!(sight, Sight::Practice(_)) => {
                    let mut query = Query::new("select c.organization from client c where c.id in ");
                    list(&mut query, clients);
                    let found: Vec<(String,)> = self.rows(query).await?;
                    let found = found.into_iter().map(|(ods,)| ods).chain(organizations.iter().cloned());
                    return Ok(distinct(found).into_iter().map(Lead::Organization).collect());
                }
                _ => {}
            }
        }
        Ok(vec![match sight {
            Sight::Practice(organization) => Lead::Organization(organization.clone()),
            _ => Lead::All,
        }])
    }

    /// The people whom these resources are about.
    async fn people_of(&mut self, targets: &[String]) -> Result<Vec<String>, StoreError> {
        let mut query = Query::new("select '' where 1 = 0");
        for (kind, id) in targets.iter().filter_map(|target| target.split_once('/')) {
            query.push(" union all select r.person from resource r where r.kind = ").bind(kind);
            query.push(" and r.id = ").bind(id).push(" and r.person <> ''");
        }
        let people: Vec<(String,)> = self.rows(query).await?;
        Ok(distinct(people.into_iter().map(|(person,)| person)))
    }
}

/// Each once: no row is told twice.
fn distinct(all: impl Iterator<Item = String>) -> Vec<String> {
    all.collect::<std::collections::BTreeSet<String>>().into_iter().collect()
}

/// What leads, then every condition in a form that leads nowhere: the planner has no choice.
fn conditions(query: &mut Query, lead: &Lead, search: &TrailSearch, sight: &Sight) {
    match lead {
        Lead::Person(person) => query.push("audit.person <> '' and audit.person = ").bind(person.as_str()),
        Lead::Target(target) => query.push("audit.person = '' and audit.target = ").bind(target.as_str()),
        Lead::VersionOf(target) => {
            query.push("audit.person = '' and audit.target >= ").bind(format!("{target}/_history/"));
            query.push(" and audit.target < ").bind(format!("{target}/_history0"))
        }
        Lead::Actor(actor) => query.push("audit.actor <> '' and audit.actor = ").bind(actor.as_str()),
        Lead::Organization(organization) => query.push("audit.organization = ").bind(organization.as_str()),
        Lead::Refused => query.push("audit.outcome <> 'success'"),
        Lead::All => query.push("1 = 1"),
    };
    for test in &search.tests {
        condition(query, test, sight);
    }
    sight.restrict_trail(query);
}

fn condition(query: &mut Query, test: &TrailTest, sight: &Sight) {
    match test {
        TrailTest::Ids(ids) => list(query.push(" and audit.id in "), ids),
        TrailTest::At(any) => at(query, any),
        TrailTest::Persons(named) => {
            persons(query.push(" and audit.person || '' in ("), named, sight);
            query.push(")");
        }
        TrailTest::Targets(targets) => {
            query.push(" and (1 = 0");
            for target in targets {
                query.push(" or audit.target || '' = ").bind(target.as_str());
                query.push(" or substr(audit.target, 1, length(").bind(target.as_str()).push(") + 10) = ");
                query.bind(format!("{target}/_history/"));
            }
            query.push(")");
        }
        TrailTest::Actors(actors) => list(query.push(" and audit.actor || '' in "), actors),
        TrailTest::Agents { clients, organizations } => {
            list(query.push(" and (audit.client in "), clients);
            list(query.push(" or audit.organization || '' in "), organizations);
            query.push(")");
        }
        TrailTest::Interactions(interactions) => {
            list(query.push(" and (audit.interaction in "), &interactions.named);
            for begin in &interactions.begin {
                // A prefix of ours, in which nothing is a wildcard.
                query.push(" or audit.interaction like ").bind(format!("{begin}%"));
            }
            query.push(")");
        }
        TrailTest::Outcomes { any, not } => {
            list(
                query.push(if *not { " and audit.outcome || '' not in " } else { " and audit.outcome || '' in " }),
                any,
            );
        }
    }
}

fn at(query: &mut Query, any: &[(i64, i64)]) {
    query.push(" and (1 = 0");
    for (from, before) in any {
        query.push(" or (audit.at >= ").bind(*from).push(" and audit.at < ").bind(*before).push(")");
    }
    query.push(")");
    if let (Some(from), Some(before)) = (any.iter().map(|a| a.0).min(), any.iter().map(|a| a.1).max()) {
        query.push(" and audit.id >= ").bind(first_id(from));
        query.push(" and audit.id <= ").bind(first_id(before.saturating_add(SLACK)));
    }
}

/// What the ids of this moment begin with.
fn first_id(at: i64) -> String {
    let millis = (at.div_euclid(1000)).clamp(0, 0xffff_ffff_ffff);
    format!("{:08x}-{:04x}", millis >> 16, millis & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{At, audit_id};

    #[test]
    fn ids_are_in_the_order_of_time_and_of_their_making() {
        let moment = At(1_772_442_000_123_456);
        let ids: Vec<String> = (0..5000).map(|n| audit_id(At(moment.0 + i64::from(n / 1000) * 1000))).collect();
        assert!(ids.is_sorted(), "an id before its predecessor");
        assert!(first_id(moment.0) <= ids[0] && ids[0] < first_id(moment.0 + 1000), "{}", ids[0]);
        assert_eq!(first_id(i64::MIN), "00000000-0000");
        assert_eq!(first_id(i64::MAX), "ffffffff-ffff");
        assert_eq!(uuid::Uuid::parse_str(&ids[0]).map(|id| id.get_version_num()), Ok(7));
    }
}
