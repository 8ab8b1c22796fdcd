//! One run: immutable postings of a range of segments, sorted by (hash, name, sequence).
//!
//! ```text
//!   root ──▶ fence pages ──▶ blocks        (first hash, first sequence, CRC of what is below)
//!     └────▶ filters over the streams' hashes, one for every 32,768 of them
//! ```
//!
//! A fence page is up to 203 entries of 20 bytes: hash 8, sequence 8, CRC 4.

use std::ops::{ControlFlow, RangeInclusive};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use tidelog_core::Direction;

use super::block::Chunk;
use super::filter::Filter;
use super::manifest::RunEntry;
use super::page::{Kind, MAX_BODY, Page, PageId, Pages};
use super::{IndexError, Posting};
use crate::sled::varint::Reader;

pub(super) const FENCE_ENTRY: usize = 20;
pub(super) const FENCES_A_PAGE: usize = MAX_BODY / FENCE_ENTRY;

/// Where something begins in the order of the run, and its CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fence {
    pub hash: u64,
    pub sequence: u64,
    pub crc: u32,
}

/// A filter over the hashes from `first_hash` to the next filter's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FilterEntry {
    pub first_hash: u64,
    /// Number of its first page.
    pub first_page: u32,
    /// Its bytes; 0 when none could be made, and the run may know every hash there.
    pub len: u32,
    pub crc: u32,
}

impl FilterEntry {
    /// Bytes of memory that the filter takes.
    fn memory(&self) -> usize {
        size_of::<Filter>() + self.len as usize
    }
}

/// What vouches for all other pages of the run; the manifest vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Root {
    pub run: u64,
    pub level: u8,
    pub first_segment: u64,
    pub last_segment: u64,
    pub blocks: u32,
    pub streams: u64,
    pub events: u64,
    /// Two names in it share a hash.
    pub collisions: bool,
    /// BLAKE3 over the CRCs of all blocks.
    pub digest: [u8; 32],
    /// One for each fence page.
    pub fences: Vec<Fence>,
    pub filters: Vec<FilterEntry>,
}

/// How much memory the filters of all runs may take together.
pub(super) struct Budget {
    pub limit: usize,
    pub used: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The fence page that a lookup read last, and its number: mostly it needs no other.
type Seen = Option<(usize, Page)>;

pub(super) struct Run {
    pub entry: RunEntry,
    pub root: Root,
    pages: Arc<Pages>,
    budget: Arc<Budget>,
    /// Loaded when asked for and the budget has room; without one, a block is read instead.
    filters: Vec<OnceLock<Filter>>,
}

impl Drop for Run {
    fn drop(&mut self) {
        let slots = self.filters.iter().zip(&self.root.filters);
        let loaded = slots.filter(|(slot, _)| slot.get().is_some());
        self.budget
            .give_back(loaded.map(|(_, entry)| entry.memory()).sum());
    }
}

impl Run {
    /// Reads and checks the root that the manifest names.
    pub(super) fn open(
        entry: RunEntry,
        pages: Arc<Pages>,
        budget: Arc<Budget>,
    ) -> Result<Self, IndexError> {
        let bytes = load_parts(&pages, entry.id, Kind::Root, 0, entry.root_len as usize)?;
        let wrong = |what: &str| IndexError::damaged(format!("root of run {} {what}", entry.id));
        if blake3::hash(&bytes) != entry.root_hash {
            return Err(wrong("is not the one that the manifest names"));
        }
        let (root, rest) =
            postcard::take_from_bytes::<Root>(&bytes).map_err(|_| wrong("does not decode"))?;
        let agrees = rest.is_empty()
            && root.run == entry.id
            && root.level == entry.level
            && (root.first_segment, root.last_segment) == (entry.first_segment, entry.last_segment)
            && (root.blocks, root.streams, root.events)
                == (entry.blocks, entry.streams, entry.events)
            && root.fences.len() == (root.blocks as usize).div_ceil(FENCES_A_PAGE);
        if !agrees {
            return Err(wrong("disagrees with the manifest"));
        }
        let filters = root.filters.iter().map(|_| OnceLock::new()).collect();
        Ok(Self {
            entry,
            root,
            pages,
            budget,
            filters,
        })
    }

    /// `false` only when no stream of this hash is in the run.
    pub(super) fn may_know(&self, hash: u64) -> Result<bool, IndexError> {
        let after = self
            .root
            .filters
            .partition_point(|filter| filter.first_hash <= hash);
        let Some(at) = after.checked_sub(1) else {
            return Ok(false);
        };
        let (Some(slot), Some(entry)) = (self.filters.get(at), self.root.filters.get(at)) else {
            return Ok(true);
        };
        if slot.get().is_none() && entry.len > 0 && self.budget.take(entry.memory()) {
            let loaded = self.load_filter(entry);
            let kept = loaded.map(|filter| slot.set(filter).is_ok());
            if !matches!(kept, Ok(true)) {
                self.budget.give_back(entry.memory());
            }
            kept?;
        }
        Ok(slot.get().is_none_or(|filter| filter.contains(hash)))
    }

    pub(super) fn load_filter(&self, entry: &FilterEntry) -> Result<Filter, IndexError> {
        let id = self.entry.id;
        let bytes = load_parts(
            &self.pages,
            id,
            Kind::Filter,
            entry.first_page,
            entry.len as usize,
        )?;
        if crc32c::crc32c(&bytes) != entry.crc {
            return Err(IndexError::damaged(format!(
                "a filter of run {id} is another one"
            )));
        }
        let unusable = || IndexError::damaged(format!("a filter of run {id} does not decode"));
        Filter::parse(&bytes).ok_or_else(unusable)
    }

    /// The newest event of the stream in this run.
    pub(super) fn head(
        &self,
        hash: u64,
        name: &[u8],
    ) -> Result<Option<(u64, Posting)>, IndexError> {
        let mut newest = None;
        let mut take_first = |sequence, posting| {
            newest = Some((sequence, posting));
            ControlFlow::Break(())
        };
        let _ = self.scan(
            hash,
            name,
            0..=u64::MAX,
            Direction::Backward,
            &mut take_first,
        )?;
        Ok(newest)
    }

    /// Visits the stream's postings in `range`, ordered by `direction`, until told to stop.
    pub(super) fn scan(
        &self,
        hash: u64,
        name: &[u8],
        range: RangeInclusive<u64>,
        direction: Direction,
        visit: &mut dyn FnMut(u64, Posting) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, IndexError> {
        if !self.may_know(hash)? {
            return Ok(ControlFlow::Continue(()));
        }
        let mut seen = None;
        // Inside equal hashes of different names, sequences say nothing about the place.
        let (low, high) = if self.root.collisions {
            let below = |fence: &Fence| fence.hash < hash;
            (self.last_block_where(&mut seen, below)?, u64::MAX)
        } else {
            let from = (hash, *range.start());
            let upto = |fence: &Fence| (fence.hash, fence.sequence) <= from;
            (self.last_block_where(&mut seen, upto)?, *range.end())
        };
        let upto = |fence: &Fence| (fence.hash, fence.sequence) <= (hash, high);
        let last = self.last_block_where(&mut seen, upto)?;
        let Some(last) = last else {
            return Ok(ControlFlow::Continue(()));
        };
        let low = low.unwrap_or(0);
        let mut found = Vec::new();
        for step in 0..=last.saturating_sub(low) {
            found.clear();
            match direction {
                Direction::Forward => {
                    let block = (low + step, self.fence_of(&mut seen, low + step)?.crc);
                    self.scan_block(block, hash, name, &range, &mut found)?;
                }
                Direction::Backward => {
                    let block = (last - step, self.fence_of(&mut seen, last - step)?.crc);
                    self.scan_block(block, hash, name, &range, &mut found)?;
                    found.reverse();
                }
            }
            for (sequence, posting) in &found {
                if visit(*sequence, *posting).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn scan_block(
        &self,
        (number, crc): (u32, u32),
        hash: u64,
        name: &[u8],
        range: &RangeInclusive<u64>,
        found: &mut Vec<(u64, Posting)>,
    ) -> Result<(), IndexError> {
        let page = self.pages.get(self.id(Kind::Block, number), crc)?;
        let mut reader = Reader(page.chunks_from(hash));
        while !reader.0.is_empty() {
            let chunk = Chunk::read(&mut reader).ok_or_else(|| self.undecodable(number))?;
            if chunk.hash > hash {
                break;
            }
            let meets = chunk.hash == hash
                && chunk.name == name
                && chunk.first <= *range.end()
                && chunk.last >= *range.start();
            if meets {
                let decoded = chunk.decode(self.entry.first_segment, |sequence, posting| {
                    if range.contains(&sequence) {
                        found.push((sequence, posting));
                    }
                });
                decoded.ok_or_else(|| self.undecodable(number))?;
            }
        }
        Ok(())
    }

    /// The last block for whose fence `holds`, which must hold for a beginning of the run.
    fn last_block_where(
        &self,
        seen: &mut Seen,
        holds: impl Fn(&Fence) -> bool,
    ) -> Result<Option<u32>, IndexError> {
        let Some(page_number) = self.root.fences.partition_point(&holds).checked_sub(1) else {
            return Ok(None);
        };
        let page = self.fence_page(seen, page_number)?;
        let (mut low, mut high) = (0, page.body().len() / FENCE_ENTRY);
        while low < high {
            let middle = usize::midpoint(low, high);
            if holds(&self.fence_in(page, middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        // The page's first entry is the root's, for which it held.
        let block = page_number * FENCES_A_PAGE + low.saturating_sub(1);
        u32::try_from(block)
            .ok()
            .filter(|block| *block < self.entry.blocks)
            .map(Some)
            .ok_or_else(|| self.undecodable(0))
    }

    pub(super) fn fence(&self, block: u32) -> Result<Fence, IndexError> {
        self.fence_of(&mut None, block)
    }

    fn fence_of(&self, seen: &mut Seen, block: u32) -> Result<Fence, IndexError> {
        let page = self.fence_page(seen, block as usize / FENCES_A_PAGE)?;
        self.fence_in(page, block as usize % FENCES_A_PAGE)
    }

    fn fence_page<'a>(&self, seen: &'a mut Seen, number: usize) -> Result<&'a Page, IndexError> {
        let missing = || self.undecodable(0);
        let kept = seen.take().filter(|(at, _)| *at == number);
        let page = if let Some((_, page)) = kept {
            page
        } else {
            let crc = self.root.fences.get(number).ok_or_else(missing)?.crc;
            let number = u32::try_from(number).map_err(|_| missing())?;
            self.pages.get(self.id(Kind::Fence, number), crc)?
        };
        Ok(&seen.insert((number, page)).1)
    }

    fn fence_in(&self, page: &Page, at: usize) -> Result<Fence, IndexError> {
        let entry = page.body().get(at * FENCE_ENTRY..).unwrap_or_default();
        let mut reader = Reader(entry);
        let mut fence = || {
            Some(Fence {
                hash: u64::from_le_bytes(reader.array()?),
                sequence: u64::from_le_bytes(reader.array()?),
                crc: u32::from_le_bytes(reader.array()?),
            })
        };
        fence().ok_or_else(|| IndexError::damaged(format!("a fence of run {} ends", self.entry.id)))
    }

    /// A block past the cache.
    pub(super) fn load_block(&self, number: u32) -> Result<Page, IndexError> {
        let fence = self.fence(number)?;
        self.pages
            .load(self.id(Kind::Block, number), Some(fence.crc))
    }

    pub(super) fn undecodable(&self, block: u32) -> IndexError {
        IndexError::damaged(format!(
            "block {block} of run {} does not decode",
            self.entry.id
        ))
    }

    fn id(&self, kind: Kind, number: u32) -> PageId {
        PageId {
            run: self.entry.id,
            kind,
            number,
        }
    }
}

/// Joins the bodies of pages that hold `len` bytes together.
fn load_parts(
    pages: &Pages,
    run: u64,
    kind: Kind,
    first: u32,
    len: usize,
) -> Result<Vec<u8>, IndexError> {
    // `len` comes from a file: room is made as pages come.
    let mut bytes = Vec::new();
    for number in first..=u32::MAX {
        if bytes.len() >= len {
            break;
        }
        let page = pages.load(PageId { run, kind, number }, None)?;
        if page.body().is_empty() {
            break;
        }
        bytes.extend_from_slice(page.body());
    }
    if bytes.len() == len {
        Ok(bytes)
    } else {
        Err(IndexError::damaged(format!(
            "the {kind:?} of run {run} has {} bytes",
            bytes.len()
        )))
    }
}
