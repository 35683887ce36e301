//! One request and its bounded answer.

use std::error::Error as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{ETAG, HeaderMap, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, RequestBuilder, Url};
use serde_json::Value;

use super::OutboundSettings;
use super::guard::{AddressRefused, Guard, GuardedResolver};
use crate::pathway::delivery::Why;

/// Most values in one answer, counted by commas, those in texts included.
const MOST_VALUES: usize = 100_000;

/// How often a request is begun that its connection, ending first, never took.
const MOST_BEGINNINGS: usize = 6;

/// The HTTP client with its limits.
pub(super) struct Wire {
    pub(super) client: Client,
    pub(super) guard: Guard,
    limit: usize,
}

/// An answer: its status is known, its body perhaps not.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: HeaderMap,
    body: Result<Vec<u8>, Why>,
}

/// No answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) why: Why,
    /// Whether the request may have arrived.
    pub(super) sent: bool,
}

impl Wire {
    pub(super) fn new(settings: &OutboundSettings) -> Result<Wire, reqwest::Error> {
        let guard = Guard { allow_private_addresses: settings.allow_private_addresses };
        let client = Wire::client(settings).dns_resolver(GuardedResolver(guard)).build()?;
        Ok(Wire { client, guard, limit: settings.response_limit })
    }

    /// The wire to an address that this service's own configuration names: it may be in a private network, as MESH is on
    /// HSCN.
    pub(super) fn to_configured_address(client: Client, limit: usize) -> Wire {
        Wire { client, guard: Guard { allow_private_addresses: true }, limit }
    }

    /// A client with the limits of `settings`, that resolves names unguarded.
    pub(super) fn client(settings: &OutboundSettings) -> ClientBuilder {
        Client::builder()
            .user_agent(concat!("livewell/", env!("CARGO_PKG_VERSION")))
            // A redirect would take the body, and with it the patient, to an address nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .https_only(!settings.allow_private_addresses)
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.request_timeout)
            .pool_idle_timeout(Duration::from_secs(30))
    }

    /// Sends a request to `url`, which is checked first, and reads at most the limit of the answer.
    pub(super) async fn send(&self, url: &Url, request: RequestBuilder) -> Result<Answer, Lost> {
        self.send_within(url, request, self.limit).await
    }

    pub(super) async fn send_within(&self, url: &Url, request: RequestBuilder, limit: usize) -> Result<Answer, Lost> {
        self.guard.check_url(url).map_err(|_| Lost { why: Why::AddressRefused, sent: false })?;
        let mut response = begin(request).await?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let declared = response.content_length().unwrap_or(0);
        let body = if usize::try_from(declared).map_or(true, |length| length > limit) {
            Err(Why::AnswerTooLarge)
        } else {
            read(&mut response, limit).await
        };
        Ok(Answer { status, headers, body })
    }
}

/// Sends a request, and once more where a fresh connection ended before it took it: hyper gives the request back then and
/// keeps to itself why, so that a refusal of our certificate is found out only by asking again.
async fn begin(mut request: RequestBuilder) -> Result<reqwest::Response, Lost> {
    let mut begun = 1;
    loop {
        let again = request.try_clone();
        match (request.send().await, again) {
            (Err(error), Some(again)) if begun < MOST_BEGINNINGS && never_taken(&error) => request = again,
            (result, _) => return result.map_err(|e| lost(&e)),
        }
        begun += 1;
    }
}

/// Whether hyper gave the request back unsent.
fn never_taken(error: &reqwest::Error) -> bool {
    !error.is_timeout() && sources(error).any(|e| e.downcast_ref().is_some_and(hyper::Error::is_canceled))
}

async fn read(response: &mut reqwest::Response, limit: usize) -> Result<Vec<u8>, Why> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| lost(&e).why)? {
        if body.len() + chunk.len() > limit {
            return Err(Why::AnswerTooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn sources(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |&inner| inner.source())
}

/// What a transport error means. Its own text is dropped: it holds the URL.
fn lost(error: &reqwest::Error) -> Lost {
    for inner in sources(error) {
        if inner.downcast_ref::<AddressRefused>().is_some() {
            return Lost { why: Why::AddressRefused, sent: false };
        }
        // An io::Error passes over what it holds when it is asked for its source.
        let held = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = held.and_then(|e| e.downcast_ref()).or_else(|| inner.downcast_ref());
        if tls.is_some_and(refuses_our_certificate) {
            // A server that wants a certificate reads no request before it has one.
            return Lost { why: Why::CertificateRefused, sent: false };
        }
    }
    if error.is_builder() {
        Lost { why: Why::RequestNotMade, sent: false }
    } else if error.is_connect() || never_taken(error) {
        Lost { why: if error.is_timeout() { Why::Timeout } else { Why::Unreachable }, sent: false }
    } else {
        Lost { why: if error.is_timeout() { Why::Timeout } else { Why::ConnectionLost }, sent: true }
    }
}

/// Whether the other side ended the TLS session because of the certificate by which it was to know us, or for want of one
/// (RFC 8446 6.2).
fn refuses_our_certificate(error: &rustls::Error) -> bool {
    use rustls::AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown,
        NoCertificate, UnknownCA, UnsupportedCertificate,
    };
    matches!(
        error,
        rustls::Error::AlertReceived(
            AccessDenied
                | BadCertificate
                | CertificateExpired
                | CertificateRequired
                | CertificateRevoked
                | CertificateUnknown
                | NoCertificate
                | UnknownCA
                | UnsupportedCertificate
        )
    )
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the same request may be answered otherwise later: 408, 425, 429 and 5xx. What is not implemented (501) now
    /// is not implemented later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self.status, 408 | 425 | 429 | 500 | 502..=599)
    }

    /// A header, where it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as it came.
    pub(super) fn bytes(&self) -> Result<&[u8], Why> {
        self.body.as_deref().map_err(|why| *why)
    }

    /// The body as JSON. One of very many tiny values is refused: as a tree it takes up to sixty times its text.
    pub(super) fn json(&self) -> Result<Value, Why> {
        let body = self.body.as_ref().map_err(|why| *why)?;
        if body.iter().filter(|b| **b == b',').count() > MOST_VALUES {
            return Err(Why::AnswerTooLarge);
        }
        serde_json::from_slice(body).map_err(|_| Why::AnswerUnreadable)
    }

    /// `Retry-After`, in seconds or as a date.
    pub(super) fn retry_after(&self, now: DateTime<Utc>) -> Option<Duration> {
        let said = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = said.parse::<u32>() {
            return Some(Duration::from_secs(seconds.into()));
        }
        let at = DateTime::parse_from_rfc2822(said).ok()?;
        Some(at.to_utc().signed_duration_since(now).to_std().unwrap_or_default())
    }

    /// The version in the `ETag`: `3` of `W/"3"`.
    pub(super) fn version(&self) -> Option<String> {
        version_of(self.headers.get(ETAG)?.to_str().ok()?)
    }

    /// `Cache-Control: max-age`; zero where it says not to store.
    pub(super) fn max_age(&self) -> Option<Duration> {
        let said = self.headers.get(reqwest::header::CACHE_CONTROL)?.to_str().ok()?.to_ascii_lowercase();
        if said.contains("no-store") || said.contains("no-cache") {
            return Some(Duration::ZERO);
        }
        let seconds = said.split(',').find_map(|part| part.trim().strip_prefix("max-age=")?.parse::<u32>().ok())?;
        Some(Duration::from_secs(seconds.into()))
    }
}

/// `3` of `W/"3"`.
pub(super) fn version_of(etag: &str) -> Option<String> {
    let version = etag.trim().trim_start_matches("W/").trim_matches('"');
    let fits = !version.is_empty() && version.len() <= 64;
    (fits && version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')).then(|| version.to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn wire(allow_private_addresses: bool) -> Wire {
        let settings = OutboundSettings {
            allow_private_addresses,
            request_timeout: Duration::from_millis(500),
            response_limit: 50_000,
            ..OutboundSettings::default()
        };
        Wire::new(&settings).unwrap()
    }

    /// Answers every request with `start`, then with `more` again and again, `pause` apart.
    async fn streams(start: &'static str, more: &str, pause: Duration) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let more = more.to_owned();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let more = more.clone();
                tokio::spawn(async move {
                    let _ = socket.read(&mut [0; 4096]).await;
                    let _ = socket.write_all(start.as_bytes()).await;
                    while socket.write_all(more.as_bytes()).await.is_ok() {
                        tokio::time::sleep(pause).await;
                    }
                });
            }
        });
        url
    }

    #[tokio::test]
    async fn an_endless_answer_is_read_to_the_limit_and_a_dripping_one_to_the_time() {
        let wire = wire(true);
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let endless = streams(chunked, &format!("fa0\r\n{}\r\n", "1,".repeat(2000)), Duration::ZERO).await;
        let answer = wire.send(&endless, wire.client.get(endless.clone())).await.unwrap();
        assert_eq!(answer.json().unwrap_err(), Why::AnswerTooLarge);
        let drip = streams(chunked, "1\r\n[\r\n", Duration::from_millis(50)).await;
        let answer = wire.send(&drip, wire.client.get(drip.clone())).await.unwrap();
        assert_eq!(answer.json().unwrap_err(), Why::Timeout);
        let headers = streams("HTTP/1.1 200 OK\r\n", "x: y\r\n", Duration::from_millis(50)).await;
        let lost = wire.send(&headers, wire.client.get(headers.clone())).await.err().unwrap();
        assert_eq!((lost.why, lost.sent), (Why::Timeout, true));
        let rubbish = streams("SSH-2.0-OpenSSH\r\n", "x", Duration::from_millis(50)).await;
        let lost = wire.send(&rubbish, wire.client.get(rubbish.clone())).await.err().unwrap();
        assert_eq!((lost.why, lost.sent), (Why::ConnectionLost, true));
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_refused_when_it_is_connected() {
        let strict = wire(false);
        // Past the check of the URL's text, as a public name with a private address would be.
        let error = strict.client.get("https://localhost:9/").send().await.unwrap_err();
        assert_eq!(lost(&error).why, Why::AddressRefused);
    }

    #[tokio::test]
    async fn an_answer_of_very_many_tiny_values_is_not_made_a_tree() {
        let answer = |body: String| Answer { status: 200, headers: HeaderMap::new(), body: Ok(body.into_bytes()) };
        assert_eq!(answer(format!("[1{}]", ",1".repeat(100_001))).json().unwrap_err(), Why::AnswerTooLarge);
        assert!(answer(format!("[1{}]", ",1".repeat(99_000))).json().is_ok());
    }

    #[test]
    fn versions_are_read_from_etags() {
        for (etag, version) in [
            ("W/\"3\"", Some("3")),
            ("\"a-1.b\"", Some("a-1.b")),
            ("7", Some("7")),
            ("W/\"\"", None),
            ("W/\"a b\"", None),
        ] {
            assert_eq!(version_of(etag).as_deref(), version, "{etag}");
        }
    }
}
