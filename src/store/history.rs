//! History: every version of one resource, of a type, or of all, newest first, with keyset paging.

use super::query::Query;
use super::{At, Sight, StoreError, Tx};

/// Whose history.
#[derive(Clone, Debug)]
pub enum HistoryOf {
    Instance(String, String),
    /// Of these types, merged.
    Types(Vec<String>),
}

/// A page of history: what is wanted, and where it begins.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// Made at this time or later.
    pub since: Option<At>,
    /// Current at some time from the first moment to before the second.
    pub at: Option<(At, At)>,
    /// The entry after which it begins.
    pub after: Option<HistoryKey>,
    pub limit: i64,
}

/// Where an entry stands: the order is by time, newest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryKey {
    pub updated_at: At,
    pub kind: String,
    pub id: String,
    pub version: i64,
}

/// A version of a resource in a history.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct HistoryRow {
    pub kind: String,
    pub id: String,
    pub version: i64,
    pub updated_at: At,
    pub deleted: bool,
    pub body: String,
}

impl HistoryRow {
    /// Where it stands.
    pub fn key(&self) -> HistoryKey {
        HistoryKey { updated_at: self.updated_at, kind: self.kind.clone(), id: self.id.clone(), version: self.version }
    }
}

impl Tx {
    /// A page of a history, as far as this caller may see now, and whether there is more behind it.
    pub async fn history(
        &mut self,
        of: &HistoryOf,
        page: &HistoryPage,
        sight: &Sight,
    ) -> Result<(Vec<HistoryRow>, bool), StoreError> {
        let kinds = match of {
            HistoryOf::Instance(kind, _) => vec![kind.clone()],
            HistoryOf::Types(kinds) if kinds.len() == 1 => kinds.clone(),
            HistoryOf::Types(kinds) => {
                let there = self.kinds().await?;
                there.into_iter().filter(|kind| kinds.contains(kind)).collect()
            }
        };
        let mut all: Vec<HistoryRow> = Vec::new();
        for kind in kinds {
            let id = match of {
                HistoryOf::Instance(_, id) => Some(id.as_str()),
                HistoryOf::Types(_) => None,
            };
            all.extend(self.rows::<HistoryRow>(current(&kind, id, page, sight)).await?);
            all.extend(self.rows::<HistoryRow>(replaced(&kind, id, page, sight)).await?);
            match of {
                // Versions count on, whatever the clocks of those who made them said.
                HistoryOf::Instance(..) => all.sort_by_key(|row| std::cmp::Reverse(row.version)),
                HistoryOf::Types(_) => all.sort_by_key(|row| std::cmp::Reverse(row.key())),
            }
            all.truncate(usize::try_from(page.limit + 1).unwrap_or(0));
        }
        let more = all.len() as i64 > page.limit;
        all.truncate(usize::try_from(page.limit).unwrap_or(0));
        Ok((all, more))
    }

    /// The types of which there are resources: each is one step into the index, however many there are of it.
    async fn kinds(&mut self) -> Result<Vec<String>, StoreError> {
        let found: Vec<(String,)> = sql!(
            self,
            fetch_all,
            "with recursive there(kind) as (select min(kind) from resource union all \
             select (select min(r.kind) from resource r where r.kind > there.kind) from there where there.kind is not null) \
             select kind from there where kind is not null"
        )?;
        Ok(found.into_iter().map(|(kind,)| kind).collect())
    }
}

/// What is current.
fn current(kind: &str, id: Option<&str>, page: &HistoryPage, sight: &Sight) -> Query {
    let mut query =
        Query::new("select r.kind, r.id, r.version, r.updated_at, r.deleted, r.body from resource r where r.kind = ");
    query.bind(kind);
    if let Some(id) = id {
        query.push(" and r.id = ").bind(id);
    }
    if let Some(since) = page.since {
        query.push(" and r.updated_at >= ").bind(since);
    }
    if let Some((_, before)) = page.at {
        query.push(" and r.updated_at < ").bind(before);
    }
    if let Some(after) = &page.after {
        // Between types of one moment the order is by name: one that sorts before has all of that moment behind it.
        match kind.cmp(&after.kind) {
            _ if id.is_some() => query.push(" and r.version < ").bind(after.version),
            std::cmp::Ordering::Less => query.push(" and r.updated_at <= ").bind(after.updated_at),
            std::cmp::Ordering::Greater => query.push(" and r.updated_at < ").bind(after.updated_at),
            std::cmp::Ordering::Equal => {
                query.push(" and (r.updated_at, r.id, r.version) < (").bind(after.updated_at);
                query.push(", ").bind(after.id.as_str()).push(", ").bind(after.version).push(")")
            }
        };
    }
    sight.restrict(&mut query);
    query.push(match id {
        Some(_) => " order by r.version desc limit ",
        None => " order by r.updated_at desc, r.id desc, r.version desc limit ",
    });
    query.bind(page.limit + 1);
    query
}

/// What was replaced. Who may see it is told by what is current.
fn replaced(kind: &str, id: Option<&str>, page: &HistoryPage, sight: &Sight) -> Query {
    let mut query = Query::new(
        "select h.kind, h.id, h.version, h.updated_at, h.deleted, h.body from resource_history h \
         join resource r on r.kind = h.kind and r.id = h.id where h.kind = ",
    );
    query.bind(kind);
    if let Some(id) = id {
        query.push(" and h.id = ").bind(id);
    }
    // Of one resource the key gives the order; the index by time would have to sort (a plus keeps SQLite off it).
    let time = if id.is_some() { " and +h.updated_at " } else { " and h.updated_at " };
    if let Some(since) = page.since {
        query.push(time).push(">= ").bind(since);
    }
    if let Some((from, before)) = page.at {
        query.push(time).push("< ").bind(before);
        // It was still current then: what came next came later.
        query.push(
            " and coalesce((select n.updated_at from resource_history n where n.kind = h.kind and n.id = h.id \
             and n.version = h.version + 1), r.updated_at) > ",
        );
        query.bind(from);
    }
    if let Some(after) = &page.after {
        match kind.cmp(&after.kind) {
            _ if id.is_some() => query.push(" and h.version < ").bind(after.version),
            std::cmp::Ordering::Less => query.push(" and h.updated_at <= ").bind(after.updated_at),
            std::cmp::Ordering::Greater => query.push(" and h.updated_at < ").bind(after.updated_at),
            std::cmp::Ordering::Equal => {
                query.push(" and (h.updated_at, h.id, h.version) < (").bind(after.updated_at);
                query.push(", ").bind(after.id.as_str()).push(", ").bind(after.version).push(")")
            }
        };
    }
    sight.restrict(&mut query);
    query.push(match id {
        Some(_) => " order by h.version desc limit ",
        None => " order by h.updated_at desc, h.id desc, h.version desc limit ",
    });
    query.bind(page.limit + 1);
    query
}
