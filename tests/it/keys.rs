//! The keys the service signs with are replaced while it runs: the practice verifies what it is sent by the key set that
//! the service publishes, and no delivery is lost over it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use livewell::fhir::path;
use livewell::outbound::ServiceKey;
use livewell::worker::rotate_keys;
use serde_json::Value;

use crate::instances::{stop, three};
use crate::journey::{encounter, known, record, referred};
use crate::support::app::{self as harness, run_with};
use crate::support::binary::{Binary, run};
use crate::support::{Database, TestApp, on_each_database};

const HOUR: Duration = Duration::from_secs(3600);

/// The keys (`kid`) that an instance publishes, the oldest first.
async fn published(app: &TestApp, origin: &str) -> Vec<String> {
    let answer = app.http.get(format!("{origin}/.well-known/jwks.json")).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "max-age=900", "it is not kept for longer than a key waits");
    kids(&answer.text().await.unwrap())
}

fn kids(key_set: &str) -> Vec<String> {
    let set: Value = serde_json::from_str(key_set).unwrap();
    path::all(&set, "keys.kid").into_iter().map(|kid| kid.as_str().unwrap().to_owned()).collect()
}

/// Waits until the instances publish so many keys.
async fn until_published(app: &TestApp, origins: &[String], many: usize) -> Vec<String> {
    let patience = Instant::now() + Duration::from_secs(30);
    for origin in origins {
        while published(app, origin).await.len() != many {
            assert!(Instant::now() < patience, "{origin} does not follow: {:?}", published(app, origin).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    published(app, &origins[0]).await
}

/// Records something about people the practice knows, and sees it arrive.
async fn arrives(app: &TestApp, people: usize) {
    let coach = app.staff("coach-north").await;
    for _ in 0..people {
        let journey = known(app, "TESTA1", "routine").await;
        record(&coach, &encounter(app, &journey)).await;
    }
    app.settled().await;
    assert_eq!(app.count("delivery where state <> 'delivered'").await, 0);
}

on_each_database! {
    async fn a_new_key_is_published_before_it_signs_and_takes_over_without_a_restart(app: TestApp) {
        let here = [app.base.clone()];
        let practice = app.practice("TESTA1").await;
        for _ in 0..3 {
            referred(&app, "TESTA1", "routine").await;
        }
        let page = practice.get("/fhir/ServiceRequest?_count=1").await.expect(200).body;
        let next = path::all(&page, "link").into_iter().find(|link| link["relation"] == "next").unwrap()["url"].clone();

        let old = until_published(&app, &here, 1).await.remove(0);
        arrives(&app, 1).await;
        let (new, signs) = rotate_keys(&app.store(), app.clock.now(), false).await.unwrap();
        assert_eq!(signs, app.clock.now() + HOUR);
        let again = rotate_keys(&app.store(), app.clock.now(), false).await.unwrap_err().to_string();
        assert!(again.contains("There is a next key already"), "{again}");
        let (old, new) = (old.as_str(), new.kid());
        for (later, expected, signers) in [
            (Duration::ZERO, vec![old, new], vec![old]),
            // Tokens have run out, so that each step is by a new assertion. The practice kept the set it had at first.
            (HOUR - Duration::from_secs(60), vec![old, new], vec![old]),
            (Duration::from_secs(400), vec![old, new], vec![old, new]),
            (24 * HOUR, vec![new], vec![old, new]),
        ] {
            app.clock.advance(later);
            assert_eq!(until_published(&app, &here, expected.len()).await, expected);
            arrives(&app, 1).await;
            assert_eq!(app.stand_in.signers(), signers.into_iter().map(str::to_owned).collect::<BTreeSet<_>>());
        }
        let patience = Instant::now() + Duration::from_secs(30);
        while app.count("service_key").await > 1 {
            assert!(Instant::now() < patience, "what is over is not forgotten");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }

        app.restart().await;
        assert_eq!(published(&app, &app.base).await, [new]);
        arrives(&app, 1).await;
        let next = next.as_str().unwrap();
        app.practice("TESTA1").await.get(next).await.expect(200);
    }

    async fn a_key_that_got_out_is_withdrawn_at_once(app: TestApp) {
        let here = [app.base.clone()];
        let old = until_published(&app, &here, 1).await;
        arrives(&app, 1).await;
        let (next, _) = rotate_keys(&app.store(), app.clock.now(), false).await.unwrap();
        until_published(&app, &here, 2).await;
        let (new, signs) = rotate_keys(&app.store(), app.clock.now(), true).await.unwrap();
        assert_eq!(signs, app.clock.now());
        assert_eq!(until_published(&app, &here, 1).await, [new.kid()]);
        assert!(new.kid() != old[0] && new.kid() != next.kid());
        // The token has run out, and the set that the practice keeps has not: it asks again, for a key that it does not know.
        app.clock.advance(Duration::from_secs(360));
        arrives(&app, 1).await;
        assert_eq!(app.stand_in.signers(), BTreeSet::from([old[0].clone(), new.kid().to_owned()]));
    }
}

#[test]
fn three_instances_agree_on_the_key_while_it_is_replaced_and_no_delivery_is_lost() {
    harness::run(Database::Postgres, async |app: TestApp| {
        let (origins, running) = three(&app).await;
        let mut signers = BTreeSet::from([until_published(&app, &origins, 1).await.remove(0)]);
        arrives(&app, 6).await;
        let both = {
            let (one, other) = tokio::join!(
                async { rotate_keys(&app.store(), app.clock.now(), false).await.map(|(key, _)| key.kid().to_owned()) },
                async { rotate_keys(&app.store(), app.clock.now(), false).await.map(|(key, _)| key.kid().to_owned()) },
            );
            [one, other]
        };
        let made: Vec<&String> = both.iter().filter_map(|made| made.as_ref().ok()).collect();
        assert_eq!(made.len(), 1, "of two who rotate at once one does: {both:?}");
        signers.extend(made.into_iter().cloned());
        let all = until_published(&app, &origins, 2).await;
        for origin in &origins {
            assert_eq!(published(&app, origin).await, all);
        }
        for later in [HOUR, HOUR] {
            app.clock.advance(later);
            arrives(&app, 12).await;
        }
        assert_eq!(app.stand_in.signers(), signers, "each signed in its time");
        app.clock.advance(24 * HOUR);
        let left = until_published(&app, &origins, 1).await;
        arrives(&app, 6).await;
        assert_eq!(left, all[1..]);
        stop(running).await;
    });
}

/// New keys in files of this folder: their paths, and their `kid`s.
fn in_files(folder: &tempfile::TempDir, names: &[&str]) -> Vec<(PathBuf, String)> {
    let made = names.iter().map(|name| {
        let (path, pem) = (folder.path().join(name), ServiceKey::generate_pem().unwrap());
        std::fs::write(&path, &pem).unwrap();
        (path, ServiceKey::from_pem(&pem).unwrap().kid().to_owned())
    });
    made.collect()
}

#[test]
fn keys_in_files_are_replaced_in_the_configuration_each_known_before_and_after_it_signs() {
    let folder = tempfile::tempdir().unwrap();
    let keys = in_files(&folder, &["one.pem", "two.pem"]);
    let [(one, first), (two, second)] = <[_; 2]>::try_from(keys).unwrap();
    let (signing, next) = (one.clone(), two.clone());
    run_with(
        Database::Sqlite,
        move |config| {
            config.auth.signing_key = Some(signing);
            config.auth.next_signing_key = Some(next);
        },
        async move |mut app: TestApp| {
            assert_eq!(published(&app, &app.base).await, [first.clone(), second.clone()]);
            arrives(&app, 1).await;
            assert_eq!(app.count("service_key").await, 0, "none is made beside them");
            app.config.auth.signing_key = Some(two);
            app.config.auth.next_signing_key = None;
            app.config.auth.previous_signing_key = Some(one);
            app.clock.advance(HOUR);
            app.restart().await;
            assert_eq!(published(&app, &app.base).await, [second.clone(), first.clone()]);
            arrives(&app, 1).await;
            assert_eq!(app.stand_in.signers(), BTreeSet::from([first, second]));
            drop(folder);
        },
    );
}

#[test]
fn whoever_runs_the_service_lists_and_replaces_its_keys_from_the_terminal() {
    run(async {
        let service = Binary::new(Database::Sqlite).await.unwrap();
        let said = |arguments: &[&str], works: bool| {
            let ended = service.command(arguments).output().unwrap();
            assert_eq!(ended.status.success(), works, "{arguments:?}: {ended:?}");
            String::from_utf8(if works { ended.stdout } else { ended.stderr }).unwrap()
        };
        assert!(said(&["key", "list"], true).starts_with("No key yet"));
        service.start().await;
        let old = kids(&service.get("/.well-known/jwks.json").await).remove(0);
        assert_eq!(said(&["key", "list"], true), format!("{old} signs\n"));
        let made = said(&["key", "rotate"], true);
        let new = made.split(' ').next().unwrap();
        assert!(made.starts_with(&format!("{new} is published from now on, and signs from 20")), "{made}");
        assert!(said(&["key", "list"], true).starts_with(&format!("{old} signs\n{new} published, signs from 20")));
        let refused = said(&["key", "rotate"], false);
        assert!(refused.starts_with("livewell: There is a next key already"), "{refused}");
        let until = Instant::now() + Duration::from_secs(30);
        while kids(&service.get("/.well-known/jwks.json").await) != [old.as_str(), new] {
            assert!(Instant::now() < until, "the running service does not follow");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let made = said(&["key", "rotate", "--at-once"], true);
        let third = made.split(' ').next().unwrap();
        assert_eq!(said(&["key", "list"], true), format!("{third} signs\n"));
        assert!([&old, new].iter().all(|other| *other != third), "{made}");

        let file = in_files(&service.folder, &["key.pem"]);
        let named = service.beside().with("LIVEWELL_AUTH_SIGNING_KEY", file[0].0.to_str().unwrap());
        let ended = named.command(&["key", "rotate"]).output().unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success() && told.contains("auth.next_signing_key"), "{told}");
        service.end().await;
    });
}

#[test]
fn a_check_says_that_no_key_in_the_database_can_be_used() {
    run(async {
        let service = Binary::new(Database::Sqlite).await.unwrap();
        let asked = |arguments: &[&str]| {
            let ended = service.command(arguments).output().unwrap();
            (ended.status.success(), String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap())
        };
        service.does(&["key", "rotate"]);
        assert!(asked(&["check"]).0, "{}", asked(&["check"]).1);
        service.run("update service_key set pem = 'no key'").await;
        for arguments in [["check", ""], ["key", "list"], ["serve", ""]] {
            let arguments: Vec<&str> = arguments.into_iter().filter(|argument| !argument.is_empty()).collect();
            let (works, said) = asked(&arguments);
            assert!(!works && said.contains("livewell key rotate --at-once"), "{arguments:?}: {said}");
        }
        service.does(&["key", "rotate", "--at-once"]);
        assert!(asked(&["check"]).0, "{}", asked(&["check"]).1);
    });
}
