//! Pages: what stands under one key, never changed once written.
//!
//! ```text
//! key                          value, at most 4096 bytes
//!  0   1  'r'                   0   4  CRC of all that follows
//!  1   8  run id, big-endian    4   1  kind: 1 block, 2 fence, 3 filter, 4 root
//!  9   1  kind                  5   8  run id
//! 10   4  number, big-endian   13   4  number
//!                              17   …  body
//! ```
//!
//! The CRC of a block stands in its fence page, that of a fence page and of a whole filter in the
//! run's root, and the BLAKE3 hash of the root in the manifest: a page of another run, or one that
//! sled rolled back, is never taken for the right one.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::kv::Kv;
use super::{IndexError, block};

pub(super) const MAX_PAGE: usize = 4096;
pub(super) const HEADER: usize = 17;
pub(super) const MAX_BODY: usize = MAX_PAGE - HEADER;

const KEY_LEN: usize = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Block = 1,
    Fence = 2,
    Filter = 3,
    Root = 4,
}

/// The name of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PageId {
    pub run: u64,
    pub kind: Kind,
    pub number: u32,
}

impl PageId {
    pub(super) fn key(self) -> [u8; KEY_LEN] {
        let mut key = [b'r'; KEY_LEN];
        key[1..9].copy_from_slice(&self.run.to_be_bytes());
        key[9] = self.kind as u8;
        key[10..14].copy_from_slice(&self.number.to_be_bytes());
        key
    }

    fn damaged(self, what: &str) -> IndexError {
        let Self { run, kind, number } = self;
        IndexError::damaged(format!("{kind:?} {number} of run {run} {what}"))
    }
}

/// The lowest key of a run's pages.
pub(super) fn first_key(run: u64) -> [u8; 9] {
    let mut key = [b'r'; 9];
    key[1..9].copy_from_slice(&run.to_be_bytes());
    key
}

/// The run that a page's key belongs to; `None` for other keys.
pub(super) fn run_of_key(key: &[u8]) -> Option<u64> {
    let rest = key.strip_prefix(b"r")?;
    rest.first_chunk().map(|run| u64::from_be_bytes(*run))
}

/// The page around `body`, and its CRC.
pub(super) fn encode(id: PageId, body: &[u8]) -> (Vec<u8>, u32) {
    let mut page = Vec::with_capacity(HEADER + body.len());
    page.extend_from_slice(&[0; 4]);
    page.push(id.kind as u8);
    page.extend_from_slice(&id.run.to_le_bytes());
    page.extend_from_slice(&id.number.to_le_bytes());
    page.extend_from_slice(body);
    let crc = crc32c::crc32c(&page[4..]);
    page[..4].copy_from_slice(&crc.to_le_bytes());
    (page, crc)
}

/// Reads pages, checked, through a cache bounded in bytes.
pub(super) struct Pages {
    pub kv: Arc<dyn Kv>,
    cache: Cache<PageId, Page, PageWeight>,
}

/// A checked page.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// The page; of a block that is cached, then where in the body its chunks begin, 2 bytes each.
    bytes: Arc<[u8]>,
    len: usize,
}

impl Page {
    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get(HEADER..self.len).unwrap_or_default()
    }

    /// The chunks of a cached block from the first one of this hash on, or of a higher one.
    pub(super) fn chunks_from(&self, hash: u64) -> &[u8] {
        let body = self.body();
        let from = |start: &[u8; 2]| body.get(usize::from(u16::from_le_bytes(*start))..);
        let starts = self.bytes.get(self.len..).unwrap_or_default();
        let (starts, _) = starts.as_chunks::<2>();
        let below = |start: &[u8; 2]| {
            let found = from(start).and_then(|chunk| chunk.first_chunk());
            found.is_some_and(|found| u64::from_le_bytes(*found) < hash)
        };
        let first = starts.get(starts.partition_point(below));
        first.and_then(from).unwrap_or_default()
    }
}

#[derive(Clone)]
struct PageWeight;

impl Weighter<PageId, Page> for PageWeight {
    fn weight(&self, _: &PageId, page: &Page) -> u64 {
        // The entry itself takes about this much, too.
        page.bytes.len() as u64 + 96
    }
}

impl Pages {
    pub(super) fn new(kv: Arc<dyn Kv>, cache_bytes: u64) -> Self {
        let pages = usize::try_from(cache_bytes / MAX_PAGE as u64).unwrap_or(usize::MAX);
        Self {
            kv,
            cache: Cache::with_weighter(pages.max(16), cache_bytes, PageWeight),
        }
    }

    /// A page with this CRC, from the cache or the engine.
    pub(super) fn get(&self, id: PageId, crc: u32) -> Result<Page, IndexError> {
        if let Some(page) = self.cache.get(&id) {
            return Ok(page);
        }
        let mut bytes = self.read(id, Some(crc))?;
        let len = bytes.len();
        if id.kind == Kind::Block {
            let body = bytes.get(HEADER..).unwrap_or_default();
            let starts = block::starts(body).ok_or_else(|| id.damaged("does not decode"))?;
            bytes.reserve_exact(2 * starts.len());
            bytes.extend(starts.into_iter().flat_map(u16::to_le_bytes));
        }
        let bytes = bytes.into();
        let page = Page { bytes, len };
        self.cache.insert(id, page.clone());
        Ok(page)
    }

    /// The same past the cache, for walks over everything; without a CRC only the page's own
    /// counts, and the caller checks what it adds up to.
    pub(super) fn load(&self, id: PageId, crc: Option<u32>) -> Result<Page, IndexError> {
        let bytes: Arc<[u8]> = self.read(id, crc)?.into();
        let len = bytes.len();
        Ok(Page { bytes, len })
    }

    fn read(&self, id: PageId, crc: Option<u32>) -> Result<Vec<u8>, IndexError> {
        let page = self
            .kv
            .get(&id.key())?
            .ok_or_else(|| id.damaged("is missing"))?;
        check(id, &page, crc)?;
        Ok(page)
    }

    pub(super) fn cached_bytes(&self) -> u64 {
        self.cache.weight()
    }
}

fn check(id: PageId, page: &[u8], crc: Option<u32>) -> Result<(), IndexError> {
    let Some((header, body)) = page.split_at_checked(HEADER) else {
        return Err(id.damaged("is too short"));
    };
    if body.len() > MAX_BODY {
        return Err(id.damaged("is too long"));
    }
    let found = crc32c::crc32c(&page[4..]);
    if header[..4] != found.to_le_bytes() {
        return Err(id.damaged("has a wrong checksum"));
    }
    if header[4] != id.kind as u8
        || header[5..13] != id.run.to_le_bytes()
        || header[13..17] != id.number.to_le_bytes()
    {
        return Err(id.damaged("holds another page"));
    }
    if crc.is_some_and(|crc| crc != found) {
        return Err(id.damaged("is not the one that was written"));
    }
    Ok(())
}
