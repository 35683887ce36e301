//! The documents that were published, as they lie in the folder of test data.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use livewell::fhir::codec::{Limits, read_json, read_xml};
use serde_json::Value;

use crate::test_data;

pub(crate) const JSON: &str = "application/fhir+json";
pub(crate) const XML: &str = "application/fhir+xml";

/// A document as it was published.
pub(crate) struct Document {
    /// Below the folder.
    pub(crate) name: String,
    pub(crate) media: &'static str,
    pub(crate) text: String,
    /// As it is read here; nothing where it cannot be.
    pub(crate) value: Option<Value>,
}

/// Every JSON and XML document below the folders, in the order of their names.
pub(crate) fn documents(below: &[&str]) -> Vec<Document> {
    let root = test_data::folder();
    let mut folders: Vec<PathBuf> = below.iter().filter_map(|name| test_data::present(name)).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension().and_then(|e| e.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("json") => found.extend(document(&root, &path, JSON)),
                Some("xml") => found.extend(document(&root, &path, XML)),
                _ => {}
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

pub(crate) fn document(root: &Path, path: &Path, media: &'static str) -> Option<Document> {
    let text = fs::read_to_string(path).ok()?;
    let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let limits = Limits::default();
    let read = if media == XML { read_xml(text.as_bytes(), &limits) } else { read_json(text.as_bytes(), &limits) };
    Some(Document { name, media, value: read.ok().map(|resource| resource.into_value()), text })
}

/// The Patients of a set of folders, by their id.
pub(crate) fn patients(documents: &[Document]) -> HashMap<(String, String), Value> {
    let mut found = HashMap::new();
    for document in documents {
        let Some(value) = &document.value else { continue };
        let top = document.name.split('/').next().unwrap_or_default();
        let inside = value["entry"].as_array().into_iter().flatten().map(|entry| &entry["resource"]);
        for patient in inside.chain([value]).filter(|r| r["resourceType"] == "Patient") {
            if let Some(id) = patient["id"].as_str() {
                found.entry((top.to_owned(), id.to_owned())).or_insert_with(|| patient.clone());
            }
        }
    }
    found
}
