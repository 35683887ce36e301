//! The connection ends when a commit was sent and its answer has not come: nobody knows then whether it was kept, and
//! nobody is told that it was not.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::AssertSqlSafe;

use crate::database::{connect, copy};
use crate::support::{Database, TestApp, app as harness, build};

/// Stands between the service and PostgreSQL; once asked to, it loses the answer to the next commit with its connection.
#[derive(Clone, Default)]
struct Between {
    loses: Arc<AtomicBool>,
}

impl Between {
    /// Answers the address it listens on.
    fn listen(&self, server: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let between = self.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                between.carry(client, TcpStream::connect(&server).unwrap());
            }
        });
        address
    }

    fn carry(&self, mut client: TcpStream, mut server: TcpStream) {
        let lost = Arc::new(AtomicBool::new(false));
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let (loses, losing) = (Arc::clone(&self.loses), Arc::clone(&lost));
        std::thread::spawn(move || {
            let mut bytes = [0; 65536];
            while let Ok(read @ 1..) = from_client.read(&mut bytes) {
                if bytes[..read].windows(6).any(|at| at == b"COMMIT") && loses.swap(false, Ordering::SeqCst) {
                    losing.store(true, Ordering::SeqCst);
                }
                if to_server.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
            let _ = to_server.shutdown(Shutdown::Both);
        });
        std::thread::spawn(move || {
            let mut bytes = [0; 65536];
            while let Ok(read @ 1..) = server.read(&mut bytes) {
                if lost.load(Ordering::SeqCst) || client.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
            let _ = client.shutdown(Shutdown::Both);
        });
    }
}

#[test]
fn who_is_not_heard_of_a_commit_is_told_to_look_before_sending_again() {
    let Some(server) = std::env::var("TEST_POSTGRES_URL").ok().filter(|url| !url.is_empty()) else {
        eprintln!("skipped: TEST_POSTGRES_URL names no PostgreSQL server");
        return;
    };
    let name = format!("livewell_test_{}", uuid::Uuid::new_v4().simple());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = runtime.block_on(copy(&server, &name));
    let between = Between::default();
    let mut by_way = reqwest::Url::parse(&url).unwrap();
    let at = format!("{}:{}", by_way.host_str().unwrap(), by_way.port().unwrap_or(5432));
    let listens: std::net::SocketAddr = between.listen(at).parse().unwrap();
    by_way.set_ip_host(listens.ip()).unwrap();
    by_way.set_port(Some(listens.port())).unwrap();
    by_way.set_query(Some("sslmode=disable"));
    harness::run(Database::At(by_way.to_string().leak()), async move |app: TestApp| {
        let practice = app.practice("TESTA1").await;
        // Of somebody who is known: more than one statement, with a commit of its own.
        practice.post("ServiceRequest", &build::referral()).await.expect(201);
        let referral = build::referral();
        between.loses.store(true, Ordering::SeqCst);
        let answer = practice.post("ServiceRequest", &referral).await.expect(503);
        assert!(!answer.text.contains("Nothing was kept") && answer.text.contains("Look whether"), "{}", answer.text);
        assert_eq!(answer.header("Retry-After"), "2");
        assert_eq!(app.count("referral").await, 2, "it was kept");
        practice.post("ServiceRequest", &referral).await.expect(200);
        assert_eq!(app.count("referral").await, 2);
        app.kill();
    });
    runtime.block_on(async {
        let mut server = connect(&server).await;
        let statement = AssertSqlSafe(format!("drop database {name} with (force)"));
        sqlx::raw_sql(statement).execute(&mut server).await.unwrap();
    });
}
