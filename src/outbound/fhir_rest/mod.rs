//! The channel `fhir-rest`: to the practice's FHIR endpoint, in a transaction Bundle, or one by one where its system knows no
//! transactions.
//!
//! One attempt: find the practice's own Patient; where anything may be there already, look for our identifiers; send
//! what is missing; read it back. So each thing exists at the practice exactly once, and "delivered"
//! means it was seen there.

mod capability;
mod look;
mod patient;
mod read_back;
mod session;
mod single;
mod transaction;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use reqwest::Url;

use super::{Lease, Outbound};
use crate::pathway::delivery::{Reason, Receipt, Verdict, Why};
use crate::pathway::write_back::{Outgoing, PracticeCopy};

use look::Step;
use session::Session;
use transaction::Written;

pub(super) use capability::Capabilities;
pub(super) use session::under;

/// Where a practice's system is and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PracticeEndpoint {
    /// ODS code of the practice; it is what logs say.
    pub organization: String,
    /// FHIR base URL (`Endpoint.address`).
    pub address: String,
    /// Our client id there (`delivery.practice.<ODS>.client_id`).
    pub client_id: String,
}

/// By what the practice's own Patient is found and cross-checked.
#[derive(Clone, PartialEq, Eq)]
pub struct PatientMatch {
    /// NHS number, ten digits.
    pub nhs_number: String,
    /// Our Patient's `birthDate`, as far as known (`1951`, `1951-04`, `1951-04-22`).
    pub birth_date: Option<String>,
    /// Our Patient's family name.
    pub family: Option<String>,
}

/// One write-back to one practice about one person.
#[derive(Clone, Debug)]
pub struct WriteBack {
    pub endpoint: PracticeEndpoint,
    pub patient: PatientMatch,
    /// From [`pathway::write_back::outgoing`](crate::pathway::write_back::outgoing).
    pub outgoing: Vec<Outgoing>,
    /// Any attempt was made before, also one whose end nobody knows.
    pub look_first: bool,
    /// The delivery's id; sent as `X-Request-Id` and said in logs.
    pub request_id: String,
    pub lease: Lease,
}

/// Prints nothing: it is all patient data.
impl std::fmt::Debug for PatientMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PatientMatch")
    }
}

impl Outbound {
    /// Makes one attempt to bring a write-back to the practice. Always ends within the attempt's time limit, and writes
    /// nothing once its lease is not held.
    ///
    /// If the process dies within it, or the future is dropped, the outcome is unknown: the next attempt has to say
    /// `look_first`.
    pub async fn deliver(&self, job: &WriteBack, now: DateTime<Utc>) -> Verdict {
        let started = std::time::Instant::now();
        let unclear = AtomicBool::new(false);
        let attempt = tokio::time::timeout(self.attempt_timeout, self.attempt(job, &unclear, now)).await;
        let verdict = match attempt {
            Ok(Ok(receipts)) => Verdict::Delivered { receipts },
            Ok(Err(verdict)) => verdict,
            Err(_) if unclear.load(Ordering::Relaxed) => Verdict::Unknown { why: Why::Timeout },
            Err(_) => Verdict::Retry { after: None, why: Why::Timeout },
        };
        let (outcome, why) = verdict.in_log();
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(practice.code = %job.endpoint.organization, delivery.id = %job.request_id, outcome, why, duration_ms, "delivery attempted");
        verdict
    }

    async fn attempt(
        &self,
        job: &WriteBack,
        unclear: &AtomicBool,
        now: DateTime<Utc>,
    ) -> Result<Vec<Receipt>, Verdict> {
        let refused = |_| Verdict::Refused { why: Why::AddressRefused, outcome: None };
        let base = self.wire.guard.check(&job.endpoint.address).map_err(refused)?;
        let mut session = Session::new(self, job, base_of(base), unclear, now);
        let patient = patient::find(&mut session, &job.patient).await?;
        let transactions = self.capabilities.takes_transactions(&mut session, now).await?;
        // One by one they may end half-way, so it is always looked which are there.
        let mut looked = job.look_first || !transactions;
        // A second round follows only where the first learned that something is there which it had not looked for.
        for _ in 0..2 {
            let steps = look::plan(&mut session, &job.outgoing, looked).await?;
            if steps.iter().all(|step| matches!(step, Step::There(_) | Step::LeftOut)) {
                return Ok(receipts(&job.outgoing, steps.iter().map(Step::there)));
            }
            let written = match transactions {
                true => transaction::send(&mut session, &job.outgoing, &steps, &patient).await?,
                false => single::send(&mut session, &job.outgoing, &steps, &patient).await?,
            };
            let copies = match written {
                Written::At(copies) => copies,
                Written::Conflict(_) if !looked => {
                    looked = true;
                    continue;
                }
                Written::Conflict(status) => return Err(conflict(status, &steps)),
            };
            match read_back::confirm(&mut session, &job.outgoing, &steps, copies).await? {
                Some(copies) => return Ok(receipts(&job.outgoing, copies.iter().map(Option::as_ref))),
                // A conditional create met an older version of ours: look, and correct it.
                None => looked = true,
            }
        }
        Err(Verdict::Unknown { why: Why::Status(409) })
    }
}

/// A conflict that remains after looking.
fn conflict(status: u16, steps: &[Step]) -> Verdict {
    let corrects = steps.iter().any(|step| matches!(step, Step::Correct(_)));
    match status {
        404 | 410 | 412 if corrects => Verdict::NeedsPerson { reason: Reason::VersionConflict },
        // If-None-Exist matched more than one.
        412 => Verdict::NeedsPerson { reason: Reason::SeveralCopies },
        status => Verdict::Retry { after: None, why: Why::Status(status) },
    }
}

fn receipts<'a>(outgoing: &[Outgoing], copies: impl Iterator<Item = Option<&'a PracticeCopy>>) -> Vec<Receipt> {
    let pairs = outgoing.iter().zip(copies);
    pairs
        .filter_map(|(o, copy)| {
            let copy = copy?;
            Some(Receipt {
                key: o.key.clone(),
                practice_reference: copy.reference.clone(),
                practice_version: copy.version.clone(),
            })
        })
        .collect()
}

/// The base without query and fragment: paths are appended to it.
pub(super) fn base_of(mut url: Url) -> Url {
    url.set_query(None);
    url.set_fragment(None);
    url
}
