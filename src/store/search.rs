//! Search over the index tables, with keyset paging: a page neither repeats nor skips while others write.

use std::collections::BTreeSet;

use super::criteria::{column_name, list, matching, people_of_patients, referring};
use super::query::{Bind, Query};
use super::{Sight, StoreError, Stored, Tx};
use crate::fhir::search::{Column, Criterion, IndexRow, Link, SortKey, Sorted, Table, sort_value};

/// The columns of `resource r` that a [`Stored`] has.
const STORED: &str = "r.kind, r.id, r.version, r.updated_at, r.deleted, r.sender, r.person, r.referral, r.body";

/// Where a page begins and how long it is.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The match after which it begins.
    pub after: Option<Place>,
    pub limit: i64,
}

impl Page {
    /// The first so many.
    pub fn first(limit: i64) -> Page {
        Page { after: None, limit }
    }
}

/// A place in an order: the value of each key, and the id, which tells apart what they do not.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    pub keys: Vec<Option<Key>>,
    pub id: String,
}

/// The value of one sort key.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Key {
    Text(String),
    Whole(i64),
    /// The bits of the number, so that not one of them is lost on the way.
    Real(u64),
}

impl From<&Key> for Bind {
    fn from(key: &Key) -> Bind {
        match key {
            Key::Text(text) => text.as_str().into(),
            Key::Whole(number) => (*number).into(),
            Key::Real(bits) => f64::from_bits(*bits).into(),
        }
    }
}

/// A page of matches.
pub struct Found {
    pub matches: Vec<Stored>,
    /// There is more behind it.
    pub more: bool,
}

impl Found {
    /// At most `limit` of what a statement answered that was asked for one more.
    fn of(mut matches: Vec<Stored>, limit: i64) -> Found {
        let limit = usize::try_from(limit).unwrap_or(0);
        let more = matches.len() > limit;
        matches.truncate(limit);
        Found { matches, more }
    }
}

impl Tx {
    /// A page of the resources of a kind that match and that the caller may see, in the order of the keys and of their
    /// ids.
    pub async fn search(
        &mut self,
        kind: &str,
        criteria: &[Criterion],
        sight: &Sight,
        order: &[SortKey],
        page: &Page,
    ) -> Result<Found, StoreError> {
        let mut query = Query::new(
            "select s.kind, s.id, s.version, s.updated_at, s.deleted, s.sender, s.person, s.referral, s.body from (select ",
        );
        query.push(STORED);
        for (key, name) in order.iter().zip(KEYS) {
            key_value(&mut query, kind, key);
            query.push(" as ").push(name);
        }
        query.push(" from resource r");
        matching(&mut query, kind, criteria, sight);
        if let Some(after) = page.after.as_ref().filter(|_| order.is_empty()) {
            query.push(" and r.id > ").bind(after.id.as_str());
        }
        query.push(") s");
        if let Some(after) = page.after.as_ref().filter(|_| !order.is_empty()) {
            query.push(" where ");
            behind(&mut query, order, after);
        }
        query.push(" order by ");
        for (key, name) in order.iter().zip(KEYS) {
            query.push("s.").push(name).push(" is null, s.").push(name);
            query.push(if key.descending { " desc, " } else { ", " });
        }
        query.push("s.id limit ").bind(page.limit + 1);
        Ok(Found::of(self.rows(query).await?, page.limit))
    }

    /// What the organisation with this ODS code means by criteria, of what the caller may see, at most two: what it sent
    /// itself first, then what is Live Well's (of people only where that organisation is Live Well, `ours`); never what
    /// another sent. Those named by `without` are left out.
    pub async fn nearest(
        &mut self,
        kind: &str,
        criteria: &[Criterion],
        sight: &Sight,
        (organization, ours): (&str, bool),
        without: &[&str],
    ) -> Result<Vec<Stored>, StoreError> {
        let mut query = Query::new("select ");
        matching(query.push(STORED).push(" from resource r"), kind, criteria, sight);
        query.push(" and (r.sender = ").bind(organization);
        query.push(if ours { " or r.sender = '')" } else { " or (r.sender = '' and r.person = ''))" });
        if !without.is_empty() {
            list(query.push(" and r.id not in "), without);
        }
        query.push(" order by case when r.sender = ").bind(organization).push(" then 0 else 1 end, r.id limit 2");
        self.rows(query).await
    }

    /// How many match in all.
    pub async fn count(&mut self, kind: &str, criteria: &[Criterion], sight: &Sight) -> Result<i64, StoreError> {
        let mut query = Query::new("select count(*) from resource r");
        matching(&mut query, kind, criteria, sight);
        let counted: Vec<(i64,)> = self.rows(query).await?;
        Ok(counted.first().map_or(0, |c| c.0))
    }

    /// The different profiles, tags and labels of what the caller may see of these kinds, at most `limit`: search parameter,
    /// value and system of each.
    pub async fn labels(
        &mut self,
        kinds: &[&str],
        sight: &Sight,
        limit: i64,
    ) -> Result<Vec<(String, String, String)>, StoreError> {
        let mut query = Query::new(
            "select distinct l.param, l.value, l.system from lookup l join resource r on r.id = l.id and r.kind = l.kind \
             where l.param in ('_profile', '_security', '_tag') and not r.deleted and l.kind in ",
        );
        list(&mut query, kinds);
        sight.restrict(&mut query);
        query.push(" order by l.param, l.system, l.value limit ").bind(limit);
        self.rows(query).await
    }

    /// Our Patients whose Patient (ours or a sender's) carries this identifier.
    pub async fn persons_by_identifier(
        &mut self,
        value: &str,
        system: Option<&str>,
        sight: &Sight,
    ) -> Result<Vec<String>, StoreError> {
        let criteria = [Criterion::identifier(value, system.map(str::to_owned))];
        let mut query = Query::new("select distinct people.person from (");
        people_of_patients(&mut query, &criteria, sight);
        query.push(") people limit 1000");
        let found: Vec<(String,)> = self.rows(query).await?;
        Ok(found.into_iter().map(|(person,)| person).collect())
    }

    /// The place of a match in an order.
    pub async fn place(&mut self, stored: &Stored, order: &[SortKey]) -> Result<Place, StoreError> {
        let resource = stored.resource()?;
        let keys = order.iter().map(|key| match &key.by {
            Sorted::Id => Some(Key::Text(stored.id.clone())),
            Sorted::LastUpdated => Some(Key::Whole(stored.updated_at.0)),
            Sorted::Value { .. } => sort_value(&resource, key).and_then(|row| match row {
                IndexRow::Word { value, .. } => Some(Key::Text(value)),
                IndexRow::Time { low, .. } => Some(Key::Whole(low)),
                IndexRow::Number { range, .. } => Some(Key::Real(range.low.0.to_bits())),
                IndexRow::Pair { .. } => None,
            }),
            Sorted::Queue(_) => None,
        });
        let mut place = Place { keys: keys.collect(), id: stored.id.clone() };
        if order.iter().any(|key| matches!(key.by, Sorted::Queue(_)))
            && let Some(task) = self.task(&stored.id).await?
        {
            for (key, value) in order.iter().zip(&mut place.keys) {
                if let Sorted::Queue(column) = key.by {
                    *value = Some(match column {
                        Column::Priority => Key::Whole(-task.priority),
                        Column::Due => Key::Whole(task.due.0),
                        Column::Status => Key::Text(task.status.clone()),
                        Column::Code => Key::Text(task.code.clone()),
                        Column::Role => Key::Text(task.role.clone()),
                        Column::Owner => Key::Text(task.owner.clone()),
                        Column::Referral => Key::Text(task.referral.clone()),
                        Column::Locality => Key::Text(task.locality.clone()),
                    });
                }
            }
        }
        Ok(place)
    }

    /// Those of these resources (type, id) that are there and that the caller may see, at most `limit` and one more.
    pub async fn all_of(
        &mut self,
        wanted: &BTreeSet<(String, String)>,
        sight: &Sight,
        limit: i64,
    ) -> Result<Found, StoreError> {
        let mut query = Query::new("select ");
        query.push(STORED).push(" from resource r where not r.deleted and (1 = 0");
        let kinds: BTreeSet<&str> = wanted.iter().map(|(kind, _)| kind.as_str()).collect();
        for kind in kinds {
            let ids: Vec<_> = wanted.iter().filter(|(of, _)| of == kind).map(|(_, id)| id).collect();
            query.push(" or (r.kind = ").bind(kind);
            list(query.push(" and r.id in "), &ids);
            query.push(")");
        }
        query.push(")");
        sight.restrict(&mut query);
        query.push(" order by r.kind, r.id limit ").bind(limit + 1);
        Ok(Found::of(self.rows(query).await?, limit))
    }

    /// Resources of a kind that refer by one of these links to one of these (type, id), at most `limit` and one more.
    pub async fn referring(
        &mut self,
        kind: &str,
        links: &[Link],
        to: &BTreeSet<(String, String)>,
        sight: &Sight,
        limit: i64,
    ) -> Result<Found, StoreError> {
        let mut query = Query::new("select ");
        query.push(STORED).push(" from resource r where not r.deleted and r.kind = ").bind(kind);
        query.push(" and r.id in (");
        referring(&mut query, kind, links, to, sight);
        query.push(")");
        sight.restrict(&mut query);
        query.push(" order by r.id limit ").bind(limit + 1);
        Ok(Found::of(self.rows(query).await?, limit))
    }
}

const KEYS: [&str; 3] = ["k1", "k2", "k3"];

/// `, value`: what `resource r` is sorted by.
fn key_value(query: &mut Query, kind: &str, key: &SortKey) {
    match &key.by {
        Sorted::Id => {
            query.push(", r.id");
        }
        Sorted::LastUpdated => {
            query.push(", r.updated_at");
        }
        Sorted::Value { params, table } => {
            query.push(if key.descending { ", (select max(" } else { ", (select min(" });
            query.push(match table {
                Table::Words => "l.value) from lookup l",
                Table::Times => "l.low) from lookup_time l",
                Table::Numbers => "l.low) from lookup_number l",
                Table::Pairs => "l.value) from lookup_pair l",
            });
            query.push(" where l.id = r.id and l.kind = ").bind(kind);
            list(query.push(" and l.param in "), params);
            query.push(")");
        }
        // A higher priority is a lower rank.
        Sorted::Queue(Column::Priority) => {
            query.push(", (select 0 - t.priority from task t where t.id = r.id)");
        }
        Sorted::Queue(column) => {
            query.push(", (select ").push(column_name(*column)).push(" from task t where t.id = r.id)");
        }
    }
}

/// Behind a place in the order: what has no value of a key comes last.
fn behind(query: &mut Query, order: &[SortKey], after: &Place) {
    let keys: Vec<_> = order.iter().zip(KEYS).zip(&after.keys).collect();
    for ((key, name), value) in &keys {
        match value {
            Some(value) => {
                query.push("(s.").push(name).push(if key.descending { " < " } else { " > " }).bind(value);
                query.push(" or s.").push(name).push(" is null or (s.").push(name).push(" = ").bind(value);
            }
            None => {
                query.push("(1 = 0 or (s.").push(name).push(" is null");
            }
        }
        query.push(" and ");
    }
    query.push("s.id > ").bind(after.id.as_str());
    for _ in &keys {
        query.push("))");
    }
}
