//! What happened is noticed in the transaction in which it happens: an event and its delivery are there with the change,
//! or none of the three is.

use crate::fhir::Resource;
use crate::fhir::search::Filter;
use crate::pathway::topic::Change;
use crate::store::{At, EventRow, StoreError, SubscriptionRow};

use super::super::unit::Touched;
use super::super::{House, Result, Unit};
use super::present::present;
use super::queue;

/// A resource this unit changes, as topics and filters look at it.
struct Noticed<'a> {
    before: Option<Resource>,
    touched: &'a Touched,
}

impl Noticed<'_> {
    fn change(&self) -> Change<'_> {
        Change {
            before: self.before.as_ref(),
            now: &self.touched.resource,
            deleted: false,
            person: &self.touched.belongs.person,
        }
    }

    fn key(&self) -> (&str, &str) {
        (self.touched.resource.kind(), self.touched.resource.id().unwrap_or_default())
    }
}

/// Counts the events of what this unit changed for everyone who subscribed and may see it, and queues what tells them.
/// To be called once its rows are written. Costs one read where nobody subscribed.
pub(in super::super) async fn notice(unit: &mut Unit<'_>, touched: &[Touched]) -> Result<()> {
    let subscribes = touched.iter().any(|touched| touched.resource.kind() == "Subscription");
    if touched.is_empty() {
        return Ok(());
    }
    if unit.ahead.unheard && !subscribes {
        unit.tx.expect_no_listener();
        return Ok(());
    }
    let listening = unit.tx.listening_subscriptions().await?;
    if listening.is_empty() {
        return Ok(());
    }
    let noticed = touched.iter().map(|touched| {
        let before = touched.before.as_ref().map(|stored| stored.resource()).transpose()?;
        Ok::<_, StoreError>(Noticed { before, touched })
    });
    let noticed = noticed.collect::<std::result::Result<Vec<_>, _>>()?;
    let now = At::from(unit.now);
    for row in listening.iter().filter(|row| row.ends_at > now) {
        let hears = Hears::of(unit.house, row, now);
        let wanted: Vec<&Noticed<'_>> = noticed.iter().filter(|n| hears.of_change(&n.change())).collect();
        if !wanted.is_empty() {
            tell(unit, row, &wanted).await?;
        }
    }
    Ok(())
}

async fn tell(unit: &mut Unit<'_>, row: &SubscriptionRow, wanted: &[&Noticed<'_>]) -> Result<()> {
    let Some(present) = present(&mut unit.tx, unit.house, row, unit.now).await? else { return Ok(()) };
    let keys: Vec<(&str, &str)> = wanted.iter().map(|n| n.key()).filter(|(kind, _)| present.may_read(kind)).collect();
    let seen = unit.tx.visible(&keys, &present.sight).await?;
    let visible = |n: &&&Noticed<'_>| {
        let (kind, id) = n.key();
        seen.contains(&(kind.to_owned(), id.to_owned()))
    };
    let told: Vec<&&Noticed<'_>> = wanted.iter().filter(visible).collect();
    if told.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(told.len()).unwrap_or(i64::MAX);
    // Deleted meanwhile, it hears nothing.
    let Some(last) = unit.tx.count_events(&row.id, count, unit.now.into()).await? else { return Ok(()) };
    let topic = unit.house.topics.iter().find(|topic| topic.url == row.topic);
    let mut room = 0;
    let mut delivery = String::new();
    if row.state == "active"
        && row.max_count > 1
        && let Some((open, carries)) = unit.tx.open_notification(&row.id).await?
        && carries > 0
    {
        (delivery, room) = (open, row.max_count - carries);
    }
    let mut events = Vec::with_capacity(told.len());
    for (number, noticed) in (last - count + 1..).zip(told) {
        if row.state == "active" && room <= 0 {
            (delivery, room) = (queue(unit, &row.id).await?, row.max_count);
        }
        room -= 1;
        let change = noticed.change();
        events.push(EventRow {
            subscription: row.id.clone(),
            number,
            at: unit.now.into(),
            focus: change.now.reference(),
            version: noticed.touched.version,
            interaction: change.interaction().to_owned(),
            context: topic.map(|topic| topic.context(change.now)).unwrap_or_default().join(" "),
            delivery: delivery.clone(),
        });
    }
    Ok(unit.tx.insert_events(&events).await?)
}

/// What a subscription hears of, as it is kept.
struct Hears<'a> {
    house: &'a House,
    topic: &'a str,
    filters: Vec<Filter>,
}

impl<'a> Hears<'a> {
    fn of(house: &'a House, row: &'a SubscriptionRow, now: At) -> Hears<'a> {
        let filters: Vec<String> = serde_json::from_str(&row.filters).unwrap_or_default();
        // They were read when they came; one that this release does not understand must not widen what is told.
        let base = house.fhir_base();
        let read = filters.iter().map(|text| Filter::parse(text, &base, now.0));
        let read = read.collect::<std::result::Result<Vec<_>, _>>();
        Hears { house, topic: if read.is_ok() { &row.topic } else { "unreadable" }, filters: read.unwrap_or_default() }
    }

    fn of_change(&self, change: &Change<'_>) -> bool {
        let about: Vec<&Filter> = self.filters.iter().filter(|f| f.kind() == change.now.kind()).collect();
        let passes = about.iter().all(|filter| filter.matches(change.now, change.person));
        match self.topic {
            "" => !about.is_empty() && passes && !change.deleted,
            url => {
                let topic = self.house.topics.iter().find(|topic| topic.url == url);
                // A type that no filter names is filtered out where filters name others: who asks for one person's Tasks
                // does not ask for everyone's referrals.
                let named = self.filters.is_empty() || !about.is_empty();
                named && passes && topic.is_some_and(|topic| topic.tells_of(change))
            }
        }
    }
}
