//! All that is about one person, in pages.

use super::query::Query;
use super::{At, Sight, StoreError, Stored, Tx};

/// References that one statement looks up; databases bound how long a condition is.
const AT_ONCE: usize = 64;

/// What of a person's record is wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The types; `None`: all.
    pub kinds: Option<Vec<String>>,
    /// Changed then or later.
    pub since: Option<At>,
}

impl Wanted {
    fn restrict(&self, query: &mut Query) {
        if let Some(kinds) = &self.kinds {
            query.push(" and r.kind in (''");
            for kind in kinds {
                query.push(", ").bind(kind.as_str());
            }
            query.push(")");
        }
        if let Some(since) = self.since {
            query.push(" and r.updated_at >= ").bind(since);
        }
    }
}

impl Tx {
    /// At most `limit` resources about a person that the caller may see, by type and id, from after the given ones on.
    pub async fn about_person(
        &mut self,
        person: &str,
        wanted: &Wanted,
        sight: &Sight,
        after: Option<(&str, &str)>,
        limit: i64,
    ) -> Result<Vec<Stored>, StoreError> {
        let mut query = selected();
        query.push(" where r.person = ").bind(person).push(" and r.person <> '' and not r.deleted");
        wanted.restrict(&mut query);
        if let Some((kind, id)) = after {
            query.push(" and (r.kind, r.id) > (").bind(kind).push(", ").bind(id).push(")");
        }
        sight.restrict(&mut query);
        query.push(" order by r.kind, r.id limit ").bind(limit);
        self.rows(query).await
    }

    /// Those of these resources (type and id) that are about no person and that the caller may see.
    pub async fn about_nobody(
        &mut self,
        references: &[(String, String)],
        wanted: &Wanted,
        sight: &Sight,
    ) -> Result<Vec<Stored>, StoreError> {
        let mut found = Vec::new();
        for some in references.chunks(AT_ONCE) {
            let mut query = selected();
            query.push(" where r.person = '' and not r.deleted and (r.kind, r.id) in (values ");
            for (at, (kind, id)) in some.iter().enumerate() {
                query
                    .push(if at == 0 { "(" } else { ", (" })
                    .bind(kind.as_str())
                    .push(", ")
                    .bind(id.as_str())
                    .push(")");
            }
            query.push(")");
            wanted.restrict(&mut query);
            sight.restrict(&mut query);
            query.push(" order by r.kind, r.id");
            found.extend(self.rows::<Stored>(query).await?);
        }
        Ok(found)
    }
}

fn selected() -> Query {
    Query::new(
        "select r.kind, r.id, r.version, r.updated_at, r.deleted, r.sender, r.person, r.referral, r.body from resource r",
    )
}
