//! Law 4: whether a batch is recorded already.

use std::collections::HashMap;

use tidelog_core::{AppendBatch, Error, EventEnvelope, EventId};

/// What is known of a batch's ids.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// None of them counts.
    New,
    /// They stand in order from this sequence on; whether with this content is to be looked at.
    Standing(u64),
    /// Some stand there, but not all of them together and in order.
    Torn(EventId, &'static str),
}

/// Looks for the ids of `batch` among `there`, the stream's sequences and ids that count: those that
/// its expectation implies, and those of the retry window; ascending.
pub(crate) fn look(batch: &AppendBatch, there: &[(u64, EventId)]) -> Found {
    let count = batch.events.len() as u64;
    let places = newest_places(batch, there);
    let known = batch.events.iter().zip(&places);
    let Some((known, _)) = known.into_iter().find(|(_, place)| place.is_some()) else {
        return Found::New;
    };
    // Where the expectation says comes first.
    let implied = batch.expected.implied_head();
    let starts = [
        implied.and_then(|head| head.checked_add(1)),
        places.first().copied().flatten(),
    ];
    for start in starts.into_iter().flatten() {
        let from = there.partition_point(|(sequence, _)| *sequence < start);
        let run = there.get(from..).unwrap_or_default();
        let stands = run.len() as u64 >= count
            && (start..)
                .zip(run)
                .zip(&batch.events)
                .all(|((place, (sequence, id)), event)| {
                    place == *sequence && *id == event.event_id
                });
        if stands {
            return Found::Standing(start);
        }
    }
    let reason = if places.contains(&None) {
        "it is recorded already, other events of its batch are not"
    } else {
        "its batch is recorded in another order"
    };
    Found::Torn(known.event_id, reason)
}

/// Where each id stands; an id that was appended again beyond the window stands twice.
fn newest_places(batch: &AppendBatch, there: &[(u64, EventId)]) -> Vec<Option<u64>> {
    /// As many ids are compared one by one faster than they are hashed.
    const FEW: usize = 8;
    let events = &batch.events;
    if events.len() <= FEW {
        let newest = |id| there.iter().rev().find(|(_, there)| *there == id);
        return events
            .iter()
            .map(|event| newest(event.event_id).map(|(sequence, _)| *sequence))
            .collect();
    }
    let asked: HashMap<EventId, usize> = (0..)
        .zip(events)
        .map(|(n, event)| (event.event_id, n))
        .collect();
    let mut places = vec![None; events.len()];
    for (sequence, id) in there {
        if let Some(place) = asked.get(id).and_then(|n| places.get_mut(*n)) {
            *place = Some(*sequence);
        }
    }
    places
}

/// Whether `rows` have the batch's ids, in order.
pub(crate) fn are_of(batch: &AppendBatch, rows: &[EventEnvelope]) -> bool {
    let there = rows.iter().map(|row| row.event_id);
    there.eq(batch.events.iter().map(|event| event.event_id))
}

/// Whether `rows`, which have the batch's ids, say the same as it.
pub(crate) fn compare(batch: &AppendBatch, rows: &[EventEnvelope]) -> Result<(), Error> {
    let mut pairs = rows.iter().zip(&batch.events);
    match pairs.find(|(there, asked)| !there.same_content(asked)) {
        None => Ok(()),
        Some((there, _)) => Err(conflict(
            batch,
            there.event_id,
            "it is recorded with other content",
        )),
    }
}

pub(crate) fn conflict(batch: &AppendBatch, event_id: EventId, reason: &'static str) -> Error {
    Error::IdConflict {
        stream: batch.stream.clone(),
        event_id,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use tidelog_core::{ContentType, ExpectedVersion, NewEvent, StreamId};

    use super::*;

    fn id(n: u8) -> EventId {
        EventId::from_bytes([n; 16])
    }

    fn batch(expected: ExpectedVersion, ids: &[u8]) -> AppendBatch {
        let events = ids
            .iter()
            .map(|n| NewEvent::new("E", 1, ContentType::Bytes, vec![]).with_id(id(*n)))
            .collect();
        AppendBatch::new(StreamId::new("T", "1").unwrap(), expected, events)
    }

    #[test]
    fn ids_are_found_where_the_expectation_says_or_where_they_stand_last() {
        use ExpectedVersion::{Any, Exact, NoStream};
        // Event 1 stands twice: at 1 and, appended again beyond the window, at 9.
        let there: Vec<_> = [(1, 1), (2, 2), (8, 3), (9, 1), (10, 4), (11, 5)]
            .map(|(sequence, n)| (sequence, id(n)))
            .into();
        let torn = |n| {
            Found::Torn(
                id(n),
                "it is recorded already, other events of its batch are not",
            )
        };
        let turned = |n| Found::Torn(id(n), "its batch is recorded in another order");
        for (expected, ids, found) in [
            (Any, &[7, 8][..], Found::New),
            (Any, &[1], Found::Standing(9)),
            (NoStream, &[1], Found::Standing(1)),
            (Exact(8), &[1], Found::Standing(9)),
            (NoStream, &[1, 2], Found::Standing(1)),
            // Asked without its place, the newest one counts, and the two do not stand together.
            (Any, &[1, 2], turned(1)),
            (Any, &[4, 5], Found::Standing(10)),
            (Exact(99), &[4, 5], Found::Standing(10)),
            (Any, &[5, 4], turned(5)),
            (Any, &[3, 4], turned(3)),
            (Any, &[4, 5, 6], torn(4)),
            (Any, &[6, 4, 5], torn(4)),
            (Exact(u64::MAX), &[7], Found::New),
        ] {
            assert_eq!(
                look(&batch(expected, ids), &there),
                found,
                "{expected} {ids:?}"
            );
        }
    }
}
