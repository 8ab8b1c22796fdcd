//! Checks everything: the log commit by commit, then the index against the log.

use std::collections::HashMap;
use std::sync::Arc;

use tidelog_core::{Error, RecordKind, StreamId};

use super::control;
use super::frame_reader::Expect;
use super::hash::NameHash;
use super::index::{IndexError, Posting};
use super::log::Log;
use super::options::{Phase, Progress, ProgressCallback};
use super::record;
use super::recover;
use super::shared::Shared;
use super::store::SledStore;
use super::walk::{end_of, walk_newest, walk_sealed};

/// What [`SledStore::verify`] walked over; it returns only when all of it was right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Segment files read.
    pub segments: u64,
    /// Commits whose CRC and chain hash hold.
    pub commits: u64,
    /// Records whose CRC, position and sequence hold.
    pub records: u64,
    /// Streams met.
    pub streams: u64,
    /// Positions that repairs left out, as the log declares.
    pub lost: u64,
    /// Index entries that lead to the right record.
    pub indexed: u64,
}

impl SledStore {
    /// Reads the whole log and the whole index and checks all that can be checked: CRCs, the hash
    /// chain, density of positions and sequences, and that the index leads to every event.
    ///
    /// Appends go on meanwhile; what they add is not looked at. Takes about 40 bytes of memory a
    /// stream. Blocks for file I/O.
    ///
    /// # Errors
    /// [`Error::Damaged`] naming the first fault; [`Error::Cancelled`]; [`Error::Io`].
    pub fn verify(&self) -> Result<VerifyReport, Error> {
        self.ensure_open()?;
        let shared = Arc::clone(self.shared());
        // Sealing moves entries from memory to sled. What is full now shall be there, so that each is
        // met once; waiting for what comes could last as long as appends do.
        let newest = shared
            .log
            .segments()
            .last()
            .map_or(0, |newest| newest.number);
        shared.indexer.wait_until(|| {
            // After a failed write, a full segment stays in memory.
            shared.refused.get().is_some()
                || shared
                    .streams
                    .tails()
                    .first()
                    .is_none_or(|tail| tail.number >= newest)
        })?;
        let last = shared.live.last();
        let mut report = VerifyReport::default();
        let progress = shared.progress.as_ref();
        let events = check_log(&shared.log, progress, last, &mut report)?;
        check_index(&shared, last, &events, &mut report)?;
        Ok(report)
    }
}

/// Checks the log up to position `last` and answers how many events the runs must know.
pub(crate) fn check_log(
    log: &Log,
    told: Option<&ProgressCallback>,
    last: u64,
    report: &mut VerifyReport,
) -> Result<Vec<(u64, u64)>, Error> {
    let segments = log.segments();
    let mut sequences: HashMap<u128, u64> = HashMap::new();
    let mut events_in = Vec::new();
    let mut streams = 0;
    let mut expected: Option<Expect> = None;
    for (done, info) in segments.iter().enumerate() {
        let progress = Progress {
            phase: Phase::Verify,
            done: done as u64,
            total: segments.len() as u64,
        };
        recover::report(told, progress)?;
        let mut events = 0;
        let mut check = |offset: u64, parsed: &record::Parsed<'_>| {
            report.records += 1;
            if parsed.kind == RecordKind::Control {
                // Opening looks for it nowhere else.
                if control::superseded_by(parsed).is_some() && !info.about.branches {
                    let what = "its header does not say that streams begin branches in it";
                    return Err(log.damaged(info.number, offset, what));
                }
                return Ok(());
            }
            events += 1;
            let (key, first) = branch_of(log, parsed);
            let head = sequences.entry(key).or_insert_with(|| {
                streams += u64::from(first.is_none());
                first.map_or(0, |first| first - 1)
            });
            let follows = parsed.sequence == *head + 1
                || (parsed.sequence > *head && {
                    let (head, next) = (*head, parsed.sequence);
                    let losses = &log.losses;
                    let branches = &log.branches;
                    // What a repair lost of events that gave way is missed by nobody.
                    let explains = |of: StreamId| {
                        let from = branches.gives_way_from(&of, parsed.position);
                        let from = from.map_or(next, |from| from.clamp(head + 1, next));
                        (from == head + 1 && !losses.is_none())
                            || losses.explains(&of, head, from, info.number)
                            || losses.explains(&of, head, next, info.number)
                    };
                    parsed.stream().is_some_and(explains)
                });
            if !follows {
                let name = parsed
                    .stream()
                    .map_or_else(String::new, |name| name.to_string());
                let what = format!("{name} has sequence {} after {head}", parsed.sequence);
                return Err(log.damaged(info.number, offset, &what));
            }
            *head = parsed.sequence;
            Ok(())
        };
        let newest = done + 1 == segments.len();
        let next = if newest {
            walk_newest(log, info.number, last, |offset, _, parsed| {
                check(offset, parsed)
            })?
        } else {
            walk_sealed(log, info.number, |offset, _, parsed| check(offset, parsed))?
        };
        report.lost += info.hole().map_or(0, |(first, last)| last - first + 1);
        if expected.is_some_and(|end| end_of(&end) != info.before) {
            return Err(log.damaged(
                info.number,
                0,
                "it does not begin where the segment before it ends",
            ));
        }
        report.commits += next.commit - info.first_commit;
        report.segments += 1;
        events_in.push((info.number, events));
        expected = Some(next);
    }
    report.streams = streams;
    Ok(events_in)
}

/// What the branch of a record's stream is known by, and its first sequence; `None` of a stream before
/// its first one.
fn branch_of(log: &Log, parsed: &record::Parsed<'_>) -> (u128, Option<u64>) {
    let (aggregate_type, aggregate_id) = (parsed.aggregate_type, parsed.aggregate_id);
    let plain = || name_key(&[aggregate_type, b"/", aggregate_id]);
    let branches = &log.branches;
    if branches.is_empty() {
        return (plain(), None);
    }
    let lineage = parsed.stream().and_then(|stream| branches.of(&stream));
    let named = lineage.and_then(|lineage| {
        let name = lineage.name_at(parsed.position)?;
        let first = lineage.first_at(parsed.position);
        Some((name_key(&[name.as_str().as_bytes()]), Some(first)))
    });
    named.unwrap_or_else(|| (plain(), None))
}

/// 128 bits of a name: equal for different names less often than memory errs.
fn name_key(parts: &[&[u8]]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    u128::from_le_bytes(bytes)
}

/// Follows every entry of the runs into the log, and counts.
fn check_index(
    shared: &Shared,
    last: u64,
    events: &[(u64, u64)],
    report: &mut VerifyReport,
) -> Result<(), Error> {
    let remedy = "call rebuild_index(), or reopen the store: the log is whole";
    let index_dir = shared.dir.join("index");
    let mut buffer = Vec::new();
    let mut indexed = 0;
    let index_failed = |error| match error {
        IndexError::Failed(error) => error,
        IndexError::Damaged(what) => Error::damaged(&index_dir, what, remedy),
    };
    // What was sealed since the log was walked is not counted, in the runs or in memory.
    let walked = events.iter().rev().nth(1).map_or(0, |(number, _)| *number);
    let covered = shared
        .streams
        .inspect(|index| Ok(index.covered().map_or(0, |covered| covered.segment)))
        .map_err(index_failed)?
        .min(walked);
    let mut visit = |hash: u64, name: &str, sequence: u64, place: Posting| {
        let entry = (hash, name, sequence, place);
        check_entry(&shared.log, &shared.hash, entry, &mut buffer)?;
        indexed += u64::from(place.segment <= covered);
        Ok(())
    };
    shared
        .streams
        .inspect(|index| index.verify(&mut visit))
        .map_err(index_failed)?;
    let mut expected: u64 = events
        .iter()
        .filter(|(number, _)| *number <= covered)
        .map(|(_, n)| n)
        .sum();
    if indexed != expected {
        let what = format!("it has {indexed} entries for {expected} events");
        return Err(Error::damaged(&index_dir, what, remedy));
    }
    for tail in shared
        .streams
        .tails()
        .iter()
        .filter(|tail| tail.number > covered)
    {
        let in_log = events
            .iter()
            .find(|(number, _)| *number == tail.number)
            .map_or(0, |(_, n)| *n);
        let in_memory = tail.index.read().events() as u64;
        if in_memory < in_log || (in_memory > in_log && shared.live.last() == last) {
            let what = format!(
                "memory has {in_memory} entries for {in_log} events of segment {}",
                tail.number
            );
            return Err(Error::damaged(&index_dir, what, remedy));
        }
        expected += in_log;
    }
    report.indexed = expected;
    Ok(())
}

/// Whether an entry of the index leads to the record that it speaks of.
pub(crate) fn check_entry(
    log: &Log,
    names: &NameHash,
    (hash, name, sequence, place): (u64, &str, u64, Posting),
    buffer: &mut Vec<u8>,
) -> Result<(), IndexError> {
    let wrong = |what: String| IndexError::Damaged(what);
    buffer.clear();
    let (from, len) = (u64::from(place.offset), u64::from(place.len));
    log.check_range(place.segment, from, len)?;
    buffer.resize(place.len as usize, 0);
    log.read_at(place.segment, from, buffer)?;
    let at = format!("segment {} byte {from}", place.segment);
    let parsed = record::parse(buffer)
        .map_err(|why| wrong(format!("the index points to {at}, where {why}")))?;
    let stream = parsed.stream().map(|stream| {
        let named = log.branches.name_at(&stream, parsed.position);
        named.unwrap_or(stream)
    });
    let stream = stream.filter(|stream| stream.as_str() == name);
    let Some(stream) = stream.filter(|_| parsed.sequence == sequence) else {
        return Err(wrong(format!(
            "the index has {name} {sequence} at {at}, another record is there"
        )));
    };
    let fingerprint = names.fingerprint(&parsed.event_id);
    if fingerprint != place.fingerprint || names.stream(&stream) != hash {
        return Err(wrong(format!(
            "the index has wrong hashes for {name} {sequence}"
        )));
    }
    Ok(())
}
