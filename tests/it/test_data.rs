//! Published examples and definitions that are not part of the repository: where they lie, and how to read them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The folder of published inputs: `TEST_DATA`, else `../shared/data` beside the repository.
pub(crate) fn folder() -> PathBuf {
    match std::env::var_os("TEST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    }
}

/// A path inside the folder, or nothing (and a said line) where it is absent: the tests pass without it.
pub(crate) fn present(below: &str) -> Option<PathBuf> {
    let path = folder().join(below);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not here", path.display());
    None
}

/// Every readable JSON file below a folder, by file name.
pub(crate) fn json_files(below: &Path) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "json")
                && let Ok(value) = serde_json::from_slice(&fs::read(&path).expect("a readable file"))
            {
                found.push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), value));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}
