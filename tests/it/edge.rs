//! The edge and the accept loop, over real sockets: what a hostile or unlucky caller can do to the server, and to others.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{get, post};
use livewell::api::edge::{EdgeSettings, layers};
use livewell::api::serve::{ServeSettings, serve};
use livewell::config::Config;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::log::log;

/// Longer than any answer takes, shorter than a person waits for a hanging test.
const PATIENCE: Duration = Duration::from_secs(10);

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<std::io::Result<()>>,
}

/// A server with `routes` behind the edge, with the default settings as changed by `change`.
async fn start(routes: Router, change: impl FnOnce(&mut EdgeSettings, &mut ServeSettings)) -> Server {
    let (config, work) = (Config::default(), TaskTracker::new());
    let mut edge = EdgeSettings::new(&config.http, &config.limits, work.clone());
    let mut bounds = ServeSettings::new(&config.http, work);
    change(&mut edge, &mut bounds);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let ended = tokio::spawn(serve(listener, layers(routes, edge), bounds, stopped));
    Server { address, stop, ended }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Code and text of the one issue of an OperationOutcome.
    fn issue(&self) -> (String, String) {
        assert!(self.header("content-type").unwrap().starts_with("application/fhir+json"), "{}", self.head);
        let outcome: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(outcome["resourceType"], "OperationOutcome");
        let issue = &outcome["issue"][0];
        (issue["code"].as_str().unwrap().to_owned(), issue["diagnostics"].as_str().unwrap().to_owned())
    }
}

/// Everything that comes back until the server closes.
async fn read_all(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server never closed").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text.as_str(), ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

async fn connect(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// One request on its own connection; `head` is the request line and any headers.
async fn ask(server: &Server, head: &str, body: &str) -> Answer {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let text = format!("{head}\r\nHost: test\r\nConnection: close\r\n{length}\r\n{body}");
    read_all(connect(server, text.as_bytes()).await).await
}

fn hello() -> Router {
    Router::new().route("/hello/{name}", get(async |Path(name): Path<String>| name))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_are_cut_and_others_served_meanwhile() {
    let server = start(hello(), |_, bounds| bounds.header_timeout = Duration::from_millis(300)).await;
    let mut half_open = Vec::new();
    for start in [
        "",
        "G",
        "GET /hello/a HTTP/1.1\r\nHost: te",
        "GET /hello/a HTTP/1.1\r\nHost: test\r\n\r\nGET /second/one",
        "PRI * HT",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        for _ in 0..40 {
            half_open.push((start, connect(&server, start.as_bytes()).await));
        }
    }
    assert_eq!(ask(&server, "GET /hello/you HTTP/1.1", "").await.status, 200);
    for (start, mut stream) in half_open {
        let mut bytes = Vec::new();
        let closed = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
        assert!(closed.is_ok(), "a connection that began {start:?} was never cut");
    }
}

/// Half-open and dripping connections, of each kind.
const HOSTILE: usize = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_half_open_and_dripping_connections_is_cut_and_slows_nobody() {
    let server = start(hello(), |_, bounds| bounds.header_timeout = Duration::from_secs(1)).await;
    let mut crowd = JoinSet::new();
    for drips in [false, true] {
        for _ in 0..HOSTILE {
            let (mut reader, mut writer) = connect(&server, b"GET /hello/a HTTP/1.1\r\n").await.into_split();
            crowd.spawn(async move {
                let mut beat = tokio::time::interval(Duration::from_millis(50));
                let mut byte = [0];
                loop {
                    tokio::select! {
                        // The end of the stream, or its reset.
                        read = reader.read(&mut byte) => match read { Ok(1..) => {} _ => return },
                        _ = beat.tick(), if drips => { let _ = writer.write_all(b"a").await; }
                    }
                }
            });
        }
    }
    let mut waits = Vec::new();
    let began = Instant::now();
    while crowd.try_join_next().is_some() || !crowd.is_empty() {
        assert!(began.elapsed() < PATIENCE, "{} were never cut", crowd.len());
        let asked = Instant::now();
        assert_eq!(ask(&server, "GET /hello/you HTTP/1.1", "").await.status, 200);
        waits.push(asked.elapsed());
    }
    waits.sort();
    let p99 = waits[waits.len() * 99 / 100];
    println!("{} answers meanwhile, p99 {p99:?}, all cut after {:?}", waits.len(), began.elapsed());
    assert!(p99 < Duration::from_millis(250), "p99 of the others: {p99:?}");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_answered_408() {
    let routes = Router::new().route("/in", post(async |_: Bytes| StatusCode::CREATED));
    let server = start(routes, |edge, _| edge.body_timeout = Duration::from_millis(200)).await;
    let slow = connect(&server, b"POST /in HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n{").await;
    let answer = read_all(slow).await;
    assert_eq!(answer.status, 408);
    assert_eq!(answer.issue().0, "transient");
}

#[tokio::test]
async fn a_caller_that_goes_away_in_the_middle_of_a_post_does_not_cancel_the_work() {
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (finished, mut done) = mpsc::channel(1);
    let handler = {
        let (started, go) = (started.clone(), go.clone());
        async move |_: Bytes| {
            started.notify_one();
            go.notified().await;
            finished.send(()).await.unwrap();
        }
    };
    let routes = hello().route("/in", post(handler));
    // One connection at a time: that the second caller is served proves that the first connection is over.
    let server = start(routes, |_, bounds| bounds.max_connections = 1).await;
    let caller = connect(&server, b"POST /in HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}").await;
    started.notified().await;
    drop(caller);
    assert_eq!(ask(&server, "GET /hello/next HTTP/1.1", "").await.status, 200);
    go.notify_one();
    timeout(PATIENCE, done.recv()).await.expect("the work was cancelled").expect("the work was dropped");
}

#[tokio::test]
async fn connections_over_the_cap_wait_their_turn() {
    let server = start(hello(), |_, bounds| bounds.max_connections = 1).await;
    let first = connect(&server, b"").await;
    let mut second = connect(&server, b"GET /hello/second HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    let early = timeout(Duration::from_millis(100), second.read_u8()).await;
    assert!(early.is_err(), "the second was served beside the first");
    drop(first);
    assert_eq!(read_all(second).await.status, 200);
}

#[tokio::test]
async fn a_panic_is_answered_500_with_the_request_id_and_the_server_lives() {
    let bad = async || -> String { panic!("secret of 999 000 0018") };
    let server = start(hello().route("/bad", get(bad).post(bad)), |_, _| {}).await;
    for method in ["GET", "POST"] {
        let answer = ask(&server, &format!("{method} /bad HTTP/1.1\r\nX-Request-Id: find-me"), "").await;
        assert_eq!(answer.status, 500);
        let (code, text) = answer.issue();
        assert_eq!(code, "exception");
        assert!(text.contains("find-me") && !text.contains("secret"), "{text}");
    }
    assert_eq!(ask(&server, "GET /hello/still HTTP/1.1", "").await.body, "still");
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_413_with_the_limit_and_does_nothing() {
    let stored = Arc::new(AtomicUsize::new(0));
    let store = {
        let stored = stored.clone();
        async move |body: Bytes| {
            stored.fetch_add(body.len(), Ordering::SeqCst);
            StatusCode::CREATED
        }
    };
    let server = start(Router::new().route("/in", post(store)), |edge, _| edge.max_body = 1000).await;
    for size in [1001, 16_000] {
        let answer = ask(&server, "POST /in HTTP/1.1", &"x".repeat(size)).await;
        assert_eq!(answer.status, 413, "{size} bytes");
        let (code, text) = answer.issue();
        assert!(code == "too-long" && text.contains("1000 bytes"), "{text}");
    }
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512)).repeat(4);
    let chunked = format!(
        "POST /in HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"
    );
    assert_eq!(read_all(connect(&server, chunked.as_bytes()).await).await.status, 413);
    // Announced far over the limit, by a caller that waits to be told to go on.
    let waiting = b"POST /in HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 104857600\r\n\r\n";
    let mut stream = connect(&server, waiting).await;
    let mut head = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
    assert_eq!(stored.load(Ordering::SeqCst), 0, "something was stored");
    assert_eq!(ask(&server, "POST /in HTTP/1.1", &"x".repeat(1000)).await.status, 201);
}

#[tokio::test]
async fn a_body_whose_frame_is_broken_is_told_so() {
    let routes = Router::new().route("/in", post(async |_: Bytes| StatusCode::CREATED));
    let server = start(routes, |_, _| {}).await;
    let long = format!("5;{}\r\nabcde\r\n0\r\n\r\n", "x".repeat(64 * 1024));
    for chunks in ["zz\r\nabc\r\n0\r\n\r\n", long.as_str(), "3\r\nabcdef\r\n0\r\n\r\n"] {
        let head = "POST /in HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = read_all(connect(&server, format!("{head}{chunks}").as_bytes()).await).await;
        assert_eq!(answer.status, 400, "{}", &chunks[..10]);
        let (code, text) = answer.issue();
        assert!(code == "structure" && text.contains("chunk") && !text.contains("form"), "{text}");
    }
    // What is wrong with the address is still said of the address.
    let answer = ask(&server, "GET /in HTTP/1.1", "").await;
    assert_eq!(answer.status, 405);
    let server = start(hello(), |_, _| {}).await;
    assert!(ask(&server, "GET /hello/%ff HTTP/1.1", "").await.issue().1.contains("Percent-encode"));
}

#[tokio::test]
async fn what_the_edge_refuses_is_said_in_the_format_that_is_asked_for() {
    let routes = hello().route("/in", post(async |_: Bytes| StatusCode::CREATED));
    let server = start(routes, |edge, _| edge.max_body = 10).await;
    for (line, body, status) in [
        ("POST /in", "more than ten bytes", 413),
        ("GET /nowhere", "", 404),
        ("DELETE /hello/a", "", 405),
        ("GET /hello/%ff", "", 400),
    ] {
        let xml = ask(&server, &format!("{line} HTTP/1.1\r\nAccept: application/fhir+xml"), body).await;
        assert_eq!(xml.status, status, "{line}");
        assert_eq!(xml.header("content-type"), Some("application/fhir+xml"), "{line}");
        assert!(xml.body.contains("<OperationOutcome xmlns=\"http://hl7.org/fhir\">"), "{line}: {}", xml.body);
        let by_query = ask(&server, &format!("{line}?_format=xml HTTP/1.1"), body).await;
        assert_eq!(by_query.body, xml.body, "{line}");
        assert!(ask(&server, &format!("{line} HTTP/1.1"), body).await.issue().1.len() > 10, "{line}");
    }
}

#[tokio::test]
async fn a_body_far_over_the_limit_is_taken_to_its_end_so_that_its_sender_reads_the_answer() {
    let routes = Router::new().route("/in", post(async |_: Bytes| StatusCode::CREATED));
    let server = start(routes, |edge, _| edge.max_body = 8_000_000).await;
    assert_eq!(ask(&server, "POST /in HTTP/1.1", &"x".repeat(100_000_000)).await.status, 413);
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let server = start(Router::new().route("/in", post(async |_: Bytes| StatusCode::CREATED)), |_, _| {}).await;
    let answer = ask(&server, "POST /in HTTP/1.1\r\nContent-Encoding: gzip", "x").await;
    assert_eq!((answer.status, answer.issue().0.as_str()), (415, "not-supported"));
}

#[tokio::test]
async fn ids_come_back_and_answers_are_not_cached() {
    let server = start(hello(), |_, _| {}).await;
    let head = "GET /hello/a HTTP/1.1\r\nX-Request-ID: r-1\r\nX-Correlation-ID: c-1";
    let answer = ask(&server, head, "").await;
    assert_eq!((answer.header("x-request-id"), answer.header("x-correlation-id")), (Some("r-1"), Some("c-1")));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let answer = ask(&server, "GET /hello/a HTTP/1.1", "").await;
    assert_eq!(answer.header("x-request-id").map(str::len), Some(36));
    assert_eq!(answer.header("x-correlation-id"), None);
}

#[tokio::test]
async fn what_no_door_knows_is_an_operation_outcome() {
    let server = start(hello(), |_, _| {}).await;
    let answer = ask(&server, "GET /nowhere HTTP/1.1", "").await;
    assert_eq!((answer.status, answer.issue().0.as_str()), (404, "not-found"));
    let answer = ask(&server, "DELETE /hello/a HTTP/1.1", "").await;
    assert_eq!((answer.status, answer.issue().0.as_str()), (405, "not-supported"));
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    assert!(answer.header("x-request-id").is_some());
}

#[tokio::test]
async fn work_that_takes_too_long_is_answered_503_and_goes_on() {
    let go = Arc::new(Notify::new());
    let (finished, mut done) = mpsc::channel(1);
    let handler = {
        let go = go.clone();
        async move || {
            go.notified().await;
            finished.send(()).await.unwrap();
        }
    };
    let short = Duration::from_millis(100);
    let server = start(Router::new().route("/slow", post(handler)), |edge, _| edge.request_timeout = short).await;
    let answer = ask(&server, "POST /slow HTTP/1.1", "").await;
    assert_eq!((answer.status, answer.issue().0.as_str()), (503, "transient"));
    assert!(answer.header("retry-after").is_some());
    go.notify_one();
    timeout(PATIENCE, done.recv()).await.expect("the work was cancelled").expect("the work was dropped");
}

#[tokio::test]
async fn too_many_requests_at_once_are_answered_503_but_the_process_still_says_that_it_lives() {
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (started, go) = (started.clone(), go.clone());
        async move || {
            started.notify_one();
            go.notified().await;
        }
    };
    let routes = hello().route("/slow", get(handler)).route("/livez", get(async || "alive"));
    let server = start(routes, |edge, _| edge.max_requests = 1).await;
    let slow = connect(&server, b"GET /slow HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    started.notified().await;
    let answer = ask(&server, "GET /hello/a HTTP/1.1", "").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(ask(&server, "GET /livez HTTP/1.1", "").await.body, "alive");
    go.notify_one();
    assert_eq!(read_all(slow).await.status, 200);
    assert_eq!(ask(&server, "GET /hello/a HTTP/1.1", "").await.status, 200);
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_finish_and_takes_no_new_ones() {
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (started, go) = (started.clone(), go.clone());
        async move || {
            started.notify_one();
            go.notified().await;
            "done"
        }
    };
    let server = start(Router::new().route("/slow", get(handler)), |_, _| {}).await;
    let slow = connect(&server, b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let idle = connect(&server, b"").await;
    started.notified().await;
    server.stop.cancel();
    assert_eq!(read_all(idle).await.status, 0, "an idle connection is closed at once");
    let refused = TcpStream::connect(server.address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    go.notify_one();
    assert_eq!(read_all(slow).await.body, "done");
    timeout(PATIENCE, server.ended).await.expect("never ended").unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let started = Arc::new(Notify::new());
    let handler = {
        let started = started.clone();
        async move || {
            started.notify_one();
            std::future::pending::<()>().await;
        }
    };
    let short = Duration::from_millis(100);
    let server = start(Router::new().route("/stuck", post(handler)), |_, bounds| bounds.drain = short).await;
    let _stuck = connect(&server, b"POST /stuck HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n").await;
    started.notified().await;
    server.stop.cancel();
    let error = timeout(PATIENCE, server.ended).await.expect("never ended").unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().starts_with("1 request"), "{error}");
}

#[tokio::test]
async fn http_2_is_served_on_the_same_port() {
    let server = start(hello(), |_, _| {}).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let answer = client.get(format!("http://{}/hello/two", server.address)).send().await.unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "two");
}

#[tokio::test]
async fn a_request_is_logged_by_its_route_never_by_its_path_or_query() {
    let log = log();
    let server = start(hello(), |_, _| {}).await;
    let head = "GET /hello/9990000018?nhs=9990000026 HTTP/1.1\r\nX-Request-Id: r-7\r\nX-Who: 9990000034";
    assert_eq!(ask(&server, head, "").await.body, "9990000018");
    let text = log.text();
    let line = text.lines().find(|line| line.contains("r-7") && line.contains("answered")).unwrap();
    for part in ["request.id=\"r-7\"", "method=\"GET\"", "route=\"/hello/{name}\"", "status=200", "duration_ms="] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    assert!(!text.contains("99900000"), "{text}");
}
