//! Refusals on the audit trail: each of the first, and counted ones beyond them, so that a flood of refused requests is
//! told and neither fills the disk nor slows anybody.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{At, AuditRow, Store, StoreError};

/// Refusals of one client in one [`WINDOW`] that have a row of their own.
const WRITTEN: u32 = 20;

/// Microseconds after which a client's refusals are written one by one again, and what was counted is.
const WINDOW: i64 = 60_000_000;

/// The refusals of each client, as long as they are counted.
#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<String, Window>>);

struct Window {
    began: At,
    written: u32,
    /// By interaction and outcome, what was refused beyond those that were written: both are words of ours.
    counted: HashMap<(String, String), AuditRow>,
}

impl Refusals {
    /// What is to be written, now that this was refused.
    fn note(&self, row: AuditRow) -> Vec<AuditRow> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Window { began: row.at, written: 0, counted: HashMap::new() };
        let window = clients.entry(row.client.clone()).or_insert(began);
        let mut due = Vec::new();
        if window.is_over(row.at) {
            due.extend(window.counted.drain().map(|(_, counted)| counted));
            (window.began, window.written) = (row.at, 0);
        }
        if window.written < WRITTEN {
            window.written += 1;
            due.push(row);
            return due;
        }
        let key = (row.interaction.clone(), row.outcome.clone());
        // It stands for many: whatever differed is left out.
        let counted =
            || AuditRow { target: String::new(), request_id: String::new(), actor: String::new(), times: 0, ..row };
        window.counted.entry(key).or_insert_with(counted).times += 1;
        due
    }

    /// What was counted in windows that are over by now; of all that were begun, with no moment.
    fn due(&self, now: Option<At>) -> Vec<AuditRow> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        clients.retain(|_, window| {
            let over = now.is_none_or(|now| window.is_over(now));
            if over {
                due.extend(window.counted.drain().map(|(_, counted)| counted));
            }
            !over
        });
        due
    }
}

impl Window {
    /// Over, also for a clock that was set back.
    fn is_over(&self, now: At) -> bool {
        !(self.began.0..self.began.0.saturating_add(WINDOW)).contains(&now.0)
    }
}

impl Store {
    /// Puts a refused request on the audit trail: with the next rows that are written, and nobody waits for it. Beyond the
    /// first twenty of a client in a minute they are counted, and [`Store::write_counted_refusals`] writes how many.
    pub fn refuse(&self, row: AuditRow) {
        self.refusals().note(row).into_iter().for_each(|row| self.tell(row));
    }

    /// Writes how many were refused in minutes that are over by now; with no moment, in every one that was begun. What a
    /// killed process counted is lost, a minute's at most.
    pub async fn write_counted_refusals(&self, now: Option<At>) -> Result<(), StoreError> {
        let mut due = self.refusals().due(now);
        let last = due.pop();
        due.into_iter().for_each(|row| self.tell(row));
        // They are written in their order.
        match last {
            Some(last) => self.disclose(last).await,
            None => Ok(()),
        }
    }

    fn refusals(&self) -> &Refusals {
        match self {
            Store::Sqlite(sqlite) => &sqlite.refusals,
            Store::Postgres(postgres) => &postgres.refusals,
        }
    }

    fn tell(&self, row: AuditRow) {
        match self {
            Store::Sqlite(sqlite) => sqlite.inserts.tell((&row).into()),
            Store::Postgres(postgres) => postgres.disclosures.tell((&row).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(client: &str, interaction: &str, second: i64) -> AuditRow {
        AuditRow {
            id: format!("{client}-{interaction}-{second}"),
            at: At(second * 1_000_000),
            client: client.to_owned(),
            organization: "TESTA1".to_owned(),
            actor: String::new(),
            interaction: interaction.to_owned(),
            target: "Patient/a".to_owned(),
            person: String::new(),
            request_id: "r".to_owned(),
            outcome: "403".to_owned(),
            times: 1,
        }
    }

    #[test]
    fn the_first_refusals_of_a_minute_are_written_and_the_others_counted() {
        let refusals = Refusals::default();
        let written: usize = (0..1000).map(|_| refusals.note(refused("a", "read", 0)).len()).sum();
        assert_eq!(written, 20);
        assert!(refusals.note(refused("a", "update", 30)).is_empty());
        assert_eq!(refusals.note(refused("b", "read", 30)).len(), 1, "another client has its own");
        assert!(refusals.due(Some(At(59_999_999))).is_empty(), "the minute is not over");
        let mut due = refusals.due(Some(At(60_000_000)));
        due.sort_by_key(|row| row.times);
        let told: Vec<_> = due.iter().map(|row| (row.interaction.as_str(), row.times, row.target.as_str())).collect();
        assert_eq!(told, [("update", 1, ""), ("read", 980, "")]);
        assert!(refusals.due(Some(At(60_000_000))).is_empty(), "told once");
        assert_eq!(refusals.note(refused("a", "read", 61)).len(), 1, "a new minute");
    }

    #[test]
    fn what_was_counted_is_written_with_the_next_minute_and_at_the_end() {
        let refusals = Refusals::default();
        (0..25).for_each(|_| drop(refusals.note(refused("a", "read", 0))));
        let due: Vec<_> = refusals.note(refused("a", "read", 60)).iter().map(|row| row.times).collect();
        assert_eq!(due, [5, 1]);
        (0..25).for_each(|_| drop(refusals.note(refused("a", "read", 60))));
        assert_eq!(refusals.due(None).iter().map(|row| row.times).sum::<i64>(), 6);
        (0..25).for_each(|_| drop(refusals.note(refused("a", "read", 100))));
        assert_eq!(refusals.note(refused("a", "read", 40)).len(), 2, "a clock that was set back");
    }
}
