//! MESH as it may misbehave; how it behaves is tried on NHS England's own sandbox, in `tests/it/mesh.rs`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Write;

use super::*;

fn settings() -> config::Mesh {
    config::Mesh {
        url: Some("https://mesh.example".into()),
        mailbox: "X26ABC1".into(),
        password: "hunter2".into(),
        shared_key: "hunter3".into(),
        ..config::Mesh::default()
    }
}

#[test]
fn nothing_of_the_secrets_or_of_a_message_is_printed() {
    let mesh = Mesh::open(&settings(), &OutboundSettings::default()).unwrap().unwrap();
    let post = MeshPost { local_id: "d-1".into(), to: "X26ABC2".into(), body: b"SECRET".to_vec(), look_first: false };
    let printed = format!("{mesh:?} {post:?} {:?}", settings());
    assert!(!printed.contains("hunter") && !printed.contains("SECRET") && printed.contains("X26ABC1"), "{printed}");
}

#[test]
fn without_an_address_there_is_no_mesh_and_with_wrong_files_a_sentence() {
    let outbound = OutboundSettings::default();
    assert!(Mesh::open(&config::Mesh::default(), &outbound).unwrap().is_none());
    let folder = tempfile::tempdir().unwrap();
    let rubbish = folder.path().join("rubbish.pem");
    std::fs::File::create(&rubbish).unwrap().write_all(b"rubbish").unwrap();
    let opened = |change: &dyn Fn(&mut config::Mesh)| {
        let mut changed = settings();
        change(&mut changed);
        Mesh::open(&changed, &outbound).unwrap_err().to_string()
    };
    assert!(opened(&|m| m.ca = Some(folder.path().join("none.pem"))).starts_with("mesh.ca cannot be read"));
    assert!(opened(&|m| m.ca = Some(rubbish.clone())).starts_with("mesh.ca is not PEM"));
    let both = |m: &mut config::Mesh| {
        m.certificate = Some(rubbish.clone());
        m.key = Some(rubbish.clone());
    };
    assert!(opened(&both).starts_with("mesh.certificate is not PEM"));
    assert!(opened(&|m| m.url = Some("mesh".into())).starts_with("mesh.url is not a URL"));
}

#[test]
fn of_an_error_the_codes_are_kept_and_nothing_else() {
    let error = serde_json::json!({ "detail": [
        { "event": "SEND", "code": "12", "msg": "Unregistered to address for Ada Testperson" },
        { "event": "Ada Testperson", "code": "13" },
    ]});
    assert_eq!(codes(&error).as_deref(), Some("SEND 12"));
    assert_eq!(codes(&serde_json::json!({ "detail": "Forbidden" })), None);
}
