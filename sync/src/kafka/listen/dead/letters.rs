//! A record that was set aside, as it stands in the dead-letter topic: key, value and headers as they
//! were, and headers of ours behind them that say where it comes from and why.

use bytes::Bytes;
use tidelog_core::Timestamp;

use crate::kafka::listen::feed::{Letter, Place, Record};

/// All headers of ours begin with it.
const OURS: &str = "tidelog-";
const TOPIC: &str = "tidelog-topic";
const PARTITION: &str = "tidelog-partition";
const OFFSET: &str = "tidelog-offset";
const GROUP: &str = "tidelog-group";
const REASON: &str = "tidelog-reason";
const ATTEMPTS: &str = "tidelog-attempts";
const SINCE: &str = "tidelog-since";
const LEFT_OUT: &str = "tidelog-left-out";

/// Headers of a message, in order.
pub(super) type Headers = Vec<(Box<str>, Option<Bytes>)>;

/// What a letter goes without, so that it fits where the record alone did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LeftOut {
    #[default]
    Nothing,
    /// Why and since when: the parked set says so of its key.
    Reason,
    /// The value, too: it stays where the record was read.
    Value,
    /// The headers, too.
    Headers,
}

impl LeftOut {
    /// What is left out next, if anything can be.
    pub(super) fn more(self) -> Option<Self> {
        match self {
            Self::Nothing => Some(Self::Reason),
            Self::Reason => Some(Self::Value),
            Self::Value => Some(Self::Headers),
            Self::Headers => None,
        }
    }

    const fn text(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Reason => Some("reason"),
            Self::Value => Some("reason,value"),
            Self::Headers => Some("reason,value,headers"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Reason, Self::Value, Self::Headers]
            .into_iter()
            .find(|left_out| left_out.text() == Some(text))
    }
}

/// A letter as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub letter: Letter,
    pub left_out: LeftOut,
}

/// The headers that `letter` goes with.
pub(super) fn headers(letter: &Letter, group: &str, left_out: LeftOut) -> Headers {
    let record = &letter.record;
    let mut headers = Headers::new();
    if left_out < LeftOut::Headers {
        // Set aside once before: what was said of it then is over.
        let own = record.headers.iter().filter(|(name, _)| !is_ours(name));
        headers.extend(own.cloned());
    }
    let mut put = |name: &str, value: &str| {
        let value = Bytes::copy_from_slice(value.as_bytes());
        headers.push((name.into(), Some(value)));
    };
    put(TOPIC, &record.place.topic);
    put(PARTITION, &record.place.partition.to_string());
    put(OFFSET, &record.offset.to_string());
    put(GROUP, group);
    if let Some(text) = left_out.text() {
        put(LEFT_OUT, text);
    } else {
        put(REASON, &letter.reason);
        put(ATTEMPTS, &letter.attempts.to_string());
        put(SINCE, &letter.since.to_string());
    }
    headers
}

/// The value that it goes with.
pub(super) fn value(letter: &Letter, left_out: LeftOut) -> Option<&Bytes> {
    let value = letter.record.value.as_ref();
    value.filter(|_| left_out < LeftOut::Value)
}

/// The letter that a message of the dead-letter topic is; `None` when it is none of `group`'s.
pub(super) fn read(message: Record, group: &str) -> Option<Found> {
    let text = |name: &str| {
        // What stands behind the record's own is ours.
        let mut all = message.headers.iter().rev();
        let (_, value) = all.find(|(found, _)| &**found == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    };
    if text(GROUP)? != group {
        return None;
    }
    let place = Place {
        topic: text(TOPIC)?.into(),
        partition: text(PARTITION)?.parse().ok()?,
    };
    let offset = text(OFFSET)?.parse().ok()?;
    let left_out = match text(LEFT_OUT) {
        Some(text) => LeftOut::read(text)?,
        None => LeftOut::Nothing,
    };
    let reason = text(REASON).unwrap_or_default().into();
    let attempts = text(ATTEMPTS).and_then(|text| text.parse().ok());
    let since: Option<Timestamp> = text(SINCE).and_then(|text| text.parse().ok());
    let mut headers = message.headers;
    headers.retain(|(name, _)| !is_ours(name));
    let record = Record {
        place,
        offset,
        key: message.key,
        value: message.value,
        headers,
    };
    let letter = Letter {
        record,
        reason,
        attempts: attempts.unwrap_or_default(),
        since: since.unwrap_or_default(),
    };
    Some(Found { letter, left_out })
}

fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        let place = Place {
            topic: "shop.Order".into(),
            partition: 3,
        };
        let header = |name: &str, value: &'static str| -> (Box<str>, _) {
            (name.into(), Some(Bytes::from_static(value.as_bytes())))
        };
        let headers = vec![
            header("ce_id", "7"),
            ("nothing".into(), None),
            header("tidelog-topic", "where it was parked before"),
            header("ce_id", "twice"),
        ];
        let record = Record {
            place,
            offset: 41,
            key: Some(Bytes::from_static(b"order-1")),
            value: Some(Bytes::new()),
            headers,
        };
        Letter {
            record,
            reason: "no such customer".into(),
            attempts: 5,
            since: Timestamp::from_micros(852_119_999_000_001),
        }
    }

    fn message(letter: &Letter, left_out: LeftOut) -> Record {
        let place = Place {
            topic: "mail.dead".into(),
            partition: 0,
        };
        Record {
            place,
            offset: 9,
            key: letter.record.key.clone(),
            value: value(letter, left_out).cloned(),
            headers: headers(letter, "mail", left_out),
        }
    }

    #[test]
    fn a_letter_is_the_record_and_what_is_said_of_it() {
        let message = message(&letter(), LeftOut::Nothing);
        let headers: Vec<_> = message
            .headers
            .iter()
            .map(|(name, value)| (&**name, value.as_deref().map(String::from_utf8_lossy)))
            .collect();
        let expected = [
            ("ce_id", Some("7")),
            ("nothing", None),
            ("ce_id", Some("twice")),
            ("tidelog-topic", Some("shop.Order")),
            ("tidelog-partition", Some("3")),
            ("tidelog-offset", Some("41")),
            ("tidelog-group", Some("mail")),
            ("tidelog-reason", Some("no such customer")),
            ("tidelog-attempts", Some("5")),
            ("tidelog-since", Some("1997-01-01T11:59:59.000001Z")),
        ];
        let expected = expected.map(|(name, value)| (name, value.map(Into::into)));
        assert_eq!(headers, expected);
        assert_eq!(message.value, Some(Bytes::new()), "no tombstone");
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let letter = letter();
        let mut expected = letter.clone();
        expected.record.headers.remove(2);
        let found = read(message(&letter, LeftOut::Nothing), "mail").unwrap();
        assert_eq!(found.left_out, LeftOut::Nothing);
        assert_eq!(found.letter, expected);
    }

    #[test]
    fn each_step_leaves_out_more_and_says_so() {
        let mut letter = letter();
        letter.record.value = Some(Bytes::from_static(b"a large one"));
        let (mut left_out, mut sizes) = (Some(LeftOut::Nothing), Vec::new());
        while let Some(now) = left_out {
            let message = message(&letter, now);
            sizes.push(message.bytes());
            let found = read(message, "mail").unwrap();
            assert_eq!(found.left_out, now);
            assert_eq!(found.letter.record.place, letter.record.place);
            assert_eq!(found.letter.record.offset, 41);
            assert_eq!(found.letter.record.key, letter.record.key);
            left_out = now.more();
        }
        assert_eq!(sizes.len(), 4);
        assert!(sizes.windows(2).all(|two| two[0] > two[1]), "{sizes:?}");
    }

    #[test]
    fn what_is_not_this_groups_letter_is_passed_over() {
        let message = message(&letter(), LeftOut::Nothing);
        assert_eq!(read(message.clone(), "others"), None);
        for missing in [TOPIC, PARTITION, OFFSET, GROUP] {
            let mut message = message.clone();
            message.headers.retain(|(name, _)| &**name != missing);
            assert_eq!(read(message, "mail"), None, "{missing}");
        }
        let mut newer = message;
        let more = Bytes::from_static(b"key");
        newer.headers.push((LEFT_OUT.into(), Some(more)));
        assert_eq!(read(newer, "mail"), None, "what is left out is not known");
    }
}
