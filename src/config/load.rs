//! Where the settings come from: defaults, then the file, then the environment.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::Config;

/// Why the settings could not be read. Says the key, where it was set, and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} line {line}: {said}", path.display())]
    File { path: PathBuf, line: usize, said: String },
    #[error("environment variable {name}: {said}")]
    Variable { name: String, said: String },
}

const PREFIX: &str = "LIVEWELL_";

/// The environment of this process, for [`Config::load`]. Variables that are not UTF-8 are left out: none of ours is,
/// and `std::env::vars` would panic on them.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

impl Config {
    /// The settings of the file at `path` (none: no file) under those of the environment `env` over the defaults.
    ///
    /// Reads only what is written; whether the values make sense together is [`Config::validate`]'s to say.
    /// Variables whose name does not begin with `LIVEWELL_` are left alone.
    ///
    /// # Errors
    /// An unreadable file, a key that does not exist, a value of the wrong kind.
    pub fn load(path: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        let mut config = match path {
            Some(path) => from_file(path)?,
            None => Config::default(),
        };
        // Sorted, so that the first error told does not depend on the order of the environment.
        let mut variables: Vec<_> = env.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        for (name, value) in variables {
            config = overlay(&config, &name, value).map_err(|said| ConfigError::Variable { name, said })?;
        }
        Ok(config)
    }
}

fn from_file(path: &Path) -> Result<Config, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| {
        // The error's own Display quotes the line, which may hold a password: its message and place do not.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
        ConfigError::File { path: path.to_owned(), line, said: said(&error) }
    })
}

/// `config` with the one setting that variable `name` holds; an error is a sentence without the name.
fn overlay(config: &Config, name: &str, value: String) -> Result<Config, String> {
    let mut table = Table::try_from(config).map_err(|e| e.to_string())?;
    let (section, key) = address(name)?;
    let Some(Value::Table(section_table)) = table.get_mut(&section) else {
        let sections: Vec<_> = table.keys().map(String::as_str).collect();
        return Err(format!("there is no section `{section}`; the sections are {}", sections.join(", ")));
    };
    if let Some((ods, own)) = practice(&section, &key) {
        let practices = section_table.entry("practice").or_insert_with(|| Table::new().into());
        if let Value::Table(practices) = practices {
            let practice = practices.entry(ods.to_owned()).or_insert_with(|| Table::new().into());
            if let Value::Table(practice) = practice {
                practice.insert(own.to_owned(), value.into());
            }
        }
    } else {
        let value = like(section_table.get(&key), value).map_err(|what| format!("{section}.{key} is {what}"))?;
        section_table.insert(key.clone(), value);
    }
    Config::deserialize(Value::Table(table)).map_err(|error| said(&error))
}

/// Section and key of a variable: `LIVEWELL_HTTP_BASE_URL` is `http` and `base_url`. A practice keeps its capitals.
fn address(name: &str) -> Result<(String, String), String> {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    let (section, key) = rest.split_once('_').ok_or("it names no key: use LIVEWELL_SECTION_KEY")?;
    let section = section.to_lowercase();
    match practice(&section, key) {
        Some(_) => Ok((section, key.to_owned())),
        None => Ok((section, key.to_lowercase())),
    }
}

/// The ODS code and the key in `DELIVERY_PRACTICE_<ODS>_CLIENT_ID` and `PROFILES_PRACTICE_<ODS>_MODE`.
fn practice<'k>(section: &str, key: &'k str) -> Option<(&'k str, &'static str)> {
    const KEYS: [(&str, &str, &str); 2] = [("delivery", "_CLIENT_ID", "client_id"), ("profiles", "_MODE", "mode")];
    let (_, suffix, own) = KEYS.into_iter().find(|(of, ..)| *of == section)?;
    key.strip_prefix("PRACTICE_")?.strip_suffix(suffix).filter(|ods| !ods.is_empty()).map(|ods| (ods, own))
}

/// `text` as a value of the kind that `present` is; keys without a default are text.
fn like(present: Option<&Value>, text: String) -> Result<Value, &'static str> {
    match present {
        Some(Value::Integer(_)) => text.trim().parse().map(Value::Integer).map_err(|_| "a whole number"),
        Some(Value::Float(_)) => text.trim().parse().map(Value::Float).map_err(|_| "a number"),
        Some(Value::Boolean(_)) => text.trim().parse().map(Value::Boolean).map_err(|_| "true or false"),
        Some(Value::Table(_)) => Err("a table: set its keys one by one"),
        _ => Ok(Value::String(text)),
    }
}

/// The error in one line.
fn said(error: &toml::de::Error) -> String {
    let said = error.message().trim().replace('\n', "; ");
    match said.contains("socket address") {
        true => format!("{said}: give address:port, such as 127.0.0.1:8080"),
        false => said,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::super::{LogFormat, NhsNumberPolicy, ProfileMode};
    use super::*;

    fn load(file: Option<&str>, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("livewell.toml");
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
        }
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(file.map(|_| path.as_path()), env)
    }

    fn error(file: Option<&str>, env: &[(&str, &str)]) -> String {
        load(file, env).unwrap_err().to_string()
    }

    #[test]
    fn without_file_and_variables_the_defaults_hold() {
        let config = load(None, &[("PATH", "/bin"), ("LIVEWELLNESS", "x")]).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.database.url.0, "sqlite:livewell.db");
        assert_eq!(config.http.origin(config.http.listen), "http://127.0.0.1:8080");
    }

    #[test]
    fn the_file_beats_the_defaults_and_the_environment_beats_the_file() {
        let file = "[http]\nlisten = '127.0.0.1:1'\nbase_url = 'https://a.example'\n[pathway]\nnhs_number = 'lenient'";
        let config = load(
            Some(file),
            &[
                ("LIVEWELL_HTTP_LISTEN", "127.0.0.1:2"),
                ("LIVEWELL_HTTP_MAX_CONNECTIONS", "7"),
                ("LIVEWELL_DELIVERY_ALLOW_PRIVATE_ADDRESSES", "true"),
                ("LIVEWELL_SERVICE_ORGANIZATION", "12345"),
                ("LIVEWELL_TELEMETRY_FORMAT", "json"),
                ("LIVEWELL_PROFILES_DIR", "/srv/profiles"),
            ],
        )
        .unwrap();
        assert_eq!(config.http.listen.port(), 2);
        assert_eq!(config.http.base_url.as_deref(), Some("https://a.example"));
        assert_eq!(config.http.max_connections, 7);
        assert!(config.delivery.allow_private_addresses);
        assert_eq!(config.service.organization.as_deref(), Some("12345"));
        assert_eq!(config.telemetry.format, LogFormat::Json);
        assert_eq!(config.pathway.nhs_number, NhsNumberPolicy::Lenient);
        assert_eq!(config.profiles.dir.as_deref(), Some(Path::new("/srv/profiles")));
    }

    #[test]
    fn a_practice_has_its_own_client_id_from_file_or_environment() {
        let file = "[delivery.practice.TESTA]\nclient_id = 'one'";
        let config = load(Some(file), &[("LIVEWELL_DELIVERY_PRACTICE_TESTB_CLIENT_ID", "two")]).unwrap();
        assert_eq!(config.delivery.client_id("TESTA"), "one");
        assert_eq!(config.delivery.client_id("TESTB"), "two");
        assert_eq!(config.delivery.client_id("TESTC"), "livewell");
    }

    #[test]
    fn a_practice_has_its_own_profile_mode_and_the_older_words_for_it_still_count() {
        let file = "[profiles]\nmode = 'enforce'\n[profiles.practice.TESTA]\nmode = 'flag'";
        let config = load(Some(file), &[("LIVEWELL_PROFILES_PRACTICE_TESTB_MODE", "off")]).unwrap();
        let modes = ["TESTA", "TESTB", "TESTC"].map(|ods| config.profiles.mode_for(ods));
        assert_eq!(modes, [ProfileMode::Warn, ProfileMode::Off, ProfileMode::Reject]);
        assert!(error(Some("[profiles]\nmode = 'strict'"), &[]).contains("strict"));
    }

    #[test]
    fn an_unknown_key_names_itself_its_place_and_what_is_allowed() {
        let said = error(Some("[http]\n\nlisen = 'x'"), &[]);
        assert!(
            said.contains("livewell.toml line 3") && said.contains("`lisen`") && said.contains("`listen`"),
            "{said}"
        );
        let said = error(None, &[("LIVEWELL_HTTP_LISEN", "x")]);
        assert!(
            said.contains("LIVEWELL_HTTP_LISEN") && said.contains("`lisen`") && said.contains("`listen`"),
            "{said}"
        );
        let said = error(None, &[("LIVEWELL_HTPP_LISTEN", "x")]);
        assert!(said.contains("LIVEWELL_HTPP_LISTEN") && said.contains("`htpp`") && said.contains("http,"), "{said}");
    }

    #[test]
    fn a_bad_value_names_its_key_its_place_and_what_is_allowed() {
        let said = error(Some("[telemetry]\nformat = 'xml'"), &[]);
        assert!(said.contains("line 2") && said.contains("`pretty` or `json`"), "{said}");
        let said = error(None, &[("LIVEWELL_HTTP_MAX_CONNECTIONS", "many")]);
        assert!(said.contains("http.max_connections is a whole number"), "{said}");
        let said = error(None, &[("LIVEWELL_DELIVERY_ALLOW_PRIVATE_ADDRESSES", "yes")]);
        assert!(said.contains("delivery.allow_private_addresses is true or false"), "{said}");
        let said = error(None, &[("LIVEWELL_HTTP_LISTEN", "8080")]);
        assert!(said.contains("LIVEWELL_HTTP_LISTEN") && said.contains("socket address"), "{said}");
    }

    #[test]
    fn an_error_in_the_file_does_not_quote_the_line_with_the_password() {
        let said = error(Some("[database]\nurl = 'postgres://u:hunter2@h/d' oops"), &[]);
        assert!(said.contains("line 2") && !said.contains("hunter2"), "{said}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Some(Path::new("/nowhere/livewell.toml")), std::iter::empty()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("/nowhere/livewell.toml") && said.contains("No such file"), "{said}");
    }
}
