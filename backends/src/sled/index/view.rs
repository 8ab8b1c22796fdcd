//! What readers see: the runs of one generation at one moment. Replaced whole, never changed.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use tidelog_core::{Direction, StreamId};

use super::block::Chunk;
use super::kv::Kv;
use super::manifest::{Manifest, RunEntry};
use super::merge::Cursor;
use super::page::Pages;
use super::run::{Budget, Run};
use super::{IndexError, Posting, VisitPosting};

pub(super) struct View {
    pub generation: u64,
    pub dir: PathBuf,
    pub sync_flag: bool,
    pub rebuilt: Option<String>,
    pub kv: Arc<dyn Kv>,
    pub pages: Arc<Pages>,
    /// Oldest segments first.
    pub runs: Vec<Arc<Run>>,
}

impl View {
    /// The same generation with other runs.
    pub(super) fn with_runs(&self, runs: Vec<Arc<Run>>) -> Self {
        Self {
            generation: self.generation,
            dir: self.dir.clone(),
            sync_flag: self.sync_flag,
            rebuilt: self.rebuilt.clone(),
            kv: Arc::clone(&self.kv),
            pages: Arc::clone(&self.pages),
            runs,
        }
    }

    /// Opens all runs that the manifest names.
    pub(super) fn open_runs(
        manifest: &Manifest,
        pages: &Arc<Pages>,
        budget: &Arc<Budget>,
    ) -> Result<Vec<Arc<Run>>, IndexError> {
        let open = |entry: &RunEntry| {
            Run::open(entry.clone(), Arc::clone(pages), Arc::clone(budget)).map(Arc::new)
        };
        manifest.runs.iter().map(open).collect()
    }

    pub(super) fn head(
        &self,
        hash: u64,
        stream: &StreamId,
    ) -> Result<Option<(u64, Posting)>, IndexError> {
        for run in self.runs.iter().rev() {
            let head = run.head(hash, stream.as_str().as_bytes())?;
            if head.is_some() {
                return Ok(head);
            }
        }
        Ok(None)
    }

    /// Visits the sequences `from..=to` of a stream across all runs, in `direction`.
    pub(super) fn scan(
        &self,
        hash: u64,
        stream: &StreamId,
        (from, to): (u64, u64),
        direction: Direction,
        visit: &mut dyn FnMut(u64, Posting) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let name = stream.as_str().as_bytes();
        let mut before = None;
        let mut unordered = false;
        let mut in_order = |sequence: u64, posting: Posting| {
            unordered |= before.is_some_and(|before| match direction {
                Direction::Forward => sequence <= before,
                Direction::Backward => sequence >= before,
            });
            if unordered {
                return ControlFlow::Break(());
            }
            before = Some(sequence);
            visit(sequence, posting)
        };
        let count = self.runs.len();
        for step in 0..count {
            let at = match direction {
                Direction::Forward => step,
                Direction::Backward => count - 1 - step,
            };
            let Some(run) = self.runs.get(at) else { break };
            if run
                .scan(hash, name, from..=to, direction, &mut in_order)?
                .is_break()
            {
                break;
            }
        }
        if unordered {
            return Err(IndexError::damaged(format!("the runs of {stream} overlap")));
        }
        Ok(())
    }
}

/// Walks every page of a run, and hands every posting to `visit` with its hash and name.
pub(super) fn verify_run(run: &Run, visit: &mut VisitPosting<'_>) -> Result<(), IndexError> {
    let entry = &run.entry;
    let wrong = |what: &str| IndexError::damaged(format!("run {}: {what}", entry.id));
    let mut filters = run.root.filters.iter().peekable();
    let mut filter = None;
    let mut digest = blake3::Hasher::new();
    for block in 0..entry.blocks {
        digest.update(&run.fence(block)?.crc.to_le_bytes());
    }
    if *digest.finalize().as_bytes() != run.root.digest {
        return Err(wrong("its blocks are not those that were written"));
    }
    let (mut streams, mut events, mut collisions) = (0_u64, 0_u64, false);
    let mut before: Option<(u64, Vec<u8>, u64)> = None;
    let mut block = None;
    let mut cursor = Cursor::open(run)?;
    while let Some(chunk) = cursor.chunk() {
        if block != Some(cursor.block()) {
            let fence = run.fence(cursor.block())?;
            if (fence.hash, fence.sequence) != (chunk.hash, chunk.first) {
                return Err(wrong("a fence names another chunk"));
            }
            block = Some(cursor.block());
        }
        let same_stream = match &before {
            Some((hash, name, last)) => {
                let order = (*hash, name.as_slice()).cmp(&(chunk.hash, chunk.name));
                if order.is_gt() || (order.is_eq() && *last >= chunk.first) {
                    return Err(wrong("its chunks are out of order"));
                }
                collisions |= order.is_lt() && *hash == chunk.hash;
                order.is_eq()
            }
            None => false,
        };
        if !same_stream {
            streams += 1;
            while let Some(next) = filters.next_if(|next| next.first_hash <= chunk.hash) {
                filter = Some((next.len > 0).then(|| run.load_filter(next)).transpose()?);
            }
            let known = match &filter {
                Some(Some(filter)) => filter.contains(chunk.hash),
                Some(None) => true,
                None => false,
            };
            if !known {
                return Err(wrong("a filter misses a stream"));
            }
        }
        events += visit_chunk(run, &chunk, cursor.block(), visit)?;
        before = Some((chunk.hash, chunk.name.to_vec(), chunk.last));
        cursor.advance()?;
    }
    if (streams, events, collisions) != (entry.streams, entry.events, run.root.collisions) {
        return Err(wrong("its counts are not those that were written"));
    }
    Ok(())
}

fn visit_chunk(
    run: &Run,
    chunk: &Chunk<'_>,
    block: u32,
    visit: &mut VisitPosting<'_>,
) -> Result<u64, IndexError> {
    let name = std::str::from_utf8(chunk.name).map_err(|_| run.undecodable(block))?;
    let segments = run.entry.first_segment..=run.entry.last_segment;
    let mut outcome = Ok(());
    let mut events = 0;
    let decoded = chunk.decode(run.entry.first_segment, |sequence, posting| {
        events += 1;
        if outcome.is_ok() {
            outcome = if segments.contains(&posting.segment) {
                visit(chunk.hash, name, sequence, posting)
            } else {
                Err(run.undecodable(block))
            };
        }
    });
    decoded.ok_or_else(|| run.undecodable(block))?;
    outcome.map(|()| events)
}
