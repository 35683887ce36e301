//! A notification is sent and settled: what it says is put together when it leaves, from what the subscriber may hear then.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::pathway::delivery::{DeliveryState, Verdict, Why};
use crate::pathway::notification::{self, Content, Kind};
use crate::store::{Leased, PersonRow, Store, SubscriptionRow, Tx};

use super::super::deliver::{Attempted, conclude};
use super::super::{Actor, House, Result, Unit, tasks};
use super::ask::{base, event_of, may_be_told, status_of};
use super::enter;
use super::present::{Present, present};

/// What leaves for a subscriber.
pub struct Notification {
    /// Signed, and the same in every attempt.
    pub id: String,
    pub address: String,
    /// The secrets that sign: two while one replaces the other.
    pub secrets: Vec<String>,
    pub headers: Vec<(String, String)>,
    pub payload: Vec<u8>,
    /// How long the subscriber wants an attempt to take at most.
    pub timeout: Option<Duration>,
}

/// What becomes of a notification whose turn it is.
pub enum Prepared {
    Send(Box<Notification>),
    /// There is nothing left that the subscriber may hear.
    Nothing,
    /// The subscriber may hear nothing at all any more.
    End,
}

/// Puts a leased notification together.
pub async fn prepare(store: &Store, house: &House, now: DateTime<Utc>, leased: &Leased) -> Result<Prepared> {
    let mut tx = store.read().await?;
    let Some(row) = subscription_of(&mut tx, leased).await? else { return Ok(Prepared::Nothing) };
    let Some(present) = present(&mut tx, house, &row, now).await? else { return Ok(Prepared::End) };
    let events = tx.events_of_delivery(&leased.id).await?;
    let kind = kind(&row, leased, events.is_empty());
    let told = may_be_told(&mut tx, house, &row, now, events).await?;
    if kind == Kind::EventNotification && told.is_empty() {
        return Ok(Prepared::Nothing);
    }
    let content = Content::from_code(&row.content).unwrap_or(Content::IdOnly);
    let mut events: Vec<notification::Event> = told.into_iter().map(event_of).collect();
    if content == Content::FullResource && house.full_resource {
        carry(&mut tx, &present, &mut events).await?;
    }
    drop(tx);
    let base = base(house);
    let said = SubscriptionRow { state: state_told(&row, kind).to_owned(), ..row.clone() };
    let bundle = notification::bundle(&leased.id, now, kind, &status_of(&base, &said), &events, content);
    let mut secrets = vec![row.secret];
    if !row.old_secret.is_empty() && row.old_until > now.into() {
        secrets.push(row.old_secret);
    }
    Ok(Prepared::Send(Box::new(Notification {
        id: leased.id.clone(),
        address: row.endpoint,
        secrets,
        headers: serde_json::from_str(&row.headers).unwrap_or_default(),
        payload: bundle.to_string().into_bytes(),
        timeout: u64::try_from(row.timeout).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs),
    })))
}

/// The subscription that a delivery is for, unless it hears no more.
async fn subscription_of(tx: &mut Tx, leased: &Leased) -> Result<Option<SubscriptionRow>> {
    let id = leased.practice.strip_prefix("Subscription/").unwrap_or_default();
    let row = tx.subscription(id).await?;
    Ok(row.filter(|row| row.state == "active" || row.state == "requested" && row.handshake == leased.id))
}

fn kind(row: &SubscriptionRow, leased: &Leased, without_events: bool) -> Kind {
    match without_events {
        true if row.handshake == leased.id => Kind::Handshake,
        true => Kind::Heartbeat,
        false => Kind::EventNotification,
    }
}

fn state_told(row: &SubscriptionRow, kind: Kind) -> &str {
    if kind == Kind::Handshake { "requested" } else { &row.state }
}

/// Puts the resources of events into them, as they are now.
async fn carry(tx: &mut Tx, present: &Present, events: &mut [notification::Event]) -> Result<()> {
    for event in events {
        let Some((kind, id)) = event.focus.split_once('/') else { continue };
        let stored = tx.resource(kind, id, &present.sight).await?.filter(|stored| !stored.deleted);
        event.resource = stored.map(|stored| stored.resource()).transpose()?.map(|resource| resource.into_value());
    }
    Ok(())
}

/// Writes down what an attempt came to, and what follows for the subscription. False when the lease was lost meanwhile.
pub async fn settle(
    store: &Store,
    house: &House,
    actor: &Actor,
    now: DateTime<Utc>,
    leased: &Leased,
    attempted: &Attempted<'_>,
) -> Result<bool> {
    let mut unit = Unit::begin(store, house, actor, now, &leased.id).await?;
    let id = leased.practice.strip_prefix("Subscription/").unwrap_or_default();
    // Before the delivery's line, as everyone does who counts an event.
    let row = unit.tx.hold_subscription(id).await?;
    let handshake = row.as_ref().is_some_and(|row| row.handshake == leased.id);
    let verdict = meant(attempted.verdict, handshake);
    let attempted = Attempted { verdict: &verdict, ..*attempted };
    let Some(after) = conclude(&mut unit, leased, &attempted).await? else { return Ok(false) };
    match row {
        Some(row) if handshake && row.state == "requested" => match &verdict {
            Verdict::Delivered { .. } => enter(&mut unit, &row, "active", "").await?,
            other => {
                let error = format!("The endpoint did not answer the handshake with 2xx ({}).", other.in_log().1);
                enter(&mut unit, &row, "error", &error).await?;
            }
        },
        Some(row) if row.state == "active" => match after {
            DeliveryState::Refused if verdict.is_gone() => {
                enter(&mut unit, &row, "off", "The endpoint answered 410: it wants no more.").await?;
            }
            DeliveryState::Refused | DeliveryState::NeedsPerson => give_up(&mut unit, &row, &verdict).await?,
            _ => {}
        },
        _ => {}
    }
    unit.commit().await?;
    Ok(true)
}

/// The endpoint was tried for as long as anything is. Nobody is left to think that there was nothing to hear.
async fn give_up(unit: &mut Unit<'_>, row: &SubscriptionRow, verdict: &Verdict) -> Result<()> {
    let error = format!(
        "Notifications could not be delivered ({}). $events says what happened since; send this Subscription again as \
         requested to go on.",
        verdict.in_log().1
    );
    enter(unit, row, "error", &error).await?;
    if !unit.tx.has_open_task_for_practice(&row.organization, "delivery-failed").await? {
        let nobody = PersonRow {
            id: String::new(),
            nhs_number: None,
            birth_date: String::new(),
            family: String::new(),
            practice: String::new(),
            locality: String::new(),
        };
        tasks::for_co_ordinator(unit, "delivery-failed", &nobody, &row.organization, "").await?;
    }
    Ok(())
}

/// Ends a subscription whose client may hear nothing any more, with all that was still to be sent.
pub async fn end(store: &Store, house: &House, now: DateTime<Utc>, leased: &Leased) -> Result<()> {
    let actor = Actor::service(&house.organization());
    let mut unit = Unit::begin(store, house, &actor, now, &leased.id).await?;
    let id = leased.practice.strip_prefix("Subscription/").unwrap_or_default();
    if let Some(row) = unit.tx.hold_subscription(id).await?.filter(|row| row.state != "off") {
        enter(&mut unit, &row, "off", "The client that made this Subscription may not hear of anything any more.")
            .await?;
    }
    unit.commit().await?;
    Ok(())
}

/// What a verdict means for a subscriber. A handshake is one attempt. Whatever else an endpoint says than 410, it may say
/// otherwise tomorrow: a deployment that went wrong answers 404.
fn meant(verdict: &Verdict, handshake: bool) -> Verdict {
    match verdict {
        Verdict::Retry { why, .. } | Verdict::Unknown { why } if handshake => {
            Verdict::Refused { why: *why, outcome: None }
        }
        Verdict::Refused { why: why @ Why::Status(status), .. } if !handshake && *status != 410 => {
            Verdict::Retry { after: None, why: *why }
        }
        Verdict::Unknown { why } => Verdict::Retry { after: None, why: *why },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_one_attempt_and_a_notification_is_tried_until_the_endpoint_is_gone() {
        let delivered = Verdict::Delivered { receipts: Vec::new() };
        let retry = |status| Verdict::Retry { after: None, why: Why::Status(status) };
        let refused = |status| Verdict::Refused { why: Why::Status(status), outcome: None };
        for (verdict, handshake, expected) in [
            (delivered.clone(), true, delivered.clone()),
            (retry(503), true, refused(503)),
            (refused(404), true, refused(404)),
            (Verdict::Unknown { why: Why::Timeout }, true, Verdict::Refused { why: Why::Timeout, outcome: None }),
            (delivered.clone(), false, delivered),
            (retry(503), false, retry(503)),
            (refused(404), false, retry(404)),
            (refused(410), false, refused(410)),
            (
                Verdict::Refused { why: Why::AddressRefused, outcome: None },
                false,
                Verdict::Refused { why: Why::AddressRefused, outcome: None },
            ),
        ] {
            assert_eq!(meant(&verdict, handshake), expected, "{verdict:?} {handshake}");
        }
    }
}
