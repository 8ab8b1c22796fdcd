//! What is answered when something is not done: problem details as in RFC 9457.

use std::fmt;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidelog::{Error, ErrorKind, ExecuteError};

use crate::commands::Refusal;
use crate::transfer::TransferRefusal;

/// One kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// A stable word for it; its type is `/problems/<code>`.
    pub(super) code: &'static str,
    pub(super) status: u16,
    pub(super) title: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $status:literal $code:literal $title:literal;)*) => {
        $(pub(super) const $name: &Kind = &Kind { code: $code, status: $status, title: $title };)*
        /// All there are.
        pub(super) const ALL: &[&Kind] = &[$($name),*];
    };
}

kinds! {
    MALFORMED = 400 "malformed" "The request is not written as it should be";
    FOREIGN = 403 "foreign-origin" "Another site's page may not change anything here";
    NOT_FOUND = 404 "not-found" "There is nothing at this address";
    NO_ACCOUNT = 404 "no-account" "There is no such account";
    NO_TRANSFER = 404 "no-transfer" "There is no such transfer";
    METHOD = 405 "method" "This address does not know the method";
    SLOW = 408 "slow" "The request did not arrive in time";
    OPEN_ALREADY = 409 "open-already" "The account is open already";
    CLOSED = 409 "closed" "The account is closed";
    OVERDRAFT = 409 "overdraft" "There is less in the account";
    TOO_MUCH = 409 "too-much" "The account cannot hold that much";
    BUSY = 409 "busy" "Others changed the account again and again";
    HELD = 409 "held" "The account takes nothing until a person has looked";
    GONE = 410 "unknown-position" "The log has not come that far";
    CHANGED = 412 "changed" "The account is not at the sequence that was expected";
    TOO_LARGE = 413 "too-large" "The request is too large";
    NOT_JSON = 415 "not-json" "The body must be JSON";
    WRONG_HOST = 421 "wrong-host" "The bank is not reached by this name";
    INVALID = 422 "invalid" "A value cannot be taken";
    KEY_REUSED = 422 "key-reused" "The idempotency key belongs to another request";
    TOO_MANY = 429 "too-many" "Too many requests of one client";
    INTERNAL = 500 "internal" "The bank failed";
    UNAVAILABLE = 503 "unavailable" "The bank cannot answer now";
    TIMED_OUT = 503 "timed-out" "It took too long";
    READERS = 503 "too-many-readers" "Too many read live events";
}

/// A problem, to be answered.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) kind: &'static Kind,
    detail: String,
    /// The sequence that the account is at.
    sequence: Option<u64>,
}

impl Problem {
    pub(super) fn new(kind: &'static Kind, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string();
        Self {
            kind,
            detail,
            sequence: None,
        }
    }

    pub(super) fn at_sequence(mut self, sequence: u64) -> Self {
        self.sequence = Some(sequence);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = self.kind;
        let mut body = json!({
            "type": format!("/problems/{}", kind.code),
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            "code": kind.code,
        });
        if let (Some(sequence), Value::Object(body)) = (self.sequence, &mut body) {
            body.insert("sequence".into(), sequence.into());
        }
        let status = StatusCode::from_u16(kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        let problem = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem);
        if matches!(kind.status, 429 | 503) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match &error {
            Error::InvalidInput { .. } | Error::TooLarge { .. } => Self::new(INVALID, error),
            Error::LostEvents { .. } | Error::ForeignStream { .. } => Self::new(HELD, error),
            Error::Rebuilding { .. } | Error::Superseded { .. } | Error::Closed => {
                Self::new(UNAVAILABLE, error)
            }
            // What the machine says of files and disks is for whoever runs it.
            _ if error.kind() == ErrorKind::Reopen => {
                tracing::error!(%error, "the store failed");
                Self::new(
                    UNAVAILABLE,
                    "the store takes nothing until it is opened again",
                )
            }
            _ => {
                tracing::error!(%error, "a request failed");
                Self::new(
                    INTERNAL,
                    format_args!("the store answered {}", error.code()),
                )
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::NoAccount(_) => NO_ACCOUNT,
            Refusal::OpenAlready(_) => OPEN_ALREADY,
            Refusal::Closed(_) => CLOSED,
            Refusal::ZeroAmount => INVALID,
            Refusal::Overdraft { .. } => OVERDRAFT,
            Refusal::TooMuch => TOO_MUCH,
        };
        Self::new(kind, refusal)
    }
}

impl From<TransferRefusal> for Problem {
    fn from(refusal: TransferRefusal) -> Self {
        Self::new(INVALID, refusal)
    }
}

impl<R: Into<Self> + std::error::Error> From<ExecuteError<R>> for Problem {
    fn from(error: ExecuteError<R>) -> Self {
        match error {
            ExecuteError::Rejected(refusal) => refusal.into(),
            ExecuteError::Store(error) => error.into(),
            conflict @ ExecuteError::Conflict { .. } => Self::new(BUSY, conflict),
        }
    }
}
