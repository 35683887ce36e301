//! Search over the index tables, with keyset paging by id: a page neither repeats nor skips while others write.

use super::sql::Query;
use super::{At, Sight, StoreError, Stored, Tx};

/// One search condition; all of a search's conditions hold together.
#[derive(Clone, Debug)]
pub enum Criterion {
    /// The id is one of these.
    Ids(Vec<String>),
    /// It is about one of these people (ids of our Patients).
    Persons(Vec<String>),
    /// It came from one of these organisations (ODS); '' for the directory.
    Senders(Vec<String>),
    /// A token, reference, name or URI: one of these (value, system) pairs, where no system means any.
    Words { param: String, any: Vec<(String, Option<String>)>, not: bool },
    /// A name that begins with one of these.
    Begins { param: String, any: Vec<String> },
    /// The parameter is absent (or, with `false`, present).
    Missing { param: String, missing: bool },
    /// A date whose interval lies so; each pair is (lowest, highest) for `low` and for `high`.
    Time { param: String, low: (At, At), high: (At, At) },
    /// Last changed from the first moment to before the second.
    LastUpdated(At, At),
    /// Nothing matches: a condition on something that is not there.
    Nothing,
}

/// Where a page begins and how long it is.
#[derive(Clone, Debug)]
pub struct Page {
    /// The id after which it begins.
    pub after: Option<String>,
    pub limit: i64,
}

/// A page of matches.
pub struct Found {
    pub matches: Vec<Stored>,
    /// There is more behind it.
    pub more: bool,
}

impl Tx {
    /// A page of the resources of a kind that match and that the caller may see, by id.
    pub async fn search(
        &mut self,
        kind: &str,
        criteria: &[Criterion],
        sight: &Sight,
        page: &Page,
    ) -> Result<Found, StoreError> {
        let mut query = Query::new(
            "select r.kind, r.id, r.version, r.updated_at, r.deleted, r.sender, r.person, r.referral, r.body from resource r",
        );
        matching(&mut query, kind, criteria, sight);
        if let Some(after) = &page.after {
            query.push(" and r.id > ").bind(after.as_str());
        }
        query.push(" order by r.id limit ").bind(page.limit + 1);
        let mut matches: Vec<Stored> = self.rows(query).await?;
        let more = matches.len() as i64 > page.limit;
        matches.truncate(usize::try_from(page.limit).unwrap_or(0));
        Ok(Found { matches, more })
    }

    /// How many match in all.
    pub async fn count(&mut self, kind: &str, criteria: &[Criterion], sight: &Sight) -> Result<i64, StoreError> {
        let mut query = Query::new("select count(*) from resource r");
        matching(&mut query, kind, criteria, sight);
        let counted: Vec<(i64,)> = self.rows(query).await?;
        Ok(counted.first().map_or(0, |c| c.0))
    }

    /// Our Patients that one of these sent or own Patient ids stands for.
    pub async fn persons_of_patients(&mut self, ids: &[String], sight: &Sight) -> Result<Vec<String>, StoreError> {
        self.persons(&[Criterion::Ids(ids.to_vec())], sight).await
    }

    /// Our Patients whose Patient (ours or a sender's) carries this identifier.
    pub async fn persons_by_identifier(
        &mut self,
        value: &str,
        system: Option<&str>,
        sight: &Sight,
    ) -> Result<Vec<String>, StoreError> {
        let any = vec![(value.to_owned(), system.map(str::to_owned))];
        self.persons(&[Criterion::Words { param: "identifier".to_owned(), any, not: false }], sight).await
    }

    async fn persons(&mut self, criteria: &[Criterion], sight: &Sight) -> Result<Vec<String>, StoreError> {
        let mut query = Query::new("select distinct r.person from resource r");
        matching(&mut query, "Patient", criteria, sight);
        query.push(" and r.person <> '' limit 1000");
        let found: Vec<(String,)> = self.rows(query).await?;
        Ok(found.into_iter().map(|(person,)| person).collect())
    }
}

fn matching(query: &mut Query, kind: &str, criteria: &[Criterion], sight: &Sight) {
    query.push(" where r.kind = ").bind(kind).push(" and not r.deleted");
    for criterion in criteria {
        criterion.restrict(query, kind);
    }
    sight.restrict(query);
}

fn list(query: &mut Query, values: &[String]) {
    query.push("(");
    for (at, value) in values.iter().enumerate() {
        query.push(if at == 0 { "" } else { ", " }).bind(value.as_str());
    }
    query.push(")");
}

impl Criterion {
    fn restrict(&self, query: &mut Query, kind: &str) {
        match self {
            Criterion::Ids(ids) if !ids.is_empty() => list(query.push(" and r.id in "), ids),
            Criterion::Persons(ids) if !ids.is_empty() => list(query.push(" and r.person in "), ids),
            Criterion::Senders(senders) if !senders.is_empty() => list(query.push(" and r.sender in "), senders),
            Criterion::Words { any, .. } if any.is_empty() => {
                query.push(" and 1 = 0");
            }
            Criterion::Begins { any, .. } if any.is_empty() => {
                query.push(" and 1 = 0");
            }
            Criterion::Words { param, any, not } => {
                query.push(if *not { " and r.id not in (" } else { " and r.id in (" });
                query.push("select l.id from lookup l where l.kind = ").bind(kind);
                query.push(" and l.param = ").bind(param.as_str()).push(" and (");
                for (at, (value, system)) in any.iter().enumerate() {
                    query.push(if at == 0 { "" } else { " or " });
                    match system {
                        Some(system) if value.is_empty() => {
                            query.push("l.system = ").bind(system.as_str());
                        }
                        Some(system) => {
                            query.push("(l.value = ").bind(value.as_str());
                            query.push(" and l.system = ").bind(system.as_str()).push(")");
                        }
                        None => {
                            query.push("l.value = ").bind(value.as_str());
                        }
                    }
                }
                query.push("))");
            }
            Criterion::Begins { param, any } => {
                query.push(" and r.id in (select l.id from lookup l where l.kind = ").bind(kind);
                query.push(" and l.param = ").bind(param.as_str()).push(" and (");
                for (at, start) in any.iter().enumerate() {
                    query.push(if at == 0 { "(l.value >= " } else { " or (l.value >= " }).bind(start.as_str());
                    query.push(" and l.value < ").bind(format!("{start}\u{10FFFF}")).push(")");
                }
                query.push("))");
            }
            Criterion::Missing { param, missing } => {
                query.push(if *missing { " and r.id not in (" } else { " and r.id in (" });
                query.push("select l.id from lookup l where l.kind = ").bind(kind);
                query.push(" and l.param = ").bind(param.as_str());
                query.push(" union all select x.id from lookup_time x where x.kind = ").bind(kind);
                query.push(" and x.param = ").bind(param.as_str()).push(")");
            }
            Criterion::Time { param, low, high } => {
                query.push(" and r.id in (select x.id from lookup_time x where x.kind = ").bind(kind);
                query.push(" and x.param = ").bind(param.as_str());
                query.push(" and x.low >= ").bind(low.0).push(" and x.low <= ").bind(low.1);
                query.push(" and x.high >= ").bind(high.0).push(" and x.high <= ").bind(high.1).push(")");
            }
            Criterion::LastUpdated(from, before) => {
                query.push(" and r.updated_at >= ").bind(*from).push(" and r.updated_at < ").bind(*before);
            }
            Criterion::Ids(_) | Criterion::Persons(_) | Criterion::Senders(_) | Criterion::Nothing => {
                query.push(" and 1 = 0");
            }
        }
    }
}
