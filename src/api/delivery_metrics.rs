//! Deliveries in numbers, for `/metrics`: what waits and since when, in every state that is not over, and how each
//! destination is doing. Labels are practices, states and verdicts, never people.

use std::collections::BTreeMap;
use std::fmt::Write;

use chrono::{DateTime, Utc};

use crate::pathway::delivery::Standing;
use crate::store::{Depth, Store, StoreError};
use crate::workflow::{House, destination_of};

/// The families in Prometheus' text format.
pub(super) async fn deliveries(store: &Store, house: &House, now: DateTime<Utc>) -> Result<String, StoreError> {
    let mut tx = store.read().await?;
    let depths = tx.delivery_depths(&Default::default()).await?;
    let destinations = tx.destinations().await?;
    drop(tx);

    let standing = destinations.iter().map(|row| (row.practice.as_str(), destination_of(row).standing(now)));
    let standing: BTreeMap<&str, Standing> = standing.collect();
    let labels = |d: &Depth| {
        let waits = match standing.get(d.practice.as_str()) {
            _ if matches!(d.state.as_str(), "needs-person" | "refused" | "no-route") => "person",
            _ if matches!(d.state.as_str(), "sent" | "received") => "acknowledgement",
            _ if d.behind => "line",
            Some(Standing::Open) => "breaker",
            Some(Standing::Paused) => "pause",
            _ => "turn",
        };
        format!("{{practice=\"{}\",state=\"{}\",waits_for=\"{waits}\"}}", escaped(&d.practice), d.state)
    };
    let mut text = String::new();
    family(
        &mut text,
        "livewell_deliveries",
        "gauge",
        "Deliveries that are not over, by practice and state, and what they wait for: their turn, another of the same line, \
         a pause or an open circuit breaker of the practice, its acknowledgement, or a person.",
        depths.iter().map(|d| (labels(d), d.count)),
    );
    family(
        &mut text,
        "livewell_delivery_oldest_seconds",
        "gauge",
        "Age of the oldest of them.",
        depths.iter().map(|d| (labels(d), (now - d.oldest.time()).num_seconds())),
    );
    let mut parked: BTreeMap<&str, i64> = standing.keys().map(|practice| (*practice, 0)).collect();
    for depth in depths.iter().filter(|d| matches!(d.state.as_str(), "needs-person" | "refused")) {
        *parked.entry(&depth.practice).or_default() += depth.count;
    }
    family(
        &mut text,
        "livewell_deliveries_need_person",
        "gauge",
        "Deliveries that go no further before a person has looked. Alert when this is not 0.",
        parked.iter().map(|(practice, count)| (of_practice(practice), *count)),
    );
    for (name, help, is) in [
        ("livewell_destination_open", "1 while the circuit breaker of a practice is open.", Standing::Open),
        (
            "livewell_destination_paused",
            "1 while a practice has asked to be left alone (Retry-After).",
            Standing::Paused,
        ),
    ] {
        let rows = standing.iter().map(|(practice, standing)| (of_practice(practice), i64::from(*standing == is)));
        family(&mut text, name, "gauge", help, rows);
    }
    family(
        &mut text,
        "livewell_delivery_attempts_total",
        "counter",
        "Attempts that this process has settled, by practice and verdict.",
        house.attempts.counted().into_iter().map(|((practice, verdict), count)| {
            (format!("{{practice=\"{}\",verdict=\"{verdict}\"}}", escaped(&practice)), count)
        }),
    );
    Ok(text)
}

fn family(text: &mut String, name: &str, kind: &str, help: &str, rows: impl Iterator<Item = (String, i64)>) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in rows {
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}

fn of_practice(practice: &str) -> String {
    format!("{{practice=\"{}\"}}", escaped(practice))
}

/// A label's value; ODS codes come from outside.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        assert_eq!(escaped("A\"} 1\nB\\"), "A\\\"} 1\\nB\\\\");
    }
}
