//! PostgreSQL: its own concurrency, its own pool.

use std::str::FromStr;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::{DatabaseSettings, StoreError};

pub(super) async fn open(settings: &DatabaseSettings) -> Result<PgPool, StoreError> {
    let options = PgConnectOptions::from_str(&settings.url)?.application_name("livewell").options([
        ("statement_timeout", "15s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "20s"),
        ("synchronous_commit", "on"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(settings.connections.max(1))
        .acquire_timeout(Duration::from_secs(5))
        .max_lifetime(Duration::from_secs(30 * 60))
        .connect_with(options)
        .await?;
    Ok(pool)
}

pub(super) async fn check_settings(pool: &PgPool) -> Result<(), StoreError> {
    for (setting, good) in [("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "on")] {
        let found: String = sqlx::query_scalar("select current_setting($1)").bind(setting).fetch_one(pool).await?;
        if found != good {
            return Err(StoreError::Settings(format!(
                "PostgreSQL: {setting} is {found}, and must be {good}, or what was acknowledged can be lost."
            )));
        }
    }
    Ok(())
}
