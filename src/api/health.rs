//! Whether the service lives, is ready, and what it has to say in numbers. No patient data in any of it.

use std::fmt::Write;

use axum::extract::State as Extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::delivery_metrics::deliveries;
use super::state::State;

/// How far what the search index is behind with is counted.
const MOST_BEHIND: i64 = 100_000;

/// `GET /livez`: the process answers. Touches nothing.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the database takes a durable write.
pub(super) async fn ready(Extract(doors): Extract<State>) -> Response {
    let write = async {
        let mut tx = doors.store.write().await?;
        tx.write_a_mark().await?;
        let behind = tx.index_behind(1).await?;
        tx.commit().await?;
        Ok::<_, crate::store::StoreError>(behind)
    };
    match write.await {
        Ok(0) => "ok\n".into_response(),
        Ok(_) => "ok\nthe search index of an earlier release is being brought up to date\n".into_response(),
        Err(error) => {
            tracing::warn!(error = %error, "not ready: the database does not take a write");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not take a write\n").into_response()
        }
    }
}

/// `GET /metrics`: the Prometheus text format.
pub(super) async fn metrics(Extract(doors): Extract<State>) -> Response {
    let now = doors.clock.now();
    let counts = async {
        let mut tx = doors.store.read().await?;
        let tasks = tx.open_task_counts(now.into()).await?;
        let behind = tx.index_behind(MOST_BEHIND).await?;
        drop(tx);
        let deliveries = deliveries(&doors.store, &doors.house, now).await?;
        Ok::<_, crate::store::StoreError>((deliveries, tasks, behind))
    };
    let Ok((deliveries, tasks, behind)) = counts.await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the database cannot be read\n").into_response();
    };
    let mut text = deliveries;
    let mut family = |name: &str, help: &str, rows: Vec<(String, i64)>| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in rows {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let task = |code: &str| format!("{{code=\"{code}\"}}");
    family("livewell_tasks_open", "Open Tasks by step.", tasks.iter().map(|(c, n, _)| (task(c), *n)).collect());
    family(
        "livewell_tasks_overdue",
        "Open Tasks past their due time, by step.",
        tasks.iter().map(|(c, _, late)| (task(c), *late)).collect(),
    );
    family(
        "livewell_search_index_behind",
        "Resources of an earlier release that are not yet found by every search parameter, counted up to 100000.",
        vec![(String::new(), behind)],
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
