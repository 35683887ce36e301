//! What each command does.

use std::process::ExitCode;

use tokio::net::TcpListener;

use super::{Cli, Command, Settings, check, client, delivery, demo, key, load};
use crate::app;
use crate::config::{self, Config};
use crate::time::Clock;

/// Why a command did not do its work: a sentence for the person at the terminal.
pub(super) type Failed = String;

/// Runs a command; the exit code is 0 when it did what it should, 1 when not, 2 for what is not supported.
///
/// The runtime is made here and not in `main`: the code of a future is generated where it is first polled, so that the
/// binary would compile most of the library's commands again.
pub fn run(cli: Cli) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(carried_out(cli)),
        Err(error) => {
            eprintln!("livewell: the runtime cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn carried_out(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Demo(args) => demo::demo(args).await,
        Command::Serve(settings) => serve(&settings).await,
        Command::Migrate(settings) => migrate(&settings).await,
        Command::Check(settings) => return check::check(&settings).await,
        Command::Load(args) => load::load(&args).await,
        Command::Client(command) => client::client(command).await,
        Command::Key(command) => key::key(command).await,
        Command::Delivery(command) => delivery::delivery(command).await,
        Command::Audit(_) => {
            eprintln!(
                "livewell: audit verify is not supported yet. The trail is read as AuditEvent (GET /fhir/AuditEvent)."
            );
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("livewell: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration that a command's options mean, with the log set up as it says.
pub(super) fn configured(settings: &Settings) -> Result<Config, Failed> {
    let config = read(settings)?;
    let wrong = config.validate();
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    crate::telemetry::init(&config.telemetry).map_err(|e| e.to_string())?;
    Ok(config)
}

pub(super) fn read(settings: &Settings) -> Result<Config, Failed> {
    let mut config = Config::load(settings.file().as_deref(), config::environment()).map_err(|e| e.to_string())?;
    if let Some(dir) = &settings.profiles {
        config.profiles.dir = Some(dir.clone());
    }
    Ok(config)
}

async fn serve(settings: &Settings) -> Result<(), Failed> {
    let config = configured(settings)?;
    let listener = TcpListener::bind(config.http.listen).await.map_err(|e| {
        format!("{} cannot be listened on: {e}. Set http.listen to a free address.", config.http.listen)
    })?;
    let running = app::start(&config, Clock::System, listener).await.map_err(|e| e.to_string())?;
    say!("livewell serves FHIR R4 at {}/fhir (Ctrl-C stops it)", running.house.base_url);
    running.until_asked_to_stop().await.map_err(|e| format!("the server ended: {e}"))
}

async fn migrate(settings: &Settings) -> Result<(), Failed> {
    let config = configured(settings)?;
    app::open_store(&config).await.map_err(|e| e.to_string())?.close().await;
    say!("The database {} is up to date.", config.database.url);
    Ok(())
}
