//! Synthea's synthetic patients, each as one transaction, where the published files are at hand.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::client::Ask;
use super::load::Act;
use super::population::PRACTICES;
use super::workloads::act;

/// The published files.
pub(crate) struct Synthea {
    /// Hospitals and practitioners, which the patients' Bundles refer to by condition.
    pub(crate) directory: Vec<PathBuf>,
    patients: Vec<PathBuf>,
}

impl Synthea {
    /// They are not part of the repository.
    pub(crate) fn at_hand() -> Option<Synthea> {
        let data = std::env::var_os("TEST_DATA").map(PathBuf::from);
        let data = data.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
        let files = std::fs::read_dir(data.join("synthea/blaze-2021")).ok()?.flatten().map(|file| file.path());
        let is_directory =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("0-"));
        let (mut directory, mut patients): (Vec<_>, Vec<_>) = files.partition(is_directory);
        directory.sort();
        patients.sort();
        (!patients.is_empty()).then_some(Synthea { directory, patients })
    }

    /// Sends them in turn, whole, by all practices.
    pub(crate) fn transaction(&self, practices: Vec<String>) -> Result<Act, String> {
        let mut bundles = Vec::new();
        for file in &self.patients {
            let text = std::fs::read(file).map_err(|e| e.to_string())?;
            bundles.push(Ask::post("/fhir", "", &serde_json::from_slice::<Value>(&text).map_err(|e| e.to_string())?));
        }
        Ok(act(200, move |number| {
            let number = number as usize;
            Ask { token: practices[number % PRACTICES].clone(), ..bundles[number % bundles.len()].clone() }
        }))
    }
}
