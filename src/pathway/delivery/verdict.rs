//! What an attempt came to.

use std::fmt;
use std::time::Duration;

/// What one attempt at a delivery came to: a result the worker acts on, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is at the practice, and was read there.
    Delivered { receipts: Vec<Receipt> },
    /// It was handed to a transport that took it, under this id of the transport's ('' where it did not say). The practice
    /// answers later; where it has not `within` this time, a person is asked.
    Sent { message: String, within: Duration },
    /// Not done; trying again may help. `after` is what the practice asked for (`Retry-After`).
    Retry { after: Option<Duration>, why: Why },
    /// The practice said no, and will say no again: stop. `outcome` is what its OperationOutcome said, without
    /// anything that could be about a patient (severity, code and expression of each issue), at most 2 kB.
    Refused { why: Why, outcome: Option<String> },
    /// It was sent and the answer is not clear: look at the practice before anything is sent again.
    Unknown { why: Why },
    /// Only a person can settle it.
    NeedsPerson { reason: Reason },
}

impl Verdict {
    /// The verdict in a word, and why in another ('' where it delivered): for logs and for the row of an attempt.
    pub fn in_log(&self) -> (&'static str, String) {
        match self {
            Verdict::Delivered { .. } => ("delivered", String::new()),
            Verdict::Sent { .. } => ("sent", String::new()),
            Verdict::Retry { why, .. } => ("retry", why.code()),
            Verdict::Refused { why, .. } => ("refused", why.code()),
            Verdict::Unknown { why } => ("unknown", why.code()),
            Verdict::NeedsPerson { reason } => ("needs-person", reason.code().to_owned()),
        }
    }

    /// Whether it was refused because nobody wants it there any more (410): of a subscriber, to be disabled.
    pub fn is_gone(&self) -> bool {
        matches!(self, Verdict::Refused { why: Why::Status(410), .. })
    }
}

/// Where one of our records is at the practice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Our record, e.g. `Encounter/0197f6d0-…`.
    pub key: String,
    /// The practice's own reference, e.g. `Encounter/123`.
    pub practice_reference: String,
    /// The practice's version of it (`meta.versionId`), where it says one: a correction is a PUT that names it.
    pub practice_version: Option<String>,
}

/// Why an attempt did not deliver. Holds nothing about a patient, so it may be logged and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// No answer within the time limit.
    Timeout,
    /// No connection: name not found, connection refused, or no TLS session.
    Unreachable,
    /// The other side ended the TLS session because of the certificate by which it was to know us, or for want of one.
    CertificateRefused,
    /// The connection ended after the request was sent.
    ConnectionLost,
    /// The practice answered with this HTTP status.
    Status(u16),
    /// The practice's address is one this service does not call; see `outbound::guard`.
    AddressRefused,
    /// The answer was longer than the limit.
    AnswerTooLarge,
    /// The answer could not be read as what it should have been.
    AnswerUnreadable,
    /// The practice said it was written, and then did not have it.
    NotThereAfterwards,
    /// The practice's token endpoint refused our client assertion.
    TokenRefused,
    /// The practice's SMART configuration names no token endpoint that may be called.
    TokenEndpointUnusable,
    /// Our own request could not be made; a defect here, not at the practice.
    RequestNotMade,
    /// MESH has a part of the message only, and will not hand it over: it has to be sent anew.
    UploadIncomplete,
    /// MESH does not let us in: our mailbox, password, shared key or certificate is wrong.
    MeshAccessRefused,
    /// MESH could not hand the message over.
    Undeliverable,
    /// MESH is not configured here (`[mesh]`).
    MeshNotConfigured,
    /// The lease ended before anything was sent: another process may be sending it.
    LeaseLost,
}

impl Why {
    /// A short stable text for a column, a label or a log field, e.g. `timeout`, `status-503`.
    pub fn code(self) -> String {
        match self {
            Why::Timeout => "timeout".into(),
            Why::Unreachable => "unreachable".into(),
            Why::CertificateRefused => "certificate-refused".into(),
            Why::ConnectionLost => "connection-lost".into(),
            Why::Status(status) => format!("status-{status}"),
            Why::AddressRefused => "address-refused".into(),
            Why::AnswerTooLarge => "answer-too-large".into(),
            Why::AnswerUnreadable => "answer-unreadable".into(),
            Why::NotThereAfterwards => "not-there-afterwards".into(),
            Why::TokenRefused => "token-refused".into(),
            Why::TokenEndpointUnusable => "token-endpoint-unusable".into(),
            Why::RequestNotMade => "request-not-made".into(),
            Why::UploadIncomplete => "upload-incomplete".into(),
            Why::MeshAccessRefused => "mesh-access-refused".into(),
            Why::Undeliverable => "undeliverable".into(),
            Why::MeshNotConfigured => "mesh-not-configured".into(),
            Why::LeaseLost => "lease-lost".into(),
        }
    }
}

/// A sentence for a person.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match self {
            Why::Timeout => "The practice's system did not answer in time.",
            Why::Unreachable => "The practice's system could not be reached: check its address, name and certificate.",
            Why::CertificateRefused => {
                "The other side wants a certificate of this service that it accepts. For MESH check mesh.certificate and \
                 mesh.key; a practice's FHIR address is called without one: have the practice name an address that \
                 needs none, or reach it through MESH."
            }
            Why::ConnectionLost => "The connection ended after the request was sent.",
            Why::Status(status) => return write!(f, "The practice's system answered with status {status}."),
            Why::AddressRefused => "The practice's address is not https, or leads to a private or reserved network.",
            Why::AnswerTooLarge => "The practice's system answered with more than the limit.",
            Why::AnswerUnreadable => "The practice's system answered with something that is not FHIR JSON.",
            Why::NotThereAfterwards => "The practice's system said it had written the entry, but does not show it.",
            Why::TokenRefused => "The practice's token endpoint refused this service: check client_id and keys there.",
            Why::TokenEndpointUnusable => {
                "The practice's SMART configuration names no token endpoint that may be used."
            }
            Why::RequestNotMade => "The request to the practice could not be made.",
            Why::UploadIncomplete => "MESH has only a part of the message.",
            Why::MeshAccessRefused => {
                "MESH does not let this service in: check mailbox, password, keys and certificate."
            }
            Why::Undeliverable => "MESH could not hand the message over: check the practice's mailbox.",
            Why::MeshNotConfigured => "MESH is not configured: set mesh.url, mesh.mailbox and their secrets.",
            Why::LeaseLost => {
                "The service was held up for so long that it had to leave the delivery to another process."
            }
        };
        f.write_str(said)
    }
}

/// What a person has to settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The practice has no Patient with this NHS number.
    PatientNotFound,
    /// The practice has several Patients with this NHS number.
    SeveralPatients,
    /// The practice's Patient has another birth date than ours.
    BirthDateDiffers,
    /// The practice's Patient has another family name than ours.
    FamilyNameDiffers,
    /// What we wrote was changed at the practice since: our correction would overwrite it.
    VersionConflict,
    /// The practice has several entries that carry the identifier of one of our records.
    SeveralCopies,
    /// The practice's system drops our identifier from what it stores, so that a repeat would double it.
    IdentifierNotKept,
    /// The whole retry schedule has passed without success.
    RetriesExhausted,
    /// The whole retry schedule has passed and it is still not known whether the entry is there.
    OutcomeUnknown,
    /// It was sent, and the practice's system has not acknowledged it in the time it has for that.
    AcknowledgementMissing,
    /// The process has ended in each of several attempts, one after the other.
    NeverEnds,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 11] = [
        Reason::PatientNotFound,
        Reason::SeveralPatients,
        Reason::BirthDateDiffers,
        Reason::FamilyNameDiffers,
        Reason::VersionConflict,
        Reason::SeveralCopies,
        Reason::IdentifierNotKept,
        Reason::RetriesExhausted,
        Reason::OutcomeUnknown,
        Reason::AcknowledgementMissing,
        Reason::NeverEnds,
    ];

    /// Whether the practice's own answer is the reason, so that its system works.
    pub fn is_the_destinations(self) -> bool {
        !matches!(
            self,
            Reason::RetriesExhausted | Reason::OutcomeUnknown | Reason::AcknowledgementMissing | Reason::NeverEnds
        )
    }

    /// The reason whose [`code`](Self::code) this is.
    pub fn from_code(code: &str) -> Option<Reason> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// A short stable text for a column or a label.
    pub fn code(self) -> &'static str {
        match self {
            Reason::PatientNotFound => "patient-not-found",
            Reason::SeveralPatients => "several-patients",
            Reason::BirthDateDiffers => "birth-date-differs",
            Reason::FamilyNameDiffers => "family-name-differs",
            Reason::VersionConflict => "version-conflict",
            Reason::SeveralCopies => "several-copies",
            Reason::IdentifierNotKept => "identifier-not-kept",
            Reason::RetriesExhausted => "retries-exhausted",
            Reason::OutcomeUnknown => "outcome-unknown",
            Reason::AcknowledgementMissing => "acknowledgement-missing",
            Reason::NeverEnds => "never-ends",
        }
    }
}

/// A sentence for the co-ordinator: what is wrong and what to do.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::PatientNotFound => {
                "The practice has no patient with this NHS number. Ask the practice, correct the registration, then replay."
            }
            Reason::SeveralPatients => {
                "The practice has several patients with this NHS number. Ask the practice to resolve it, then replay."
            }
            Reason::BirthDateDiffers => {
                "The practice's patient has another birth date. Check who this is with the practice before replaying."
            }
            Reason::FamilyNameDiffers => {
                "The practice's patient has another family name. Check who this is with the practice before replaying."
            }
            Reason::VersionConflict => {
                "The practice has changed the entry since we wrote it. Agree with the practice which stands."
            }
            Reason::SeveralCopies => {
                "The practice holds the entry more than once. Ask the practice to remove the extra one, then replay."
            }
            Reason::IdentifierNotKept => {
                "The practice's system does not keep our identifier. It must, or entries cannot be corrected or repeated safely: ask its supplier."
            }
            Reason::RetriesExhausted => {
                "The practice's system has not taken the entry in 72 hours. Find out why with the practice, then replay."
            }
            Reason::OutcomeUnknown => {
                "For 72 hours it could not be learned whether the practice has the entry. Ask the practice, then replay or cancel."
            }
            Reason::AcknowledgementMissing => {
                "The practice's system has not acknowledged the message. Ask the practice whether it came, then replay or cancel."
            }
            Reason::NeverEnds => {
                "The service ended in the middle of each attempt, many times in a row. Look into its log before replaying."
            }
        })
    }
}
