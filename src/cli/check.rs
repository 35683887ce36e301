//! `livewell check`: says what is wrong, a sentence each, and changes nothing of what is kept.

use std::process::ExitCode;

use super::Settings;
use crate::app;
use crate::config::Config;
use crate::fhir::Resource;
use crate::store::{DatabaseSettings, Store};

/// Checks configuration, profiles, database and directory.
pub(super) async fn check(settings: &Settings) -> ExitCode {
    let config = match super::run::read(settings) {
        Ok(config) => config,
        Err(why) => {
            eprintln!("wrong: {why}");
            return ExitCode::FAILURE;
        }
    };
    let mut report = Report::default();
    config.validate().into_iter().for_each(|wrong| report.wrong(wrong));
    match app::house(&config, String::new()) {
        Ok(house) => {
            report.good(format!("pathway {} is readable", house.plan.canonical()));
            for code in house.codes.unverified() {
                report.warn(format!(
                    "code {} ({} {}) is not verified: {}",
                    code.name, code.system, code.code, code.source
                ));
            }
        }
        Err(why) => report.wrong(why.to_string()),
    }
    database(&config, &mut report).await;
    println!("{} wrong, {} to look at", report.wrong, report.warnings);
    if report.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Report {
    wrong: usize,
    warnings: usize,
}

impl Report {
    fn good(&mut self, text: impl std::fmt::Display) {
        println!("good:  {text}");
    }

    fn warn(&mut self, text: impl std::fmt::Display) {
        self.warnings += 1;
        println!("look:  {text}");
    }

    fn wrong(&mut self, text: impl std::fmt::Display) {
        self.wrong += 1;
        println!("wrong: {text}");
    }
}

async fn database(config: &Config, report: &mut Report) {
    let url = &config.database.url;
    if let Some(file) = url.0.strip_prefix("sqlite:").map(|f| f.trim_start_matches("//"))
        && !std::path::Path::new(file.split('?').next().unwrap_or(file)).exists()
    {
        return report.warn(format!("the database {url} is not there yet; serve or migrate makes it"));
    }
    let store = match Store::open(&DatabaseSettings { url: url.0.clone(), ..Default::default() }).await {
        Ok(store) => store,
        Err(why) => return report.wrong(format!("the database {url} cannot be opened: {why}")),
    };
    match store.check_settings().await {
        Ok(()) => report.good(format!("the database {url} is durable")),
        Err(why) => report.wrong(why.to_string()),
    }
    if let Err(why) = directory(&store, config, report).await {
        report.wrong(format!("the directory cannot be read: {why}. Run livewell migrate."));
    }
}

/// Looks for what would make work wait: no organisation of our own, practices without a way to them.
async fn directory(store: &Store, config: &Config, report: &mut Report) -> Result<(), crate::workflow::Error> {
    let Ok(house) = app::house(config, String::new()) else { return Ok(()) };
    house.learn_organization(store).await?;
    match house.organization().as_str() {
        "" => report.warn(
            "no Live Well organisation: set service.organization, or load Locations whose managingOrganization is it",
        ),
        ods => report.good(format!("the Live Well organisation is {ods}")),
    }
    let mut tx = store.read().await?;
    let practices = tx.directory("OrganizationAffiliation").await?;
    let names = practices.iter().filter_map(|a| a.text("participatingOrganization.reference"));
    let mut unreachable = Vec::new();
    let mut affiliated = 0;
    for id in names.filter_map(|r| r.strip_prefix("Organization/")) {
        affiliated += 1;
        let organization: Option<Resource> = tx.directory_resource("Organization", id).await?;
        if organization.is_none_or(|o| o.value().get("endpoint").is_none()) {
            unreachable.push(id.to_owned());
        }
    }
    report.good(format!("{affiliated} practices are affiliated"));
    if !unreachable.is_empty() {
        report.warn(format!(
            "{} practices have no Endpoint, so their write-back is held: {}",
            unreachable.len(),
            unreachable.join(", ")
        ));
    }
    Ok(())
}
