//! `livewell demo`: gives the demo a service to talk to. From then on it talks over HTTP only.

use tokio::net::TcpListener;

use super::DemoArgs;
use super::run::Failed;
use crate::app;
use crate::config::{Config, DatabaseUrl};
use crate::demo::{self, DemoOptions, Registration, Served, Stage};
use crate::fhir::codec::Limits;
use crate::store::{ClientRow, Store, StoreError};
use crate::time::Clock;
use crate::workflow::{self, Actor};

/// Shows the loop.
pub(super) async fn demo(args: DemoArgs) -> Result<(), Failed> {
    let options = DemoOptions { port: args.port, data: args.data, once: args.once };
    let mut settings = Config::default();
    settings.telemetry.level = "warn".to_owned();
    crate::telemetry::init(&settings.telemetry).map_err(|e| e.to_string())?;
    let database = args.database;
    let serve = move |stage, listener| -> demo::Starting { Box::pin(serve(stage, database.clone(), listener)) };
    demo::run(options, Box::new(serve), &mut std::io::stdout()).await.map_err(|e| e.to_string())
}

async fn serve(stage: Stage, database: Option<String>, listener: TcpListener) -> Result<Served, String> {
    let mut config = Config::default();
    let file = || format!("sqlite:{}", stage.data.join("livewell.db").display());
    config.database.url = DatabaseUrl(database.unwrap_or_else(file));
    config.service.organization = Some(stage.organization);
    config.delivery.allow_private_addresses = true;
    let running = app::start(&config, Clock::System, listener).await.map_err(|e| e.to_string())?;
    let resources = app::directory_resources(&stage.directory.to_string(), &Limits::default())?;
    let actor = Actor::service(&running.house.organization());
    workflow::load(&running.store, &running.house, &actor, Clock::System.now(), resources, &mut |_| {})
        .await
        .map_err(|e| e.to_string())?;
    register(&running.store, stage.clients).await.map_err(|e| e.to_string())?;
    let address = running.address;
    let stop = Box::pin(async move {
        if let Err(error) = running.stop().await {
            tracing::warn!(error = %error, "the service did not stop cleanly");
        }
    });
    Ok(Served { address, stop })
}

async fn register(store: &Store, clients: Vec<Registration>) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    for client in clients {
        tx.put_client(&ClientRow {
            id: client.id,
            organization: client.organization,
            scopes: client.scope,
            jwks: client.jwks.to_string(),
            jwks_url: String::new(),
            staff: client.staff.unwrap_or_default(),
            speaks_for_staff: false,
            created_at: Clock::System.now().into(),
            disabled_at: None,
        })
        .await?;
    }
    tx.commit().await
}
