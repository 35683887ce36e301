//! `livewell load`: the directory from files, with progress.

use indicatif::{ProgressBar, ProgressStyle};

use super::LoadArgs;
use super::run::{Failed, configured};
use crate::app;
use crate::time::Clock;
use crate::workflow::{self, Actor, Error, Loaded};

/// Loads the files.
pub(super) async fn load(args: &LoadArgs) -> Result<(), Failed> {
    let config = configured(&args.settings)?;
    let limits = crate::fhir::codec::Limits {
        bytes: usize::MAX,
        values: usize::MAX,
        entries: usize::MAX,
        ..app::limits(&config)
    };
    let store = app::open_store(&config).await.map_err(|e| e.to_string())?;
    let house = app::house(&config, config.http.origin(config.http.listen)).map_err(|e| e.to_string())?;
    house.learn_organization(&store).await.map_err(|e| e.to_string())?;
    let mut total = Loaded::default();
    for file in &args.files {
        let name = file.display();
        let text = std::fs::read_to_string(file).map_err(|e| format!("{name} cannot be read: {e}."))?;
        let resources = app::directory_resources(&text, &limits).map_err(|e| format!("{name}: {e}"))?;
        let bar = ProgressBar::new(resources.len() as u64)
            .with_style(
                ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            )
            .with_message(name.to_string());
        let actor = Actor::service(&house.organization());
        let now = Clock::System.now();
        let loaded =
            workflow::load(&store, &house, &actor, now, resources, &mut |done| bar.set_position(done as u64)).await;
        bar.finish_and_clear();
        let loaded = loaded.map_err(|e| format!("{name}: {}", said(&e)))?;
        say!("{name}: {} new, {} changed, {} unchanged", loaded.created, loaded.changed, loaded.unchanged);
        total.created += loaded.created;
        total.changed += loaded.changed;
        total.unchanged += loaded.unchanged;
    }
    store.close().await;
    if args.files.len() > 1 {
        say!("in all: {} new, {} changed, {} unchanged", total.created, total.changed, total.unchanged);
    }
    Ok(())
}

fn said(error: &Error) -> String {
    match error {
        Error::Invalid(invalid) => {
            let issue = &invalid.issues[0];
            format!("{}: {}", issue.expression.as_deref().unwrap_or_default(), issue.text)
        }
        Error::Conflict(issue) => issue.text.clone(),
        other => other.to_string(),
    }
}
