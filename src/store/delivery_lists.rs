//! Deliveries looked at from outside: lists, depths, what a referral caused.

use super::query::Query;
use super::{At, DeliveryRow, StoreError, Tx};

/// Which deliveries are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// ODS code, or `Subscription/<id>`.
    pub practice: Option<String>,
    /// None of them: every state in which something has still to happen.
    pub states: Vec<String>,
    /// Queued before this moment.
    pub before: Option<At>,
}

/// How many deliveries to a practice are in a state, and since when the oldest.
#[derive(Clone, Debug, PartialEq, Eq, sqlx_macros::FromRow)]
pub struct Depth {
    pub practice: String,
    pub state: String,
    /// They wait behind another for the same person.
    pub behind: bool,
    pub count: i64,
    pub oldest: At,
}

impl DeliveryFilter {
    /// Adds the condition on `delivery d`. What is open and what is parked are indexes of their own, so each is asked for
    /// by itself.
    fn restrict(&self, query: &mut Query, part: Part) {
        query.push(match part {
            Part::Open => " d.settled_at is null",
            Part::Parked => " d.settled_at is not null and d.state in ('needs-person', 'refused')",
            Part::Over => " d.settled_at is not null and d.state not in ('needs-person', 'refused')",
        });
        if let Some(practice) = &self.practice {
            query.push(" and d.practice = ").bind(practice.as_str());
        }
        if !self.states.is_empty() {
            query.push(" and d.state in (");
            for (at, state) in self.states.iter().enumerate() {
                query.push(if at == 0 { "" } else { ", " }).bind(state.as_str());
            }
            query.push(")");
        }
        if let Some(before) = self.before {
            query.push(" and d.created_at < ").bind(before);
        }
    }

    /// The parts of the table that can hold what is meant.
    fn parts(&self) -> &'static [Part] {
        if self.states.is_empty() { &[Part::Open, Part::Parked] } else { &[Part::Open, Part::Parked, Part::Over] }
    }
}

/// A part of the table, by what has still to happen.
#[derive(Clone, Copy)]
enum Part {
    /// Something will be tried, or is waited for.
    Open,
    /// A person has to look.
    Parked,
    /// Nothing more.
    Over,
}

impl Tx {
    /// The deliveries that are meant, the oldest first.
    pub async fn find_deliveries(
        &mut self,
        filter: &DeliveryFilter,
        limit: i64,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let mut found: Vec<DeliveryRow> = Vec::new();
        for part in filter.parts() {
            let mut query = Query::new(concat!("select ", columns!(), " from delivery d where"));
            filter.restrict(&mut query, *part);
            query.push(" order by d.created_at, d.id limit ").bind(limit);
            found.extend(self.rows::<DeliveryRow>(query).await?);
        }
        found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    /// How many are meant, by practice and state.
    pub async fn delivery_depths(&mut self, filter: &DeliveryFilter) -> Result<Vec<Depth>, StoreError> {
        let mut depths = Vec::new();
        for part in filter.parts() {
            let mut query = Query::new(
                "select d.practice, d.state, d.behind, count(*) as count, min(d.created_at) as oldest \
                 from delivery d where",
            );
            filter.restrict(&mut query, *part);
            query.push(" group by d.practice, d.state, d.behind order by d.practice, d.state, d.behind");
            depths.extend(self.rows::<Depth>(query).await?);
        }
        Ok(depths)
    }

    /// Whether a delivery about a person waits for a person to look at it.
    pub async fn has_parked_delivery(&mut self, person: &str) -> Result<bool, StoreError> {
        let (found,): (bool,) = sql!(
            self,
            fetch_one,
            "select exists (select 1 from delivery where person = $1 and state in ('needs-person', 'refused'))",
            person
        )?;
        Ok(found)
    }
}
