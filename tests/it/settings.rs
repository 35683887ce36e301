//! The example configuration in `deploy/`: complete, and true.

use livewell::config::Config;
use toml::{Table, Value};

const EXAMPLE: &str = include_str!("../../deploy/livewell.example.toml");

/// The example with the keys that have no default taken out of their comments.
fn with_optional_keys() -> String {
    let is_setting =
        |line: &&str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let line = |line| str::strip_prefix(line, "# ").filter(is_setting).unwrap_or(line);
    EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_shows_the_defaults() {
    assert_eq!(toml::from_str::<Config>(EXAMPLE).unwrap(), Config::default());
}

#[test]
fn the_keys_without_a_default_work_as_the_example_shows_them() {
    let config: Config = toml::from_str(&with_optional_keys()).unwrap();
    assert_eq!(config.validate(), Vec::<String>::new());
    assert!(config.http.base_url.is_some() && config.service.organization.is_some());
    assert!(config.auth.signing_key.is_some() && config.profiles.dir.is_some() && config.delivery.practice.len() == 1);
}

#[test]
fn the_example_has_every_key_there_is() {
    let example: Table = with_optional_keys().parse().unwrap();
    let sections = keys_of("nope = 1");
    assert!(sections.len() >= 9, "{sections:?}");
    for section in sections {
        let shown = example.get(&section).and_then(Value::as_table).unwrap_or_else(|| panic!("[{section}] is missing"));
        for key in keys_of(&format!("[{section}]\nnope = 1")) {
            assert!(shown.contains_key(&key), "{section}.{key} is missing");
        }
    }
}

/// The keys that the refusal of an unknown one names.
fn keys_of(wrong: &str) -> Vec<String> {
    let said = toml::from_str::<Config>(wrong).unwrap_err().message().to_owned();
    let expected = said.split_once("expected").unwrap().1;
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
