//! Four FHIR clients that nobody here wrote walk the referral loop against the real binary: what works for them works for
//! an integrator who took one of them off the shelf. `tests/run` installs them; where it cannot, they are skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::journey::{referral_of, somebody};
use crate::support::Database;
use crate::support::binary::Binary;
use crate::support::build;

/// A key for a client: its private half as PEM in `folder`, its public half as a key set.
fn key(folder: &Path, client: &str) -> Value {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let private = pair.to_pkcs8v1().unwrap();
    let mut public = serde_json::to_value(
        Jwk::from_encoding_key(&EncodingKey::from_ec_der(private.as_ref()), Algorithm::ES384).unwrap(),
    )
    .unwrap();
    public["kid"] = json!(client);
    let pem =
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(private.as_ref()));
    std::fs::write(folder.join(format!("{client}.pem")), pem).unwrap();
    json!({ "keys": [public] })
}

/// Serves, and lets a client's script walk the loop.
fn walks(mut client: Command) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let service = Binary::new(Database::Sqlite).await.unwrap();
        let folder = service.folder.path().to_owned();
        service.does(&["load", concat!(env!("CARGO_MANIFEST_DIR"), "/fhir-profiles/demo/directory.json")]);
        service.register_key("practice", "TESTA1", &key(&folder, "practice"), &[]);
        service.register_key("coach", "TESTLW", &key(&folder, "coach"), &["--staff", "PractitionerRole/coach-north"]);
        service.file("referral.json", &referral_of(&somebody(), "TESTA1", "routine"));
        service.file("encounter.json", &build::encounter("", ""));
        service.file("pam.json", &build::pam("56.4", 3));
        service.file(
            "document.json",
            &json!({ "resourceType": "DocumentReference", "status": "current",
            "content": [{ "attachment": { "contentType": "text/plain", "title": "Letter" } }] }),
        );
        service.start().await;
        client.env("LIVEWELL_BASE", service.url("")).env("LIVEWELL_WORK", &folder).env("NO_PROXY", "127.0.0.1");
        let said = tokio::task::spawn_blocking(move || client.output().unwrap()).await.unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert!(said.status.success() && text.contains("the loop is walked"), "{text}");
    });
}

/// Where `tests/run` put something, where it could.
fn installed(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped: {variable} is not set; tests/run installs the clients and sets it");
    }
    found
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// A script for the Python that `TEST_CLIENTS_PYTHON` names.
fn python(script: &str) {
    if let Some(python) = installed("TEST_CLIENTS_PYTHON") {
        let mut command = Command::new(python);
        command.arg(scripts().join(script)).env("PYTHONDONTWRITEBYTECODE", "1");
        walks(command);
    }
}

/// A script for Node.js, which looks for libraries beside it: in the folder that `TEST_CLIENTS_NODE` names.
fn node(script: &str) {
    if let Some(folder) = installed("TEST_CLIENTS_NODE") {
        let own = tempfile::tempdir_in(folder).unwrap();
        for file in ["service.mjs", script] {
            std::fs::copy(scripts().join(file), own.path().join(file)).unwrap();
        }
        let mut command = Command::new("node");
        command.arg(own.path().join(script));
        walks(command);
    }
}

#[test]
fn fhirpy_walks_the_referral_loop() {
    python("with_fhirpy.py");
}

#[test]
fn fhirclient_walks_the_referral_loop() {
    python("with_fhirclient.py");
}

#[test]
fn fhir_kit_client_walks_the_referral_loop() {
    node("with_fhir_kit_client.mjs");
}

#[test]
fn medplums_client_walks_the_referral_loop() {
    node("with_medplum.mjs");
}
