//! Connections: accepts them, plays the faults, stops in order.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::faults::{Fault, Faults};
use super::refusal::Refusal;
use crate::fhir::IssueCode;

/// How long requests under way may take once it is to stop.
const GRACE: Duration = Duration::from_secs(2);

/// Serves until `stop`.
pub(super) async fn serve(listener: TcpListener, routes: Router, faults: Arc<Faults>, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        connection(stream, routes.clone(), Arc::clone(&faults), stop.clone(), &graceful);
    }
    drop(listener);
    let _late = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}

fn connection(
    stream: TcpStream,
    routes: Router,
    faults: Arc<Faults>,
    stop: CancellationToken,
    graceful: &GracefulShutdown,
) {
    let service = service_fn(move |request| answer(request, routes.clone(), Arc::clone(&faults), stop.clone()));
    let served = graceful.watch(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    // A connection that ends in an error is a caller gone, or a fault played.
    tokio::spawn(async move { drop(served.await) });
}

/// An error closes the connection without a byte of answer.
async fn answer(
    request: hyper::Request<Incoming>,
    routes: Router,
    faults: Arc<Faults>,
    stop: CancellationToken,
) -> io::Result<Response<Body>> {
    let fault = faults.draw(request.method(), request.uri());
    match fault {
        Some(Fault::Answer { status, retry_after }) => return Ok(scripted(status, retry_after)),
        Some(Fault::DropRequest) => return Err(io::ErrorKind::ConnectionAborted.into()),
        Some(Fault::Hang) => {
            stop.cancelled().await;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::DropReply) | None => {}
    }
    let Ok(response) = routes.oneshot(request.map(Body::new)).await;
    if fault == Some(Fault::DropReply) { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(response) }
}

fn scripted(status: u16, retry_after: Option<u32>) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = "The practice system cannot do this now.";
    let mut response = Refusal::general(status, IssueCode::Transient, text).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
