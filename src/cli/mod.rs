//! The command line: what can be asked of `livewell`, and how it is explained.

/// Prints a line. A reader who has seen enough (`livewell check | head`) is no failure.
macro_rules! say {
    ($($said:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($said)*);
    }};
}

mod check;
mod client;
mod delivery;
mod demo;
mod key;
mod load;
mod run;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::pathway::delivery::DeliveryState;

pub use run::run;

/// Live Well's link to the GP record: e-referrals in, the human task queue, write-back to the practice, in FHIR R4.
#[derive(Debug, Parser)]
#[command(name = "livewell", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "First time here? `livewell demo` shows the whole loop. `livewell COMMAND --help` explains a command."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Show the main job in one go: referral in, coach's work, write-back to a stand-in practice
    ///
    /// Starts the service and a stand-in practice system on the next port, loads a demo directory, sends sample
    /// referrals through the real door and walks one through contact, first meeting, PAM and write-back.
    /// Prints each step, and keeps serving until Ctrl-C.
    #[command(
        after_help = "Examples:\n  livewell demo\n  livewell demo --once\n  livewell demo --port 9000 --data ./demo"
    )]
    Demo(DemoArgs),
    /// Serve: the FHIR API, the task queue, deliveries to practices
    ///
    /// Needs no configuration: without any it keeps its data in livewell.db in the current folder and listens on
    /// 127.0.0.1:8080. Migrates the database first. Stops on Ctrl-C or SIGTERM when what is under way is done.
    #[command(
        after_help = "Every setting has a default, a key in the TOML file and an environment variable LIVEWELL_SECTION_KEY.\n\n\
                      Examples:\n  livewell serve\n  livewell serve --config /etc/livewell/livewell.toml\n  \
                      LIVEWELL_HTTP_LISTEN=127.0.0.1:9000 livewell serve"
    )]
    Serve(Settings),
    /// Bring the database to this release's schema; does nothing when it is there already
    Migrate(Settings),
    /// Check configuration, database, keys and profiles, and say what is wrong, a sentence each
    ///
    /// Also asks each practice's FHIR address for its SMART configuration, and tries our mailbox at MESH.
    /// Exits 0 when nothing is wrong, 1 when something is; where only MESH does not let us in, the service starts all the
    /// same. Changes nothing.
    Check(Settings),
    /// Load FHIR Bundles or NDJSON of the directory: organisations, locations, endpoints, staff, services, pathways
    ///
    /// A file is taken whole or, where something in it is not valid R4, not at all. Loading it twice changes nothing.
    #[command(after_help = "Example:\n  livewell load practices.json staff.ndjson")]
    Load(LoadArgs),
    /// Register who may call, list them, or shut one out
    #[command(subcommand, arg_required_else_help = true)]
    Client(ClientCommand),
    /// The keys the service signs with: list them, or let the next one take over
    #[command(subcommand, arg_required_else_help = true)]
    Key(KeyCommand),
    /// Look after what leaves for practices and subscribers: list, show, send again, give up
    #[command(subcommand, arg_required_else_help = true)]
    Delivery(DeliveryCommand),
    /// Prove that the audit record is whole (not supported yet)
    #[command(subcommand, arg_required_else_help = true)]
    Audit(AuditCommand),
}

impl Command {
    /// The settings options of the command; the demo has none, it brings its own.
    pub fn settings(&self) -> Option<&Settings> {
        match self {
            Command::Demo(_) => None,
            Command::Serve(settings) | Command::Migrate(settings) | Command::Check(settings) => Some(settings),
            Command::Load(args) => Some(&args.settings),
            Command::Client(command) => Some(match command {
                ClientCommand::Add(args) => &args.settings,
                ClientCommand::List { settings } | ClientCommand::Disable { settings, .. } => settings,
            }),
            Command::Key(KeyCommand::List { settings } | KeyCommand::Rotate { settings, .. }) => Some(settings),
            Command::Delivery(command) => Some(match command {
                DeliveryCommand::List { settings, .. } | DeliveryCommand::Show { settings, .. } => settings,
                DeliveryCommand::Replay(bulk) | DeliveryCommand::Cancel { bulk, .. } => &bulk.settings,
            }),
            Command::Audit(AuditCommand::Verify { settings }) => Some(settings),
        }
    }
}

/// Where the settings come from, the same for every command that touches the service's data.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct Settings {
    /// TOML file with settings [default: livewell.toml in the current folder, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of FHIR profiles, codes and pathways that replace or add to the built-in ones (setting profiles.dir)
    #[arg(long, value_name = "DIR")]
    pub profiles: Option<PathBuf>,
}

impl Settings {
    /// The file to read: the one asked for, or `livewell.toml` in the current folder when it exists.
    pub fn file(&self) -> Option<PathBuf> {
        let usual = PathBuf::from("livewell.toml");
        self.config.clone().or_else(|| usual.is_file().then_some(usual))
    }
}

/// `livewell demo`.
#[derive(Debug, PartialEq, Args)]
pub struct DemoArgs {
    /// Port of the service; the stand-in practice takes the next one
    #[arg(long, default_value_t = 8080, conflicts_with = "once")]
    pub port: u16,
    /// Folder for the demo's databases [default: a fresh folder among the system's temporary files]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Keep the service's data here instead: sqlite:FILE or postgres://USER:PASSWORD@HOST/NAME
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Walk the loop on free ports and exit: 0 when every step worked, 1 when one failed
    #[arg(long)]
    pub once: bool,
}

/// `livewell load`.
#[derive(Debug, PartialEq, Args)]
pub struct LoadArgs {
    /// FHIR Bundles (JSON or XML), or one resource a line (NDJSON)
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
}

/// `livewell client`.
#[derive(Debug, PartialEq, Subcommand)]
pub enum ClientCommand {
    /// Register a client, or change the one with that id
    #[command(after_help = "Examples:\n  \
        livewell client add --id surgery --organization TESTGP1 --scope \"system/ServiceRequest.crus system/Task.rs\" --jwks keys.json\n  \
        livewell client add --id coach-1 --organization TESTLW --scope \"system/*.cruds\" --jwks coach.json --staff PractitionerRole/coach-1")]
    Add(Box<ClientAdd>),
    /// List the clients: id, organisation, scopes, whose they are, whether they may call
    List {
        #[command(flatten)]
        settings: Settings,
    },
    /// Shut a client out at once: no new tokens, and those it has stop working
    Disable {
        /// The client's id
        id: String,
        #[command(flatten)]
        settings: Settings,
    },
}

/// `livewell client add`.
#[derive(Debug, PartialEq, Args)]
#[command(group(ArgGroup::new("keys").required(true).args(["jwks", "jwks_url"])))]
pub struct ClientAdd {
    /// The client's id: `iss` and `sub` of its assertions
    #[arg(long)]
    pub id: String,
    /// ODS code of the organisation that it speaks for
    #[arg(long, value_name = "ODS")]
    pub organization: String,
    /// Scopes that it may ask for, separated by spaces, e.g. "system/ServiceRequest.crus system/Task.rs"
    #[arg(long)]
    pub scope: String,
    /// File with its public keys, a JSON Web Key Set
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    /// Where it publishes its public keys (https)
    #[arg(long, value_name = "URL")]
    pub jwks_url: Option<String>,
    /// The client is this one member of staff, e.g. PractitionerRole/coach-1
    #[arg(long, value_name = "PractitionerRole/ID", value_parser = practitioner_role, conflicts_with = "speaks_for_staff")]
    pub staff: Option<String>,
    /// The client is a system of the Live Well organisation, which names the acting person on each request in the
    /// header NHSD-Requesting-Practitioner
    #[arg(long)]
    pub speaks_for_staff: bool,
    #[command(flatten)]
    pub settings: Settings,
}

/// `livewell key`.
#[derive(Debug, PartialEq, Subcommand)]
pub enum KeyCommand {
    /// List the keys by their ids (`kid`), oldest first, and what each is now
    List {
        #[command(flatten)]
        settings: Settings,
    },
    /// Make the next key: it is published at once and signs an hour later
    ///
    /// Every instance on the database takes it over by itself within seconds, so that nothing is restarted and no
    /// delivery is lost. The key before it is published for a day longer and then forgotten. Keys that auth.signing_key
    /// names are replaced in the configuration instead.
    #[command(after_help = "Examples:\n  livewell key rotate\n  livewell key rotate --at-once")]
    Rotate {
        /// For a key that got out: the new one signs now, and all others are withdrawn. A practice that keeps our key set
        /// without asking again may refuse us until it does; livewell delivery replay sends what it refused
        #[arg(long)]
        at_once: bool,
        #[command(flatten)]
        settings: Settings,
    },
}

/// `livewell delivery`.
#[derive(Debug, PartialEq, Subcommand)]
pub enum DeliveryCommand {
    /// List deliveries, the oldest first
    ///
    /// Without --state those in which something has still to happen: what waits, is tried, or needs a person.
    #[command(after_help = "Examples:\n  livewell delivery list\n  \
        livewell delivery list --practice TESTA1 --state needs-person --older-than 2d --json")]
    List {
        #[command(flatten)]
        which: Which,
        /// At most this many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Show one delivery with all its attempts
    Show {
        /// The delivery's id
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Send deliveries again, from the start of the schedule; what the practice already has is found there and not doubled
    ///
    /// Each is put together anew with what is configured now: address, keys, codes, consent. What it carries stays as it
    /// was recorded; to correct that, PUT the corrected resource, which sends its new version by itself.
    /// With filters and no --state, those that were refused or need a person.
    #[command(after_help = "Examples:\n  livewell delivery replay 0197f6d0-7a51-7c3e-8a55-0c1f6ad2b001\n  \
        livewell delivery replay --practice TESTA1 --dry-run\n  livewell delivery replay --practice TESTA1 --yes")]
    Replay(Bulk),
    /// Give deliveries up; the practice will not hear of what they carry
    ///
    /// Not possible while it is unknown whether the practice has it: replay looks there first.
    #[command(
        after_help = "Example:\n  livewell delivery cancel 0197f6d0-7a51-7c3e-8a55-0c1f6ad2b001 --reason \"filed by hand\""
    )]
    Cancel {
        /// Why, for the record; nothing about a patient
        #[arg(long, value_parser = reason)]
        reason: String,
        #[command(flatten)]
        bulk: Bulk,
    },
}

/// Which deliveries are meant.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct Which {
    /// Only those to the practice with this ODS code (or Subscription/ID)
    #[arg(long, value_name = "ODS")]
    pub practice: Option<String>,
    /// Only those in this state; may be given several times
    #[arg(long, value_parser = delivery_state)]
    pub state: Vec<String>,
    /// Only those queued longer ago than this: 90s, 30m, 12h, 3d
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub older_than: Option<chrono::TimeDelta>,
}

/// An act on one delivery or on many.
#[derive(Debug, PartialEq, Args)]
#[command(group(ArgGroup::new("meant").required(true).multiple(true).args(["ids", "practice", "state", "older_than"])))]
pub struct Bulk {
    /// The deliveries' ids
    #[arg(value_name = "ID", conflicts_with_all = ["practice", "state", "older_than"])]
    pub ids: Vec<String>,
    #[command(flatten)]
    pub which: Which,
    /// Only say how many there are, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask before many are changed
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub settings: Settings,
}

/// `livewell audit`.
#[derive(Debug, PartialEq, Subcommand)]
pub enum AuditCommand {
    /// Check the chain and its signatures, and report the tail that is not sealed yet
    Verify {
        #[command(flatten)]
        settings: Settings,
    },
}

/// `PractitionerRole/ID` with a FHIR id (R4 datatypes: 1 to 64 of letters, digits, `-` and `.`).
fn practitioner_role(text: &str) -> Result<String, String> {
    let id = text.strip_prefix("PractitionerRole/").ok_or("give PractitionerRole/ID, as in the directory")?;
    let valid = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if valid { Ok(text.to_owned()) } else { Err("an id has 1 to 64 letters, digits, `-` and `.`".to_owned()) }
}

fn delivery_state(text: &str) -> Result<String, String> {
    let known: Vec<&str> = DeliveryState::ALL.iter().map(|state| state.code()).collect();
    if known.contains(&text) { Ok(text.to_owned()) } else { Err(format!("the states are {}", known.join(", "))) }
}

/// `90s`, `30m`, `12h`, `3d`.
fn span(text: &str) -> Result<chrono::TimeDelta, String> {
    let wrong = || "give a number and its unit, such as 90s, 30m, 12h or 3d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: i64 = text.strip_suffix(unit).and_then(|n| n.parse().ok()).filter(|n| *n >= 0).ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).and_then(chrono::TimeDelta::try_seconds).ok_or_else(wrong)
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    let fits = (1..=200).contains(&text.len()) && !text.contains(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("one line of 1 to 200 characters".to_owned()) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_alone_is_enough() {
        assert_eq!(parse("livewell serve").unwrap(), Command::Serve(Settings::default()));
    }

    #[test]
    fn the_demo_takes_port_8080_unless_told() {
        let Command::Demo(demo) = parse("livewell demo").unwrap() else { panic!("not the demo") };
        assert_eq!(demo, DemoArgs { port: 8080, data: None, database: None, once: false });
        let Command::Demo(demo) = parse("livewell demo --once --data d").unwrap() else { panic!("not the demo") };
        assert!(demo.once && demo.data.is_some());
    }

    #[test]
    fn a_client_needs_keys_from_one_place() {
        let base = "livewell client add --id a --organization TESTGP1 --scope system/Task.rs";
        assert!(parse(base).is_err());
        assert!(parse(&format!("{base} --jwks f --jwks-url https://a.example")).is_err());
        let Command::Client(ClientCommand::Add(add)) = parse(&format!("{base} --jwks f")).unwrap() else { panic!() };
        assert_eq!(add.jwks, Some(PathBuf::from("f")));
    }

    #[test]
    fn a_client_is_a_member_of_staff_or_speaks_for_them_never_both() {
        let base = "livewell client add --id a --organization TESTLW --scope system/Task.rs --jwks f";
        assert!(parse(&format!("{base} --staff PractitionerRole/c1")).is_ok());
        assert!(parse(&format!("{base} --speaks-for-staff")).is_ok());
        assert!(parse(&format!("{base} --staff PractitionerRole/c1 --speaks-for-staff")).is_err());
        for bad in ["Practitioner/c1", "PractitionerRole/", "PractitionerRole/a/b"] {
            assert!(parse(&format!("{base} --staff {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn load_needs_a_file_and_takes_several() {
        assert!(parse("livewell load").is_err());
        let Command::Load(load) = parse("livewell load a.json b.ndjson --config c.toml").unwrap() else { panic!() };
        assert_eq!(load.files.len(), 2);
        assert_eq!(load.settings.file(), Some(PathBuf::from("c.toml")));
    }

    #[test]
    fn what_is_replayed_or_given_up_is_always_said() {
        for wrong in [
            "delivery replay",
            "delivery replay --yes",
            "delivery cancel d1",
            "delivery cancel --reason x",
            "delivery replay d1 --practice TESTGP1",
            "delivery list --state needs-a-person",
            "delivery list --older-than soon",
            "delivery list --older-than -3d",
            "delivery list --older-than 3w",
            "delivery list --limit 0",
        ] {
            assert!(parse(&format!("livewell {wrong}")).is_err(), "{wrong}");
        }
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("12h", 43_200), ("3d", 259_200), ("0s", 0)] {
            assert_eq!(span(text), Ok(chrono::TimeDelta::seconds(seconds)));
        }
        for wrong in ["", "d", "1.5h", "9223372036854775807d", "3 d", "\u{e9}"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_command_parses_and_knows_its_settings() {
        for line in [
            "serve",
            "migrate",
            "check",
            "load f",
            "client list",
            "client disable a",
            "key list",
            "key rotate",
            "key rotate --at-once",
            "delivery list",
            "delivery list --state no-route --practice TESTGP1 --older-than 3d --json",
            "delivery show d1",
            "delivery replay d1 d2",
            "delivery replay --practice TESTGP1 --dry-run",
            "delivery cancel d1 --reason moved",
            "delivery cancel --state no-route --reason moved --yes",
            "audit verify",
        ] {
            let command = parse(&format!("livewell {line} --config c.toml --profiles p")).unwrap();
            let settings = command.settings().unwrap();
            assert_eq!(
                (settings.file(), settings.profiles.clone()),
                (Some("c.toml".into()), Some("p".into())),
                "{line}"
            );
        }
    }

    #[test]
    fn every_command_is_explained() {
        fn explained(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(explained);
        }
        explained(&Cli::command());
    }
}
