//! Blocks: chunks of postings, sorted by (hash, name, first sequence).
//!
//! ```text
//! chunk: 8  keyed hash of the stream's name
//!        s  the name
//!        v  sequence of the first posting; they are dense
//!        v  number of postings
//!        v  bytes of the postings
//!        …  postings
//! posting: v  2 × (offset − end of the posting before) + (another segment than before)
//!         [v  segments further]
//!          v  length
//!          4  fingerprint
//! ```
//!
//! The posting before the first one counts as an empty one at offset 0 of the run's first segment;
//! so does the one before the first of another segment, in that segment.

use super::Posting;
use crate::sled::varint::{self, Reader};

/// Most bytes of a chunk before its postings: hash, name length and name, three varints.
const MAX_CHUNK_HEADER: usize = 8 + 2 + 3 * 10;

/// Some postings of one stream, undecoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    pub hash: u64,
    pub name: &'a [u8],
    pub first: u64,
    pub last: u64,
    body: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Takes the next chunk off a block; `None` when it does not decode.
    #[inline]
    pub(super) fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let hash = u64::from_le_bytes(reader.array()?);
        let name = reader.bytes()?;
        let first = reader.number()?;
        let more = reader.number()?.checked_sub(1)?;
        let last = first + more;
        let body = reader.bytes()?;
        Some(Self {
            hash,
            name,
            first,
            last,
            body,
        })
    }

    /// Hands out every posting in order; `None` when they do not decode.
    #[inline]
    pub(super) fn decode(
        &self,
        first_segment: u64,
        mut visit: impl FnMut(u64, Posting),
    ) -> Option<()> {
        let mut reader = Reader(self.body);
        let mut segment = first_segment;
        let mut end = 0_u32;
        for sequence in self.first..=self.last {
            let step = reader.varint()?;
            if step & 1 == 1 {
                segment = segment.checked_add(reader.varint()?)?;
                end = 0;
            }
            let offset = end.checked_add(u32::try_from(step >> 1).ok()?)?;
            let len = u32::try_from(reader.varint()?).ok()?;
            let fingerprint = u32::from_le_bytes(reader.array()?);
            end = offset.checked_add(len)?;
            visit(
                sequence,
                Posting {
                    segment,
                    offset,
                    len,
                    fingerprint,
                },
            );
        }
        reader.0.is_empty().then_some(())
    }
}

/// Where each chunk of a block begins; `None` when they do not decode.
pub(super) fn starts(body: &[u8]) -> Option<Vec<u16>> {
    let mut starts = Vec::new();
    let mut reader = Reader(body);
    while !reader.0.is_empty() {
        starts.push(u16::try_from(body.len() - reader.0.len()).ok()?);
        Chunk::read(&mut reader)?;
    }
    Some(starts)
}

/// Writes chunks into a block.
pub(super) struct ChunkWriter {
    first_segment: u64,
    segment: u64,
    end: u32,
    first: u64,
    count: u64,
    body: Vec<u8>,
}

impl ChunkWriter {
    pub(super) fn new(first_segment: u64) -> Self {
        let body = Vec::with_capacity(super::page::MAX_BODY);
        Self {
            first_segment,
            segment: first_segment,
            end: 0,
            first: 0,
            count: 0,
            body,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sequence of the first posting.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The sequence that continues this chunk.
    pub(super) fn next(&self) -> u64 {
        self.first + self.count
    }

    /// Takes a posting unless the chunk, with this name, would then need more than `room` bytes;
    /// `None` when it stands before the one before it.
    pub(super) fn push(
        &mut self,
        sequence: u64,
        posting: &Posting,
        name_len: usize,
        room: usize,
    ) -> Option<bool> {
        let before = self.body.len();
        let further = posting.segment.checked_sub(self.segment)?;
        if further == 0 {
            let step = posting.offset.checked_sub(self.end)?;
            varint::put(&mut self.body, u64::from(step) << 1);
        } else {
            varint::put(&mut self.body, u64::from(posting.offset) << 1 | 1);
            varint::put(&mut self.body, further);
        }
        varint::put(&mut self.body, u64::from(posting.len));
        self.body
            .extend_from_slice(&posting.fingerprint.to_le_bytes());
        if MAX_CHUNK_HEADER + name_len + self.body.len() > room {
            self.body.truncate(before);
            return Some(false);
        }
        if self.count == 0 {
            self.first = sequence;
        }
        self.count += 1;
        self.segment = posting.segment;
        self.end = posting.offset.checked_add(posting.len)?;
        Some(true)
    }

    /// Appends the chunk to `block` and begins a new one.
    pub(super) fn close(&mut self, hash: u64, name: &[u8], block: &mut Vec<u8>) {
        block.extend_from_slice(&hash.to_le_bytes());
        varint::put_bytes(block, name);
        varint::put(block, self.first);
        varint::put(block, self.count);
        varint::put_bytes(block, &self.body);
        self.body.clear();
        self.count = 0;
        self.segment = self.first_segment;
        self.end = 0;
    }
}
