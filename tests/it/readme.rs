//! The README's first referral, pasted as a newcomer would paste it.

use std::process::{Command, Stdio};

use crate::support::free_port;

const README: &str = include_str!("../../README.md");
const SECTION: &str = "## A first referral";

/// The `bash` blocks of the section, in their order.
fn script() -> String {
    let section = README.split_once(SECTION).unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```bash\n").skip(1).map(|block| block.split_once("```").unwrap().0);
    blocks.collect()
}

fn is_here(program: &str) -> bool {
    Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[test]
fn a_newcomer_can_paste_the_first_referral() {
    if let Some(missing) = ["bash", "openssl", "curl"].into_iter().find(|program| !is_here(program)) {
        println!("skipped: {missing} is not here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let free = format!("127.0.0.1:{}", free_port());
    let script = script();
    assert!(script.matches("127.0.0.1:8080").count() >= 2, "{script}");
    // A person reads what a command said; here any that fails ends the paste.
    let pasted = format!("set -euo pipefail\ntrap 'kill %1' EXIT\n{}", script.replace("127.0.0.1:8080", &free));
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_livewell")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(binary.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let ran = Command::new("bash")
        .arg("-c")
        .arg(pasted)
        .env("PATH", path.unwrap())
        .env("SOURCE", env!("CARGO_MANIFEST_DIR"))
        .env("TMPDIR", folder.path())
        .env("LIVEWELL_HTTP_LISTEN", &free)
        .output()
        .unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}\n{wrong}");
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    assert!(said.contains("0 wrong"), "{said}");
    assert!(said.contains("surgery may call for TESTA1"), "{said}");
    assert!(said.contains("\"value\":\"LW-"), "{said}");
    assert!(lines.contains(&"200"), "the resend is answered with the first: {said}");
    assert!(said.contains("\"owner\":{\"reference\":\"PractitionerRole/coach-north\""), "{said}");
    let status = lines.iter().find(|line| line.starts_with("{\"resourceType\":\"Parameters\"")).unwrap();
    assert!(status.contains("contact-patient") && status.contains("LW-"), "{status}");
}
