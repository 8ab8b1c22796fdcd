//! Which events of which streams are gone: told by the sequences that are left, and by what the
//! stream index of the damaged store still knows.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use tidelog_core::{Error, StreamId};

use super::super::branches::Branches;
use super::super::format::Format;
use super::super::frame::ChainHash;
use super::super::index::{self, Index, IndexError, IndexOptions};
use super::super::index_copy::copy_index;
use super::super::losses::StreamLoss;
use super::super::open::index_identity;

/// What is known of each stream, by its name in the index.
#[derive(Default)]
pub(super) struct Streams(HashMap<StreamId, Kept>);

#[derive(Default)]
struct Kept {
    /// Sequences that are there, first and last of each stretch.
    there: Vec<(u64, u64)>,
    /// Position of the newest one.
    position: u64,
    /// The highest sequence that was certainly given.
    top: u64,
}

impl Streams {
    /// Notes an event that is kept, of a stream whose sequences begin at `base`; the position of the one
    /// before it when it cannot stand behind that.
    pub(super) fn keep(
        &mut self,
        name: StreamId,
        base: u64,
        sequence: u64,
        position: u64,
    ) -> Result<(), u64> {
        let kept = self.0.entry(name).or_default();
        if sequence < base || sequence <= kept.there.last().map_or(0, |(_, last)| *last) {
            return Err(kept.position);
        }
        match kept.there.last_mut() {
            Some((_, last)) if *last + 1 == sequence => *last = sequence,
            _ => kept.there.push((sequence, sequence)),
        }
        kept.position = position;
        kept.top = kept.top.max(sequence);
        Ok(())
    }

    /// Notes that this sequence was given.
    pub(super) fn given(&mut self, name: StreamId, sequence: u64) {
        let kept = self.0.entry(name).or_default();
        kept.top = kept.top.max(sequence);
    }

    /// The streams that lost events, and how many those are, with what gave way before.
    pub(super) fn lost(&self, branches: &Branches) -> (HashMap<StreamId, StreamLoss>, u64) {
        let mut streams: HashMap<StreamId, StreamLoss> = HashMap::new();
        let mut events = 0;
        for (name, kept) in &self.0 {
            let lineage = branches.of(&plain(name));
            let began = branch_of(name.as_str()).zip(lineage);
            let base = began.map_or(1, |((_, at), lineage)| lineage.first_at(at));
            let lost = kept.lost(base);
            events += lost
                .iter()
                .map(|(first, last)| last + 1 - first)
                .sum::<u64>();
            // What gave way is missed by nobody.
            let stream = plain(name);
            let lost: Vec<_> = match branches.of(&stream) {
                None => lost,
                Some(lineage) => {
                    let pieces = lineage.pieces((1, u64::MAX), u64::MAX).into_iter();
                    let own = pieces.filter(|piece| piece.name == *name);
                    let within = own.flat_map(|piece| {
                        let clip = move |(first, last): &(u64, u64)| {
                            let (first, last) = (*first.max(&piece.from), *last.min(&piece.to));
                            (first <= last).then_some((first, last))
                        };
                        lost.iter().filter_map(clip).collect::<Vec<_>>()
                    });
                    within.collect()
                }
            };
            if !lost.is_empty() {
                streams.entry(stream).or_default().lost.extend(lost);
            }
        }
        for loss in streams.values_mut() {
            loss.lost.sort_unstable();
        }
        (streams, events)
    }
}

impl Kept {
    fn lost(&self, base: u64) -> Vec<(u64, u64)> {
        let mut lost = Vec::new();
        let mut next = base;
        let end = (self.top + 1, self.top);
        for (first, last) in self.there.iter().copied().chain([end]) {
            if next < first {
                lost.push((next, first - 1));
            }
            next = last + 1;
        }
        lost
    }
}

/// The stream that the name of a branch belongs to.
fn plain(name: &StreamId) -> StreamId {
    let id = name.aggregate_id().split('\u{1}').next();
    let plain = StreamId::new_reserved(name.aggregate_type(), id.unwrap_or_default());
    plain.unwrap_or_else(|_| name.clone())
}

/// A stream, or a branch of one, by its name in the index.
pub(super) fn named(name: &str) -> Option<StreamId> {
    if let Some((stream, at)) = branch_of(name) {
        return Some(stream.branch(at));
    }
    let (aggregate_type, id) = name.split_once('/')?;
    StreamId::new_reserved(aggregate_type, id).ok()
}

/// The stream whose branch has this name in the index, and where that began.
pub(super) fn branch_of(name: &str) -> Option<(StreamId, u64)> {
    let (aggregate_type, id) = name.split_once('/')?;
    let (id, at) = id.split_once('\u{1}')?;
    let stream = StreamId::new_reserved(aggregate_type, id).ok()?;
    Some((stream, at.parse().ok()?))
}

/// What the stream index of a damaged store is asked.
pub(super) struct Asked<'a> {
    /// The store.
    pub from: &'a Path,
    /// Where a copy may be opened: opening sled writes to it.
    pub scratch: &'a Path,
    pub format: &'a Format,
    /// The chain hash at the end of a segment, when the log still says it.
    pub chain_after: &'a dyn Fn(u64) -> Option<ChainHash>,
}

impl Asked<'_> {
    /// The newest segment that the manifest says is sealed.
    pub(super) fn promised(&self) -> Option<u64> {
        let identity = index_identity(64, self.format);
        index::promised(self.from, &identity).ok().flatten()
    }

    /// Lets `visit` hear the name and sequence of every event that the index knows. `false` when it
    /// is not there, not whole, or another history's: nothing is heard then.
    pub(super) fn visit(&self, mut visit: impl FnMut(&str, u64)) -> Result<bool, Error> {
        let Some(promised) = self.promised() else {
            return Ok(false);
        };
        copy_index(self.from, self.scratch)
            .map_err(|error| Error::io("copy the index to", self.scratch, error))?;
        let options = IndexOptions {
            identity: index_identity(64, self.format),
            // Where sled may have lost writes, its pages no longer agree with the manifest's hashes.
            clean_stop: true,
            open_timeout: Duration::from_secs(30),
            ..IndexOptions::default()
        };
        let Ok(opened) = Index::open(self.scratch, options, Some(1..=promised)) else {
            return Ok(false);
        };
        let Some(covered) = opened.covered else {
            return Ok(false);
        };
        let chain = (self.chain_after)(covered.segment);
        if chain.is_some_and(|chain| chain != covered.chain) {
            return Ok(false);
        }
        let whole = opened.index.verify(&mut |_, _, _, _| Ok(())).is_ok();
        let heard = whole
            && opened
                .index
                .verify(&mut |_, name: &str, sequence, _| {
                    visit(name, sequence);
                    Ok::<(), IndexError>(())
                })
                .is_ok();
        let _ = opened.index.close();
        Ok(heard)
    }
}
