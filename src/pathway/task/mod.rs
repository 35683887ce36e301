//! The life of a Task: its states, and the events that are the only way from one to another.
//!
//! The NHS England workflow's state machine (Cross-Organisational Workflow, volume 1) from `requested` on, with what a
//! queue of human work needs beside it: an owner exactly while somebody has the work, `release` back to the queue,
//! `on-hold`, completing straight from `accepted`, and cancelling work in progress when the sender withdraws the referral.

use std::fmt;

/// Where a Task is. An owner is a reference such as `PractitionerRole/coach-north`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// In the queue, nobody's.
    Requested,
    /// Seen by the other side and in the queue, nobody's.
    Received,
    /// Somebody's, not begun.
    Accepted { owner: String },
    /// Somebody's, with something recorded.
    InProgress { owner: String },
    /// Somebody's, with the clock paused.
    OnHold { owner: String },
    /// Done.
    Completed { owner: Option<String> },
    /// Begun and not achieved.
    Failed { owner: Option<String> },
    /// Not taken on.
    Rejected { owner: Option<String> },
    /// No longer wanted.
    Cancelled { owner: Option<String> },
    /// Should never have been.
    EnteredInError { owner: Option<String> },
}

/// What happens to a Task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The other side has seen it.
    Receive,
    /// `by` takes it.
    Claim { by: String },
    /// Its owner gives it back to the queue.
    Release,
    /// Something was recorded.
    Start,
    /// The clock is paused.
    Hold,
    /// Work goes on after a pause.
    Resume,
    /// The work is done.
    Complete,
    /// It is not taken on.
    Reject,
    /// It is no longer wanted.
    Cancel,
    /// It was begun and not achieved.
    Fail,
    /// It should never have been.
    Annul,
}

/// Why an event cannot happen to a Task as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct NotAllowed {
    /// The status the Task has.
    pub from: &'static str,
    /// The event; `change` for a status and owner that mean none.
    pub event: &'static str,
    /// What could happen to it instead.
    pub allowed: Vec<&'static str>,
    /// A sentence that says what to do.
    pub text: String,
}

/// Why a status and owner make no state of a Task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAState {
    #[error(
        "Task.status is not one that Tasks of this queue have. Use requested, received, accepted, in-progress, on-hold, \
         completed, failed, rejected, cancelled or entered-in-error."
    )]
    UnknownStatus,
    #[error("A Task that is accepted, in-progress or on-hold has an owner. Send Task.owner, or use $claim.")]
    OwnerMissing,
    #[error("A requested or received Task has no owner. Leave Task.owner out, or use $claim to take it.")]
    OwnerUnexpected,
}

impl Event {
    /// The event in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Receive => "receive",
            Event::Claim { .. } => "claim",
            Event::Release => "release",
            Event::Start => "start",
            Event::Hold => "hold",
            Event::Resume => "resume",
            Event::Complete => "complete",
            Event::Reject => "reject",
            Event::Cancel => "cancel",
            Event::Fail => "fail",
            Event::Annul => "annul",
        }
    }
}

/// Whether Tasks of this `Task.status` have still something to do.
pub fn is_open_status(status: &str) -> bool {
    let states = [None, Some("")].into_iter().filter_map(|owner| TaskState::from_parts(status, owner).ok());
    states.into_iter().any(|state| state.is_open())
}

impl TaskState {
    /// The state that a `Task.status` and `Task.owner` say.
    pub fn from_parts(status: &str, owner: Option<&str>) -> Result<TaskState, NotAState> {
        use TaskState::*;
        let free = |state| if owner.is_none() { Ok(state) } else { Err(NotAState::OwnerUnexpected) };
        let owned = || owner.map(str::to_owned).ok_or(NotAState::OwnerMissing);
        let kept = || owner.map(str::to_owned);
        match status {
            "requested" => free(Requested),
            "received" => free(Received),
            "accepted" => Ok(Accepted { owner: owned()? }),
            "in-progress" => Ok(InProgress { owner: owned()? }),
            "on-hold" => Ok(OnHold { owner: owned()? }),
            "completed" => Ok(Completed { owner: kept() }),
            "failed" => Ok(Failed { owner: kept() }),
            "rejected" => Ok(Rejected { owner: kept() }),
            "cancelled" => Ok(Cancelled { owner: kept() }),
            "entered-in-error" => Ok(EnteredInError { owner: kept() }),
            _ => Err(NotAState::UnknownStatus),
        }
    }

    /// `Task.status`.
    pub fn status(&self) -> &'static str {
        use TaskState::*;
        match self {
            Requested => "requested",
            Received => "received",
            Accepted { .. } => "accepted",
            InProgress { .. } => "in-progress",
            OnHold { .. } => "on-hold",
            Completed { .. } => "completed",
            Failed { .. } => "failed",
            Rejected { .. } => "rejected",
            Cancelled { .. } => "cancelled",
            EnteredInError { .. } => "entered-in-error",
        }
    }

    /// `Task.owner`, as a reference.
    pub fn owner(&self) -> Option<&str> {
        use TaskState::*;
        match self {
            Requested | Received => None,
            Accepted { owner } | InProgress { owner } | OnHold { owner } => Some(owner),
            Completed { owner }
            | Failed { owner }
            | Rejected { owner }
            | Cancelled { owner }
            | EnteredInError { owner } => owner.as_deref(),
        }
    }

    /// Whether there is still something to do: in the queue or somebody's.
    pub fn is_open(&self) -> bool {
        use TaskState::*;
        matches!(self, Requested | Received | Accepted { .. } | InProgress { .. } | OnHold { .. })
    }

    /// Whether it waits in the queue for somebody to claim it.
    pub fn is_claimable(&self) -> bool {
        matches!(self, TaskState::Requested | TaskState::Received)
    }

    /// The state after `event`, or why it cannot happen now.
    pub fn apply(self, event: Event) -> Result<TaskState, NotAllowed> {
        use TaskState::*;
        match (self, event) {
            (Requested, Event::Receive) => Ok(Received),
            (Requested | Received, Event::Claim { by }) => Ok(Accepted { owner: by }),
            (Accepted { .. } | InProgress { .. } | OnHold { .. }, Event::Release) => Ok(Requested),
            (Accepted { owner }, Event::Start) => Ok(InProgress { owner }),
            (Accepted { owner } | InProgress { owner }, Event::Hold) => Ok(OnHold { owner }),
            (OnHold { owner }, Event::Resume) => Ok(InProgress { owner }),
            (Accepted { owner } | InProgress { owner }, Event::Complete) => Ok(Completed { owner: Some(owner) }),
            (InProgress { owner }, Event::Fail) => Ok(Failed { owner: Some(owner) }),
            (Requested | Received, Event::Reject) => Ok(Rejected { owner: None }),
            (Requested | Received, Event::Cancel) => Ok(Cancelled { owner: None }),
            (Accepted { owner } | InProgress { owner } | OnHold { owner }, Event::Cancel) => {
                Ok(Cancelled { owner: Some(owner) })
            }
            (Rejected { owner }, Event::Cancel) => Ok(Cancelled { owner }),
            (state, Event::Annul) if !matches!(state, EnteredInError { .. }) => {
                Ok(EnteredInError { owner: state.owner().map(str::to_owned) })
            }
            (state, event) => Err(state.refusal(&event)),
        }
    }

    /// The events that can happen now.
    pub fn allowed(&self) -> Vec<&'static str> {
        use TaskState::*;
        match self {
            Requested => vec!["receive", "claim", "reject", "cancel", "annul"],
            Received => vec!["claim", "reject", "cancel", "annul"],
            Accepted { .. } => vec!["release", "start", "hold", "complete", "cancel", "annul"],
            InProgress { .. } => vec!["release", "hold", "complete", "cancel", "fail", "annul"],
            OnHold { .. } => vec!["release", "resume", "cancel", "annul"],
            Rejected { .. } => vec!["cancel", "annul"],
            Completed { .. } | Failed { .. } | Cancelled { .. } => vec!["annul"],
            EnteredInError { .. } => vec![],
        }
    }

    /// The event that a PUT with this status and owner means; `None` when the state stays as it is.
    ///
    /// An owner cannot be exchanged for another in one step: the work is released first, so that nobody is left thinking
    /// it is theirs.
    pub fn change_to(&self, status: &str, owner: Option<&str>) -> Result<Option<Event>, NotAllowed> {
        use TaskState::*;
        let refuse = |text: String| NotAllowed { from: self.status(), event: "change", allowed: self.allowed(), text };
        // Closing statuses keep the owner the Task has, so a PUT need not repeat it.
        let wanted = match TaskState::from_parts(status, owner) {
            Err(NotAState::OwnerMissing) if self.owner().is_some() => TaskState::from_parts(status, self.owner()),
            other => other,
        };
        let wanted = wanted.map_err(|why| refuse(why.to_string()))?;
        if wanted.status() == self.status() && (wanted.owner().is_none() || wanted.owner() == self.owner()) {
            return Ok(None);
        }
        let taken_over = wanted.owner().is_some() && self.owner().is_some() && wanted.owner() != self.owner();
        if taken_over {
            return Err(refuse(
                "A Task is not handed from one owner to another in one step. Release it first ($release), then claim it."
                    .into(),
            ));
        }
        let event = match (&wanted, self) {
            (Requested, _) => Event::Release,
            (Received, _) => Event::Receive,
            (Accepted { owner }, _) => Event::Claim { by: owner.clone() },
            (InProgress { .. }, OnHold { .. }) => Event::Resume,
            (InProgress { .. }, _) => Event::Start,
            (OnHold { .. }, _) => Event::Hold,
            (Completed { .. }, _) => Event::Complete,
            (Failed { .. }, _) => Event::Fail,
            (Rejected { .. }, _) => Event::Reject,
            (Cancelled { .. }, _) => Event::Cancel,
            (EnteredInError { .. }, _) => Event::Annul,
        };
        if self.allowed().contains(&event.name()) { Ok(Some(event)) } else { Err(self.refusal(&event)) }
    }

    fn refusal(&self, refused: &Event) -> NotAllowed {
        let (event, allowed) = (refused.name(), self.allowed());
        let text = match (refused, self) {
            (Event::Claim { by }, TaskState::OnHold { owner }) if by == owner => {
                "The Task is on-hold and has this owner already. To go on with it, send it as in-progress.".to_owned()
            }
            (Event::Claim { by }, state) if state.is_open() && state.owner() == Some(by) => {
                format!("The Task is {state} and has this owner already. Possible: {}.", allowed.join(", "))
            }
            (Event::Claim { .. }, state) if state.is_open() => {
                "The Task is taken. Choose another, or ask its owner to release it.".to_owned()
            }
            (Event::Complete, TaskState::Requested | TaskState::Received) => {
                "The Task is nobody's yet. Claim it ($claim), record what was done, then complete it.".to_owned()
            }
            _ if allowed.is_empty() => format!("The Task is {self}; nothing more can happen to it."),
            _ => format!("The Task is {self}: {event} is not possible now. Possible: {}.", allowed.join(", ")),
        };
        NotAllowed { from: self.status(), event, allowed, text }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.status())
    }
}

#[cfg(test)]
mod tests;
