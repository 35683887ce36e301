//! `livewell delivery`: what leaves for practices and subscribers, looked after from the terminal.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::run::{Failed, configured, open_existing};
use super::{Bulk, DeliveryCommand, Settings, Which};
use crate::app;
use crate::fhir::when::instant;
use crate::pathway::delivery::{DeliveryState, Reason};
use crate::store::{At, AttemptRow, DeliveryFilter, DeliveryRow, DestinationRow, Store, StoreError};
use crate::time::Clock;
use crate::workflow::{self, Actor, Error, House, Wish, retrying};

/// Lists, shows, replays and cancels.
pub(super) async fn delivery(command: DeliveryCommand) -> Result<(), Failed> {
    match command {
        DeliveryCommand::List { which, limit, json, settings } => list(&which, limit, json, &settings).await,
        DeliveryCommand::Show { id, json, settings } => show(&id, json, &settings).await,
        DeliveryCommand::Replay(bulk) => act(&bulk, Wish::Replay).await,
        DeliveryCommand::Cancel { reason, bulk } => act(&bulk, Wish::Cancel { reason: &reason }).await,
    }
}

async fn open(settings: &Settings) -> Result<(Store, House), Failed> {
    let config = configured(settings)?;
    let store = open_existing(&config).await?;
    let house = app::house(&config, config.http.origin(config.http.listen)).map_err(|e| e.to_string())?;
    house.learn_organization(&store).await.map_err(|e| e.to_string())?;
    Ok((store, house))
}

fn filter(which: &Which, now: DateTime<Utc>) -> DeliveryFilter {
    DeliveryFilter {
        practice: which.practice.clone(),
        states: which.state.clone(),
        before: which.older_than.map(|span| At::from(now - span)),
    }
}

async fn list(which: &Which, limit: u32, as_json: bool, settings: &Settings) -> Result<(), Failed> {
    let (store, _) = open(settings).await?;
    let now = Clock::System.now();
    let wanted = filter(which, now);
    let found = async {
        let mut tx = store.read().await?;
        let total: i64 = tx.delivery_depths(&wanted).await?.iter().map(|depth| depth.count).sum();
        Ok::<_, StoreError>((tx.find_deliveries(&wanted, limit.into()).await?, tx.destinations().await?, total))
    };
    let (rows, destinations, total) = found.await.map_err(|e| e.to_string())?;
    let destinations: BTreeMap<_, _> = destinations.into_iter().map(|d| (d.practice.clone(), d)).collect();
    if rows.is_empty() && !as_json {
        say!("No such deliveries.");
    }
    for row in &rows {
        let waits = waits_for(row, destinations.get(&row.practice), now);
        if as_json {
            say!("{}", as_value(row, &waits));
        } else {
            say!(
                "{}  {:<12} {:<13} {:>8}  {} attempts  {}",
                row.id,
                shown(&row.practice),
                row.state,
                age(now - row.created_at.time()),
                row.attempts,
                waits
            );
        }
    }
    if i64::try_from(rows.len()).is_ok_and(|shown| shown < total) {
        eprintln!("{} of {total} are shown; --limit shows more.", rows.len());
    }
    Ok(())
}

async fn show(id: &str, as_json: bool, settings: &Settings) -> Result<(), Failed> {
    let (store, _) = open(settings).await?;
    let now = Clock::System.now();
    let found = async {
        let mut tx = store.read().await?;
        let Some(row) = tx.delivery(id).await? else { return Ok(None) };
        let destination = tx.destination(&row.practice).await?;
        Ok::<_, StoreError>(Some((tx.attempts(id).await?, destination, row)))
    };
    let found = found.await.map_err(|e| e.to_string())?;
    let (attempts, destination, row) = found.ok_or_else(|| no_such(id))?;
    let waits = waits_for(&row, destination.as_ref(), now);
    if as_json {
        let mut value = as_value(&row, &waits);
        value["attempt"] = attempts.iter().map(attempt_value).collect();
        say!("{value:#}");
        return Ok(());
    }
    say!("{:<10} {}", "delivery", row.id);
    say!("{:<10} {} for {}", "goes to", shown(&row.practice), row.purpose);
    say!("{:<10} {}{}", "state", row.state, if waits.is_empty() { String::new() } else { format!(": {waits}") });
    say!("{:<10} {} ({} ago)", "queued", time(row.created_at), age(now - row.created_at.time()));
    if row.due_at != At::NEVER && row.settled_at.is_none() {
        say!("{:<10} {}", "next", time(row.due_at));
    }
    if let Some(settled) = row.settled_at {
        say!("{:<10} {}", "settled", time(settled));
    }
    say!("{:<10} ServiceRequest/{}", "referral", row.referral);
    for item in row.items().map_err(|e| e.to_string())? {
        say!("{:<10} {}/{}/_history/{}", "carries", item.kind, item.id, item.version);
    }
    for a in &attempts {
        let took = a.duration_ms;
        say!("attempt {:>2} {}  {:>6} ms  {} {}", a.number, time(a.at), took, a.verdict, a.why);
        if !a.answer.is_empty() {
            say!("           {}", a.answer);
        }
    }
    if let Some(reason) = Reason::from_code(&row.why) {
        say!("\n{reason}");
    }
    Ok(())
}

async fn act(bulk: &Bulk, wish: Wish<'_>) -> Result<(), Failed> {
    let (store, house) = open(&bulk.settings).await?;
    let ids = if bulk.ids.is_empty() { chosen(&store, bulk, wish).await? } else { bulk.ids.clone() };
    let many = ids.len();
    let (verb, done) = match wish {
        Wish::Replay => ("Replay", "replayed"),
        Wish::Cancel { .. } => ("Cancel", "cancelled"),
    };
    if bulk.dry_run {
        say!("{many} would be {done}; nothing was changed.");
        return Ok(());
    }
    if many == 0 {
        say!("No such deliveries.");
        return Ok(());
    }
    if bulk.ids.is_empty() && !bulk.yes && !agreed(&format!("{verb} {many} deliveries?"))? {
        return Err("nothing was changed.".to_owned());
    }
    let actor = at_the_terminal(&house);
    let bar = progress(many);
    let mut refused = Vec::new();
    for id in &ids {
        let act = || workflow::look_after(&store, &house, &actor, Clock::System.now(), id, wish);
        if let Err(error) = retrying(act).await {
            refused.push(format!("{id}: {}", said(&error, id)));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    say!("{} {done}", many - refused.len());
    if refused.is_empty() { Ok(()) } else { Err(refused.join("\n")) }
}

/// What the filters choose, told by practice and state.
async fn chosen(store: &Store, bulk: &Bulk, wish: Wish<'_>) -> Result<Vec<String>, Failed> {
    let mut wanted = filter(&bulk.which, Clock::System.now());
    if wanted.states.is_empty() {
        let parked = [DeliveryState::NeedsPerson, DeliveryState::Refused];
        let states = wish.possible_in().filter(|state| !matches!(wish, Wish::Replay) || parked.contains(state));
        wanted.states = states.map(|state| state.code().to_owned()).collect();
    }
    let found = async {
        let mut tx = store.read().await?;
        Ok::<_, StoreError>((tx.delivery_depths(&wanted).await?, tx.find_deliveries(&wanted, i64::MAX).await?))
    };
    let (depths, rows) = found.await.map_err(|e| e.to_string())?;
    let mut counts: BTreeMap<(String, String), i64> = BTreeMap::new();
    for depth in depths {
        *counts.entry((depth.practice, depth.state)).or_default() += depth.count;
    }
    for ((practice, state), count) in counts {
        say!("{:<12} {:<13} {count}", shown(&practice), state);
    }
    Ok(rows.into_iter().map(|row| row.id).collect())
}

fn agreed(question: &str) -> Result<bool, Failed> {
    if !std::io::stdin().is_terminal() {
        return Err(format!("{question} Nobody is there to be asked: say --yes, or --dry-run to look first."));
    }
    print!("{question} [y/N] ");
    std::io::stdout().flush().map_err(|e| e.to_string())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|e| e.to_string())?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The service, in the hands of whoever is logged in: the audit says so.
fn at_the_terminal(house: &House) -> Actor {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let user: String = user.unwrap_or_default().chars().filter(|c| !c.is_control()).take(64).collect();
    Actor { client: format!("terminal:{user}"), ..Actor::service(&house.organization()) }
}

fn progress(many: usize) -> ProgressBar {
    let bar = if many > 1 { ProgressBar::new(many as u64) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn said(error: &Error, id: &str) -> String {
    match error {
        Error::NotFound => no_such(id),
        Error::Conflict(issue) => issue.text.clone(),
        other => other.to_string(),
    }
}

fn no_such(id: &str) -> String {
    format!("there is no delivery {id}; livewell delivery list shows what there is.")
}

/// What an open delivery waits for, or why it ended so; '' where its state says all.
fn waits_for(row: &DeliveryRow, destination: Option<&DestinationRow>, now: DateTime<Utc>) -> String {
    if row.settled_at.is_some() || !row.why.is_empty() && row.due_at == At::NEVER {
        return row.why.clone();
    }
    if row.lease_until.time() > now {
        return "being sent now".to_owned();
    }
    if row.behind {
        return "waits behind another for the same person".to_owned();
    }
    match destination {
        Some(d) if d.opened_at != At(0) => {
            format!("{}; the practice has failed since {}", row.why, time(d.opened_at))
        }
        Some(d) if d.paused_until.time() > now => {
            format!("{}; the practice asked to be left alone until {}", row.why, time(d.paused_until))
        }
        _ => row.why.clone(),
    }
}

fn as_value(row: &DeliveryRow, waits: &str) -> Value {
    let at = |at: At| if at == At::NEVER { Value::Null } else { json!(instant(at.time())) };
    json!({
        "id": row.id, "practice": row.practice, "purpose": row.purpose, "channel": row.channel,
        "referral": row.referral, "state": row.state, "why": row.why, "waits": waits, "attempts": row.attempts,
        "queued": at(row.created_at), "due": row.settled_at.map_or_else(|| at(row.due_at), |_| Value::Null),
        "settled": row.settled_at.map(at),
    })
}

fn attempt_value(a: &AttemptRow) -> Value {
    json!({
        "number": a.number, "at": instant(a.at.time()), "duration_ms": a.duration_ms, "verdict": a.verdict,
        "why": a.why, "answer": a.answer,
    })
}

fn shown(practice: &str) -> &str {
    if practice.is_empty() { "-" } else { practice }
}

fn time(at: At) -> String {
    at.time().format("%Y-%m-%d %H:%M:%S").to_string()
}

fn age(span: chrono::TimeDelta) -> String {
    match span.num_seconds().max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
