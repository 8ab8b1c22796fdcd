//! What a fuzz target calls: everything that is read from Kafka may have been written by anybody.

use bytes::Bytes;
use tidelog_core::{ParkedStream, Timestamp};

use super::dead::fuzzing as dead;
use super::decode::decode;
use super::feed::{LetterPlace, ParkedKey, Place, Record, RecordKey};

/// A record as it may be read.
#[allow(missing_docs, reason = "Kafka's own words, and no part of the API")]
#[derive(Clone, Debug)]
pub struct Message<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
    pub partition: i32,
    pub offset: i64,
}

impl Message<'_> {
    fn record(&self) -> Record {
        let copied = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        let headers = self.headers.iter();
        Record {
            place: Place {
                topic: "topic".into(),
                partition: self.partition,
            },
            offset: self.offset,
            key: copied(self.key),
            value: copied(self.value),
            headers: headers
                .map(|(name, value)| ((*name).into(), copied(*value)))
                .collect(),
        }
    }
}

/// Reads it as an event; answers whether it is one.
///
/// # Panics
/// When a reason is longer than reasons are, or an event has a place that none can have.
pub fn kafka_record(message: &Message<'_>) -> bool {
    match decode(&message.record()) {
        Ok(event) => {
            assert!(event.sequence > 0, "no event has sequence 0");
            assert!(event.batch.first > 0, "no event has position 0");
            assert!(event.position.is_none(), "it stands in no log here");
            assert!(event.revision > 0, "no event has revision 0");
            true
        }
        Err(reason) => {
            assert!(reason.len() <= ParkedStream::MAX_REASON_BYTES, "{reason}");
            false
        }
    }
}

/// Reads it as a letter, and writes that again.
///
/// # Panics
/// When something else is read then.
pub fn kafka_letter(message: &Message<'_>) -> bool {
    dead::letter(message.record())
}

/// Reads each as a record of the parked set; answers how many keys are parked then.
///
/// # Panics
/// When an entry that was read is written otherwise.
pub fn kafka_parked_set<'a>(
    records: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> usize {
    dead::parked_set(records)
}

/// The record of the parked set that says such a key is parked, as key and value.
pub fn kafka_entry(
    partition: i32,
    key: Option<&str>,
    stream: &str,
    letter: Option<(i32, i64)>,
    (since, first_offset, attempts): (i64, i64, u32),
) -> (String, String) {
    let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
    let topic = "topic".into();
    let place = Place { topic, partition };
    dead::entry(&ParkedKey {
        key: RecordKey { place, key },
        stream: stream.into(),
        reason: "reason".into(),
        since: Timestamp::from_micros(since),
        first_offset,
        letter: letter.map(|(partition, offset)| LetterPlace { partition, offset }),
        attempts,
        asked: None,
    })
}
