//! One record on its way through a session.

use std::sync::Arc;

use tidelog_core::EventEnvelope;

use super::feed::{LetterPlace, Record, RecordKey};
use crate::listeners::Queued;

/// What an envelope takes beside what it shares with its record, roughly.
const ENVELOPE_BYTES: usize = 512;

/// A record that is to be handled.
pub(super) struct Job {
    pub(super) key: RecordKey,
    /// In which life of its place it was taken.
    pub(super) life: u32,
    pub(super) record: Record,
    /// The event in it, or why there is none.
    pub(super) event: Result<Arc<EventEnvelope>, Box<str>>,
    /// Where it stands among the dead letters, when it was read there.
    pub(super) letter: Option<LetterPlace>,
}

impl Job {
    /// Where it stands in the order in which records of its key came.
    pub(super) fn order(&self) -> i64 {
        self.letter
            .map_or(self.record.offset, |letter| letter.offset)
    }

    /// What its stream, or else its key, is called.
    pub(super) fn stream(&self) -> Box<str> {
        match &self.event {
            Ok(event) => event.stream.as_str().into(),
            Err(_) => name_of(&self.key),
        }
    }
}

impl Queued for Job {
    fn bytes(&self) -> usize {
        self.record.bytes() + ENVELOPE_BYTES
    }
}

/// A key for people: its text, or hexadecimal digits; without one its place.
pub(super) fn name_of(key: &RecordKey) -> Box<str> {
    let Some(bytes) = &key.key else {
        return format!("{}/{}", key.place.topic, key.place.partition).into();
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => text.into(),
        _ => {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            format!("0x{}", digits.collect::<String>()).into()
        }
    }
}
