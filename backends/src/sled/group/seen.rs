//! What is published of a stream: its head, and which of its events may have the ids of an append.

use tidelog_core::{AppendBatch, Direction, Error, EventId};

use super::super::branches::{Lineage, Piece};
use super::super::hash::StreamKey;
use super::super::index::Posting;
use super::super::pages::read_places;
use super::super::recent_ids::KnownIds;
use super::super::shared::Shared;
use super::Pending;

/// What is published of a stream.
#[derive(Default)]
pub(super) struct Seen {
    pub head: u64,
    pub floor: u64,
    /// The oldest event that is known by its fingerprint, as all newer ones are.
    oldest_known: u64,
}

impl Seen {
    /// All of the stream's events are known not to be meant.
    pub(super) fn all(head: u64, floor: u64) -> Self {
        Self {
            head,
            floor,
            oldest_known: 0,
        }
    }
}

/// Looks at the head of a stream, none of whose events can have the ids of the part.
pub(super) fn see_head(
    shared: &Shared,
    part: &AppendBatch,
    key: &StreamKey,
) -> Result<Seen, Error> {
    if let Some(head) = shared.heads.get(key) {
        return Ok(Seen::all(head, head));
    }
    let newest = shared.streams.head(key.hash, &part.stream, u64::MAX)?;
    let head = newest.map_or(0, |(sequence, _)| sequence);
    let floor = remember_head(shared, part, key, head)?;
    Ok(Seen::all(head, floor))
}

/// Looks at the stream's head, and for events that may have one of these fingerprints.
pub(super) fn see(
    shared: &Shared,
    part: &AppendBatch,
    key: &StreamKey,
    oldest_id: Option<u128>,
    prints: &[u32],
    suspects: &mut Vec<(usize, u64)>,
) -> Result<Seen, Error> {
    let mut look = |recent: &KnownIds| {
        for (at, print) in prints.iter().enumerate() {
            suspects.extend(recent.candidates(*print).map(|sequence| (at, sequence)));
        }
        recent.oldest()
    };
    if let Some(head) = shared.heads.get(key) {
        let seen = |oldest_known| Seen {
            head,
            floor: head,
            oldest_known,
        };
        let known = shared.recent_ids.with(key, head, |recent| {
            let all = recent.is_whole();
            all.then(|| look(recent))
        });
        match known {
            Some(Some(oldest)) => return Ok(seen(oldest)),
            Some(None) if shared.streams.is_newer_than_runs(oldest_id)? => {
                if let Some(oldest) = shared.recent_ids.with(key, head, &mut look) {
                    return Ok(seen(oldest));
                }
            }
            _ => {}
        }
    }
    let limit = shared.limits.retry_window();
    let stream = &part.stream;
    let recent = shared.streams.recent(key.hash, stream, limit, oldest_id)?;
    let head = recent.head;
    let recent = KnownIds::new(head, &recent.newest, recent.whole);
    let oldest_known = look(&recent);
    let floor = remember_head(shared, part, key, head)?;
    if head > 0 {
        shared.recent_ids.insert(*key, recent);
    }
    Ok(Seen {
        head,
        floor,
        oldest_known,
    })
}

/// Remembers a head that was read, unless it says less than the highest sequence that the stream may
/// have been given, which this answers.
fn remember_head(
    shared: &Shared,
    part: &AppendBatch,
    key: &StreamKey,
    head: u64,
) -> Result<u64, Error> {
    let losses = &shared.log.losses;
    let floor = if losses.is_none() {
        head
    } else {
        let newest = shared.streams.head(key.hash, &part.stream, u64::MAX)?;
        let segment = newest.map_or(0, |(_, place)| place.segment);
        // What was lost was of another branch, if this one began after that.
        let lineage = shared.log.branches.of(&part.stream);
        let newest = lineage.and_then(|all| all.newest());
        let began = newest.map_or(0, |branch| shared.log.segment_of(branch.at));
        let segment = segment.max(began);
        // Below a branch that has no events yet, the newest ones may be lost.
        let base = newest.map_or(0, |branch| branch.from - 1);
        losses.floor(&part.stream, head, segment).max(base)
    };
    if head == floor {
        shared.heads.insert(key, head);
    }
    Ok(floor)
}

/// Below the window, only the sequences that the expectation implies are looked at.
pub(super) fn suspect_implied(
    shared: &Shared,
    part: &AppendBatch,
    pending: &Pending,
    seen: &Seen,
    prints: &[u32],
    suspects: &mut Vec<(usize, u64)>,
) -> Result<(), Error> {
    let oldest_known = seen.oldest_known;
    let Some(first) = part
        .expected
        .implied_head()
        .map(|head| head.saturating_add(1))
    else {
        return Ok(());
    };
    if first >= oldest_known {
        return Ok(());
    }
    let limit = part.events.len();
    // Not by adding up: after a repair, what follows the implied head may have left places out.
    let range = (first, oldest_known - 1);
    let forward = Direction::Forward;
    let streams = &shared.streams;
    let places = streams.postings(
        pending.key.hash,
        &part.stream,
        range,
        forward,
        limit,
        u64::MAX,
    )?;
    // At whichever of them: a batch that was cut or turned around is no new one.
    let equal = equal_prints(prints, &places);
    suspects.extend(equal.map(|(at, sequence, _)| (at, sequence)));
    Ok(())
}

/// Which of `prints` the events at `places` have: at which of them, sequence and place.
fn equal_prints<'a>(
    prints: &[u32],
    places: &'a [(u64, Posting)],
) -> impl Iterator<Item = (usize, u64, Posting)> + use<'a> {
    let mut known: Vec<(u32, usize)> = prints.iter().copied().zip(0..).collect();
    known.sort_unstable();
    places.iter().flat_map(move |(sequence, place)| {
        let from = known.partition_point(|(print, _)| *print < place.fingerprint);
        let equal = known.iter().skip(from);
        let equal = equal.take_while(|(print, _)| *print == place.fingerprint);
        let equal = equal.map(|(_, at)| (*at, *sequence, *place));
        equal.collect::<Vec<_>>()
    })
}

/// Looks at the head of a stream with branches, and for events that may have one of these
/// fingerprints: past the caches, which know nothing of what stands below a branch.
pub(super) fn see_branched(
    shared: &Shared,
    part: &AppendBatch,
    key: &StreamKey,
    prints: &[u32],
    suspects: &mut Vec<(usize, u64)>,
) -> Result<Seen, Error> {
    let limit = shared.limits.retry_window();
    let recent = (shared.streams).recent(key.hash, &part.stream, limit, None)?;
    let known = KnownIds::new(recent.head, &recent.newest, recent.whole);
    for (at, print) in prints.iter().enumerate() {
        suspects.extend(known.candidates(*print).map(|sequence| (at, sequence)));
    }
    let floor = remember_head(shared, part, key, recent.head)?;
    Ok(Seen {
        head: recent.head,
        floor,
        oldest_known: known.oldest(),
    })
}

/// An event of the part that stands among those that gave way to others: in the newest of each time,
/// or where the expectation implies.
pub(super) fn is_superseded(
    shared: &Shared,
    part: &AppendBatch,
    lineage: &Lineage,
    prints: &[u32],
) -> Result<Option<EventId>, Error> {
    let limit = shared.limits.retry_window();
    let implied = part.expected.implied_head();
    for run in lineage.superseded() {
        let mut places = (shared.streams).postings_in(&run, Direction::Backward, limit)?;
        if let Some(first) = implied.map(|head| head.saturating_add(1)) {
            let last = first.saturating_add(part.events.len() as u64 - 1);
            let pieces = run.into_iter().filter_map(|piece| {
                let (from, to) = (piece.from.max(first), piece.to.min(last));
                (from <= to).then_some(Piece { from, to, ..piece })
            });
            let pieces: Vec<_> = pieces.collect();
            let forward = Direction::Forward;
            places.extend((shared.streams).postings_in(&pieces, forward, part.events.len())?);
        }
        let mut known = None;
        for (at, sequence, place) in equal_prints(prints, &places) {
            let Some(event) = part.events.get(at) else {
                continue;
            };
            let read = read_places(&shared.log, &part.stream, &[(sequence, place)])?;
            if read.iter().any(|read| read.event_id == event.event_id) {
                known = Some(known.map_or(at, |known: usize| known.min(at)));
            }
        }
        if let Some(event) = known.and_then(|at| part.events.get(at)) {
            return Ok(Some(event.event_id));
        }
    }
    Ok(None)
}
