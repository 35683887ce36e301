//! What an operator is told at the terminal about a mistake, before it can do harm.

use std::process::{Command, Stdio};

use livewell::demo::keys::DemoKey;
use livewell::fhir::systems::ODS;
use tempfile::TempDir;

/// A folder in which commands run on a database of their own.
struct Terminal(TempDir);

/// The Live Well organisation of the demo directory.
const OURS: &str = "TESTLW";

impl Terminal {
    fn new() -> Terminal {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("keys.json"), DemoKey::generate("one").jwks().to_string()).unwrap();
        Terminal(folder)
    }

    /// What a command said, and whether it went well.
    fn says(&self, organization: &str, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_livewell"));
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        command.env("LIVEWELL_TELEMETRY_LEVEL", "error").env_remove("LIVEWELL_SERVICE_ORGANIZATION");
        if !organization.is_empty() {
            command.env("LIVEWELL_SERVICE_ORGANIZATION", organization);
        }
        let ended = command.output().unwrap();
        let said = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (ended.status.success(), said)
    }

    fn loaded(self) -> Terminal {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fhir-profiles/demo/directory.json");
        let (done, said) = self.says(OURS, &["load", directory]);
        assert!(done, "{said}");
        self
    }

    /// `client add` with what its scope and staff are.
    fn adds(&self, ours: &str, organization: &str, scope: &str, more: &[&str]) -> (bool, String) {
        let mut arguments = vec!["client", "add", "--id", "one", "--organization", organization, "--scope", scope];
        arguments.extend(["--jwks", "keys.json"]);
        arguments.extend(more);
        self.says(ours, &arguments)
    }
}

#[test]
fn who_acts_for_staff_is_registered_for_the_live_well_organisation_only() {
    let terminal = Terminal::new().loaded();
    let coach: &[&str] = &["--staff", "PractitionerRole/coach-north"];
    // Configured, or known from the directory.
    for ours in [OURS, ""] {
        for more in [coach, &["--speaks-for-staff"]] {
            let (done, said) = terminal.adds(ours, "TESTA1", "system/*.cruds", more);
            assert!(!done && said.contains(more[0]) && said.contains(OURS), "{said}");
            assert!(terminal.says(ours, &["client", "list"]).1.contains("No clients yet"), "nothing is registered");
        }
    }
    for (organization, more) in [(OURS, coach), ("testlw", &["--speaks-for-staff"]), ("TESTA1", &[])] {
        let (done, said) = terminal.adds("", organization, "system/*.cruds", more);
        assert!(done, "{said}");
    }
    // While nobody knows whose service this is, nobody knows better.
    let (done, said) = Terminal::new().adds("", "TESTA1", "system/*.cruds", coach);
    assert!(done, "{said}");
}

#[test]
fn a_scope_of_a_type_that_does_not_exist_is_not_registered() {
    let terminal = Terminal::new();
    let (done, said) = terminal.adds(OURS, "TESTA1", "system/Task.rs system/Foo.r", &[]);
    assert!(!done && said.contains("--scope") && said.contains("Scope 2"), "{said}");
    assert!(!terminal.0.path().join("livewell.db").exists());
}

#[test]
fn an_organisation_that_the_loaded_directory_does_not_have_is_wrong() {
    let terminal = Terminal::new();
    assert!(terminal.says(OURS, &["migrate"]).0);
    let (done, said) = terminal.says("TESTLX", &["check"]);
    assert!(done && said.contains("not loaded yet"), "{said}");
    let terminal = terminal.loaded();
    let (done, said) = terminal.says("TESTLX", &["check"]);
    let wrong = said.lines().find(|line| line.starts_with("wrong:")).unwrap_or_default();
    assert!(!done && wrong.contains("service.organization") && wrong.contains("TESTLX"), "{said}");
    for ours in [OURS, ""] {
        let (done, said) = terminal.says(ours, &["check"]);
        assert!(done && said.contains("good:  the Live Well organisation is TESTLW"), "{said}");
    }
}

#[test]
fn a_second_organisation_with_the_same_ods_code_is_not_loaded() {
    let terminal = Terminal::new().loaded();
    let organization = |id: &str, code: &str| {
        format!(
            r#"{{"resourceType":"Organization","id":"{id}","name":"Other","identifier":[{{"system":"{ODS}","value":"{code}"}}]}}"#
        )
    };
    let loads = |lines: &[String]| {
        std::fs::write(terminal.0.path().join("more.ndjson"), lines.join("\n")).unwrap();
        terminal.says(OURS, &["load", "more.ndjson"])
    };
    let (done, said) = loads(&[organization("new", "TESTZ9"), organization("again", "TESTA1")]);
    assert!(!done && said.contains("The ODS code TESTA1 is that of Organization/testa1 already"), "{said}");
    let (done, said) = loads(&[organization("new", "TESTZ9"), organization("newer", "TESTZ9")]);
    assert!(!done && said.contains("Organization/new ") && said.contains("Organization/newer "), "{said}");
    let (done, said) = loads(&[organization("new", "TESTZ9")]);
    assert!(done && said.contains("1 new"), "nothing of a file that was refused was kept: {said}");
    // The code goes from one to the other in one file.
    let (done, said) = loads(&[organization("new", "TESTZ8"), organization("newer", "TESTZ9")]);
    assert!(done && said.contains("1 new, 1 changed"), "{said}");
}

#[test]
fn a_command_that_only_looks_makes_no_database() {
    let terminal = Terminal::new();
    for arguments in [
        "client list",
        "client disable one",
        "delivery list",
        "delivery list --json",
        "delivery show one",
        "delivery replay one",
        "delivery cancel one --reason x",
    ] {
        let (done, said) = terminal.says(OURS, &arguments.split(' ').collect::<Vec<_>>());
        assert!(!done && said.contains("not there yet"), "{arguments}: {said}");
        let files: Vec<_> =
            std::fs::read_dir(terminal.0.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files, [std::ffi::OsStr::new("keys.json")], "{arguments}");
    }
    assert!(terminal.says(OURS, &["key", "list"]).1.starts_with("No key yet"));
    assert!(!terminal.0.path().join("livewell.db").exists());
    assert_eq!(terminal.says(OURS, &["client", "list"]).1.lines().count(), 1, "one sentence");
}
