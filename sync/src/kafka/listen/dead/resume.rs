//! Who asks for a parked key, and how that is answered: by what its owner puts into the parked set.

use std::time::Instant;

use tidelog_core::Error;

use super::parked_set::{self, ParkedSet};
use crate::kafka::listen::feed::{ParkedKey, RecordKey};
use crate::kafka::listen::status::still_parked;

/// Somebody who waits for a key that was asked for.
pub(super) struct Waiting {
    name: String,
    parked: ParkedKey,
    what: Box<str>,
    until: Option<Instant>,
    /// Whether what was asked has been read.
    is_asked: bool,
    answer: oneshot::Sender<Result<(), Error>>,
}

impl Waiting {
    pub(super) fn new(
        group: &str,
        parked: ParkedKey,
        until: Option<Instant>,
        answer: oneshot::Sender<Result<(), Error>>,
    ) -> Self {
        Self {
            name: parked_set::name(&parked.key),
            parked,
            what: format!("listener group {group}").into(),
            until,
            is_asked: false,
            answer,
        }
    }

    /// Answers if it can be by what stands in `set`; else it goes on waiting.
    pub(super) fn look(mut self, set: &ParkedSet, now: Instant) -> Option<Self> {
        let Some(parked) = set.get(&self.name) else {
            let _ = self.answer.send(Ok(()));
            return None;
        };
        if parked.asked.is_some() {
            self.is_asked = true;
        } else if self.is_asked {
            let error = self.parked(&parked, &parked.reason);
            let _ = self.answer.send(Err(error));
            return None;
        }
        if self.until.is_some_and(|until| now >= until) {
            let reason = format!(
                "no member that has its place has answered yet, it stays asked for ({})",
                parked.reason
            );
            let error = self.parked(&self.parked, &reason);
            let _ = self.answer.send(Err(error));
            return None;
        }
        (!self.answer.is_closed()).then_some(self)
    }

    fn parked(&self, parked: &ParkedKey, reason: &str) -> Error {
        still_parked(
            self.what.clone(),
            &parked.stream,
            parked.first_offset,
            reason,
        )
    }
}

/// Why a key cannot be asked for.
pub(super) fn not_parked(key: &RecordKey) -> Error {
    let key = format!(
        "{:?} of {}/{}",
        key.key, key.place.topic, key.place.partition
    );
    Error::invalid("key", key, "nothing of it is parked")
}
