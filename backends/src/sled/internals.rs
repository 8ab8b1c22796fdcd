//! Records and the index as the micro-benchmarks reach them.

use std::path::Path;

use bytes::Bytes;
use tidelog_core::{Error, EventEnvelope, StreamId};

use super::hash::NameHash;
use super::index::{Index, IndexOptions, SegmentIndex};
use super::index_failed;
use super::record::{self, Names, Record};
use super::segment;

/// Appends the record of `envelope` to `out`; answers its length.
pub fn encode(envelope: &EventEnvelope, out: &mut Vec<u8>) -> usize {
    Record::of(envelope).encode(out)
}

/// Reads records one after another, as a scan does.
pub struct Decoder(Names);

impl Default for Decoder {
    fn default() -> Self {
        Self(Names::new())
    }
}

impl Decoder {
    /// The envelope of the one record in `page`; `None` when that is none.
    pub fn decode(&mut self, page: &Bytes) -> Option<EventEnvelope> {
        let parsed = record::parse(page).ok()?;
        self.0.envelope(parsed, page)
    }
}

/// What is known in memory of a segment that is full.
pub struct Segment(SegmentIndex);

impl Segment {
    /// Segment `number`, which holds one record of `len` bytes for each of `streams`, as often as
    /// `times` says; segments before it held as many.
    ///
    /// # Errors
    /// When that is more than a segment can hold.
    pub fn new(number: u64, streams: &[StreamId], times: u64, len: u32) -> Result<Self, Error> {
        let names = NameHash::new(&[7; 16], 64);
        let mut index = SegmentIndex::new(number);
        #[allow(clippy::cast_possible_truncation, reason = "4096")]
        let mut offset = segment::DATA as u32;
        for time in 1..=times {
            let sequence = number.saturating_sub(1).saturating_mul(times) + time;
            for stream in streams {
                let hash = names.stream(stream);
                index
                    .push(hash, stream, sequence, offset, len, offset)
                    .map_err(index_failed)?;
                offset = offset.saturating_add(len);
            }
        }
        Ok(Self(index))
    }
}

/// The index of a store that has no log.
pub struct Runs(Index);

impl Runs {
    /// Makes it in `dir`, where there is none yet.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn create(dir: &Path) -> Result<Self, Error> {
        let opened = Index::open(dir, IndexOptions::default(), None).map_err(index_failed)?;
        Ok(Self(opened.index))
    }

    /// Makes the run of the next segment: durable when this returns.
    ///
    /// # Errors
    /// What the index met.
    pub fn add(&self, segment: &Segment) -> Result<(), Error> {
        self.0
            .add_segment(&segment.0, [0; 32])
            .map_err(index_failed)
    }

    /// Merges eight runs into one; `false` when there are fewer.
    ///
    /// # Errors
    /// What the index met.
    pub fn merge(&self) -> Result<bool, Error> {
        self.0.merge_step().map_err(index_failed)
    }
}
