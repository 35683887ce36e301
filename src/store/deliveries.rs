//! Deliveries: what leaves, in order for a person at a practice, leased to one worker at a time.

use serde::{Deserialize, Serialize};

use super::query::Query;
use super::{At, Sight, StoreError, Tx};

/// The columns of a [`DeliveryRow`].
macro_rules! columns {
    () => {
        "id, practice, person, referral, place, items, author, state, why, failures, queued_at, created_at, due_at, \
         attempts, lease, lease_until, settled_at, channel, purpose, worker, behind, lapses"
    };
}

/// One resource that a delivery carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryItem {
    pub kind: String,
    pub id: String,
    pub version: i64,
}

/// A delivery to be queued.
pub struct NewDelivery {
    pub id: String,
    /// `write-back` or `notification`.
    pub purpose: &'static str,
    /// Where it goes: ODS code, '' while no practice is known; of a notification, `Subscription/<id>`.
    pub practice: String,
    /// '' for a notification.
    pub person: String,
    pub referral: String,
    pub items: Vec<DeliveryItem>,
    /// Who recorded it (`PractitionerRole/id`), '' for a system.
    pub author: String,
    /// A state of `pathway::delivery`.
    pub state: &'static str,
    /// Why it waits, '' when it does not.
    pub why: &'static str,
    pub due_at: At,
    pub created_at: At,
}

/// A delivery as it stands.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct DeliveryRow {
    pub id: String,
    pub practice: String,
    pub person: String,
    pub referral: String,
    /// Its place among those for the same person at the same practice.
    pub place: i64,
    /// JSON list of [`DeliveryItem`].
    pub items: String,
    /// Who recorded it (`PractitionerRole/id`), '' for a system.
    pub author: String,
    pub state: String,
    /// Why it is in this state; never patient data.
    pub why: String,
    /// Failures since `queued_at`: the place in the retry schedule.
    pub failures: i64,
    /// When this run of the retry schedule began.
    pub queued_at: At,
    pub created_at: At,
    pub due_at: At,
    pub attempts: i64,
    /// Fencing number: grows with every lease, and every concluding write must name it.
    pub lease: i64,
    pub lease_until: At,
    pub settled_at: Option<At>,
    /// The channel it was sent by, '' before it was.
    pub channel: String,
    /// `write-back` or `notification`.
    pub purpose: String,
    /// The process that leased it last.
    pub worker: String,
    /// An earlier one for the same person at the same practice is not settled.
    pub behind: bool,
    /// Leases in a row that ended without a result.
    pub lapses: i64,
}

/// A delivery in the hands of one worker until `lease_until`.
pub type Leased = DeliveryRow;

/// What one attempt came to.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct AttemptRow {
    pub delivery: String,
    pub number: i64,
    pub at: At,
    pub duration_ms: i64,
    pub verdict: String,
    pub why: String,
    /// The practice's answer, redacted.
    pub answer: String,
}

/// The copy a practice holds of something we recorded.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct PracticeCopyRow {
    pub practice: String,
    /// `Encounter/<our id>`.
    pub record: String,
    /// `Encounter/<the practice's id>`.
    pub practice_reference: String,
    pub practice_version: String,
    pub our_version: i64,
}

impl DeliveryRow {
    /// The resources it carries.
    pub fn items(&self) -> Result<Vec<DeliveryItem>, StoreError> {
        serde_json::from_str(&self.items).map_err(|error| StoreError::Corrupt {
            table: "delivery",
            id: self.id.clone(),
            why: format!("items: {error}"),
        })
    }
}

impl Tx {
    /// Queues a delivery behind those for the same person at the same practice.
    pub async fn insert_delivery(&mut self, new: &NewDelivery) -> Result<(), StoreError> {
        self.hold_line(&new.practice, &new.person).await?;
        let items = serde_json::to_string(&new.items).expect("items are plain strings and numbers");
        sql!(
            self,
            execute,
            "insert into delivery (id, practice, person, referral, place, items, author, state, why, failures, \
             queued_at, created_at, due_at, attempts, lease, lease_until, purpose, behind) \
             select $1, $2, $3, $4, coalesce(max(d.place), 0) + 1, $5, $6, $7, $8, 0, $9, $9, $10, 0, 0, 0, $11, \
             exists (select 1 from delivery e where e.practice = $2 and e.person = $3 and e.settled_at is null) \
             from delivery d where d.practice = $2 and d.person = $3",
            &new.id,
            &new.practice,
            &new.person,
            &new.referral,
            &items,
            &new.author,
            new.state,
            new.why,
            new.created_at,
            new.due_at,
            new.purpose
        )?;
        Ok(())
    }

    /// Keeps others from the order of what goes to a practice about a person, so that nothing is left behind one that is
    /// settled at the same moment.
    pub async fn hold_line(&mut self, practice: &str, person: &str) -> Result<(), StoreError> {
        self.hold(&format!("line {practice} {person}")).await
    }

    /// The first of a line goes next. To be called, with the line held, after one was settled or taken out of it.
    async fn first_goes_next(&mut self, practice: &str, person: &str) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "update delivery set behind = false where behind and id = (select d.id from delivery d \
             where d.practice = $1 and d.person = $2 and d.settled_at is null order by d.place limit 1)",
            practice,
            person
        )?;
        Ok(())
    }

    /// Concludes an attempt: writes `settled`'s state, reason, schedule and times. False when the lease was lost
    /// meanwhile: the result must then be dropped.
    pub async fn settle_delivery(&mut self, settled: &Leased) -> Result<bool, StoreError> {
        self.hold_line(&settled.practice, &settled.person).await?;
        let changed = sql!(
            self,
            execute,
            "update delivery set state = $3, why = $4, failures = $5, queued_at = $6, due_at = $7, settled_at = $8, \
             channel = $9, lapses = 0, lease_until = 0 where id = $1 and lease = $2 and settled_at is null",
            &settled.id,
            settled.lease,
            &settled.state,
            &settled.why,
            settled.failures,
            settled.queued_at,
            settled.due_at,
            settled.settled_at,
            &settled.channel
        )?;
        if changed == 1 && settled.settled_at.is_some() {
            self.first_goes_next(&settled.practice, &settled.person).await?;
        }
        Ok(changed == 1)
    }

    /// Writes what an answer of the practice's makes of a delivery, also of one that was settled. Whoever has it leased
    /// loses the lease: what they find out is older. False when it was changed since `before` was read.
    pub async fn answer_delivery(&mut self, before: &DeliveryRow, after: &DeliveryRow) -> Result<bool, StoreError> {
        self.hold_line(&before.practice, &before.person).await?;
        let changed = sql!(
            self,
            execute,
            "update delivery set state = $3, why = $4, failures = $5, due_at = $6, settled_at = $7, \
             lease = lease + 1, lease_until = 0 where id = $1 and state = $2 and lease = $8",
            &before.id,
            &before.state,
            &after.state,
            &after.why,
            after.failures,
            after.due_at,
            after.settled_at,
            before.lease
        )?;
        if changed == 1 && before.settled_at.is_none() && after.settled_at.is_some() {
            self.first_goes_next(&before.practice, &before.person).await?;
        }
        Ok(changed == 1)
    }

    /// Writes down what an attempt came to.
    pub async fn insert_attempt(&mut self, attempt: &AttemptRow) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "insert into delivery_attempt (delivery, number, at, duration_ms, verdict, why, answer) \
             values ($1, $2, $3, $4, $5, $6, $7)",
            &attempt.delivery,
            attempt.number,
            attempt.at,
            attempt.duration_ms,
            &attempt.verdict,
            &attempt.why,
            &attempt.answer
        )?;
        Ok(())
    }

    /// The attempts of a delivery, first to last.
    pub async fn attempts(&mut self, delivery: &str) -> Result<Vec<AttemptRow>, StoreError> {
        sql!(
            self,
            fetch_all,
            "select delivery, number, at, duration_ms, verdict, why, answer from delivery_attempt \
             where delivery = $1 order by number",
            delivery
        )
    }

    /// The deliveries of a referral that the caller may see, in the order they were queued: of those to a practice, it
    /// alone sees what went to it. The referral itself must be one they may see.
    pub async fn deliveries_of_referral(
        &mut self,
        referral: &str,
        sight: &Sight,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let mut query = Query::new(concat!("select ", columns!(), " from delivery where referral = "));
        query.bind(referral);
        match sight {
            Sight::Everything | Sight::Localities(_) => {}
            Sight::Practice(ods) => {
                query.push(" and practice = ").bind(ods.as_str());
            }
            Sight::Directory => {
                query.push(" and 1 = 0");
            }
        }
        query.push(" order by created_at, id");
        self.rows(query).await
    }

    /// Deliveries of a person or (with `person` '') of a practice that wait for something.
    pub async fn waiting_deliveries(&mut self, practice: &str, person: &str) -> Result<Vec<DeliveryRow>, StoreError> {
        // Two statements, because no index serves an "or" of two columns.
        if person.is_empty() {
            return sql!(
                self,
                fetch_all,
                concat!(
                    "select ",
                    columns!(),
                    " from delivery where state = 'no-route' and settled_at is null and practice = $1 order by place, id"
                ),
                practice
            );
        }
        sql!(
            self,
            fetch_all,
            concat!(
                "select ",
                columns!(),
                " from delivery where state = 'no-route' and settled_at is null and person = $1 order by place, id"
            ),
            person
        )
    }

    /// The practices (ODS codes) to which deliveries about a person went or go. Goes from practice to practice by the
    /// index, which has no order by person.
    pub async fn practices_told_of(&mut self, person: &str) -> Result<Vec<String>, StoreError> {
        let found: Vec<(String,)> = sql!(
            self,
            fetch_all,
            "with recursive told (practice) as (\
             select min(d.practice) from delivery d where d.practice > '' \
             union all select (select min(d.practice) from delivery d where d.practice > told.practice) \
             from told where told.practice is not null) \
             select told.practice from told where exists \
             (select 1 from delivery d where d.practice = told.practice and d.person = $1)",
            person
        )?;
        Ok(found.into_iter().map(|(practice,)| practice).collect())
    }

    /// The deliveries about a person to a practice that are not settled, in their order.
    pub async fn open_deliveries(&mut self, practice: &str, person: &str) -> Result<Vec<DeliveryRow>, StoreError> {
        sql!(
            self,
            fetch_all,
            concat!(
                "select ",
                columns!(),
                " from delivery where practice = $1 and person = $2 and settled_at is null order by place"
            ),
            practice,
            person
        )
    }

    /// The practices (ODS codes) that deliveries wait for because of `why`.
    pub async fn practices_waited_for(&mut self, why: &str) -> Result<Vec<String>, StoreError> {
        let found: Vec<(String,)> = sql!(
            self,
            fetch_all,
            "select distinct practice from delivery where settled_at is null and state = 'no-route' and why = $1",
            why
        )?;
        Ok(found.into_iter().map(|(practice,)| practice).collect())
    }

    /// The people who have by now what a delivery about them waits for: a practice, or an NHS number.
    pub async fn people_waited_for(&mut self) -> Result<Vec<String>, StoreError> {
        let found: Vec<(String,)> = sql!(
            self,
            fetch_all,
            "select distinct d.person from delivery d join person p on p.id = d.person \
             where d.settled_at is null and d.state = 'no-route' \
             and (d.why = 'no-practice' and p.practice <> '' or d.why = 'no-identity' and p.nhs_number is not null)"
        )?;
        Ok(found.into_iter().map(|(person,)| person).collect())
    }

    /// Lets a delivery wait for something else, at the end of the order for the practice now known.
    pub async fn hold_delivery(&mut self, waiting: &DeliveryRow, practice: &str, why: &str) -> Result<(), StoreError> {
        if waiting.why == why && waiting.practice == practice {
            return Ok(());
        }
        let held = DeliveryRow { why: why.to_owned(), practice: practice.to_owned(), ..waiting.clone() };
        self.move_delivery(waiting, &held).await
    }

    /// Lets a delivery that waited go, to the practice now known.
    pub async fn release_delivery(&mut self, waiting: &DeliveryRow, practice: &str, now: At) -> Result<(), StoreError> {
        let released = DeliveryRow {
            state: "pending".to_owned(),
            why: String::new(),
            failures: 0,
            queued_at: now,
            due_at: now,
            practice: practice.to_owned(),
            ..waiting.clone()
        };
        self.move_delivery(waiting, &released).await
    }

    /// Puts an unsettled delivery at the end of the line that `after` names, in its state.
    async fn move_delivery(&mut self, before: &DeliveryRow, after: &DeliveryRow) -> Result<(), StoreError> {
        self.change_delivery(before, after, true).await?;
        Ok(())
    }

    /// Changes a delivery that nobody has in hand from `before` to `after`: where it goes, its state, reason and
    /// schedule. It keeps its place in the line, or goes to the end of it. False when it is not as it was.
    pub async fn change_delivery(
        &mut self,
        before: &DeliveryRow,
        after: &DeliveryRow,
        to_the_end: bool,
    ) -> Result<bool, StoreError> {
        self.hold_line(&before.practice, &before.person).await?;
        if after.practice != before.practice {
            self.hold_line(&after.practice, &after.person).await?;
        }
        // A new lease number: whoever had it in hand before has nothing more to say of it.
        let mut query = Query::new("update delivery set lease = lease + 1, practice = ");
        query.bind(after.practice.as_str());
        query.push(", state = ").bind(after.state.as_str()).push(", why = ").bind(after.why.as_str());
        query.push(", failures = ").bind(after.failures).push(", queued_at = ").bind(after.queued_at);
        query.push(", due_at = ").bind(after.due_at).push(", settled_at = ");
        match after.settled_at {
            Some(at) => query.bind(at).push(", behind = false"),
            None => query.push("null"),
        };
        if to_the_end {
            query.push(", place = (select coalesce(max(d.place), 0) + 1 from delivery d where d.practice = ");
            query.bind(after.practice.as_str());
            query.push(" and d.person = delivery.person and d.id <> delivery.id)");
            query.push(", behind = exists (select 1 from delivery d where d.practice = ");
            query.bind(after.practice.as_str());
            query.push(" and d.person = delivery.person and d.id <> delivery.id and d.settled_at is null)");
        }
        query.push(" where id = ").bind(after.id.as_str()).push(" and lease = ").bind(before.lease);
        query.push(" and state = ").bind(before.state.as_str());
        let changed = self.run(query).await? == 1;
        self.first_goes_next(&before.practice, &before.person).await?;
        Ok(changed)
    }

    /// One delivery.
    pub async fn delivery(&mut self, id: &str) -> Result<Option<DeliveryRow>, StoreError> {
        sql!(self, fetch_optional, concat!("select ", columns!(), " from delivery where id = $1"), id)
    }

    /// What a practice holds of our record.
    pub async fn practice_copy(&mut self, practice: &str, record: &str) -> Result<Option<PracticeCopyRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            "select practice, record, practice_reference, practice_version, our_version from practice_copy \
             where practice = $1 and record = $2",
            practice,
            record
        )
    }

    /// Writes down what a practice now holds.
    pub async fn put_practice_copy(&mut self, copy: &PracticeCopyRow) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "insert into practice_copy (practice, record, practice_reference, practice_version, our_version) \
             values ($1, $2, $3, $4, $5) on conflict (practice, record) do update set \
             practice_reference = excluded.practice_reference, practice_version = excluded.practice_version, \
             our_version = excluded.our_version",
            &copy.practice,
            &copy.record,
            &copy.practice_reference,
            &copy.practice_version,
            copy.our_version
        )?;
        Ok(())
    }
}
