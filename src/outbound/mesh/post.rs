//! Sending: look for it where it may be there already, else post it in chunks.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::super::wire::{Answer, Lost};
use super::Mesh;
use crate::pathway::delivery::{Verdict, Why};

/// Times a chunk is posted in one attempt: unlike the first, which makes a new message each time, it is the same again.
const CHUNK_TRIES: u32 = 3;

/// One message to one mailbox.
#[derive(Clone)]
pub struct MeshPost {
    /// `mex-localid`: by it the message is tracked and an answer is matched.
    pub local_id: String,
    /// The practice's mailbox.
    pub to: String,
    /// The message Bundle.
    pub body: Vec<u8>,
    /// It may have been posted before.
    pub look_first: bool,
}

/// Prints ids only: the body is patient data.
impl std::fmt::Debug for MeshPost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshPost").field("local_id", &self.local_id).field("to", &self.to).finish_non_exhaustive()
    }
}

impl Mesh {
    /// Makes one attempt to post a message. Sent: MESH has all of it and hands it over. Always ends within the attempt's
    /// time limit; if the future is dropped, the next attempt has to say `look_first`.
    pub async fn post(&self, post: &MeshPost, now: DateTime<Utc>) -> Verdict {
        let started = std::time::Instant::now();
        let unclear = AtomicBool::new(false);
        let attempt = tokio::time::timeout(self.attempt_timeout, self.attempt(post, &unclear, now)).await;
        let verdict = match attempt {
            Ok(Ok(message)) => Verdict::Sent { message, within: self.acknowledged_within() },
            Ok(Err(verdict)) => verdict,
            Err(_) if unclear.load(Ordering::Relaxed) => Verdict::Unknown { why: Why::Timeout },
            Err(_) => Verdict::Retry { after: None, why: Why::Timeout },
        };
        let (outcome, why) = verdict.in_log();
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(mesh.mailbox = %post.to, mesh.local_id = %post.local_id, outcome, why, duration_ms, "message posted");
        verdict
    }

    async fn attempt(&self, post: &MeshPost, unclear: &AtomicBool, now: DateTime<Utc>) -> Result<String, Verdict> {
        if post.look_first
            && let Some(found) = self.look(&post.local_id, now).await?
        {
            return Ok(found);
        }
        let body = self.encoded(&post.body).ok_or(Verdict::Retry { after: None, why: Why::RequestNotMade })?;
        let chunks: Vec<&[u8]> = body.chunks(self.settings.chunk_bytes.max(1)).collect();
        let total = chunks.len();
        let Some((first, rest)) = chunks.split_first() else {
            return Err(Verdict::Refused { why: Why::RequestNotMade, outcome: None });
        };
        // A message of several chunks is not there before the last of them is.
        unclear.store(rest.is_empty(), Ordering::Relaxed);
        let answer = self
            .call(Method::POST, self.url(&["outbox"]), now, |request| {
                self.headed(request, post, total).body(first.to_vec())
            })
            .await
            .map_err(|lost| match lost.sent {
                true => Verdict::Unknown { why: lost.why },
                false => Verdict::Retry { after: None, why: lost.why },
            })?;
        match answer.status {
            200..=299 => {}
            // A gateway that got no answer does not know whether MESH took it.
            status @ (502 | 504) => return Err(Verdict::Unknown { why: Why::Status(status) }),
            _ => return Err(self.refusal(&answer, now)),
        }
        let Some(message) = message_id(&answer) else {
            // It was taken; under which id a look will say.
            return Err(Verdict::Unknown { why: Why::AnswerUnreadable });
        };
        for (at, chunk) in rest.iter().enumerate() {
            let number = at + 2;
            unclear.store(number == total, Ordering::Relaxed);
            self.chunk(&message, number, total, chunk, now).await?;
        }
        Ok(message)
    }

    /// The id under which MESH has the message; none where it has none of it.
    async fn look(&self, local_id: &str, now: DateTime<Utc>) -> Result<Option<String>, Verdict> {
        let lost = |lost: Lost| Verdict::Retry { after: None, why: lost.why };
        let url = self.url(&["outbox", "tracking", local_id]);
        let answer = self.call(Method::GET, url, now, |request| request).await.map_err(lost)?;
        match answer.status {
            200 => {}
            404 => return Ok(None),
            // Several: it is there.
            300 => return Ok(Some(String::new())),
            _ => return Err(self.refusal(&answer, now)),
        }
        let said = answer.json().map_err(|why| Verdict::Retry { after: None, why })?;
        match said.get("status").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase().as_str() {
            "uploading" => Err(Verdict::Retry { after: None, why: Why::UploadIncomplete }),
            "undeliverable" | "error" => Err(Verdict::Refused { why: Why::Undeliverable, outcome: None }),
            _ => Ok(Some(message_id(&answer).unwrap_or_default())),
        }
    }

    async fn chunk(
        &self,
        message: &str,
        number: usize,
        total: usize,
        chunk: &[u8],
        now: DateTime<Utc>,
    ) -> Result<(), Verdict> {
        let url = self.url(&["outbox", message, &number.to_string()]);
        let mut last = Why::UploadIncomplete;
        for _ in 0..CHUNK_TRIES {
            let answer = self
                .call(Method::POST, url.clone(), now, |request| {
                    let request = request.header("mex-chunk-range", format!("{number}:{total}"));
                    self.encoding(request).header(CONTENT_TYPE, "application/octet-stream").body(chunk.to_vec())
                })
                .await;
            match answer {
                Ok(answer) if answer.is_success() => return Ok(()),
                // MESH takes no more of it: the chunk before was the last, in an answer that was lost.
                Ok(answer) if answer.status == 423 && number == total => return Ok(()),
                Ok(answer) => last = Why::Status(answer.status),
                Err(lost) => last = lost.why,
            }
        }
        // The last chunk may have come; of an earlier one it is plain that the message is not whole.
        Err(match number == total {
            true => Verdict::Unknown { why: last },
            false => Verdict::Retry { after: None, why: Why::UploadIncomplete },
        })
    }

    fn headed(&self, request: RequestBuilder, post: &MeshPost, total: usize) -> RequestBuilder {
        let request = request
            .header(CONTENT_TYPE, "application/fhir+json")
            .header("mex-from", &self.settings.mailbox)
            .header("mex-to", &post.to)
            .header("mex-workflowid", &self.settings.workflow)
            .header("mex-localid", &post.local_id)
            // Subjects are shown and logged on the way: nothing of the patient.
            .header("mex-subject", "Live Well: entries for the record")
            .header("mex-filename", format!("{}.json", post.local_id))
            .header("mex-content-type", "application/fhir+json")
            .header("mex-chunk-range", format!("1:{total}"));
        self.encoding(request)
    }

    fn encoding(&self, request: RequestBuilder) -> RequestBuilder {
        if self.settings.compress {
            request.header(CONTENT_ENCODING, "gzip").header("mex-content-compressed", "Y")
        } else {
            request
        }
    }

    fn encoded(&self, body: &[u8]) -> Option<Vec<u8>> {
        if !self.settings.compress {
            return Some(body.to_vec());
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).ok()?;
        encoder.finish().ok()
    }
}

/// MESH's id of the message in an answer.
fn message_id(answer: &Answer) -> Option<String> {
    let said = answer.json().ok()?;
    let id = ["message_id", "messageID", "messageId"].iter().find_map(|name| said.get(*name)?.as_str())?;
    super::inbox::is_message_id(id).then(|| id.to_owned())
}
