//! What headers say about a command: whether it is a retry, what it was decided on, which trace it is
//! part of.

use axum::extract::FromRequestParts;
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use tidelog::TraceParent;

use super::problem::{MALFORMED, Problem};

pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const MAX_KEY_BYTES: usize = 255;

/// What surrounds a command.
pub(super) struct Around {
    /// Under which name it may be repeated.
    pub(super) key: Option<String>,
    /// What the account must be at.
    pub(super) if_match: Option<Tags>,
    pub(super) trace: Option<TraceParent>,
}

impl Around {
    /// The same for a command that makes something: what is new is at no sequence.
    pub(super) fn of_what_is_new(self) -> Self {
        Self {
            if_match: None,
            ..self
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Around {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let headers = &parts.headers;
        Ok(Self {
            key: key(headers)?,
            if_match: Tags::of(headers, &IF_MATCH)?,
            trace: trace(headers),
        })
    }
}

/// The trace that a request is part of. One that is not written as it should be is none, by its
/// specification; so are two.
pub(super) fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    one(headers, &TRACEPARENT).ok()??.parse().ok()
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let key = one(headers, &IDEMPOTENCY_KEY);
    let fits = |key: &&str| (1..=MAX_KEY_BYTES).contains(&key.len());
    match key {
        Ok(None) => Ok(None),
        Ok(Some(key)) if fits(&key) => Ok(Some(key.to_owned())),
        _ => {
            let reason = "Idempotency-Key is one text of 1 to 255 visible ASCII characters";
            Err(Problem::new(MALFORMED, reason))
        }
    }
}

/// The value of a header that is there once at most, and is text. Whoever stands between might read
/// another one of two.
pub(super) fn one<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(value) if values.next().is_none() => Ok(Some(value)),
        _ => Err(Problem::new(
            MALFORMED,
            format_args!("{name} is one text of visible ASCII characters"),
        )),
    }
}

/// The entity tags of a condition.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tags {
    Any,
    /// The sequences; what cannot be one of ours never matches.
    These(Vec<u64>),
}

impl Tags {
    pub(super) fn of(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Problem> {
        let mut these = Vec::new();
        let mut said = false;
        for value in headers.get_all(name) {
            said = true;
            let text = value.to_str().unwrap_or_default().trim();
            if text == "*" {
                return Ok(Some(Self::Any));
            }
            for tag in text.split(',').map(str::trim) {
                let weak = tag.strip_prefix("W/");
                let quoted = weak.unwrap_or(tag).strip_prefix('"');
                let Some(tag) = quoted.and_then(|tag| tag.strip_suffix('"')) else {
                    let reason = format!("{name} is a list of entity tags in quotes, or *");
                    return Err(Problem::new(MALFORMED, reason));
                };
                // A weak one says no more than that it looked alike.
                if let (true, Some(sequence)) =
                    (weak.is_none() || name == IF_NONE_MATCH, digits(tag, 20))
                {
                    these.push(sequence);
                }
            }
        }
        Ok(said.then_some(Self::These(these)))
    }

    pub(super) fn has(&self, sequence: u64) -> bool {
        match self {
            Self::Any => sequence > 0,
            Self::These(these) => these.contains(&sequence),
        }
    }
}

/// The number that `text` writes in at most so many digits, and nothing else.
pub(super) fn digits(text: &str, most: usize) -> Option<u64> {
    let plain = text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// `"7"`.
pub(super) fn etag(sequence: u64) -> HeaderValue {
    // Digits in quotes are always a header's value, so the fallback is never taken.
    HeaderValue::try_from(format!("\"{sequence}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(value: &str) -> Option<Tags> {
        let mut headers = HeaderMap::new();
        headers.insert(IF_MATCH, value.parse().unwrap());
        Tags::of(&headers, &IF_MATCH).ok().flatten()
    }

    #[test]
    fn a_condition_is_a_list_of_strong_tags_or_a_star() {
        assert_eq!(tags("*"), Some(Tags::Any));
        assert_eq!(tags("\"7\""), Some(Tags::These(vec![7])));
        assert_eq!(tags("\"7\", \"9\""), Some(Tags::These(vec![7, 9])));
        // Neither a weak one nor another server's is ever what the account is at.
        assert_eq!(tags("W/\"7\", \"abc\", \"+7\""), Some(Tags::These(vec![])));
        for bad in ["7", "\"7", "\"7\",", ""] {
            assert_eq!(tags(bad), None, "{bad:?}");
        }
        assert!(!Tags::Any.has(0));
    }
}
