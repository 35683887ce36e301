//! `livewell client`: who may call.

use super::run::{Failed, configured, open_existing};
use super::{ClientAdd, ClientCommand};
use crate::app;
use crate::auth::assertion::is_client_id;
use crate::auth::key_set::KeySet;
use crate::auth::scope::Scopes;
use crate::config::is_ods;
use crate::outbound::Guard;
use crate::store::{ClientRow, Store};
use crate::time::Clock;

/// Registers, lists and disables clients.
pub(super) async fn client(command: ClientCommand) -> Result<(), Failed> {
    match command {
        ClientCommand::Add(args) => add(&args).await,
        ClientCommand::List { settings } => {
            let config = configured(&settings)?;
            list(&open_existing(&config).await?).await
        }
        ClientCommand::Disable { id, settings } => {
            let config = configured(&settings)?;
            disable(&open_existing(&config).await?, &id).await
        }
    }
}

async fn add(args: &ClientAdd) -> Result<(), Failed> {
    let config = configured(&args.settings)?;
    let row = registration(args, config.delivery.allow_private_addresses)?;
    let store = app::open_store(&config).await.map_err(|e| e.to_string())?;
    if row.speaks_for_staff || !row.staff.is_empty() {
        let house = app::house(&config, String::new()).map_err(|e| e.to_string())?;
        house.learn_organization(&store).await.map_err(|e| e.to_string())?;
        ours_only(&row, &house.organization())?;
    }
    works_for(&store, &row).await?;
    put(&store, &row).await.map_err(|e| e.explained())?;
    store.close().await;
    say!("{} may call for {} with {}", row.id, row.organization, row.scopes);
    say!("token endpoint (aud of its assertions): {}/oauth/token", config.http.origin(config.http.listen));
    for missing in not_in_directory(&store, &row).await.map_err(|e| e.explained())? {
        say!("look: {missing} is not in the directory: livewell load puts it there.");
    }
    Ok(())
}

/// Refuses who acts for staff and is not of the Live Well organisation: it would never be taken for one of them. `ours` is
/// '' while nobody knows which organisation that is.
fn ours_only(row: &ClientRow, ours: &str) -> Result<(), Failed> {
    if ours.is_empty() || row.organization == ours {
        return Ok(());
    }
    let option = if row.speaks_for_staff { "--speaks-for-staff" } else { "--staff" };
    Err(format!(
        "{option} is for the staff of the Live Well organisation, which is {ours}, and not {}. Give --organization \
         {ours}, or leave {option} out.",
        row.organization
    ))
}

/// Refuses a member of staff whose role is at another organisation.
async fn works_for(store: &Store, row: &ClientRow) -> Result<(), Failed> {
    let Some(id) = row.staff.strip_prefix("PractitionerRole/") else { return Ok(()) };
    let mut tx = store.read().await.map_err(|e| e.explained())?;
    let Some(role) = tx.directory_resource("PractitionerRole", id).await.map_err(|e| e.explained())? else {
        return Ok(());
    };
    match tx.is_at(&role, &row.organization).await.map_err(|e| e.explained())? {
        true => Ok(()),
        false => Err(format!(
            "{} is at another organisation than {} in the directory. Name a member of staff of {}.",
            row.staff, row.organization, row.organization
        )),
    }
}

/// What the registration names and the directory does not have. A client may come before its directory.
async fn not_in_directory(store: &Store, row: &ClientRow) -> Result<Vec<String>, crate::store::StoreError> {
    let mut tx = store.read().await?;
    let mut missing = Vec::new();
    if tx.directory_organization(&row.organization).await?.is_none() {
        missing.push(format!("an Organization with the ODS code {}", row.organization));
    }
    if let Some(id) = row.staff.strip_prefix("PractitionerRole/")
        && tx.directory_resource("PractitionerRole", id).await?.is_none()
    {
        missing.push(row.staff.clone());
    }
    Ok(missing)
}

/// What the options of `client add` mean, checked.
fn registration(args: &ClientAdd, private_addresses: bool) -> Result<ClientRow, Failed> {
    if !is_client_id(&args.id) {
        return Err("--id is 1 to 256 printable ASCII characters.".to_owned());
    }
    let scopes = Scopes::parse_registration(&args.scope).map_err(|e| format!("--scope: {e}"))?;
    if scopes.is_empty() {
        return Err("--scope: name at least one, for example \"system/ServiceRequest.crus\".".to_owned());
    }
    let organization = args.organization.trim().to_uppercase();
    if !is_ods(&organization) {
        return Err(format!("--organization {organization} is no ODS code: give 3 to 12 letters and digits."));
    }
    if let Some(url) = &args.jwks_url {
        let guard = Guard { allow_private_addresses: private_addresses };
        guard.check(url).map_err(|e| format!("--jwks-url: {e}"))?;
    }
    let jwks = match &args.jwks {
        None => String::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| format!("--jwks {}: {e}", path.display()))?;
            let document = serde_json::from_str(&text)
                .map_err(|e| format!("--jwks {} is no JSON: {e}. Give a JSON Web Key Set.", path.display()))?;
            KeySet::parse(&document).map_err(|e| format!("--jwks {}: {e}", path.display()))?;
            text
        }
    };
    Ok(ClientRow {
        id: args.id.clone(),
        organization,
        scopes: scopes.to_string(),
        jwks,
        jwks_url: args.jwks_url.clone().unwrap_or_default(),
        staff: args.staff.clone().unwrap_or_default(),
        speaks_for_staff: args.speaks_for_staff,
        created_at: Clock::System.now().into(),
        disabled_at: None,
    })
}

async fn put(store: &Store, row: &ClientRow) -> Result<(), crate::store::StoreError> {
    let mut tx = store.write().await?;
    tx.put_client(row).await?;
    tx.commit().await
}

async fn list(store: &Store) -> Result<(), Failed> {
    let clients =
        async { store.read().await?.clients().await }.await.map_err(|e: crate::store::StoreError| e.to_string())?;
    if clients.is_empty() {
        say!("No clients yet: register one with livewell client add.");
    }
    for client in clients {
        let standing = match (client.disabled_at, client.staff.as_str(), client.speaks_for_staff) {
            (Some(at), _, _) => format!("disabled {}", at.time().format("%Y-%m-%d %H:%M")),
            (None, "", true) => "speaks for staff".to_owned(),
            (None, "", false) => "system".to_owned(),
            (None, staff, _) => staff.to_owned(),
        };
        say!("{:<24} {:<10} {:<32} {}", client.id, client.organization, standing, client.scopes);
    }
    Ok(())
}

async fn disable(store: &Store, id: &str) -> Result<(), Failed> {
    let done = async {
        let mut tx = store.write().await?;
        let found = tx.disable_client(id, Clock::System.now().into()).await?;
        tx.commit().await?;
        Ok::<_, crate::store::StoreError>(found)
    };
    match done.await {
        Ok(true) => {
            say!("{id} is shut out: its tokens stopped working now.");
            Ok(())
        }
        Ok(false) => Err(format!("there is no client {id}; livewell client list shows who there is.")),
        Err(error) => Err(error.to_string()),
    }
}
