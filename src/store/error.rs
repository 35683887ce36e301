//! What can go wrong with the database, as far as callers must tell it apart.

/// A failure of the store. Its text never holds a bound value.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Someone else was faster: a unique key is taken, or what was built on is no more.
    #[error("someone else was faster")]
    Conflict,
    /// The database cannot take the request now; the same request may succeed later.
    #[error("the database is busy or away")]
    Unavailable(#[source] Option<sqlx::Error>),
    /// The connection ended while what was done was made durable: it may have been kept.
    #[error("whether it was kept is not known")]
    Unknown(#[source] Option<sqlx::Error>),
    /// An earlier statement of the transaction failed, so nothing of it was kept.
    #[error("the transaction was given up after a failed statement")]
    Aborted,
    /// A text with a zero character, which PostgreSQL cannot hold: nothing stored has it.
    #[error("a text has a zero character")]
    NotText,
    /// A setting on which durability rests is not as it must be.
    #[error("{0}")]
    Settings(String),
    /// A stored row does not read as what it must be.
    #[error("{table} {id}: {why}")]
    Corrupt { table: &'static str, id: String, why: String },
    #[error("the database refused a migration")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Doing it again later may succeed; what is corrupt stays so.
    pub fn may_pass(&self) -> bool {
        !matches!(self, StoreError::Corrupt { .. })
    }

    /// The sentence with its cause, for whoever runs the service: it may name files, hosts and tables, and never a bound
    /// value.
    pub fn explained(&self) -> String {
        use std::error::Error as _;
        match self {
            StoreError::Migration(sqlx::migrate::MigrateError::VersionMissing(version)) => {
                format!("its schema, version {version}, is of a later release: run that release, or a later one")
            }
            _ => self.source().map_or_else(|| self.to_string(), |cause| format!("{self} ({cause})")),
        }
    }

    /// Someone else was faster: the whole act, done again from its beginning, finds what they wrote.
    pub fn is_race(&self) -> bool {
        match self {
            StoreError::Conflict => true,
            // Serialization failure and deadlock of PostgreSQL.
            StoreError::Unavailable(Some(sqlx::Error::Database(inner))) => {
                matches!(inner.code().as_deref(), Some("40001" | "40P01"))
            }
            _ => false,
        }
    }
}

impl StoreError {
    /// Of a commit, and of a statement that is a transaction by itself: once it was sent, a connection that ends leaves
    /// open what became of it.
    pub(super) fn of_commit(error: sqlx::Error) -> StoreError {
        match error {
            sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => StoreError::Unknown(Some(error)),
            other => other.into(),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        match &error {
            sqlx::Error::Database(inner) if inner.is_unique_violation() => StoreError::Conflict,
            // A division by zero: the text of a unit has one for when somebody listens meanwhile.
            sqlx::Error::Database(inner) if inner.code().as_deref() == Some("22012") => StoreError::Conflict,
            sqlx::Error::Database(inner) if inner.code().as_deref() == Some("22021") => StoreError::NotText,
            sqlx::Error::Database(inner) if is_transient(inner.code().as_deref().unwrap_or_default()) => {
                StoreError::Unavailable(Some(error))
            }
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => {
                StoreError::Unavailable(Some(error))
            }
            _ => StoreError::Database(error),
        }
    }
}

/// Codes after which the same transaction may succeed. SQLite: busy, locked, read-only, I/O, full, cannot open (and
/// their extended forms). PostgreSQL: serialization failure, deadlock, lock timeout, read-only (it has just become
/// a standby), a transaction that stood still too long, out of resources, I/O, shutdown.
fn is_transient(code: &str) -> bool {
    match code.parse::<u32>() {
        Ok(sqlite) if code.len() < 5 => matches!(sqlite & 0xff, 5 | 6 | 8 | 10 | 13 | 14),
        _ => {
            matches!(code, "40001" | "40P01" | "55P03" | "57014" | "25006" | "25P03" | "25P04")
                || code.starts_with("53")
                || code.starts_with("58")
                || code.starts_with("57P")
                || code.starts_with("08")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        for code in [
            "5", "8", "10", "13", "266", "40001", "40P01", "55P03", "25006", "25P03", "53100", "57P01", "58030",
            "08006",
        ] {
            assert!(is_transient(code), "{code}");
        }
        for code in ["1", "11", "19", "787", "23505", "22021", "42P01", "25P02", "XX001", ""] {
            assert!(!is_transient(code), "{code}");
        }
    }
}
