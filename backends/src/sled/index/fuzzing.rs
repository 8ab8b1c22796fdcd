//! The index's decoders as the fuzz targets reach them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what a fuzz target finds is a panic"
)]

use std::ops::ControlFlow;
use std::sync::Arc;

use tidelog_core::Direction;

use super::block::Chunk;
use super::filter::Filter;
use super::kv::Kv;
use super::manifest::{Manifest, RunEntry};
use super::memory_kv::MemoryKv;
use super::merge::merge;
use super::page::{self, Kind, PageId, Pages};
use super::run::{Budget, FENCE_ENTRY, FENCES_A_PAGE, FilterEntry, Root, Run};
use super::run_writer::RunWriter;
use crate::sled::varint::Reader;

const RUN: u64 = 1;

/// Reads a manifest, a root, fences, a filter and blocks, each behind its length in two bytes.
pub(crate) fn index(bytes: &[u8]) {
    let mut reader = Reader(bytes);
    let mut part = || {
        let len = usize::from(u16::from_le_bytes(reader.array()?));
        let len = len.min(reader.0.len());
        reader.take(len)
    };
    let [manifest, root, fences, filter] = [part(), part(), part(), part()];
    let blocks: Vec<&[u8]> = std::iter::from_fn(part).take(FENCES_A_PAGE).collect();
    Manifest::fuzz(manifest.unwrap_or_default());
    if let Some(filter) = Filter::parse(filter.unwrap_or_default()) {
        for hash in [0, 1, u64::MAX, u64::MAX / 3] {
            filter.contains(hash);
        }
    }
    let streams: Vec<(u64, &[u8])> = blocks.iter().flat_map(|block| streams_of(block)).collect();
    let (fences, filter) = (fences.unwrap_or_default(), filter.unwrap_or_default());
    let Some(run) = make_run(root.unwrap_or_default(), fences, filter, &blocks) else {
        return;
    };
    for (hash, name) in streams.into_iter().take(8).chain([(0, &b"T/1"[..])]) {
        scan_both_ways(&run, hash, name);
    }
    let kv = MemoryKv::default();
    let mut writer = RunWriter::new(&kv, RUN + 1, 1, (1, 8));
    if let Ok(true) = merge(&[Arc::new(run)], &mut writer, &|| false) {
        let entry = writer.finish([0; 32]).expect("what was merged is written");
        open(entry, Arc::new(kv)).expect("what was written opens");
    }
}

fn streams_of(block: &[u8]) -> Vec<(u64, &[u8])> {
    let mut reader = Reader(block);
    let mut found = Vec::new();
    while let Some(chunk) = Chunk::read(&mut reader) {
        found.push((chunk.hash, chunk.name));
        let _ = chunk.decode(1, |_, _| ());
    }
    found
}

/// A run of these parts: checksums and the counts that the manifest repeats are made right, so that
/// what is behind them is reached.
fn make_run(root: &[u8], fences: &[u8], filter: &[u8], blocks: &[&[u8]]) -> Option<Run> {
    let mut root: Root = postcard::from_bytes(root).ok()?;
    let kv = MemoryKv::default();
    let put = |kind, number, body: &[u8]| {
        let id = PageId {
            run: RUN,
            kind,
            number,
        };
        let (page, crc) = page::encode(id, body);
        kv.put(&id.key(), &page).ok().map(|()| crc)
    };
    let mut fences = fences.to_vec();
    fences.truncate(page::MAX_BODY);
    for (number, block) in (0..).zip(blocks) {
        let crc = put(Kind::Block, number, block)?.to_le_bytes();
        let at = number as usize * FENCE_ENTRY + 16;
        if let Some(place) = fences.get_mut(at..at + 4) {
            place.copy_from_slice(&crc);
        }
    }
    let fences_crc = put(Kind::Fence, 0, &fences)?;
    root.blocks = u32::try_from(blocks.len()).ok()?;
    root.fences.truncate(blocks.len().min(1));
    if root.fences.len() != blocks.len().min(1) {
        return None;
    }
    for fence in &mut root.fences {
        fence.crc = fences_crc;
    }
    put(Kind::Filter, 0, filter)?;
    for entry in &mut root.filters {
        *entry = FilterEntry {
            first_hash: entry.first_hash,
            first_page: 0,
            len: u32::try_from(filter.len()).ok()?,
            crc: crc32c::crc32c(filter),
        };
    }
    (root.run, root.level) = (RUN, 0);
    let bytes = postcard::to_stdvec(&root).ok()?;
    for (number, part) in (0..).zip(bytes.chunks(page::MAX_BODY)) {
        put(Kind::Root, number, part)?;
    }
    let entry = RunEntry {
        id: RUN,
        level: 0,
        first_segment: root.first_segment,
        last_segment: root.last_segment,
        blocks: root.blocks,
        streams: root.streams,
        events: root.events,
        chain: [0; 32],
        root_len: u32::try_from(bytes.len()).ok()?,
        root_hash: *blake3::hash(&bytes).as_bytes(),
    };
    open(entry, Arc::new(kv))
}

fn open(entry: RunEntry, kv: Arc<dyn Kv>) -> Option<Run> {
    let pages = Arc::new(Pages::new(kv, 1 << 20));
    Run::open(entry, pages, Arc::new(Budget::new(1 << 20))).ok()
}

fn scan_both_ways(run: &Run, hash: u64, name: &[u8]) {
    let scan = |direction| {
        let mut found = Vec::new();
        let mut visit = |sequence, posting| {
            found.push((sequence, posting));
            ControlFlow::Continue(())
        };
        let done = run.scan(hash, name, 0..=u64::MAX, direction, &mut visit);
        done.ok().map(|_| found)
    };
    let (forward, backward) = (scan(Direction::Forward), scan(Direction::Backward));
    let _ = run.head(hash, name);
    if let (Some(forward), Some(mut backward)) = (forward, backward) {
        backward.reverse();
        assert!(forward == backward, "both directions see the same");
    }
}
