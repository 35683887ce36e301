//! The one table from what went wrong to what the caller hears.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::format::Format;
use crate::auth::admit::NotAdmitted;
use crate::auth::caller::Forbidden;
use crate::fhir::outcome::operation_outcome;
use crate::fhir::{Invalid, InvalidKind, Issue, IssueCode};
use crate::store::StoreError;
use crate::workflow;

/// Anything that ends a request without what was asked for.
#[derive(Debug)]
pub(super) enum Error {
    /// No good credentials.
    Unauthenticated(String),
    Act(workflow::Error),
    /// The method is not one for this path.
    NotAllowed(String),
    /// No format the caller takes.
    NotAcceptable,
    /// A body in a format that is not read here.
    UnsupportedMedia(String),
    /// A definition (profile, value set, code) that is not held here; nobody's to see or not to see.
    NoSuchDefinition(String),
}

impl<E: Into<workflow::Error>> From<E> for Error {
    fn from(error: E) -> Error {
        Error::Act(error.into())
    }
}

impl From<NotAdmitted> for Error {
    fn from(why: NotAdmitted) -> Error {
        match why {
            NotAdmitted::Unauthenticated(text) => Error::Unauthenticated(text.to_owned()),
            NotAdmitted::Unreadable(why) => {
                Invalid::malformed(Issue::general(IssueCode::Invalid, why.to_string())).into()
            }
            NotAdmitted::Forbidden(text, _) => Error::Act(workflow::Error::Forbidden(text)),
            NotAdmitted::Store(error) => Error::Act(error.into()),
        }
    }
}

impl From<Forbidden> for Error {
    fn from(why: Forbidden) -> Error {
        Error::Act(workflow::Error::Forbidden(why.to_string()))
    }
}

/// What every failing request answers: status and issues.
fn table(error: &Error) -> (StatusCode, Vec<Issue>) {
    match error {
        Error::Unauthenticated(text) => (StatusCode::UNAUTHORIZED, one(IssueCode::Login, text)),
        Error::NotAllowed(text) => (StatusCode::METHOD_NOT_ALLOWED, one(IssueCode::NotSupported, text)),
        Error::NotAcceptable => (
            StatusCode::NOT_ACCEPTABLE,
            one(
                IssueCode::NotSupported,
                "Answers come as application/fhir+json or application/fhir+xml. Accept one of them.",
            ),
        ),
        Error::NoSuchDefinition(text) => (StatusCode::NOT_FOUND, one(IssueCode::NotFound, text)),
        Error::UnsupportedMedia(text) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, one(IssueCode::NotSupported, text)),
        Error::Act(error) => act(error),
    }
}

fn one(code: IssueCode, text: &str) -> Vec<Issue> {
    vec![Issue::general(code, text)]
}

fn act(error: &workflow::Error) -> (StatusCode, Vec<Issue>) {
    use workflow::Error as Act;
    match error {
        Act::Invalid(Invalid { issues, kind }) => {
            let status = match kind {
                InvalidKind::Malformed => StatusCode::BAD_REQUEST,
                InvalidKind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
                InvalidKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            };
            (status, issues.clone())
        }
        Act::NotFound => (
            StatusCode::NOT_FOUND,
            one(
                IssueCode::NotFound,
                "There is no such resource, or it is not yours to see. Check the type and the id.",
            ),
        ),
        Act::Gone => (StatusCode::GONE, one(IssueCode::Deleted, "This resource was deleted. Its history is kept.")),
        Act::Forbidden(text) => (StatusCode::FORBIDDEN, one(IssueCode::Forbidden, text)),
        Act::Conflict(issue) => (StatusCode::CONFLICT, vec![issue.clone()]),
        Act::Stale(text) => (StatusCode::PRECONDITION_FAILED, one(IssueCode::Conflict, text)),
        Act::NeedsVersion => (
            StatusCode::PRECONDITION_REQUIRED,
            one(IssueCode::Required, "Send If-Match with the version you read, for example If-Match: W/\"3\"."),
        ),
        Act::Several(text) => (StatusCode::PRECONDITION_FAILED, one(IssueCode::MultipleMatches, text)),
        Act::NotYet(text) => (StatusCode::SERVICE_UNAVAILABLE, one(IssueCode::Transient, text)),
        Act::NotSupported(text) => (StatusCode::NOT_IMPLEMENTED, one(IssueCode::NotSupported, text)),
        Act::Entry { at, why } => {
            let (status, mut issues) = act(why);
            issues.iter_mut().for_each(|issue| issue.expression = issue.expression.take().or(Some(at.clone())));
            (status, issues)
        }
        Act::Store(error) => store(error),
    }
}

fn store(error: &StoreError) -> (StatusCode, Vec<Issue>) {
    let again = "The service cannot take this just now. Nothing was kept. Send it again after the time in Retry-After.";
    match error {
        StoreError::Unavailable(_) | StoreError::Aborted => {
            (StatusCode::SERVICE_UNAVAILABLE, vec![Issue::general(IssueCode::Transient, again)])
        }
        StoreError::Unknown(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            vec![Issue::general(
                IssueCode::Transient,
                "The connection to the database ended while this was made durable, so it may have been kept. Look whether \
                 it was done before you send it again; a referral with the same identifier, and anything with the same \
                 Idempotency-Key, may be sent again safely.",
            )],
        ),
        StoreError::NotText => (
            StatusCode::BAD_REQUEST,
            vec![Issue::general(
                IssueCode::Value,
                "A text has a zero character, which no FHIR text has. Leave it out.",
            )],
        ),
        StoreError::Conflict => (
            StatusCode::CONFLICT,
            vec![Issue::general(
                IssueCode::Conflict,
                "Someone else wrote the same thing first. Read it, and repeat if need be.",
            )],
        ),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            vec![Issue::general(
                IssueCode::Exception,
                "Something went wrong in the service; it has been logged under this request's X-Request-Id. Nothing was kept.",
            )],
        ),
    }
}

impl Error {
    /// What is wrong with what was sent; `None` when that is not what went wrong.
    pub(super) fn refusal(&self) -> Option<Vec<Issue>> {
        let (status, issues) = table(self);
        status.is_client_error().then_some(issues)
    }

    /// The same, naming the entry of a Bundle that it is about (`Bundle.entry[2]`).
    pub(super) fn at(self, entry: &str) -> Error {
        match self {
            Error::Act(workflow::Error::Invalid(Invalid { mut issues, kind })) => {
                for issue in &mut issues {
                    let rest = issue.expression.as_deref().and_then(|e| e.strip_prefix("Bundle.entry."));
                    issue.expression = rest.map(|rest| format!("{entry}.{rest}")).or(issue.expression.take());
                }
                Error::Act(workflow::Error::Invalid(Invalid { issues, kind }).at(entry))
            }
            Error::Act(why) => Error::Act(why.at(entry)),
            other => other,
        }
    }

    /// The answer, in the format the caller takes.
    pub(super) fn answer(&self, format: &Format) -> Response {
        let (status, issues) = table(self);
        // What is not built is no failure: anyone can ask for it as often as they like.
        if status.is_server_error()
            && status != StatusCode::NOT_IMPLEMENTED
            && let Error::Act(error) = self
        {
            let causes = causes(error);
            tracing::error!(error = %error, causes, status = status.as_u16(), "a request failed");
        }
        let mut response = format.value(status, &operation_outcome(&issues));
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"livewell\""));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

/// The chain of causes below an error. Database errors name columns and keys, never bound values of ours.
fn causes(error: &dyn std::error::Error) -> String {
    let mut said = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        said.push(cause.to_string());
        next = cause.source();
    }
    said.join(": ")
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        self.answer(&Format::default())
    }
}
