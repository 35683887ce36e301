//! The arrows between the rooms of `src/`, and which crate belongs to which room. A rule that nobody checks is a comment.

use std::path::Path;

/// A room, and the other rooms that it may use. Files directly in `src/` wire the rooms together and may use all.
const ROOMS: &[(&str, &[&str])] = &[
    ("fhir", &[]),
    ("pathway", &["fhir"]),
    ("store", &["pathway", "fhir", "time"]),
    ("workflow", &["store", "pathway", "fhir", "time"]),
    ("outbound", &["pathway", "fhir", "time", "config"]),
    ("worker", &["workflow", "store", "outbound", "pathway", "fhir", "time", "config"]),
    ("auth", &["store", "outbound", "pathway", "fhir", "time", "config"]),
    ("api", &["workflow", "store", "auth", "pathway", "fhir", "time", "config"]),
    (
        "demo",
        &["api", "app", "auth", "cli", "config", "fhir", "outbound", "pathway", "store", "time", "workflow", "worker"],
    ),
];

/// The wiring: may use everything, and is used by the rooms only as [`ROOMS`] says.
const WIRING: &[&str] = &["app", "build", "cli", "config", "lib", "main", "telemetry", "time"];

/// A crate, and the only places that may know it, tests aside: a test in `outbound` may well play a practice with axum.
const CRATES: &[(&str, &[&str])] = &[
    ("axum", &["api", "demo"]),
    ("tower", &["api", "demo"]),
    ("tower_http", &["api"]),
    ("hyper", &["api", "demo", "outbound"]),
    ("hyper_util", &["api", "demo"]),
    ("reqwest", &["outbound", "demo"]),
    ("sqlx", &["store"]),
    ("sqlx_macros", &["store"]),
    ("libsqlite3_sys", &["store"]),
    ("fhirbolt_element", &["fhir"]),
    ("fhirbolt_serde", &["fhir"]),
    ("fhirbolt_shared", &["fhir"]),
    ("clap", &["cli", "main"]),
    ("toml", &["config"]),
    ("tracing_subscriber", &["telemetry"]),
];

/// What the pure rooms (`fhir`, `pathway`) do without: I/O, concurrency, chance, the log.
const IMPURE: &[&str] = &["tokio", "tokio_util", "tracing", "rand"];
const IMPURE_WORDS: &[&str] = &["async", "new_v4", "now_v7"];

#[test]
fn the_arrows_between_the_rooms_run_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 10, "the sources were not found");
    let sources: Vec<(String, String)> = files
        .iter()
        .map(|file| {
            (file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(file).unwrap())
        })
        .collect();
    let tests: Vec<String> = sources.iter().flat_map(|(path, source)| test_modules(path, source)).collect();
    let is_test = |path: &str| {
        let module = path.trim_end_matches(".rs");
        tests
            .iter()
            .any(|test| module.strip_prefix(test.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let mut found = Vec::new();
    for (path, source) in &sources {
        found.extend(violations(path, source, is_test(path)));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// What the file at `path` (below `src/`) uses and may not, a sentence each. The whole file is tests: `is_test`.
fn violations(path: &str, source: &str, is_test: bool) -> Vec<String> {
    let modules: Vec<&str> = path.trim_end_matches(".rs").split('/').filter(|m| *m != "mod").collect();
    let room = modules[0];
    let allowed = ROOMS.iter().find(|(name, _)| *name == room).map(|(_, uses)| *uses);
    let wiring = WIRING.contains(&room);
    if allowed.is_none() && !wiring {
        return vec![format!("{path}: `{room}` is no room: give it its arrows in tests/it/layering.rs")];
    }
    let code = without_comments_and_text(source);
    let tokens = tokens(&code);
    let mut found = Vec::new();
    for target in arrows(&tokens, modules.len()) {
        let known = wiring_or_room(target);
        if known && target != room && allowed.is_some_and(|uses| !uses.contains(&target)) {
            found.push(format!("{path}: `{room}` must not use `{target}`"));
        }
    }
    let product = if is_test { &[][..] } else { &tokens[..start_of_tests(&tokens)] };
    for (at, token) in product.iter().enumerate() {
        let begins_path = at == 0 || !["::", "."].contains(&tokens[at - 1]);
        let is_path = tokens.get(at + 1) == Some(&"::") || (at > 0 && tokens[at - 1] == "use");
        let owner = CRATES.iter().find(|(name, _)| name == token);
        if let Some((name, owners)) = owner
            && begins_path
            && is_path
            && !owners.contains(&room)
        {
            found.push(format!("{path}: `{name}` belongs to {}", owners.join(" and ")));
        }
        let pure = ["fhir", "pathway"].contains(&room);
        if pure && (IMPURE_WORDS.contains(token) || (IMPURE.contains(token) && begins_path && is_path)) {
            found.push(format!("{path}: `{room}` is pure and does without `{token}`"));
        }
    }
    found.dedup();
    found
}

/// Where the tests at the end of a file begin, `#[cfg(test)] mod tests {`; the end when there are none.
fn start_of_tests(tokens: &[&str]) -> usize {
    test_mods(tokens).find(|(_, _, end)| *end == "{").map_or(tokens.len(), |(at, _, _)| at)
}

/// The modules that the file at `path` declares as tests in files of their own, as paths without `.rs`.
fn test_modules(path: &str, source: &str) -> Vec<String> {
    let folder = path.trim_end_matches(".rs").trim_end_matches("mod");
    let folder = folder.trim_end_matches('/');
    let code = without_comments_and_text(source);
    let tokens = tokens(&code);
    test_mods(&tokens).filter(|(_, _, end)| *end == ";").map(|(_, name, _)| format!("{folder}/{name}")).collect()
}

/// Each `#[cfg(test)] mod NAME`, with any attributes between: where it begins, its name, and the sign after the name.
fn test_mods<'t, 's>(tokens: &'t [&'s str]) -> impl Iterator<Item = (usize, &'s str, &'s str)> + 't {
    let marks = (0..tokens.len()).filter(|at| tokens[*at..].starts_with(&["cfg", "(", "test", ")", "]"]));
    marks.filter_map(|at| {
        let mut next = at + 5;
        while tokens.get(next) == Some(&"#") {
            next += 1 + tokens[next..].iter().position(|token| *token == "]")?;
        }
        let [kind, name, end] = tokens.get(next..next + 3)? else { return None };
        (*kind == "mod").then_some((at, *name, *end))
    })
}

fn wiring_or_room(name: &str) -> bool {
    WIRING.contains(&name) || ROOMS.iter().any(|(room, _)| *room == name)
}

/// The first name after `crate::`, after enough `super::` to leave the file's `depth` modules, and at the start of
/// each branch of `crate::{...}`.
fn arrows<'s>(tokens: &[&'s str], depth: usize) -> Vec<&'s str> {
    let mut targets = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let mut next = at;
        while tokens.get(next) == Some(&"super") && tokens.get(next + 1) == Some(&"::") {
            next += 2;
        }
        let left_all = next > at && (next - at) / 2 >= depth;
        if tokens[at] == "crate" && tokens.get(at + 1) == Some(&"::") {
            next = at + 2;
        } else if !left_all {
            at = next.max(at + 1);
            continue;
        }
        if tokens.get(next) == Some(&"{") {
            let mut nested = 0;
            for pair in tokens[next..].windows(2) {
                match pair[0] {
                    "{" => nested += 1,
                    "}" => nested -= 1,
                    _ => {}
                }
                if nested == 0 {
                    break;
                }
                if nested == 1 && ["{", ","].contains(&pair[0]) {
                    targets.push(pair[1]);
                }
            }
        } else {
            targets.extend(tokens.get(next));
        }
        at = next;
    }
    targets
}

/// Names, `::`, and every other sign by itself.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = if name > 0 {
            name
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// The source without what is said in comments and string literals.
fn without_comments_and_text(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if c == '"' {
            text_length(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skip..];
    }
    code
}

/// Bytes of the string literal at the start of `rest`, with its quotes.
fn text_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn a_forbidden_arrow_is_found_however_it_is_written() {
    for (path, source) in [
        ("fhir/path.rs", "use crate::store::Tx;"),
        ("pathway/pam.rs", "fn now() { let t = crate::time::Clock::System; }"),
        ("store/mod.rs", "use crate::{fhir::Resource, api::serve};"),
        ("store/tasks.rs", "use crate::{\n    pathway::{a, b},\n    workflow,\n};"),
        ("workflow/refer.rs", "use super::super::outbound::Verdict;"),
        ("workflow/refer.rs", "mod tests { use super::super::super::api::x; }"),
        ("outbound/mod.rs", "use crate::store;"),
        ("worker/mod.rs", "use crate::api::edge;"),
        ("api/edge/body.rs", "use crate::worker::Wake;"),
        ("api/edge/body.rs", "use super::super::super::outbound::x;"),
        ("api/mod.rs", "pub(crate) use crate::app::App;"),
        ("auth/mod.rs", "use crate::demo;"),
        ("cellar/mod.rs", ""),
    ] {
        assert_eq!(violations(path, source, false).len(), 1, "{path}: {source}");
    }
}

#[test]
fn a_crate_outside_its_room_is_found() {
    for (path, source) in [
        ("workflow/refer.rs", "use sqlx::Row;"),
        ("app.rs", "async fn f() { sqlx::query(\"select 1\"); }"),
        ("api/mod.rs", "use reqwest;"),
        ("worker/mod.rs", "use axum::Router;"),
        ("fhir/mod.rs", "async fn parse() {}"),
        ("pathway/mod.rs", "fn f() { tracing::info!(\"x\"); }"),
        ("pathway/mod.rs", "fn id() { Uuid::new_v4(); }"),
        ("worker/mod.rs", "use axum::Router;\n#[cfg(test)]\nmod tests { use sqlx::Row; }"),
    ] {
        assert_eq!(violations(path, source, false).len(), 1, "{path}: {source}");
    }
}

#[test]
fn tests_may_know_any_crate_but_no_forbidden_room() {
    let inline = "#[cfg(test)]\n#[expect(clippy::unwrap_used, reason = \"tests\")]\nmod tests { use axum::Router; }";
    assert_eq!(violations("outbound/mod.rs", inline, false), Vec::<String>::new());
    assert_eq!(violations("outbound/practice.rs", "use axum::Router;", true), Vec::<String>::new());
    assert_eq!(violations("outbound/practice.rs", "use crate::api::x;", true).len(), 1);
    assert_eq!(test_modules("outbound/mod.rs", "mod token;\n#[cfg(test)]\nmod practice;"), ["outbound/practice"]);
    assert_eq!(test_modules("fhir/path.rs", "#[cfg(test)] mod tests;"), ["fhir/path/tests"]);
}

#[test]
fn what_is_allowed_or_only_spoken_of_is_no_violation() {
    for (path, source) in [
        ("api/mod.rs", "use crate::{store::Store, workflow, auth::Caller, time::Clock};\nuse axum::Router;"),
        ("api/edge/work.rs", "use super::{Edge, body::bounded};\nuse super::super::serve::x;"),
        (
            "store/mod.rs",
            "// use crate::api::x;\n/* sqlx and crate::api::y */ use sqlx::Row; let s = \"crate::api::z \\\" axum::\";",
        ),
        ("fhir/mod.rs", "/// See [`crate::store::Tx`].\nlet c = '\"'; let t = r#\"crate::api::x \"quoted\" \"#;"),
        ("time.rs", "mod tests { use super::*; }"),
        ("app.rs", "use crate::{api, worker, store, demo};"),
        ("outbound/mod.rs", "use reqwest::Client; use crate::pathway::delivery::Verdict;"),
    ] {
        assert_eq!(violations(path, source, false), Vec::<String>::new(), "{path}: {source}");
    }
}
