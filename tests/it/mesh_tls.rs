//! MESH knows its callers by their certificate: with ours the service is let in, without it or with another's it says so,
//! and what waited goes when that is put right. The sandbox speaks TLS and wants a certificate of the test's own issuer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::journey::{encounter, record, referred};
use crate::mesh::by_mesh;
use crate::support::app::run_with;
use crate::support::mesh::{Mailbox, Sandbox, configured};
use crate::support::{Database, TestApp};

/// An issuer of certificates, by `openssl`, in a folder of its own.
struct Issuer {
    folder: PathBuf,
}

impl Issuer {
    fn new(folder: PathBuf) -> Issuer {
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("ca.cnf"), "[req]\ndistinguished_name=dn\nx509_extensions=ca\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n").unwrap();
        let issuer = Issuer { folder };
        let arguments = "req -x509 -days 2 -subj /CN=Issuer -config ca.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem";
        issuer.openssl(arguments);
        issuer
    }

    fn openssl(&self, arguments: &str) {
        let ended = Command::new("openssl").args(arguments.split(' ')).current_dir(&self.folder).output().unwrap();
        assert!(ended.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&ended.stderr));
    }

    /// A certificate of this name and its key, for `usage` (`serverAuth`, `clientAuth`).
    fn issues(&self, name: &str, usage: &str) -> (PathBuf, PathBuf) {
        std::fs::write(self.file("ext.cnf"), format!("subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n"))
            .unwrap();
        self.openssl(&format!("req -new -subj /CN={name} -config ca.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext.cnf -out {name}.pem"
        ));
        (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// `livewell check` with these settings of `[mesh]`: whether it is content, and what it says of MESH.
fn checked(app: &TestApp, url: &str, ca: &Path, certificate: Option<&(PathBuf, PathBuf)>) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livewell"));
    command.arg("check").env("LIVEWELL_DATABASE_URL", &app.config.database.url.0);
    command.env("LIVEWELL_MESH_URL", url).env("LIVEWELL_MESH_CA", ca).env("LIVEWELL_MESH_MAILBOX", "X26ABC1");
    command.env("LIVEWELL_MESH_PASSWORD", "password").env("LIVEWELL_MESH_SHARED_KEY", "BackBone");
    command.env("LIVEWELL_DELIVERY_ALLOW_PRIVATE_ADDRESSES", "true");
    if let Some((certificate, key)) = certificate {
        command.env("LIVEWELL_MESH_CERTIFICATE", certificate).env("LIVEWELL_MESH_KEY", key);
    }
    let ended = command.output().unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    let of_mesh = said.lines().find(|line| line.contains("MESH")).unwrap_or_default().to_owned();
    (ended.status.success(), of_mesh)
}

fn client(issuer: &Issuer, (certificate, key): &(PathBuf, PathBuf)) -> reqwest::Client {
    let mut pem = std::fs::read(certificate).unwrap();
    pem.extend(std::fs::read(key).unwrap());
    let ca = reqwest::Certificate::from_pem(&std::fs::read(issuer.file("ca.pem")).unwrap()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]);
    client.identity(reqwest::Identity::from_pem(&pem).unwrap()).build().unwrap()
}

#[test]
fn mesh_lets_the_service_in_by_its_certificate_and_a_refusal_is_told_clearly() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::new(folder.path().join("issuer"));
    let (server, server_key) = issuer.issues("server", "serverAuth");
    let (ours, practices) = (issuer.issues("livewell", "clientAuth"), issuer.issues("practice", "clientAuth"));
    let strangers = Issuer::new(folder.path().join("stranger")).issues("livewell", "clientAuth");
    let ca = issuer.file("ca.pem");
    let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let Some(sandbox) = Sandbox::start(&[&text(&server), &text(&server_key), &text(&ca)]) else { return };
    let url = sandbox.url();
    let practice = Mailbox::of_practice(&url, &client(&issuer, &practices));
    let (at, its) = (url.clone(), ca.clone());
    run_with(
        Database::Sqlite,
        move |config| {
            configured(config, &at);
            config.mesh.ca = Some(its);
        },
        async move |mut app: TestApp| {
            let _kept = (sandbox, folder);
            by_mesh(&app, "TESTA1").await;
            let journey = referred(&app, "TESTA1", "routine").await;
            let coach = app.staff("coach-north").await;
            record(&coach, &encounter(&app, &journey)).await;
            app.settled().await;
            let state = "select state, why from delivery";
            assert_eq!(app.rows(state).await, [[json!("retrying"), json!("certificate-refused")]], "without ours");
            let told =
                app.practice("TESTA1").await.get(format!("/fhir/{}/$status", journey.referral)).await.expect(200);
            assert!(told.body.to_string().contains("certificate-refused"), "{}", told.body);

            // As the one who runs it sees it, over and over: a refusal is never taken for a lost connection.
            for certificate in [None, None, None, Some(&strangers), Some(&strangers), Some(&strangers)] {
                let (content, said) = checked(&app, &url, &ca, certificate);
                assert!(!content && said.contains("mesh.certificate and mesh.key"), "{said}");
            }
            let (_, said) = checked(&app, &url, &ca, Some(&ours));
            assert_eq!(said, "good:  MESH lets mailbox X26ABC1 in");
            let (content, said) = checked(&app, &url, &issuer.file("livewell.pem"), Some(&ours));
            assert!(!content && said.starts_with("wrong: MESH"), "a server of another issuer is not trusted: {said}");

            (app.config.mesh.certificate, app.config.mesh.key) = (Some(ours.0), Some(ours.1));
            app.restart().await;
            app.clock.advance(Duration::from_secs(3600));
            app.system().await.post("", &json!({ "resourceType": "Bundle", "type": "transaction" })).await.expect(200);
            app.settled().await;
            assert_eq!(app.rows(state).await, [[json!("sent"), json!("")]], "with ours");
            let taken = practice.take().await;
            assert_eq!(taken.len(), 1);
            assert_eq!(taken[0].resources("Encounter").len(), 1, "{:?}", Value::from(taken[0].id.clone()));
        },
    );
}
