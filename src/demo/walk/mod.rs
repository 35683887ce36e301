//! The referral loop walked through over HTTP, as practices and coaches would, step by step.
//!
//! It knows two addresses, the keys of its clients and nothing else: no path or table that a practice could not reach.

pub(super) mod client;
mod outcome;
mod print;
mod recording;
mod referral;
mod steps;

use std::future::Future;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cast::Cast;
use crate::fhir::codes::CodeTable;
pub use client::Fault;
use client::{Caller, unexpected};
pub use print::Page;
use print::Shown;
use steps::Loop;

/// All that the walk needs.
pub struct Walk {
    /// The service's FHIR base, `http://127.0.0.1:8080/fhir`.
    pub service: String,
    pub cast: Cast,
    /// The FHIR base of the practice whose referral is walked, `http://127.0.0.1:8081/TESTA1/fhir`.
    pub record: String,
    /// A token with which the practice's own staff read that record.
    pub record_token: String,
    /// How long the write-back may take to arrive, and its delivery to settle.
    pub patience: Duration,
}

/// What there is to look at when the walk is done.
#[derive(Debug)]
pub struct Walked {
    /// The reference that a person can read out, `LW-7K3M-92QX`.
    pub reference: String,
    /// The referral's `$status`.
    pub status_link: String,
    /// The coach's open Tasks.
    pub queue_link: String,
    /// What the practice filed.
    pub record_link: String,
    /// Tokens of the referrer and the coach; they last a few minutes.
    pub practice_token: String,
    pub coach_token: String,
}

/// The step at which the walk ended, and why.
#[derive(Debug, thiserror::Error)]
#[error("step {number} ({what}) failed: {why}")]
pub struct WalkFailed {
    pub number: usize,
    pub what: &'static str,
    pub why: Fault,
}

/// Walks one referral from the practice's door to the practice's record and prints each step as it happens. Ends at the
/// first step that fails.
pub async fn run(walk: &Walk, page: &mut Page<'_>) -> Result<Walked, WalkFailed> {
    let mut path = Path { page, number: 0 };
    let http = http().map_err(|why| path.stopped("prepare", why))?;
    let mut way = Loop::new(walk, http);
    path.step("The practice signs in", way.practice_signs_in()).await?;
    path.step("It refers a person", way.refers()).await?;
    for sample in &walk.cast.waiting {
        path.step("Another practice refers", way.another_refers(sample)).await?;
    }
    path.step("The health coach signs in", way.coach_signs_in()).await?;
    path.step("The contact waits in the right queue", way.contact_waits()).await?;
    path.step("The coach claims what is most urgent", way.coach_claims()).await?;
    path.step("The coach telephones and records it", way.records_contact()).await?;
    path.step("The person accepts", way.completes("accepted")).await?;
    path.step("The first meeting is planned and claimed", way.claims_first_meeting()).await?;
    path.step("First meeting: PAM, goal, consent", way.records_first_meeting()).await?;
    path.step("They agree on coaching", way.completes("coaching")).await?;
    path.step("What comes next stands in the queue", way.next_tasks()).await?;
    path.step("The practice has it in its record", way.arrives()).await?;
    path.step("The referrer asks what became of it", way.asks_status()).await?;
    Ok(way.walked())
}

/// Fresh tokens for looking around.
pub async fn sign_in_again(walk: &Walk, walked: &mut Walked) -> Result<(), Fault> {
    let http = http()?;
    let (practice, _) = Caller::sign_in(&http, &walk.service, &walk.cast.walked.client).await?;
    let (coach, _) = Caller::sign_in(&http, &walk.service, &walk.cast.coach.client).await?;
    walked.practice_token = practice.token().to_owned();
    walked.coach_token = coach.token().to_owned();
    Ok(())
}

fn http() -> Result<reqwest::Client, Fault> {
    super::plain_http(Duration::from_secs(30)).map_err(|e| unexpected(format!("no HTTP client: {e}")))
}

/// The CodeableConcept of a name in the code table.
fn concept(name: &str) -> Value {
    CodeTable::embedded().concept(name).expect("the demo uses names of the embedded code table")
}

/// Counts and prints steps.
struct Path<'p, 'o> {
    page: &'p mut Page<'o>,
    number: usize,
}

impl Path<'_, '_> {
    async fn step(
        &mut self,
        what: &'static str,
        act: impl Future<Output = Result<Shown, Fault>>,
    ) -> Result<(), WalkFailed> {
        self.number += 1;
        let begun = Instant::now();
        let done = act.await;
        let took = begun.elapsed();
        let written = match &done {
            Ok(shown) => self.page.step(self.number, what, shown, took),
            Err(why) => self.page.failed(self.number, what, &why.to_string(), took),
        };
        match (done, written) {
            (Err(why), _) => Err(self.stopped(what, why)),
            (Ok(_), Err(e)) => Err(self.stopped(what, unexpected(format!("the step cannot be shown: {e}")))),
            (Ok(_), Ok(())) => Ok(()),
        }
    }

    fn stopped(&self, what: &'static str, why: Fault) -> WalkFailed {
        WalkFailed { number: self.number, what, why }
    }
}
