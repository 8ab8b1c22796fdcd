//! What a server says when it is given more than it takes, in words alone.

use super::request::{ErrorClass, WireError};

/// The server was given more at once than it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oversized {
    /// The most that it takes, in bytes, where it says so.
    pub limit: Option<u64>,
}

impl Oversized {
    /// Whether `error` is about size.
    pub fn of(error: &WireError) -> Option<Self> {
        let text = error.text.to_ascii_lowercase();
        let is_about_size = ["too large", "oversized", "exceed", "larger than", "too big"]
            .iter()
            .any(|words| text.contains(words));
        (error.class == ErrorClass::Refused && is_about_size).then(|| Self {
            limit: limit_in(&text),
        })
    }
}

/// Cassandra: `length 17 exceeds maximum allowed length 16`, `oversized mutation (17/16)`; `ScyllaDB`:
/// `Mutation of 17 bytes is too large for the maximum size of 16`.
fn limit_in(text: &str) -> Option<u64> {
    let behind = |mark: &str| text.split_once(mark).map(|(_, rest)| rest);
    let number = |text: &str| {
        let digits = text.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        let end = digits.find(|letter: char| !letter.is_ascii_digit());
        digits.get(..end.unwrap_or(digits.len()))?.parse().ok()
    };
    if let Some(rest) = behind("maximum") {
        return number(rest);
    }
    let (of, _) = behind("mutation (")?.split_once(')')?;
    number(of.split_once('/')?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<Oversized> {
        let text = text.into();
        let class = ErrorClass::Refused;
        Oversized::of(&WireError { class, text })
    }

    #[test]
    fn the_limit_is_found_in_what_servers_say() {
        for text in [
            "Request is too big: length 41943234 exceeds maximum allowed length 16777216.",
            "Rejected an oversized mutation (16777433/16777216) for keyspace: till_9. Top keys are: a.1",
            "Mutation of 16777433 bytes is too large for the maximum size of 16777216",
        ] {
            let limit = Some(16_777_216);
            assert_eq!(refused(text), Some(Oversized { limit }), "{text}");
        }
        let unsaid = refused("the batch is too large");
        assert_eq!(unsaid, Some(Oversized { limit: None }));
    }

    #[test]
    fn other_refusals_and_what_may_have_happened_are_not_about_size() {
        assert_eq!(refused("unconfigured table tidelog_meta"), None);
        let text = "Request is too big".into();
        let class = ErrorClass::Unclear;
        assert_eq!(Oversized::of(&WireError { class, text }), None);
    }
}
