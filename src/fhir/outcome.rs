//! OperationOutcome: the one shape in which anything that is wrong is said.

use serde_json::{Value, json};

/// How bad an issue is (`http://hl7.org/fhir/issue-severity`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
    Information,
}

impl Severity {
    /// The code on the wire.
    pub fn code(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Information => "information",
        }
    }
}

/// What kind of thing is wrong: the members of `http://hl7.org/fhir/issue-type` that this service says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueCode {
    BusinessRule,
    CodeInvalid,
    Conflict,
    Deleted,
    Duplicate,
    Exception,
    Expired,
    Forbidden,
    Informational,
    Invalid,
    Invariant,
    Login,
    MultipleMatches,
    NotFound,
    NotSupported,
    Processing,
    Required,
    Security,
    Structure,
    Throttled,
    TooCostly,
    TooLong,
    Transient,
    Value,
}

impl IssueCode {
    /// The code on the wire.
    pub fn code(self) -> &'static str {
        match self {
            IssueCode::BusinessRule => "business-rule",
            IssueCode::CodeInvalid => "code-invalid",
            IssueCode::Conflict => "conflict",
            IssueCode::Deleted => "deleted",
            IssueCode::Duplicate => "duplicate",
            IssueCode::Exception => "exception",
            IssueCode::Expired => "expired",
            IssueCode::Forbidden => "forbidden",
            IssueCode::Informational => "informational",
            IssueCode::Invalid => "invalid",
            IssueCode::Invariant => "invariant",
            IssueCode::Login => "login",
            IssueCode::MultipleMatches => "multiple-matches",
            IssueCode::NotFound => "not-found",
            IssueCode::NotSupported => "not-supported",
            IssueCode::Processing => "processing",
            IssueCode::Required => "required",
            IssueCode::Security => "security",
            IssueCode::Structure => "structure",
            IssueCode::TooCostly => "too-costly",
            IssueCode::Throttled => "throttled",
            IssueCode::TooLong => "too-long",
            IssueCode::Transient => "transient",
            IssueCode::Value => "value",
        }
    }
}

/// One thing that is wrong (or worth knowing), where it is, and what to do about it.
///
/// `text` never holds what the caller sent as a value: an error text must not carry patient data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub severity: Severity,
    pub code: IssueCode,
    /// FHIRPath of the element, e.g. `ServiceRequest.subject`, `Bundle.entry[2].resource.status`.
    pub expression: Option<String>,
    /// A sentence that says what is wrong and what to do.
    pub text: String,
}

impl Issue {
    /// An error at `expression`.
    pub fn error(code: IssueCode, expression: impl Into<String>, text: impl Into<String>) -> Issue {
        Issue { severity: Severity::Error, code, expression: Some(expression.into()), text: text.into() }
    }

    /// A warning at `expression`: kept, flagged, not refused.
    pub fn warning(code: IssueCode, expression: impl Into<String>, text: impl Into<String>) -> Issue {
        Issue { severity: Severity::Warning, ..Issue::error(code, expression, text) }
    }

    /// An error that concerns no element.
    pub fn general(code: IssueCode, text: impl Into<String>) -> Issue {
        Issue { severity: Severity::Error, code, expression: None, text: text.into() }
    }

    /// Nothing is wrong: something worth knowing, of no element.
    pub fn information(text: impl Into<String>) -> Issue {
        Issue { severity: Severity::Information, ..Issue::general(IssueCode::Informational, text) }
    }

    /// The same issue seen from further out: `Patient.name` under `Bundle.entry[0].resource` becomes
    /// `Bundle.entry[0].resource.name`.
    pub fn under(mut self, outer: &str) -> Issue {
        let inner = self.expression.as_deref().and_then(|e| e.split_once('.')).map(|(_, rest)| rest);
        self.expression = Some(match inner {
            Some(rest) => format!("{outer}.{rest}"),
            None => outer.to_owned(),
        });
        self
    }
}

/// What is wrong with a document: several things at once, never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub issues: Vec<Issue>,
    pub kind: InvalidKind,
}

/// Which class of refusal an [`Invalid`] is; `api` turns it into a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidKind {
    /// Not readable as FHIR R4, or breaks the base specification: 400.
    Malformed,
    /// Readable, but breaks a profile or a rule: 422.
    Unprocessable,
    /// Over a size limit: 413.
    TooLarge,
}

impl Invalid {
    /// One malformed element.
    pub fn malformed(issue: Issue) -> Invalid {
        Invalid { issues: vec![issue], kind: InvalidKind::Malformed }
    }

    /// One rule broken.
    pub fn unprocessable(issue: Issue) -> Invalid {
        Invalid { issues: vec![issue], kind: InvalidKind::Unprocessable }
    }

    /// One limit exceeded.
    pub fn too_large(text: impl Into<String>) -> Invalid {
        Invalid { issues: vec![Issue::general(IssueCode::TooLong, text)], kind: InvalidKind::TooLarge }
    }
}

/// The OperationOutcome resource that says `issues`.
pub fn operation_outcome(issues: &[Issue]) -> Value {
    let issue: Vec<Value> = issues
        .iter()
        .map(|i| {
            let mut said = json!({
                "severity": i.severity.code(),
                "code": i.code.code(),
                "details": { "text": i.text },
                "diagnostics": i.text,
            });
            if let Some(e) = &i.expression {
                said["expression"] = json!([e]);
            }
            said
        })
        .collect();
    json!({ "resourceType": "OperationOutcome", "issue": issue })
}
