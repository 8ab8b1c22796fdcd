//! Law 4: recognizing what is recorded already.

use tidelog_core::{AppendBatch, Error, EventEnvelope, EventId};

use super::model::{StreamEvents, oldest_in_window};

/// The events of `stream` that `part` asks for once more; `None` when all its ids are new.
///
/// An id is recognized at the sequences that the expectation implies, and in the newest `window`
/// events of the stream.
pub(super) fn recorded_run<'a>(
    stream: &'a StreamEvents,
    part: &AppendBatch,
    window: usize,
) -> Result<Option<&'a [EventEnvelope]>, Error> {
    let count = part.events.len() as u64;
    let implied = part.expected.implied_head();
    let is_implied = |s: u64| implied.is_some_and(|head| s > head && s - head <= count);
    let oldest = oldest_in_window(stream, window);
    let counts = |sequence: u64| sequence >= oldest || is_implied(sequence);

    let places: Vec<Option<u64>> = part
        .events
        .iter()
        .map(|event| stream.newest(event.event_id, counts))
        .collect();
    let Some((known, _)) = part.events.iter().zip(&places).find(|(_, at)| at.is_some()) else {
        return Ok(None);
    };

    // Where the expectation says comes first: an id that was appended again beyond the window
    // stands twice.
    let first_place = places.first().copied().flatten();
    let starts = [implied.map(|head| head.saturating_add(1)), first_place];
    for start in starts.into_iter().flatten() {
        let run = stream.range(start, start.saturating_add(count - 1));
        let same_ids = run.len() as u64 == count
            && run
                .iter()
                .zip(&part.events)
                .all(|(there, asked)| there.event_id == asked.event_id && counts(there.sequence));
        if !same_ids {
            continue;
        }
        let mut pairs = run.iter().zip(&part.events);
        return match pairs.find(|(there, asked)| !there.same_content(asked)) {
            None => Ok(Some(run)),
            Some((there, _)) => Err(conflict(
                part,
                there.event_id,
                "it is recorded with other content",
            )),
        };
    }

    let reason = if places.contains(&None) {
        "it is recorded already, other events of its batch are not"
    } else {
        "its batch is recorded in another order"
    };
    Err(conflict(part, known.event_id, reason))
}

fn conflict(part: &AppendBatch, event_id: EventId, reason: &'static str) -> Error {
    Error::IdConflict {
        stream: part.stream.clone(),
        event_id,
        reason,
    }
}
