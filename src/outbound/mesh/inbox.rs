//! The inbox: what MESH could not hand over, and what practices' systems answer.

use std::io::Read;

use chrono::{DateTime, Utc};
use flate2::read::MultiGzDecoder;
use reqwest::header::ACCEPT_ENCODING;
use reqwest::{Method, RequestBuilder, Url};
use serde_json::Value;

use super::super::wire::Answer;
use super::Mesh;
use crate::fhir::codec::{Limits, read_xml};
use crate::pathway::delivery::acknowledgement::{self, Answered};
use crate::pathway::delivery::{Acknowledgement, Stage, Why};

/// Pages of the inbox that are listed in one look; the rest waits for the next.
const MOST_PAGES: usize = 10;
const PAGE: &str = "500";

/// Longest answer that is read, unpacked. An acknowledgement is a few kB.
const LIMIT: usize = 1024 * 1024;
const MOST_CHUNKS: usize = 8;

/// A message in our inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxMessage {
    /// MESH's id of it.
    pub id: String,
    pub heard: Heard,
}

/// What a message in the inbox says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// MESH reports about a message of ours, known by MESH's id or by our local id.
    Report { message: String, local_id: String, acknowledgement: Acknowledgement },
    /// A practice's system answers.
    Answer(Answered),
    /// Of another workflow: not for us to take out of the inbox.
    Other,
    /// For us, but it says nothing that can be read. `local_id` is what the sender called it.
    Unreadable { local_id: String },
}

impl Mesh {
    /// The ids of what is in the inbox, oldest first.
    pub async fn inbox(&self, now: DateTime<Utc>) -> Result<Vec<String>, Why> {
        let mut url = self.url(&["inbox"]);
        url.query_pairs_mut().append_pair("max_results", PAGE);
        let mut ids = Vec::new();
        for _ in 0..MOST_PAGES {
            let answer = self.call(Method::GET, url, now, |request| request).await.map_err(|lost| lost.why)?;
            self.expect(&answer)?;
            let page = answer.json()?;
            let listed = page.get("messages").and_then(Value::as_array).ok_or(Why::AnswerUnreadable)?;
            ids.extend(listed.iter().filter_map(Value::as_str).filter(|id| is_message_id(id)).map(str::to_owned));
            match page
                .get("links")
                .and_then(|links| links.get("next"))
                .and_then(Value::as_str)
                .map(|n| self.origin.join(n))
            {
                Some(Ok(next)) if self.is_ours(&next) => url = next,
                _ => break,
            }
        }
        Ok(ids)
    }

    /// A message of the inbox; none where it is there no more.
    pub async fn read(&self, id: &str, now: DateTime<Utc>) -> Result<Option<InboxMessage>, Why> {
        let answer = self.call(Method::GET, self.url(&["inbox", id]), now, packed).await.map_err(|lost| lost.why)?;
        if matches!(answer.status, 404 | 410) {
            return Ok(None);
        }
        self.expect(&answer)?;
        let heard = match answer.header("mex-messagetype") {
            Some(kind) if kind.eq_ignore_ascii_case("REPORT") => report(&answer),
            _ if answer.header("mex-workflowid") != Some(&format!("{}_ACK", self.settings.workflow)) => Heard::Other,
            _ => {
                let local_id = answer.header("mex-localid").unwrap_or_default().to_owned();
                let body = self.whole(id, &answer, now).await?;
                let xml = answer
                    .header("content-type")
                    .or(answer.header("mex-content-type"))
                    .is_some_and(|t| t.contains("xml"));
                match body.and_then(|body| parsed(&body, xml)).as_ref().and_then(acknowledgement::read) {
                    Some(answered) => Heard::Answer(answered),
                    None => Heard::Unreadable { local_id },
                }
            }
        };
        Ok(Some(InboxMessage { id: id.to_owned(), heard }))
    }

    /// Takes a message out of the inbox: what it said is durable here.
    pub async fn taken(&self, id: &str, now: DateTime<Utc>) -> Result<(), Why> {
        let url = self.url(&["inbox", id, "status", "acknowledged"]);
        let answer = self.call(Method::PUT, url, now, |request| request).await.map_err(|lost| lost.why)?;
        self.expect(&answer)
    }

    /// The whole body of a message, unpacked; none where it is longer than an answer may be.
    async fn whole(&self, id: &str, first: &Answer, now: DateTime<Utc>) -> Result<Option<Vec<u8>>, Why> {
        let total = first.header("mex-chunk-range").and_then(|range| range.split_once(':')?.1.trim().parse().ok());
        let total: usize = total.unwrap_or(1);
        if total > MOST_CHUNKS {
            return Ok(None);
        }
        let mut body = Vec::new();
        if !added(&mut body, first)? {
            return Ok(None);
        }
        for number in 2..=total {
            let url = self.url(&["inbox", id, &number.to_string()]);
            let answer = self.call(Method::GET, url, now, packed).await.map_err(|lost| lost.why)?;
            self.expect(&answer)?;
            if !added(&mut body, &answer)? {
                return Ok(None);
            }
        }
        match first.header("content-encoding") {
            Some("gzip") => Ok(unpacked(&body)),
            _ => Ok(Some(body)),
        }
    }

    /// A link stays within our inbox.
    fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.origin.origin() && url.path() == self.url(&["inbox"]).path()
    }
}

/// Adds a chunk to a body, unless the two are longer than an answer may be.
fn added(body: &mut Vec<u8>, chunk: &Answer) -> Result<bool, Why> {
    match chunk.bytes() {
        Ok(chunk) if body.len() + chunk.len() <= LIMIT => {
            body.extend_from_slice(chunk);
            Ok(true)
        }
        Ok(_) | Err(Why::AnswerTooLarge) => Ok(false),
        Err(why) => Err(why),
    }
}

/// Asks for a message as it was sent: a chunk of a compressed one cannot be unpacked alone.
fn packed(request: RequestBuilder) -> RequestBuilder {
    request.header(ACCEPT_ENCODING, "gzip")
}

/// A few kB that unpack to gigabytes are refused where they pass the limit.
fn unpacked(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let most = u64::try_from(LIMIT).unwrap_or(u64::MAX) + 1;
    // MESH may compress each chunk by itself: several streams one after the other.
    MultiGzDecoder::new(body).take(most).read_to_end(&mut out).ok()?;
    (out.len() <= LIMIT).then_some(out)
}

fn parsed(body: &[u8], xml: bool) -> Option<Value> {
    if xml {
        return read_xml(body, &Limits::default()).ok().map(|bundle| bundle.into_value());
    }
    // Most values of such a text are as few as its commas.
    let values = body.iter().filter(|b| **b == b',').count();
    (values <= Limits::default().values).then(|| serde_json::from_slice(body).ok())?
}

/// A report of MESH's: it tells of failures only.
fn report(answer: &Answer) -> Heard {
    let said = |name: &str| answer.header(name).unwrap_or_default().to_owned();
    let code: String =
        said("mex-statuscode").chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(16).collect();
    Heard::Report {
        message: said("mex-linkedmsgid"),
        local_id: said("mex-localid"),
        acknowledgement: Acknowledgement::Failed {
            stage: Stage::Transport,
            why: if code.is_empty() { "mesh-report".to_owned() } else { format!("mesh-{code}") },
            said: String::new(),
        },
    }
}

/// MESH's ids, `20210311101813838554_1B8F53`: nothing else becomes part of a URL.
pub(super) fn is_message_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
