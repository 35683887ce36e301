//! How the database is reached.

use serde::Deserialize;

/// The `[database]` section of the configuration.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// `sqlite:FILE`, or `postgres://user:password@host/database`.
    pub url: String,
    /// Connections for reading (SQLite, where eight are the most) or in all (PostgreSQL).
    pub connections: u32,
}

impl Default for DatabaseSettings {
    fn default() -> DatabaseSettings {
        DatabaseSettings { url: "sqlite:livewell.db".to_owned(), connections: 24 }
    }
}
