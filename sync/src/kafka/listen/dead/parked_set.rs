//! The parked set: one record a parked key in a compacted topic, and one beside it while somebody asks
//! for that key. They are apart, so that who asks never overwrites what the key's owner has put down.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidelog_core::{Error, Timestamp};

use crate::kafka::listen::feed::{Asked, LetterPlace, ParkedKey, Place, RecordKey};

const FORMAT: u32 = 1;
/// Behind the key of the entry that is asked for.
const ASKED: &str = "/asked";

/// A record of the topic: its key and, unless it takes something back, its value.
pub(super) type Written = (String, Option<String>);

#[derive(Serialize, Deserialize)]
struct Entry {
    format: u32,
    topic: Box<str>,
    partition: i32,
    /// Base64; `null` for records without a key.
    key: Option<String>,
    stream: Box<str>,
    reason: Box<str>,
    since: i64,
    first_offset: i64,
    dead_partition: Option<i32>,
    dead_offset: Option<i64>,
    attempts: u32,
}

#[derive(Serialize, Deserialize)]
struct Ask {
    format: u32,
    asked: Word,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Resume,
    Skip,
}

/// How the records of a key are called.
pub(super) fn name(key: &RecordKey) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(key.place.topic.as_bytes());
    // No topic has such a byte.
    hash.update(&[0]);
    hash.update(&key.place.partition.to_be_bytes());
    if let Some(key) = &key.key {
        hash.update(&[1]);
        hash.update(key);
    }
    hash.finalize().to_hex().to_string()
}

/// The record that says `parked`.
pub(super) fn entry(parked: &ParkedKey) -> Result<Written, Error> {
    let ParkedKey { key, letter, .. } = parked;
    let entry = Entry {
        format: FORMAT,
        topic: key.place.topic.clone(),
        partition: key.place.partition,
        key: key.key.as_ref().map(|key| STANDARD.encode(key)),
        stream: parked.stream.clone(),
        reason: parked.reason.clone(),
        since: parked.since.as_micros(),
        first_offset: parked.first_offset,
        dead_partition: letter.map(|letter| letter.partition),
        dead_offset: letter.map(|letter| letter.offset),
        attempts: parked.attempts,
    };
    Ok((name(key), Some(json(&entry)?)))
}

/// The record that asks for a key.
pub(super) fn ask(key: &RecordKey, asked: Asked) -> Result<Written, Error> {
    let asked = match asked {
        Asked::Resume => Word::Resume,
        Asked::Skip => Word::Skip,
    };
    let format = FORMAT;
    let value = json(&Ask { format, asked })?;
    Ok((name(key) + ASKED, Some(value)))
}

/// The records that take back what was said of a key, and asked of it.
pub(super) fn taken_back(key: &RecordKey) -> [Written; 2] {
    let name = name(key);
    let asked = name.clone() + ASKED;
    [(name, None), (asked, None)]
}

/// The record that takes back what was asked of a key.
pub(super) fn answered(key: &RecordKey) -> Written {
    (name(key) + ASKED, None)
}

/// What a record has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// An entry was written; nothing is said of what is asked.
    Parked(ParkedKey),
    /// An entry is gone.
    Resumed(RecordKey),
    /// Somebody asks for a parked key.
    Asked(RecordKey, Asked),
}

/// What the records of the topic come to.
#[derive(Clone, Debug, Default)]
pub(super) struct ParkedSet {
    entries: BTreeMap<String, ParkedKey>,
    asked: BTreeMap<String, Asked>,
}

impl ParkedSet {
    /// Takes in the next record. One that cannot be read is an error: what it says is not known, and may
    /// be that a key is parked.
    pub(super) fn take(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Option<Changed>, Error> {
        let key = std::str::from_utf8(key).map_err(|_| unreadable("its key is no text"))?;
        Ok(match (key.strip_suffix(ASKED), value) {
            (None, None) => {
                let entry = self.entries.remove(key);
                entry.map(|entry| Changed::Resumed(entry.key))
            }
            (None, Some(value)) => {
                let parked = read_entry(value)?;
                if name(&parked.key) != key {
                    return Err(unreadable("its key is not that of what it says"));
                }
                self.entries.insert(key.into(), parked.clone());
                Some(Changed::Parked(parked))
            }
            (Some(name), None) => {
                self.asked.remove(name);
                None
            }
            (Some(name), Some(value)) => {
                let ask: Ask = parse(value)?;
                let asked = match ask.asked {
                    Word::Resume => Asked::Resume,
                    Word::Skip => Asked::Skip,
                };
                self.asked.insert(name.into(), asked);
                let entry = self.entries.get(name);
                entry.map(|entry| Changed::Asked(entry.key.clone(), asked))
            }
        })
    }

    /// How to come from `before` to this.
    pub(super) fn since(&self, before: &Self) -> Vec<Changed> {
        let mut changes = Vec::new();
        for (name, entry) in &before.entries {
            if !self.entries.contains_key(name) {
                changes.push(Changed::Resumed(entry.key.clone()));
            }
        }
        for (name, entry) in &self.entries {
            if before.entries.get(name) != Some(entry) {
                changes.push(Changed::Parked(entry.clone()));
            }
            let asked = self.asked.get(name);
            if let Some(asked) = asked.filter(|asked| before.asked.get(name) != Some(asked)) {
                changes.push(Changed::Asked(entry.key.clone(), *asked));
            }
        }
        changes
    }

    /// The entry of this name, with what is asked of it.
    pub(super) fn get(&self, name: &str) -> Option<ParkedKey> {
        let mut parked = self.entries.get(name)?.clone();
        parked.asked = self.asked.get(name).copied();
        Some(parked)
    }

    pub(super) fn is_asked(&self, name: &str) -> bool {
        self.asked.contains_key(name)
    }

    /// All entries.
    pub(super) fn all(&self) -> Vec<ParkedKey> {
        let names = self.entries.keys();
        names.filter_map(|name| self.get(name)).collect()
    }
}

fn read_entry(value: &[u8]) -> Result<ParkedKey, Error> {
    let entry: Entry = parse(value)?;
    let key = entry.key.map(|key| STANDARD.decode(key)).transpose();
    let key = key.map_err(|error| unreadable(&format!("key: {error}")))?;
    let place = Place {
        topic: entry.topic,
        partition: entry.partition,
    };
    let letter = entry.dead_partition.zip(entry.dead_offset);
    Ok(ParkedKey {
        key: RecordKey {
            place,
            key: key.map(Bytes::from),
        },
        stream: entry.stream,
        reason: entry.reason,
        since: Timestamp::from_micros(entry.since),
        first_offset: entry.first_offset,
        letter: letter.map(|(partition, offset)| LetterPlace { partition, offset }),
        attempts: entry.attempts,
        asked: None,
    })
}

/// A value of this format; one of another may look quite different.
fn parse<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let wrong = |error: serde_json::Error| unreadable(&error.to_string());
    let Format { format } = serde_json::from_slice(value).map_err(wrong)?;
    if format != FORMAT {
        let reason =
            format!("it has format {format}, this program knows {FORMAT}: use a newer one");
        return Err(unreadable(&reason));
    }
    serde_json::from_slice(value).map_err(wrong)
}

fn unreadable(reason: &str) -> Error {
    Error::invalid("record of the parked set", "", reason)
}

fn json(value: &impl Serialize) -> Result<String, Error> {
    let json = serde_json::to_string(value);
    json.map_err(|error| unreadable(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parked(key: Option<&[u8]>) -> ParkedKey {
        let place = Place {
            topic: "shop.Order".into(),
            partition: 3,
        };
        let key = RecordKey {
            place,
            key: key.map(Bytes::copy_from_slice),
        };
        ParkedKey {
            key,
            stream: "Order/order-1".into(),
            reason: "no such customer".into(),
            since: Timestamp::from_micros(852_119_999_000_001),
            first_offset: 41,
            letter: Some(LetterPlace {
                partition: 2,
                offset: 9,
            }),
            attempts: 5,
            asked: None,
        }
    }

    fn take(set: &mut ParkedSet, (key, value): Written) -> Result<Option<Changed>, Error> {
        set.take(key.as_bytes(), value.as_deref().map(str::as_bytes))
    }

    #[test]
    fn entries_are_these_bytes() {
        let (key, value) = entry(&parked(Some(b"order-1"))).unwrap();
        assert_eq!(
            key,
            "8ceee81fade742994542c60bf67dc503e5d172f08d5950fd92d6bc8c6b9534d9"
        );
        let expected = r#"{"format":1,"topic":"shop.Order","partition":3,"key":"b3JkZXItMQ==","stream":"Order/order-1","reason":"no such customer","since":852119999000001,"first_offset":41,"dead_partition":2,"dead_offset":9,"attempts":5}"#;
        assert_eq!(value.unwrap(), expected);
        let (asked, value) = ask(&parked(Some(b"order-1")).key, Asked::Skip).unwrap();
        assert_eq!(asked, key + "/asked");
        assert_eq!(value.unwrap(), r#"{"format":1,"asked":"skip"}"#);
    }

    #[test]
    fn keys_that_differ_have_names_that_differ() {
        let mut names = Vec::new();
        for key in [None, Some(&b""[..]), Some(&b"1"[..]), Some(&b"\0"[..])] {
            let mut parked = parked(key);
            names.push(name(&parked.key));
            parked.key.place.partition = 4;
            names.push(name(&parked.key));
            parked.key.place.topic = "shop.Order1".into();
            names.push(name(&parked.key));
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn who_asks_overwrites_nothing_of_the_owners() {
        let (mut set, first) = (ParkedSet::default(), parked(Some(b"order-1")));
        let name = name(&first.key);
        let changed = take(&mut set, entry(&first).unwrap()).unwrap();
        assert_eq!(changed, Some(Changed::Parked(first.clone())));
        let changed = take(&mut set, ask(&first.key, Asked::Resume).unwrap()).unwrap();
        assert_eq!(
            changed,
            Some(Changed::Asked(first.key.clone(), Asked::Resume))
        );
        let mut again = first.clone();
        again.attempts += 1;
        take(&mut set, entry(&again).unwrap()).unwrap();
        let found = set.get(&name).unwrap();
        assert_eq!((found.attempts, found.asked), (6, Some(Asked::Resume)));
        take(&mut set, answered(&first.key)).unwrap();
        assert_eq!(set.all(), [again]);
    }

    #[test]
    fn what_was_taken_back_is_parked_no_more() {
        let (mut set, first) = (ParkedSet::default(), parked(None));
        let name = name(&first.key);
        take(&mut set, entry(&first).unwrap()).unwrap();
        take(&mut set, ask(&first.key, Asked::Resume).unwrap()).unwrap();
        let [entry, asked] = taken_back(&first.key).map(|record| take(&mut set, record).unwrap());
        assert_eq!((entry, asked), (Some(Changed::Resumed(first.key)), None));
        assert!(set.all().is_empty() && set.get(&name).is_none() && !set.is_asked(&name));
    }

    #[test]
    fn what_is_asked_of_a_key_that_is_not_parked_is_nothing_yet() {
        let (mut set, first) = (ParkedSet::default(), parked(None));
        let ask = ask(&first.key, Asked::Skip).unwrap();
        assert_eq!(take(&mut set, ask).unwrap(), None);
        assert!(set.all().is_empty());
        take(&mut set, entry(&first).unwrap()).unwrap();
        assert_eq!(set.all()[0].asked, Some(Asked::Skip));
    }

    #[test]
    fn the_way_from_one_set_to_another_is_what_differs() {
        let (mut before, first) = (ParkedSet::default(), parked(Some(b"first")));
        let second = parked(Some(b"second"));
        take(&mut before, entry(&first).unwrap()).unwrap();
        take(&mut before, entry(&second).unwrap()).unwrap();
        let mut after = before.clone();
        assert_eq!(after.since(&before), []);
        for record in taken_back(&first.key) {
            take(&mut after, record).unwrap();
        }
        let third = parked(Some(b"third"));
        take(&mut after, entry(&third).unwrap()).unwrap();
        take(&mut after, ask(&second.key, Asked::Resume).unwrap()).unwrap();
        let changes = after.since(&before);
        assert_eq!(changes.len(), 3);
        for expected in [
            Changed::Resumed(first.key),
            Changed::Asked(second.key, Asked::Resume),
            Changed::Parked(third),
        ] {
            assert!(changes.contains(&expected), "{changes:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_no_unparked_key() {
        let mut set = ParkedSet::default();
        let (key, value) = entry(&parked(None)).unwrap();
        let value = value.unwrap();
        let newer = value.replace("\"format\":1", "\"format\":2");
        let error = take(&mut set, (key.clone(), Some(newer))).unwrap_err();
        assert!(error.to_string().contains("use a newer one"), "{error}");
        let other = name(&parked(Some(b"other")).key);
        assert!(take(&mut set, (other, Some(value))).is_err());
        assert!(take(&mut set, (key, Some("{}".into()))).is_err());
        assert!(set.take(&[0xff], None).is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
            (topic, partition, first_offset) in ("[a-z.]{1,9}", 0..9_i32, any::<i64>()),
            (stream, reason, since) in (".{0,9}", ".{0,40}", any::<i64>()),
            letter in proptest::option::of((0..9_i32, 0..i64::MAX)),
            attempts in any::<u32>(),
        ) {
            let parked = ParkedKey {
                key: RecordKey {
                    place: Place { topic: topic.into(), partition },
                    key: key.map(Bytes::from),
                },
                stream: stream.into(),
                reason: reason.into(),
                since: Timestamp::from_micros(since),
                first_offset,
                letter: letter.map(|(partition, offset)| LetterPlace { partition, offset }),
                attempts,
                asked: None,
            };
            let mut set = ParkedSet::default();
            take(&mut set, entry(&parked).unwrap()).unwrap();
            prop_assert_eq!(set.all(), [parked]);
        }

        #[test]
        fn nothing_read_panics(key in any::<Vec<u8>>(), value in proptest::option::of(any::<Vec<u8>>())) {
            let _ = ParkedSet::default().take(&key, value.as_deref());
        }
    }
}
