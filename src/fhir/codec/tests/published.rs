//! Examples and definitions that HL7, NHS England and others publish, where they lie beside the project.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fhir::codec::{Limits, read_json, read_xml, write_json, write_xml};

/// Larger files say nothing new and take a debug build seconds each.
const LARGEST: u64 = 150_000;

/// The folder of published documents, if there is one.
fn published() -> Option<PathBuf> {
    let folder = match std::env::var_os("TEST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    if !folder.is_dir() {
        eprintln!("No published examples at {}: nothing tried. TEST_DATA names the folder.", folder.display());
        return None;
    }
    Some(folder)
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) && path.metadata().unwrap().len() < LARGEST {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The same document in JSON.
fn twin(xml: &Path) -> Option<PathBuf> {
    let file = Path::new(xml.file_name()?).with_extension("json");
    let folder = xml.parent()?;
    let derived = folder.with_file_name(format!("{}-json-derived", folder.file_name()?.to_str()?)).join(&file);
    let beside = [folder.join(&file), folder.with_file_name("json").join(&file), derived];
    beside.into_iter().find(|path| path.is_file())
}

/// An XML parser reads every line end as a line feed, in the narrative too.
fn with_line_feeds(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(div)) = fields.get_mut("div") {
                *div = div.replace("\r\n", "\n").replace('\r', "\n");
            }
            fields.values_mut().for_each(with_line_feeds);
        }
        Value::Array(items) => items.iter_mut().for_each(with_line_feeds),
        _ => {}
    }
}

#[test]
fn published_xml_says_what_its_json_twin_says() {
    let Some(folder) = published() else { return };
    // Not FHIR; a StructureDefinition of STU3; a stray letter between two elements.
    let refused = [
        "tests-fhir-r4.xml",
        "fhir-patch-tests.xml",
        "xml-patch-tests.xml",
        "myconsent-ext.xml",
        "CodeSystem-UKCore-EthnicCategoryScotland.xml",
    ];
    let limits = Limits::default();
    let (mut read, mut twins) = (0, 0);
    for path in files(&folder, "xml") {
        let bytes = fs::read(&path).unwrap();
        let resource = match read_xml(&bytes, &limits) {
            Ok(resource) => resource,
            Err(invalid) => {
                assert!(refused.iter().any(|known| path.ends_with(known)), "{}: {invalid:?}", path.display());
                continue;
            }
        };
        read += 1;
        let again = read_xml(&write_xml(&resource, true).unwrap(), &limits).unwrap();
        assert_eq!(again.value(), resource.value(), "{}", path.display());
        if let Some(twin) = twin(&path) {
            let twin = read_json(&fs::read(twin).unwrap(), &limits).unwrap();
            assert_eq!(resource.value(), twin.value(), "{}", path.display());
            twins += 1;
        }
    }
    eprintln!("{read} XML documents read and written, {twins} equal to their JSON twins");
    assert!(read > 0 && twins > 0);
}

#[test]
fn published_json_comes_back_from_json_and_xml() {
    let Some(folder) = published() else { return };
    let limits = Limits::default();
    let (mut read, mut through_xml, mut no_xml_form) = (0, 0, 0);
    for path in files(&folder, "json") {
        let resource = match read_json(&fs::read(&path).unwrap(), &limits) {
            Ok(resource) => resource,
            Err(invalid) => {
                // Not FHIR; `type` twice; an empty object.
                let known = invalid.issues[0].text.contains("resourceType")
                    || path.ends_with("document_reference/GET-success.json")
                    || path.ends_with("Personal_Details_RelatedPersonBundle.json");
                assert!(known, "{}: {invalid:?}", path.display());
                continue;
            }
        };
        read += 1;
        assert_eq!(read_json(&write_json(&resource, false), &limits).unwrap(), resource, "{}", path.display());
        let Ok(xml) = write_xml(&resource, false) else {
            // Elements R4 does not have, objects where arrays belong, text where objects belong.
            let nhs = ["uk-bars-api", "uk-ers-api", "uk-pca-api"].iter().any(|api| path.starts_with(folder.join(api)));
            assert!(nhs, "{}: {:?}", path.display(), write_xml(&resource, false));
            no_xml_form += 1;
            continue;
        };
        let mut sent = resource.into_value();
        with_line_feeds(&mut sent);
        assert_eq!(read_xml(&xml, &limits).unwrap().value(), &sent, "{}", path.display());
        through_xml += 1;
    }
    eprintln!(
        "{read} JSON documents read and written, {through_xml} through XML too, {no_xml_form} without an XML form"
    );
    assert!(read > 0 && through_xml > no_xml_form);
}
