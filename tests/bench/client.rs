//! One HTTP/1.1 connection of a caller: little code between the clock and the socket.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A request, ready to be sent any number of times.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// The bearer token, '' for none.
    pub(crate) token: String,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    /// The version a change builds on.
    pub(crate) if_match: Option<u64>,
}

impl Ask {
    pub(crate) fn get(path: impl Into<String>, token: &str) -> Ask {
        Ask {
            method: Method::GET,
            path: path.into(),
            token: token.to_owned(),
            content_type: "application/fhir+json",
            body: Bytes::new(),
            if_match: None,
        }
    }

    pub(crate) fn put(path: impl Into<String>, token: &str, body: &Value, version: u64) -> Ask {
        Ask { method: Method::PUT, if_match: Some(version), ..Ask::post(path, token, body) }
    }

    pub(crate) fn post(path: impl Into<String>, token: &str, body: &Value) -> Ask {
        Ask { method: Method::POST, body: body.to_string().into(), ..Ask::get(path, token) }
    }
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// An error with what was said, unless the status is this one.
    pub(crate) fn expect(self, status: u16) -> Result<Answer, String> {
        if self.status.as_u16() == status {
            return Ok(self);
        }
        let said: String = String::from_utf8_lossy(&self.body).chars().take(300).collect();
        Err(format!("{} where {status} was expected: {said}", self.status))
    }
}

/// A connection, opened again when the server has closed it.
pub(crate) struct Connection {
    address: SocketAddr,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> Connection {
        Connection { address, sender: None }
    }

    pub(crate) async fn send(&mut self, ask: &Ask) -> Result<Answer, String> {
        let mut request = Request::builder()
            .method(&ask.method)
            .uri(&ask.path)
            .header(header::HOST, self.address.to_string())
            .header(header::ACCEPT, "application/fhir+json, application/json;q=0.9");
        if !ask.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, ask.content_type);
        }
        if !ask.token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", ask.token));
        }
        if let Some(version) = ask.if_match {
            request = request.header(header::IF_MATCH, format!("W/\"{version}\""));
        }
        let request = request.body(Full::new(ask.body.clone())).map_err(|e| e.to_string())?;
        let sender = self.sender().await?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok(Answer { status, body })
    }

    async fn sender(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, String> {
        let closed = match &mut self.sender {
            Some(sender) => sender.ready().await.is_err(),
            None => true,
        };
        if closed {
            let stream = TcpStream::connect(self.address).await.map_err(|e| e.to_string())?;
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().ok_or_else(|| "no connection".to_owned())
    }
}
