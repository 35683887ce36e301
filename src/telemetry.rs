//! What the service says about itself: one line per event on standard error, readable or JSON.
//!
//! Rules, at every level, `trace` included:
//! - Never a name, address, birth date, NHS number, clinical text, request or answer body, query string, raw path, token,
//!   assertion or key. A search query or a path can hold an NHS number; the matched route template cannot.
//! - A thing is named by our own id: `referral.id`, `task.id`, `delivery.id`, `practice.code` (ODS), `client.id`,
//!   `request.id`. Durations are `duration_ms`.
//! - An error is logged once, where it is answered or settled, with its chain (`error = %e`); error texts of this
//!   crate hold no patient data, so they may be logged. A panic's message may hold anything, so only its place is.
//! - `error`: somebody must look; `warn`: it went wrong and is handled; `info`: one line for each request and act;
//!   `debug`: steps, for those who build.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, Telemetry};

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error(
        "telemetry.level `{level}` is not understood: give error, warn, info, debug or trace, \
         or a filter such as `info,livewell::worker=debug`"
    )]
    Level { level: String, source: Option<ParseError> },
    #[error("telemetry was already set up in this process")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends events to standard error as `settings` say, and panics as events without their message.
///
/// Call once, first thing in `main`. Standard output stays free for what a command prints.
///
/// # Errors
/// A level that does not parse, or a second call in one process.
pub fn init(settings: &Telemetry) -> Result<(), TelemetryError> {
    let wanted = tracing_subscriber::registry().with(filter(&settings.level)?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Pretty => {
            let ansi = std::io::stderr().is_terminal();
            wanted.with(lines.with_target(false).with_ansi(ansi)).try_init()?;
        }
        // All spans, since a task within a request has its own, and the request's id is in the outer one.
        LogFormat::Json => wanted.with(lines.json().flatten_event(true).with_current_span(false)).try_init()?,
    }
    std::panic::set_hook(Box::new(report_panic));
    Ok(())
}

/// The filter for `level`: a level name, or `target=level` pairs, as `tracing_subscriber::filter::Targets` takes them.
///
/// Not its `EnvFilter`, which also filters by the fields of spans: nobody asks for that, and it brings a regex engine.
///
/// # Errors
/// When `level` does not parse.
pub fn filter(level: &str) -> Result<Targets, TelemetryError> {
    // The HTTP libraries log raw header lines and URIs at debug and trace: held at warn unless asked for by name.
    const QUIET: &str = "hyper=warn,hyper_util=warn,h2=warn,reqwest=warn,rustls=warn,sqlx=warn";
    // A lone word that is no level would be taken for a target's name and silence everything else.
    let unknown = |part: &str| part.is_empty() || (!part.contains('=') && part.parse::<LevelFilter>().is_err());
    if level.split(',').map(str::trim).any(unknown) {
        return Err(TelemetryError::Level { level: level.to_owned(), source: None });
    }
    format!("{QUIET},{level}")
        .parse()
        .map_err(|source| TelemetryError::Level { level: level.to_owned(), source: Some(source) })
}

/// Says where a panic was, never what its message was: a message often prints the value that surprised it.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
    tracing::error!(place, "panicked");
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_level_is_a_name_or_directives() {
        assert!(filter("debug").unwrap().to_string().contains("debug"));
        assert!(filter("info,livewell::worker=trace").unwrap().to_string().contains("livewell::worker=trace"));
    }

    #[test]
    fn a_level_that_does_not_parse_names_the_key_and_what_is_allowed() {
        for level in ["loud", "livewell=loud", ""] {
            let said = filter(level).unwrap_err().to_string();
            assert!(said.contains("telemetry.level") && said.contains("debug"), "{said}");
        }
    }

    #[test]
    fn the_http_libraries_stay_quiet_at_trace() {
        let filter = filter("trace").unwrap().to_string();
        assert!(filter.contains("hyper=warn") && filter.contains("sqlx=warn"), "{filter}");
    }
}
