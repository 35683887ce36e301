//! The keys the service signs with, as they are kept: in files that the configuration names, else in the database, where
//! they are rotated for all instances at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::outbound::{HeldKey, KeyError, KeyRing, PUBLISHED_BEFORE, ServiceKey, Standing};
use crate::store::{ServiceKeyRow, Store, StoreError};
use crate::time::Clock;

/// How often an instance looks what was rotated.
const LOOK: Duration = Duration::from_secs(5);

/// Why there is no key to sign with, or no new one. The texts hold nothing of a key.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("{}: {why}.", path.display())]
    Unreadable { path: PathBuf, why: std::io::Error },
    #[error("{}: {why}", path.display())]
    NotInFile { path: PathBuf, why: KeyError },
    #[error("{0}")]
    Key(#[from] KeyError),
    #[error("{}", .0.explained())]
    Store(#[from] StoreError),
    #[error("none in the database can be used. Make one with `livewell key rotate --at-once`.")]
    None,
    #[error(
        "There is a next key already: it is published, and signs from {}. Rotate again after that, or with --at-once.",
        crate::fhir::when::instant(*.0)
    )]
    Waits(DateTime<Utc>),
    #[error("Somebody else rotated the keys at this moment: `livewell key list` shows them.")]
    Meanwhile,
}

/// The keys of the service, and the PEM of the one that is current or will be. Where the configuration names no files and
/// the database has none, the first is made.
///
/// # Errors
/// A file, or every key in the database, cannot be used; or the database cannot.
pub async fn keys(auth: &config::Auth, store: &Store, now: DateTime<Utc>) -> Result<(KeyRing, String), KeysError> {
    if let Some(path) = &auth.signing_key {
        return Ok((in_files(auth, path)?, read(path)?));
    }
    let mut kept = kept(store).await?;
    if kept.is_empty() {
        // Another instance that starts at the same time may be first: its key is then everyone's.
        insert(store, "signing", &ServiceKey::generate_pem()?, now).await?;
        kept = self::kept(store).await?;
    }
    let pem = kept.last().map(|row| row.pem.clone()).unwrap_or_default();
    Ok((ring(usable(&kept)).ok_or(KeysError::None)?, pem))
}

/// The keys of the service as they are kept, and nothing made. `None` where there are none yet.
///
/// # Errors
/// As [`keys`].
pub async fn keys_kept(auth: &config::Auth, store: &Store) -> Result<Option<KeyRing>, KeysError> {
    match &auth.signing_key {
        Some(path) => in_files(auth, path).map(Some),
        None => match kept(store).await? {
            kept if kept.is_empty() => Ok(None),
            kept => ring(usable(&kept)).ok_or(KeysError::None).map(Some),
        },
    }
}

fn in_files(auth: &config::Auth, signing: &Path) -> Result<KeyRing, KeysError> {
    // Which of them signs is said by the configuration, not by time.
    let held = |path: &Path| Ok::<_, KeysError>(HeldKey { key: Arc::new(in_file(path)?), signs_from: None });
    let others = [&auth.next_signing_key, &auth.previous_signing_key].into_iter().flatten();
    let others = others.map(|path| held(path)).collect::<Result<_, _>>()?;
    Ok(KeyRing::new(held(signing)?, others))
}

/// The key in a PEM file.
pub fn in_file(path: &Path) -> Result<ServiceKey, KeysError> {
    ServiceKey::from_pem(&read(path)?).map_err(|why| KeysError::NotInFile { path: path.to_owned(), why })
}

fn read(path: &Path) -> Result<String, KeysError> {
    std::fs::read_to_string(path).map_err(|why| KeysError::Unreadable { path: path.to_owned(), why })
}

async fn kept(store: &Store) -> Result<Vec<ServiceKeyRow>, StoreError> {
    store.read().await?.service_keys().await
}

async fn insert(store: &Store, id: &str, pem: &str, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let key = ServiceKeyRow { id: id.to_owned(), pem: pem.to_owned(), created_at: now.into() };
    let inserted = tx.insert_service_key(&key).await?;
    tx.commit().await?;
    Ok(inserted)
}

/// The keys that can be used, with their ids in the database. One that cannot takes none of the others along.
fn usable(kept: &[ServiceKeyRow]) -> Vec<(String, HeldKey)> {
    let held = kept.iter().filter_map(|row| match HeldKey::made(&row.pem, row.created_at.time()) {
        Ok(held) => Some((row.id.clone(), held)),
        Err(why) => {
            tracing::error!(key.id = row.id, error = %why, "a signing key in the database cannot be used; the others go on");
            None
        }
    });
    held.collect()
}

fn ring(held: Vec<(String, HeldKey)>) -> Option<KeyRing> {
    let mut held = held.into_iter().map(|(_, held)| held);
    held.next().map(|first| KeyRing::new(first, held.collect()))
}

/// Makes the next key of all instances. It is published as soon as they have looked, and signs after
/// [`PUBLISHED_BEFORE`]; with `at_once` it takes the place of all others now, which are withdrawn: for a key that got out.
/// Answers it, and when it signs.
///
/// # Errors
/// There is a next key that does not sign yet; somebody else was faster; the database cannot be used.
pub async fn rotate_keys(
    store: &Store,
    now: DateTime<Utc>,
    at_once: bool,
) -> Result<(ServiceKey, DateTime<Utc>), KeysError> {
    let pem = ServiceKey::generate_pem()?;
    let mut tx = store.write().await?;
    let kept = tx.service_keys().await?;
    let newest = kept.last();
    if let (false, [_, .., newest]) = (at_once, kept.as_slice())
        && newest.created_at.time() + PUBLISHED_BEFORE > now
    {
        return Err(KeysError::Waits(newest.created_at.time() + PUBLISHED_BEFORE));
    }
    // Each key has one successor: of two who rotate at once one is told.
    let id = newest.map_or_else(|| "signing".to_owned(), |newest| id_after(&newest.id));
    let key = ServiceKeyRow { id, pem, created_at: now.into() };
    if at_once {
        for row in &kept {
            tx.delete_service_key(&row.id).await?;
        }
    }
    if !tx.insert_service_key(&key).await? {
        return Err(KeysError::Meanwhile);
    }
    tx.commit().await?;
    let signs = if at_once || kept.is_empty() { now } else { now + PUBLISHED_BEFORE };
    Ok((ServiceKey::from_pem(&key.pem)?, signs))
}

/// The id of the key after this one: `signing`, `signing 2`, `signing 3`.
fn id_after(id: &str) -> String {
    let number = id.strip_prefix("signing ").and_then(|n| n.parse::<u64>().ok()).unwrap_or(1);
    format!("signing {}", number + 1)
}

/// Follows what is rotated in the database until stopped, and forgets there what is over.
pub(super) async fn follow(store: Store, ring: Arc<KeyRing>, clock: Clock, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = look(&store, &ring, clock.now()).await {
            tracing::warn!(error = %error, "the signing keys could not be looked at; those at hand go on");
        }
    }
}

async fn look(store: &Store, ring: &KeyRing, now: DateTime<Utc>) -> Result<(), StoreError> {
    let kept = kept(store).await?;
    let (ids, held): (Vec<String>, Vec<HeldKey>) = usable(&kept).into_iter().unzip();
    ring.replace(held);
    let over: Vec<&String> =
        ids.iter().zip(ring.standings(now)).filter(|(_, (_, s))| *s == Standing::Over).map(|(id, _)| id).collect();
    if over.is_empty() {
        return Ok(());
    }
    let mut tx = store.write().await?;
    for id in over {
        tx.delete_service_key(id).await?;
    }
    tx.commit().await
}
