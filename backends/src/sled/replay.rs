//! Replays one segment: checks every commit and makes the segment's index.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;

use tidelog_core::{Error, RecordKind, Timestamp};

use super::branches::Branches;
use super::control;
use super::frame;
use super::frame_reader::{Expect, FrameReader, Step, for_each_record};
use super::hash::{NameHash, in_time_order};
use super::index::SegmentIndex;
use super::log::{self, Hop};
use super::record::Parsed;
use super::segment::Epoch;

/// What goes on from segment to segment.
pub(crate) struct Replayed {
    pub last_recorded: Timestamp,
    pub epoch: Epoch,
}

impl Replayed {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            last_recorded: Timestamp::from_micros(i64::MIN),
            epoch,
        }
    }
}

/// One segment being replayed into its index.
pub(crate) struct Replay<'a> {
    pub reader: FrameReader<'a>,
    pub index: SegmentIndex,
    pub hops: Vec<Hop>,
    hash: &'a NameHash,
    branches: &'a Branches,
    /// Where each commit begins that was not vouched for when it was read: number and offset.
    pub unvouched: VecDeque<(u64, u64)>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(
        file: &'a File,
        number: u64,
        path: PathBuf,
        hash: &'a NameHash,
        branches: &'a Branches,
    ) -> Result<Self, Error> {
        Ok(Self {
            reader: FrameReader::new(file, path)?,
            index: SegmentIndex::new(number),
            hops: Vec::new(),
            hash,
            branches,
            unvouched: VecDeque::new(),
        })
    }

    /// Replays commit after commit; answers what stands where the next one would.
    pub(crate) fn run(
        &mut self,
        next: &mut Expect,
        vouched: &mut u64,
        replayed: &mut Replayed,
    ) -> Result<Step, Error> {
        loop {
            let offset = self.reader.offset();
            let Step::Commit {
                header,
                next: after,
            } = (match self.reader.step(next)? {
                commit @ Step::Commit { .. } => commit,
                end => return Ok(end),
            })
            else {
                continue;
            };
            let base = offset + frame::HEADER as u64;
            let (index, hash, branches) = (&mut self.index, self.hash, self.branches);
            let mut position = header.first_position;
            let mut wrong = None;
            let records = for_each_record(self.reader.body(), |at, len, parsed| {
                if parsed.position != position || parsed.recorded_time < replayed.last_recorded {
                    wrong = Some("a record's position or time does not follow");
                }
                position += 1;
                replayed.last_recorded = parsed.recorded_time;
                if parsed.kind == RecordKind::Control {
                    if let Some(epoch) = control::epoch_of(&parsed) {
                        replayed.epoch = epoch;
                    }
                    return Ok(());
                }
                if !push(index, hash, branches, &parsed, base + at as u64, len) {
                    wrong = Some("a record cannot be indexed");
                }
                Ok(())
            })?;
            let wrong = match (records, wrong) {
                (Ok(count), None) if count == header.records => None,
                (Err(why), _) | (_, Some(why)) => Some(why),
                _ => Some("the number of records is not the one stated"),
            };
            if let Some(why) = wrong {
                // No torn write has a right checksum.
                return Err(self.reader.damaged(offset, why));
            }
            *vouched = (*vouched).max(header.known_synced);
            while self
                .unvouched
                .front()
                .is_some_and(|(commit, _)| commit <= vouched)
            {
                self.unvouched.pop_front();
            }
            if header.commit > *vouched {
                self.unvouched.push_back((header.commit, offset));
            }
            log::push_hop(
                &mut self.hops,
                Hop {
                    position: header.first_position,
                    offset,
                },
            );
            *next = after;
        }
    }
}

/// Puts one record into the index of its segment.
pub(crate) fn push(
    index: &mut SegmentIndex,
    hash: &NameHash,
    branches: &Branches,
    parsed: &Parsed<'_>,
    offset: u64,
    len: usize,
) -> bool {
    let Some(mut stream) = parsed.stream() else {
        return false;
    };
    if let Some(name) = branches.name_at(&stream, parsed.position) {
        stream = name;
    }
    let (Ok(offset), Ok(len)) = (u32::try_from(offset), u32::try_from(len)) else {
        return false;
    };
    let fingerprint = hash.fingerprint(&parsed.event_id);
    if let Some(id) = in_time_order(&parsed.event_id) {
        index.note_id(id);
    }
    index
        .push(
            hash.stream(&stream),
            &stream,
            parsed.sequence,
            offset,
            len,
            fingerprint,
        )
        .is_ok()
}
