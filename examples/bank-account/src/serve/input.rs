//! What requests are made of, taken apart; whatever is wrong with it becomes a problem.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use tidelog::{Aggregate, Error, StreamId};

use super::App;
use super::problem::{INVALID, Kind, MALFORMED, NOT_JSON, Problem};
use crate::money;

/// Most characters of a holder's name.
pub(super) const MAX_HOLDER: usize = 200;
/// Most digits of whole dollars.
const MAX_DIGITS: usize = 18;

/// The id in the path.
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        id.map(|Path(id)| Self(id))
            .map_err(|error| Problem::new(MALFORMED, error.body_text()))
    }
}

/// The query, without anything that is not known.
pub(super) struct Asking<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asking<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query
            .map(|Query(query)| Self(query))
            .map_err(|error| Problem::new(MALFORMED, error.body_text()))
    }
}

/// The body: JSON of a known form.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let kind = kind
            .and_then(|kind| kind.split(';').next())
            .unwrap_or_default()
            .trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Problem::new(NOT_JSON, "say content-type: application/json"));
        }
        // It was read before, within its bounds.
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| Problem::new(MALFORMED, error.body_text()))?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let kind = if error.is_data() { INVALID } else { MALFORMED };
            Problem::new(kind, error)
        })
    }
}

/// How many may be on a page.
pub(super) fn limit(asked: usize, most: usize) -> Result<usize, Problem> {
    if (1..=most).contains(&asked) {
        Ok(asked)
    } else {
        let reason = format_args!("limit must be from 1 to {most}");
        Err(Problem::new(MALFORMED, reason))
    }
}

/// The stream of what has this id; there is nothing, of `kind`, under what cannot be one.
pub(super) fn stream_of<A: Aggregate>(
    app: &App,
    id: &str,
    kind: &'static Kind,
) -> Result<StreamId, Problem> {
    match app.bank.repository::<A>().stream_id(id) {
        Err(error @ (Error::InvalidInput { .. } | Error::TooLarge { .. })) => {
            Err(Problem::new(kind, error))
        }
        stream => Ok(stream?),
    }
}

/// Nothing at all, or an empty object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuery {}

/// Who opens an account.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Opening {
    #[serde(deserialize_with = "holder")]
    pub(super) holder: String,
}

/// How much moves, in cents.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moving {
    #[serde(deserialize_with = "amount")]
    pub(super) amount: u64,
}

/// What moves from where to where.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transferring {
    #[serde(deserialize_with = "account")]
    pub(super) from: String,
    #[serde(deserialize_with = "account")]
    pub(super) to: String,
    #[serde(deserialize_with = "amount")]
    pub(super) amount: u64,
    #[serde(default = "a_minute", deserialize_with = "seconds")]
    pub(super) within_seconds: u32,
}

fn a_minute() -> u32 {
    60
}

fn holder<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let holder = String::deserialize(from)?;
    if holder.is_empty() || holder.chars().count() > MAX_HOLDER {
        return Err(D::Error::custom(format_args!(
            "holder must have 1 to {MAX_HOLDER} characters"
        )));
    }
    if holder.chars().any(char::is_control) {
        return Err(D::Error::custom(
            "holder must be without control characters",
        ));
    }
    Ok(holder)
}

fn amount<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    let cents =
        money::parse(&text).map_err(|error| D::Error::custom(format_args!("amount: {error}")))?;
    let whole = text.split('.').next().unwrap_or_default();
    if whole.len() > MAX_DIGITS {
        return Err(D::Error::custom(format_args!(
            "amount: at most {MAX_DIGITS} digits before the point"
        )));
    }
    Ok(cents)
}

fn account<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let id = String::deserialize(from)?;
    if id.is_empty() || id.len() > 256 || id.chars().any(char::is_control) {
        return Err(D::Error::custom(
            "an account's id has 1 to 256 bytes without control characters",
        ));
    }
    Ok(id)
}

fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let seconds = u32::deserialize(from)?;
    if (1..=86_400).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(D::Error::custom("within_seconds must be from 1 to 86400"))
    }
}

/// Whether an account may be opened under this id here: it stands in addresses as it is.
pub(super) fn check_new_id(id: &str) -> Result<(), Problem> {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-');
    let begins = id
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins && id.len() <= 64 && id.bytes().all(plain) {
        return Ok(());
    }
    Err(Problem::new(
        INVALID,
        "an account's id has 1 to 64 letters, digits and . _ ~ -, and begins with a letter or digit",
    ))
}
