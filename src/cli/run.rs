//! What each command does.

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::net::TcpListener;

use super::{Cli, Command, Settings, check, client, delivery, demo, key, load};
use crate::app;
use crate::config::{self, Config};
use crate::store::Store;
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

/// Whether the database may be there: a file that is not is told before opening it would make it.
pub(super) fn is_there(config: &Config) -> bool {
    database_file(config).is_none_or(|file| file.exists())
}

/// The database of a command that looks after what is there, and does not make it.
pub(super) async fn open_existing(config: &Config) -> Result<Store, Failed> {
    if !is_there(config) {
        let url = &config.database.url;
        return Err(format!("the database {url} is not there yet: serve or migrate makes it."));
    }
    app::open_store(config).await.map_err(|e| e.to_string())
}

/// The file of a SQLite database.
pub(super) fn database_file(config: &Config) -> Option<PathBuf> {
    let file = config.database.url.0.strip_prefix("sqlite:")?.trim_start_matches("//");
    Some(PathBuf::from(file.split('?').next().unwrap_or(file)))
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
