//! Is this append a retry? Law 4: ids are looked at before the version.

use tidelog_core::{
    AppendBatch, AppendOutcome, AppendReceipt, Error, EventEnvelope, EventId, NewEvent, Timestamp,
};

/// An event of an append that stands in its stream already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub sequence: u64,
    pub position: u64,
    pub recorded_time: Timestamp,
    same: bool,
}

impl Found {
    pub(crate) fn new(known: &EventEnvelope, event: &NewEvent) -> Self {
        Self {
            sequence: known.sequence,
            position: known.position.unwrap_or_default(),
            recorded_time: known.recorded_time,
            same: known.same_content(event),
        }
    }
}

/// What one part of an append is to its stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// None of its ids is known.
    New,
    /// All of it stands there, in order.
    Already { first: Found, last: Found },
    /// This id is known, but the part is no retry.
    Conflict(EventId, &'static str),
}

/// Judges a part by which of its events were found; `found` may be empty when none was.
pub(crate) fn judge(events: &[NewEvent], found: &[Option<Found>]) -> Standing {
    let mut known = events
        .iter()
        .zip(found)
        .filter_map(|(event, found)| Some((event, (*found)?)));
    let Some((event, first)) = known.next() else {
        return Standing::New;
    };
    if found.iter().flatten().count() < events.len() {
        return Standing::Conflict(
            event.event_id,
            "it stands there already, but not all of its batch does",
        );
    }
    let mut last = first;
    if !first.same {
        return Standing::Conflict(event.event_id, "it stands there already with other content");
    }
    for (event, found) in known {
        if !found.same {
            return Standing::Conflict(
                event.event_id,
                "it stands there already with other content",
            );
        }
        if found.sequence != last.sequence + 1 {
            return Standing::Conflict(event.event_id, "it stands there already in another order");
        }
        last = found;
    }
    Standing::Already { first, last }
}

/// The answer to a batch of which something is known: the first receipts, if all of it is.
pub(crate) fn answer_known(
    parts: &[AppendBatch],
    standings: &[Standing],
) -> Result<Vec<AppendReceipt>, Error> {
    let partly = standings.contains(&Standing::New);
    let mut receipts = Vec::with_capacity(parts.len());
    for (part, standing) in parts.iter().zip(standings) {
        let conflict = |event_id, reason| {
            let stream = part.stream.clone();
            Err(Error::IdConflict {
                stream,
                event_id,
                reason,
            })
        };
        match (standing, part.events.first()) {
            (Standing::Conflict(event_id, reason), _) => return conflict(*event_id, reason),
            (Standing::Already { .. }, Some(event)) if partly => {
                let reason = "it stands there already, but not all streams of its batch do";
                return conflict(event.event_id, reason);
            }
            (Standing::Already { first, last }, _) => receipts.push(AppendReceipt {
                stream: part.stream.clone(),
                first_sequence: first.sequence,
                last_sequence: last.sequence,
                first_position: Some(first.position),
                last_position: Some(last.position),
                recorded_time: first.recorded_time,
                outcome: AppendOutcome::AlreadyAppended,
            }),
            (Standing::New, _) => {}
        }
    }
    Ok(receipts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidelog_core::ContentType;

    #[allow(clippy::unnecessary_wraps, reason = "what `judge` is given")]
    fn found(sequence: u64, same: bool) -> Option<Found> {
        let recorded_time = Timestamp::from_micros(0);
        Some(Found {
            sequence,
            position: sequence,
            recorded_time,
            same,
        })
    }

    #[test]
    fn a_part_is_judged_as_a_whole() {
        let events: Vec<_> = (0..2)
            .map(|_| NewEvent::new("E", 1, ContentType::Bytes, vec![]))
            .collect();
        assert_eq!(judge(&events, &[]), Standing::New);
        assert_eq!(judge(&events, &[None, None]), Standing::New);
        let conflict =
            |found: [Option<Found>; 2]| matches!(judge(&events, &found), Standing::Conflict(..));
        assert!(conflict([found(4, true), None]));
        assert!(conflict([None, found(4, true)]));
        assert!(conflict([found(4, true), found(5, false)]));
        assert!(conflict([found(4, false), found(5, true)]));
        assert!(conflict([found(5, true), found(4, true)]));
        assert!(conflict([found(4, true), found(6, true)]));
        assert!(matches!(
            judge(&events, &[found(4, true), found(5, true)]),
            Standing::Already { .. }
        ));
    }
}
