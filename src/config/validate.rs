//! Whether the settings make sense: a sentence for each that does not.

use super::{Config, Delivery, Http, Profiles};
use crate::fhir::check::is_resource_type;
use crate::telemetry;

impl Config {
    /// What is wrong with the settings, a sentence each that says the key, its value and what is allowed;
    /// empty when nothing is. Looks at no file, address or database.
    pub fn validate(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        self.check_database(&mut wrong);
        self.http.check(&mut wrong);
        if let Some(code) = &self.service.organization
            && !is_ods(code)
        {
            wrong.push(ods_sentence("service.organization", code));
        }
        range(&mut wrong, "database.connections", self.database.connections.into(), 1, 500);
        range(&mut wrong, "auth.token_seconds", self.auth.token_seconds, 1, 300);
        for (key, path) in [
            ("auth.next_signing_key", &self.auth.next_signing_key),
            ("auth.previous_signing_key", &self.auth.previous_signing_key),
        ] {
            if path.is_some() && self.auth.signing_key.is_none() {
                wrong.push(format!(
                    "{key} is set, but not auth.signing_key: give the file that signs, or take it away (`livewell key rotate` replaces a key in the database)"
                ));
            }
        }
        self.delivery.check(&mut wrong);
        for (code, practice) in &self.delivery.practice {
            if !is_ods(code) {
                wrong.push(ods_sentence("delivery.practice", code));
            }
            if practice.client_id.trim().is_empty() {
                wrong.push(format!("delivery.practice.{code}.client_id is empty: give the client id, or leave it out"));
            }
        }
        self.profiles.check(&mut wrong);
        for (key, kinds) in [("fhir.read_only", &self.fhir.read_only), ("fhir.off", &self.fhir.off)] {
            for kind in kinds.iter().filter(|kind| !is_resource_type(kind)) {
                wrong.push(format!("{key} has `{kind}`, which is no R4 resource type: give one, such as Claim"));
            }
        }
        self.mesh.check(&mut wrong, self.delivery.allow_private_addresses);
        range(&mut wrong, "limits.bytes", self.limits.bytes as u64, 1_000, 1_000_000_000);
        range(&mut wrong, "limits.values", self.limits.values as u64, 1_000, 100_000_000);
        range(&mut wrong, "limits.entries", self.limits.entries as u64, 1, 1_000_000);
        // The JSON reader itself stops at 128 levels.
        range(&mut wrong, "limits.depth", self.limits.depth as u64, 8, 120);
        range(&mut wrong, "limits.issues", self.limits.issues as u64, 1, 10_000);
        if let Err(error) = telemetry::filter(&self.telemetry.level) {
            wrong.push(error.to_string());
        }
        wrong
    }

    fn check_database(&self, wrong: &mut Vec<String>) {
        let url = &self.database.url;
        let known = ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| url.0.starts_with(scheme));
        if !known {
            wrong.push(
                "database.url names no database we know: give sqlite:FILE or postgres://USER:PASSWORD@HOST/NAME"
                    .to_owned(),
            );
        } else if url.0.starts_with("sqlite:") && url.0.contains(":memory:") {
            wrong.push("database.url is in memory, where nothing outlives the process: give sqlite:FILE".to_owned());
        }
    }
}

impl Profiles {
    fn check(&self, wrong: &mut Vec<String>) {
        for code in self.practice.keys().filter(|code| !is_ods(code)) {
            wrong.push(ods_sentence("profiles.practice", code));
        }
        for kind in self.types.keys().filter(|kind| !is_resource_type(kind)) {
            wrong.push(format!("profiles.types has `{kind}`, which is no R4 resource type: give one, such as Patient"));
        }
    }
}

impl Delivery {
    fn check(&self, wrong: &mut Vec<String>) {
        range(wrong, "delivery.workers", self.workers as u64, 1, 1_000);
        range(wrong, "delivery.attempt_seconds", self.attempt_seconds, 1, 600);
        range(wrong, "delivery.lease_seconds", self.lease_seconds, 1, 600);
        if !(0.000_01..=10.0).contains(&self.pace) {
            wrong.push(format!("delivery.pace is {}: allowed is 0.00001 to 10", self.pace));
        }
        let practices = self.practice.keys().map(|code| (format!("delivery.practice.{code}"), self.limits(code)));
        let all = self.limits("");
        for (place, limits) in std::iter::once(("delivery".to_owned(), all)).chain(practices) {
            range(wrong, &format!("{place}.in_flight"), limits.in_flight.into(), 1, 1_000);
            range(wrong, &format!("{place}.per_minute"), limits.per_minute.into(), 1, 1_000_000);
            range(wrong, &format!("{place}.burst"), limits.burst.into(), 1, 100_000);
        }
    }
}

impl Http {
    fn check(&self, wrong: &mut Vec<String>) {
        match &self.base_url {
            Some(url) if !is_origin(url) => wrong.push(format!(
                "http.base_url is `{url}`, which is no origin: give scheme, host and port only, such as \
                 https://livewell.example, without /fhir"
            )),
            None if self.listen.ip().is_unspecified() => wrong.push(format!(
                "http.listen is {}, which is no address that a caller could use in a link: set http.base_url to the \
                 origin that callers use",
                self.listen
            )),
            _ => {}
        }
        range(wrong, "http.max_connections", self.max_connections as u64, 1, 1_000_000);
        range(wrong, "http.max_requests", self.max_requests as u64, 1, 1_000_000);
        range(wrong, "http.header_seconds", self.header_seconds, 1, 300);
        range(wrong, "http.body_seconds", self.body_seconds, 1, 3600);
        range(wrong, "http.request_seconds", self.request_seconds, 1, 3600);
        range(wrong, "http.drain_seconds", self.drain_seconds, 0, 3600);
    }
}

pub(super) fn range(wrong: &mut Vec<String>, key: &str, value: u64, least: u64, most: u64) {
    if !(least..=most).contains(&value) {
        wrong.push(format!("{key} is {value}: allowed is {least} to {most}"));
    }
}

/// Whether `code` has the shape of an ODS code: capital letters and digits, three or more.
pub(crate) fn is_ods(code: &str) -> bool {
    (3..=12).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn ods_sentence(key: &str, code: &str) -> String {
    format!("{key} `{code}` is no ODS code: give 3 to 12 capital letters and digits, such as TESTLW")
}

fn is_origin(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(host) = rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest)) else { return false };
    !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '@' | '\\'))
}

#[cfg(test)]
mod tests {
    use super::super::{DatabaseUrl, PracticeProfiles, ProfileMode};
    use super::*;

    fn wrong(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.validate().join("\n")
    }

    #[test]
    fn the_defaults_are_right() {
        assert_eq!(Config::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn each_wrong_setting_has_its_sentence() {
        assert!(wrong(|c| c.auth.token_seconds = 900).contains("auth.token_seconds is 900: allowed is 1 to 300"));
        assert!(wrong(|c| c.service.organization = Some("live well".into())).contains("service.organization"));
        assert!(wrong(|c| c.telemetry.level = "loud".into()).contains("telemetry.level"));
        let types = |c: &mut Config| c.profiles.types.extend([("Patients".to_owned(), Vec::new())]);
        assert!(wrong(types).contains("profiles.types has `Patients`"));
        let rejects = || ("the surgery".to_owned(), PracticeProfiles { mode: ProfileMode::Reject });
        assert!(wrong(|c| c.profiles.practice.extend([rejects()])).contains("profiles.practice"));
        assert!(wrong(|c| c.limits.depth = 5000).contains("limits.depth"));
        for url in ["https://a.example/fhir", "a.example", "https://", "https://u@a.example", "ftp://a.example"] {
            assert!(wrong(|c| c.http.base_url = Some(url.into())).contains("http.base_url"), "{url}");
        }
        for url in ["https://a.example", "http://127.0.0.1:8080", "https://a.example/", "http://[::1]:80"] {
            assert_eq!(wrong(|c| c.http.base_url = Some(url.into())), "", "{url}");
        }
        assert!(wrong(|c| c.http.listen = ([0, 0, 0, 0], 80).into()).contains("http.base_url"));
    }

    #[test]
    fn mesh_has_all_that_it_needs_or_is_not_used() {
        assert!(wrong(|c| c.mesh.poll_seconds = 60).contains("mesh.poll_seconds is 60: allowed is 300"));
        assert!(wrong(|c| c.mesh.mailbox = "X26".into()).contains("mesh.url"));
        let set = |c: &mut Config| {
            c.mesh.url = Some("https://mesh.example".into());
            c.mesh.mailbox = "X26".into();
            c.mesh.password = "pass".into();
            c.mesh.shared_key = "key".into();
        };
        assert_eq!(wrong(set), "");
        let plain = |c: &mut Config| {
            set(c);
            c.mesh.url = Some("http://127.0.0.1:1".into());
        };
        assert!(wrong(plain).contains("mesh.url is no https address"));
        assert_eq!(
            wrong(|c| {
                plain(c);
                c.delivery.allow_private_addresses = true;
            }),
            ""
        );
        assert!(
            wrong(|c| {
                set(c);
                c.mesh.password = "".into();
            })
            .contains("mesh.password is empty")
        );
        assert!(
            wrong(|c| {
                set(c);
                c.mesh.mailbox = "a b".into();
            })
            .contains("mesh.mailbox has characters")
        );
        assert!(
            wrong(|c| {
                set(c);
                c.mesh.key = Some("k.pem".into());
            })
            .contains("mesh.certificate and mesh.key")
        );
    }

    #[test]
    fn the_secrets_of_mesh_are_not_printed() {
        let mut config = Config::default();
        config.mesh.password = "hunter2".into();
        config.mesh.shared_key = "hunter3".into();
        assert!(!format!("{config:?}").contains("hunter"));
    }

    #[test]
    fn all_sentences_come_at_once() {
        let both = wrong(|c| {
            c.auth.token_seconds = 0;
            c.delivery.workers = 0;
        });
        assert_eq!(both.lines().count(), 2);
    }

    #[test]
    fn a_database_url_prints_without_its_password() {
        for (url, shown) in [
            ("postgres://lw:hun@ter2@db/livewell", "postgres://lw:[redacted]@db/livewell"),
            ("postgres://db/livewell?password=hunter2", "postgres://db/livewell?[redacted]"),
            ("postgres://lw@db/livewell", "postgres://lw@db/livewell"),
            ("sqlite:livewell.db?mode=rwc", "sqlite:livewell.db?mode=rwc"),
        ] {
            let config = Config {
                database: super::super::Database { url: DatabaseUrl(url.into()), ..Default::default() },
                ..Config::default()
            };
            let debug = format!("{config:?}");
            assert!(debug.contains(shown) && !debug.contains("ter2"), "{debug}");
        }
    }

    #[test]
    fn a_wrong_database_url_is_refused_without_being_shown() {
        let said = wrong(|c| c.database.url = DatabaseUrl("mysql://u:hunter2@h/d".into()));
        assert!(said.contains("database.url") && !said.contains("hunter2"), "{said}");
        assert!(wrong(|c| c.database.url = DatabaseUrl("sqlite::memory:".into())).contains("in memory"));
    }
}
