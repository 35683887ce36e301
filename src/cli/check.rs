//! `livewell check`: says what is wrong, a sentence each, and changes nothing of what is kept.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Settings;
use crate::app;
use crate::config::Config;
use crate::outbound::{KeyRing, Mesh, Outbound, OutboundSettings, ServiceKey};
use crate::store::{DatabaseSettings, Store};
use crate::time::Clock;
use crate::worker;
use crate::workflow::{self, Route, Served};

/// Practices asked at once for their SMART configuration.
const ASKED_AT_ONCE: usize = 16;
/// Practices named in one sentence.
const NAMED: usize = 10;

/// Checks configuration, keys, profiles, database and directory.
pub(super) async fn check(settings: &Settings) -> ExitCode {
    let mut report = Report::default();
    match super::run::read(settings) {
        Err(why) => report.wrong(why),
        Ok(config) => {
            config.validate().into_iter().for_each(|wrong| report.wrong(wrong));
            profiles(&config, &mut report);
            signing_key(&config, &mut report);
            if config.validate().is_empty() {
                mesh(&config, &mut report).await;
            }
            // Opening what the settings do not mean could make a file.
            if config.validate().is_empty() {
                database(&config, &mut report).await;
            }
        }
    }
    say!("{} wrong, {} to look at", report.wrong, report.warnings);
    if report.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Report {
    wrong: usize,
    warnings: usize,
}

impl Report {
    fn good(&mut self, text: impl std::fmt::Display) {
        say!("good:  {text}");
    }

    fn warn(&mut self, text: impl std::fmt::Display) {
        self.warnings += 1;
        say!("look:  {text}");
    }

    fn wrong(&mut self, text: impl std::fmt::Display) {
        self.wrong += 1;
        say!("wrong: {text}");
    }
}

fn profiles(config: &Config, report: &mut Report) {
    if let Err(why) = app::profile_checks(config) {
        return report.wrong(why);
    }
    let house = match app::house(config, String::new()) {
        Ok(house) => house,
        Err(why) => return report.wrong(why),
    };
    report.good(format!("pathway {} is readable", house.plan.canonical()));
    let unverified: Vec<&str> = house.codes.unverified().map(|code| code.name.as_str()).collect();
    if !unverified.is_empty() {
        report.warn(format!(
            "{} codes are not verified against a national source: {}. fhir-profiles/codes.json says what is known of \
             each; a codes.json in profiles.dir replaces it",
            unverified.len(),
            unverified.join(", ")
        ));
    }
}

fn signing_key(config: &Config, report: &mut Report) {
    let auth = &config.auth;
    for (setting, path, what) in [
        ("signing_key", &auth.signing_key, "the service signs with key"),
        ("next_signing_key", &auth.next_signing_key, "published as the next is key"),
        ("previous_signing_key", &auth.previous_signing_key, "published as the previous is key"),
    ] {
        match path.as_deref().map(worker::in_file) {
            None => {}
            Some(Err(why)) => report.wrong(format!("auth.{setting}: {why}")),
            Some(Ok(key)) => report.good(format!("{what} {}", key.kid())),
        }
    }
}

async fn database(config: &Config, report: &mut Report) {
    let url = &config.database.url;
    if let Some(file) = super::run::database_file(config) {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return report.wrong(format!("the folder {} of the database is not there: make it", folder.display()));
        }
        if !file.exists() {
            return report.warn(format!("the database {url} is not there yet: serve or migrate makes it"));
        }
    }
    let store = match Store::open(&DatabaseSettings { url: url.0.clone(), ..Default::default() }).await {
        Ok(store) => store,
        Err(why) => return report.wrong(format!("the database {url} cannot be opened: {}", why.explained())),
    };
    match store.check_settings().await {
        Ok(()) => report.good(format!("the database {url} is durable")),
        Err(why) => return report.wrong(format!("the database {url}: {}", why.explained())),
    }
    match store.is_migrated().await {
        Err(why) => return report.wrong(format!("the database {url}: {}", why.explained())),
        Ok(false) => {
            return report
                .warn(format!("the database {url} is not of this release yet: serve or migrate brings it there"));
        }
        Ok(true) => {}
    }
    if config.auth.signing_key.is_none()
        && let Err(why) = worker::keys_kept(&config.auth, &store).await
    {
        report.wrong(format!("the signing keys in the database: {why}"));
    }
    if let Err(why) = directory(&store, config, report).await {
        report.wrong(format!("the directory cannot be read: {why}"));
    }
}

/// Looks for what would make work wait: no organisation of our own, practices without a way to them.
async fn directory(store: &Store, config: &Config, report: &mut Report) -> Result<(), workflow::Error> {
    let Ok(house) = app::house(config, String::new()) else { return Ok(()) };
    house.learn_organization(store).await?;
    our_organization(store, &house.organization(), report).await?;
    let practices = workflow::practices(store, &house, Clock::System.now()).await?;
    report.good(format!("{} practices are affiliated", practices.len()));
    let (reached, unreached): (Vec<_>, Vec<_>) = practices.into_iter().partition(|p| p.route.is_some());
    let without: Vec<String> = unreached.into_iter().map(name).collect();
    told(report, &without, "have no active Endpoint (FHIR or MESH), so that their write-back waits; load one for each");
    let (by_mesh, by_fhir): (Vec<_>, Vec<_>) =
        reached.into_iter().partition(|p| matches!(p.route, Some(Route::Mesh { .. })));
    if config.mesh.url.is_none() {
        let by_mesh: Vec<String> = by_mesh.into_iter().map(name).collect();
        told(
            report,
            &by_mesh,
            "are reached by MESH, but this service has no mailbox there: set mesh.url and the rest of [mesh]",
        );
    }
    ask(config, by_fhir, report).await;
    Ok(())
}

/// Whether the Live Well organisation is known, and is one that the directory has: of another there is no staff.
async fn our_organization(store: &Store, ods: &str, report: &mut Report) -> Result<(), workflow::Error> {
    if ods.is_empty() {
        report.warn(
            "no Live Well organisation: set service.organization, or load Locations whose managingOrganization is it",
        );
        return Ok(());
    }
    let mut tx = store.read().await?;
    if tx.directory_organization(ods).await?.is_some() {
        report.good(format!("the Live Well organisation is {ods}"));
    } else if tx.directory("Organization").await?.is_empty() {
        report.warn(format!(
            "the Live Well organisation is {ods}; its directory is not loaded yet: livewell load does it"
        ));
    } else {
        report.wrong(format!(
            "service.organization is {ods}, and no Organization in the directory has this ODS code: correct the setting, \
             or load the organisation"
        ));
    }
    Ok(())
}

/// Says to MESH that the mailbox is there, which tells whether we are let in.
async fn mesh(config: &Config, report: &mut Report) {
    let settings = outbound_settings(config);
    match Mesh::open(&config.mesh, &settings) {
        Err(why) => report.wrong(why),
        Ok(None) => {}
        Ok(Some(mesh)) => match mesh.handshake(Clock::System.now()).await {
            Ok(()) => report.good(format!("MESH lets mailbox {} in", mesh.mailbox())),
            Err(why) => report.wrong(format!("MESH, mailbox {}: {why}", mesh.mailbox())),
        },
    }
}

fn outbound_settings(config: &Config) -> OutboundSettings {
    OutboundSettings {
        allow_private_addresses: config.delivery.allow_private_addresses,
        request_timeout: std::time::Duration::from_secs(5),
        ..OutboundSettings::default()
    }
}

/// Asks each practice's FHIR address whether it publishes a SMART configuration.
async fn ask(config: &Config, practices: Vec<Served>, report: &mut Report) {
    let settings = outbound_settings(config);
    // Only public documents are read: nothing is signed, so any key will do.
    let key = ServiceKey::generate_pem().and_then(|pem| ServiceKey::from_pem(&pem));
    let outbound = match key {
        Err(why) => return report.wrong(why),
        Ok(key) => match Outbound::new(settings, Arc::new(KeyRing::one(key))) {
            Err(why) => return report.wrong(why),
            Ok(outbound) => Arc::new(outbound),
        },
    };
    let (mut open, mut silent) = (Vec::new(), Vec::new());
    let mut practices = practices.into_iter();
    let mut asked = JoinSet::new();
    loop {
        while asked.len() < ASKED_AT_ONCE
            && let Some(practice) = practices.next()
        {
            let outbound = Arc::clone(&outbound);
            let now = Clock::System.now();
            asked.spawn(async move {
                let answer = outbound.publishes_smart(practice.route.as_ref().map_or("", Route::address), now).await;
                (practice, answer)
            });
        }
        match asked.join_next().await {
            None => break,
            Some(Ok((_, Ok(true)))) | Some(Err(_)) => {}
            Some(Ok((practice, Ok(false)))) => open.push(name(practice)),
            Some(Ok((practice, Err(why)))) => silent.push(format!("{} ({})", name(practice), why.code())),
        }
    }
    told(
        report,
        &open,
        "name no token endpoint in .well-known/smart-configuration, so that they are called without a token",
    );
    told(report, &silent, "cannot be called; check the address in their Endpoint");
}

/// One sentence for all practices of which the same is to be said.
fn told(report: &mut Report, practices: &[String], what: &str) {
    if practices.is_empty() {
        return;
    }
    let mut named = practices.to_vec();
    named.sort_unstable();
    named.dedup();
    let more = named.len().saturating_sub(NAMED);
    named.truncate(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    report.warn(format!("practices that {what}: {}{rest}", named.join(", ")));
}

fn name(practice: Served) -> String {
    match practice.ods.as_str() {
        "" => format!("Organization/{} (no ODS code)", practice.organization),
        _ => practice.ods,
    }
}
