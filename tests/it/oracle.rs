//! An independent judge of FHIR R4: the fhirkit validator, where Python and its package are there.

use std::io::{Seek, Write};
use std::process::Command;

use serde_json::Value;

/// Its verdicts, one for each resource: `ok`, or its first error. None, and said, where it is not there.
///
/// `./tests/run` installs it and names its Python in `TEST_PYTHON`.
pub(crate) fn verdicts(resources: &[Value]) -> Option<Vec<String>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracles/fhirkit_verdicts.py");
    let python = std::env::var("TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let lines: String = resources.iter().map(|r| format!("{r}\n")).collect();
    let mut input = tempfile::tempfile().ok()?;
    input.write_all(lines.as_bytes()).ok()?;
    input.rewind().ok()?;
    let run = Command::new(python).arg(script).stdin(input).output().ok().filter(|o| o.status.success());
    if run.is_none() {
        eprintln!("skipped: no Python with the package fhirkit-rs");
    }
    Some(String::from_utf8_lossy(&run?.stdout).lines().map(str::to_owned).collect())
}
