//! `livewell client`: who may call.

use super::run::{Failed, configured};
use super::{ClientAdd, ClientCommand};
use crate::app;
use crate::auth::assertion::is_client_id;
use crate::auth::key_set::KeySet;
use crate::auth::scope::Scopes;
use crate::store::{ClientRow, Store};
use crate::time::Clock;

/// Registers, lists and disables clients.
pub(super) async fn client(command: ClientCommand) -> Result<(), Failed> {
    match command {
        ClientCommand::Add(args) => add(&args).await,
        ClientCommand::List { settings } => {
            let config = configured(&settings)?;
            list(&app::open_store(&config).await.map_err(|e| e.to_string())?).await
        }
        ClientCommand::Disable { id, settings } => {
            let config = configured(&settings)?;
            disable(&app::open_store(&config).await.map_err(|e| e.to_string())?, &id).await
        }
    }
}

async fn add(args: &ClientAdd) -> Result<(), Failed> {
    let config = configured(&args.settings)?;
    let row = registration(args)?;
    let store = app::open_store(&config).await.map_err(|e| e.to_string())?;
    put(&store, &row).await.map_err(|e| e.to_string())?;
    println!("{} may call for {} with {}", row.id, row.organization, row.scopes);
    println!("token endpoint (aud of its assertions): {}/oauth/token", config.http.origin(config.http.listen));
    Ok(())
}

/// What the options of `client add` mean, checked.
fn registration(args: &ClientAdd) -> Result<ClientRow, Failed> {
    if !is_client_id(&args.id) {
        return Err("--id is 1 to 256 printable ASCII characters.".to_owned());
    }
    let scopes = Scopes::parse_registration(&args.scope).map_err(|e| format!("--scope: {e}"))?;
    if scopes.is_empty() {
        return Err("--scope: name at least one, for example \"system/ServiceRequest.crus\".".to_owned());
    }
    let jwks = match &args.jwks {
        None => String::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| format!("--jwks {}: {e}", path.display()))?;
            let document = serde_json::from_str(&text).map_err(|e| format!("--jwks {}: {e}", path.display()))?;
            KeySet::parse(&document).map_err(|e| format!("--jwks {}: {e}", path.display()))?;
            text
        }
    };
    Ok(ClientRow {
        id: args.id.clone(),
        organization: args.organization.trim().to_uppercase(),
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
        println!("No clients yet: register one with livewell client add.");
    }
    for client in clients {
        let standing = match (client.disabled_at, client.staff.as_str(), client.speaks_for_staff) {
            (Some(at), _, _) => format!("disabled {}", at.time().format("%Y-%m-%d %H:%M")),
            (None, "", true) => "speaks for staff".to_owned(),
            (None, "", false) => "system".to_owned(),
            (None, staff, _) => staff.to_owned(),
        };
        println!("{:<24} {:<10} {:<32} {}", client.id, client.organization, standing, client.scopes);
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
            println!("{id} is shut out: its tokens stopped working now.");
            Ok(())
        }
        Ok(false) => Err(format!("there is no client {id}; livewell client list shows who there is.")),
        Err(error) => Err(error.to_string()),
    }
}
