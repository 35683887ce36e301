//! `livewell key`: the keys the service signs with.

use super::KeyCommand;
use super::run::{Failed, configured, is_there};
use crate::app;
use crate::config::Config;
use crate::fhir::when::instant;
use crate::outbound::Standing;
use crate::store::Store;
use crate::time::Clock;
use crate::worker;

/// Lists the keys, or makes the next one.
pub(super) async fn key(command: KeyCommand) -> Result<(), Failed> {
    let (KeyCommand::List { settings } | KeyCommand::Rotate { settings, .. }) = &command;
    let config = configured(settings)?;
    if matches!(command, KeyCommand::List { .. }) && !is_there(&config) {
        none_yet();
        return Ok(());
    }
    let store = app::open_store(&config).await.map_err(|e| e.to_string())?;
    let done = match command {
        KeyCommand::List { .. } => list(&config, &store).await,
        KeyCommand::Rotate { at_once, .. } => rotate(&config, &store, at_once).await,
    };
    store.close().await;
    done
}

async fn list(config: &Config, store: &Store) -> Result<(), Failed> {
    let now = Clock::System.now();
    let kept = worker::keys_kept(&config.auth, store).await.map_err(|e| e.to_string())?;
    let Some(ring) = kept else {
        none_yet();
        return Ok(());
    };
    for (key, standing) in ring.standings(now) {
        let said = match standing {
            Standing::Signs => "signs".to_owned(),
            Standing::Published { signs_from: Some(at) } => format!("published, signs from {}", instant(at)),
            Standing::Published { signs_from: None } => "published, does not sign".to_owned(),
            Standing::Replaced { until } => format!("replaced, published until {}", instant(until)),
            Standing::Over => "over, forgotten by the next service that runs".to_owned(),
        };
        say!("{} {said}", key.kid());
    }
    Ok(())
}

fn none_yet() {
    say!("No key yet: the first is made when the service starts, or by livewell key rotate.");
}

async fn rotate(config: &Config, store: &Store, at_once: bool) -> Result<(), Failed> {
    if let Some(path) = &config.auth.signing_key {
        return Err(format!(
            "the signing key is in the file {}, which auth.signing_key names. To replace it, name the next one in \
             auth.next_signing_key and restart every instance; an hour later name that in auth.signing_key and the old \
             one in auth.previous_signing_key, and restart again; a day later take auth.previous_signing_key away.",
            path.display()
        ));
    }
    let (key, signs) = worker::rotate_keys(store, Clock::System.now(), at_once).await.map_err(|e| e.to_string())?;
    match at_once {
        true => say!("{} signs from now on; all others are withdrawn", key.kid()),
        false => say!("{} is published from now on, and signs from {}", key.kid(), instant(signs)),
    }
    Ok(())
}
