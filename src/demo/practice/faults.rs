//! What a practice system does wrong, on demand: the knobs by which tests make it fail.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{Method, Uri};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// One way to misbehave.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Answers this status with an OperationOutcome and does nothing; `retry_after` in seconds.
    Answer { status: u16, retry_after: Option<u32> },
    /// Does what was asked, then closes the connection without a word.
    DropReply,
    /// Closes the connection without doing anything.
    DropRequest,
    /// Does what was asked and answers, this much later.
    Delay(Duration),
    /// Never answers and does nothing; the connection closes when the stand-in stops.
    Hang,
}

/// Which kind of request a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    All,
    /// The token endpoint.
    Tokens,
    /// Reads and searches, also a search by POST.
    Reads,
    /// Creates, updates and transactions.
    Writes,
}

/// Which requests a fault is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aim {
    traffic: Traffic,
    practice: Option<String>,
}

impl Aim {
    /// Requests of this kind at every practice.
    pub fn at(traffic: Traffic) -> Aim {
        Aim { traffic, practice: None }
    }

    /// The same, at the practice with this ODS code only.
    pub fn of(self, practice: impl Into<String>) -> Aim {
        Aim { practice: Some(practice.into()), ..self }
    }

    fn hits(&self, request: &Request<'_>) -> bool {
        self.practice.as_deref().is_none_or(|p| p == request.practice)
            && (self.traffic == Traffic::All || self.traffic == request.traffic)
    }
}

/// The knobs of one stand-in. They may be turned while it serves; the same seed and the same order of requests give the
/// same faults.
#[derive(Debug)]
pub struct Faults {
    set: Mutex<Set>,
}

#[derive(Debug)]
struct Set {
    queued: VecDeque<(Aim, Fault)>,
    chances: Vec<(f64, Aim, Fault)>,
    dice: StdRng,
    struck: usize,
}

impl Faults {
    /// No faults, dice seeded with 0.
    pub(super) fn none() -> Faults {
        let set = Set { queued: VecDeque::new(), chances: Vec::new(), dice: StdRng::seed_from_u64(0), struck: 0 };
        Faults { set: Mutex::new(set) }
    }

    /// The next `count` requests that `aim` hits meet this fault, after the ones already queued for them.
    pub fn next(&self, count: usize, aim: Aim, fault: Fault) {
        self.set().queued.extend(std::iter::repeat_n((aim, fault), count));
    }

    /// Every request that `aim` hits meets this fault with this probability (0 to 1).
    pub fn sometimes(&self, probability: f64, aim: Aim, fault: Fault) {
        self.set().chances.push((probability.clamp(0.0, 1.0), aim, fault));
    }

    /// Starts the dice afresh.
    pub fn seed(&self, seed: u64) {
        self.set().dice = StdRng::seed_from_u64(seed);
    }

    /// Back to good behaviour.
    pub fn clear(&self) {
        let mut set = self.set();
        set.queued.clear();
        set.chances.clear();
    }

    /// How many requests have met a fault since the start.
    pub fn struck(&self) -> usize {
        self.set().struck
    }

    pub(super) fn draw(&self, method: &Method, uri: &Uri) -> Option<Fault> {
        let request = Request::seen(method, uri);
        let mut set = self.set();
        let queued = set.queued.iter().position(|(aim, _)| aim.hits(&request));
        let fault = match queued.and_then(|at| set.queued.remove(at)) {
            Some((_, fault)) => Some(fault),
            None => set.rolled(&request),
        };
        set.struck += usize::from(fault.is_some());
        fault
    }

    fn set(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Set {
    fn rolled(&mut self, request: &Request<'_>) -> Option<Fault> {
        let Set { chances, dice, .. } = self;
        let hit = chances.iter().find(|(probability, aim, _)| aim.hits(request) && dice.random_bool(*probability));
        hit.map(|(_, _, fault)| fault.clone())
    }
}

struct Request<'a> {
    practice: &'a str,
    traffic: Traffic,
}

impl<'a> Request<'a> {
    fn seen(method: &Method, uri: &'a Uri) -> Request<'a> {
        let path = uri.path().trim_end_matches('/');
        let traffic = if path.ends_with("/oauth/token") {
            Traffic::Tokens
        } else if matches!(*method, Method::POST | Method::PUT) && !path.ends_with("/_search") {
            Traffic::Writes
        } else {
            Traffic::Reads
        };
        Request { practice: path.split('/').nth(1).unwrap_or_default(), traffic }
    }
}
