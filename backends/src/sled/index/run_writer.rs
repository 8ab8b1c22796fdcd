//! Writes a run in its order, with the memory of one filter and 64 pages.

use super::block::ChunkWriter;
use super::filter::{self, Filter};
use super::kv::Kv;
use super::manifest::RunEntry;
use super::page::{self, Kind, MAX_BODY, PageId};
use super::run::{FENCE_ENTRY, FENCES_A_PAGE, Fence, FilterEntry, Root};
use super::{IndexError, Posting};

/// Pages handed to the engine at once: few enough that it still has their leaves in memory when it
/// comes to the values.
const PENDING: usize = 64;

pub(super) struct RunWriter<'a> {
    kv: &'a dyn Kv,
    pending: Vec<(Vec<u8>, Vec<u8>)>,
    root: Root,
    /// The stream being written.
    hash: u64,
    name: Vec<u8>,
    chunk: ChunkWriter,
    block: Vec<u8>,
    /// Hash and first sequence of the block's first chunk.
    block_first: Option<(u64, u64)>,
    fence_page: Vec<u8>,
    fence_page_first: Option<(u64, u64)>,
    /// Distinct hashes since the last filter.
    hashes: Vec<u64>,
    filter_pages: u32,
    digest: blake3::Hasher,
}

impl<'a> RunWriter<'a> {
    pub(super) fn new(kv: &'a dyn Kv, run: u64, level: u8, segments: (u64, u64)) -> Self {
        let root = Root {
            run,
            level,
            first_segment: segments.0,
            last_segment: segments.1,
            blocks: 0,
            streams: 0,
            events: 0,
            collisions: false,
            digest: [0; 32],
            fences: Vec::new(),
            filters: Vec::new(),
        };
        Self {
            kv,
            pending: Vec::new(),
            root,
            hash: 0,
            name: Vec::new(),
            chunk: ChunkWriter::new(segments.0),
            block: Vec::with_capacity(MAX_BODY),
            block_first: None,
            fence_page: Vec::with_capacity(MAX_BODY),
            fence_page_first: None,
            hashes: Vec::new(),
            filter_pages: 0,
            digest: blake3::Hasher::new(),
        }
    }

    /// Begins the next stream, which must be above the one before.
    pub(super) fn begin_stream(&mut self, hash: u64, name: &[u8]) -> Result<(), IndexError> {
        self.close_chunk();
        if self.root.streams > 0 {
            if (hash, name) <= (self.hash, self.name.as_slice()) {
                return Err(self.unordered());
            }
            self.root.collisions |= hash == self.hash;
        }
        if self.root.streams == 0 || hash != self.hash {
            if self.hashes.len() == filter::MAX_HASHES {
                self.flush_filter()?;
            }
            self.hashes.push(hash);
        }
        self.root.streams += 1;
        self.hash = hash;
        self.name.clear();
        self.name.extend_from_slice(name);
        Ok(())
    }

    /// Takes the stream's next posting.
    #[inline]
    pub(super) fn push(&mut self, sequence: u64, posting: &Posting) -> Result<(), IndexError> {
        if !self.chunk.is_empty() {
            if sequence < self.chunk.next() {
                return Err(self.unordered());
            }
            if sequence > self.chunk.next() {
                self.close_chunk();
            }
        }
        let fits = self.push_into_block(sequence, posting)?;
        if !fits {
            self.close_chunk();
            self.flush_block()?;
            // An empty block has room for a chunk of one posting, whatever its name.
            if !self.push_into_block(sequence, posting)? {
                return Err(self.unordered());
            }
        }
        self.root.events += 1;
        Ok(())
    }

    #[inline]
    fn push_into_block(&mut self, sequence: u64, posting: &Posting) -> Result<bool, IndexError> {
        let room = MAX_BODY - self.block.len();
        let pushed = self.chunk.push(sequence, posting, self.name.len(), room);
        pushed.ok_or_else(|| self.unordered())
    }

    fn close_chunk(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        self.block_first
            .get_or_insert((self.hash, self.chunk.first()));
        self.chunk.close(self.hash, &self.name, &mut self.block);
    }

    fn flush_block(&mut self) -> Result<(), IndexError> {
        let Some((hash, sequence)) = self.block_first.take() else {
            return Ok(());
        };
        let block = std::mem::take(&mut self.block);
        let crc = self.put(Kind::Block, self.root.blocks, &block)?;
        self.block = block;
        self.block.clear();
        self.root.blocks = next(self.root.blocks)?;
        self.digest.update(&crc.to_le_bytes());
        if self.fence_page.len() == FENCES_A_PAGE * FENCE_ENTRY {
            self.flush_fence_page()?;
        }
        self.fence_page_first.get_or_insert((hash, sequence));
        self.fence_page.extend_from_slice(&hash.to_le_bytes());
        self.fence_page.extend_from_slice(&sequence.to_le_bytes());
        self.fence_page.extend_from_slice(&crc.to_le_bytes());
        Ok(())
    }

    fn flush_fence_page(&mut self) -> Result<(), IndexError> {
        let Some((hash, sequence)) = self.fence_page_first.take() else {
            return Ok(());
        };
        let number = u32::try_from(self.root.fences.len()).map_err(|_| too_many())?;
        let page = std::mem::take(&mut self.fence_page);
        let crc = self.put(Kind::Fence, number, &page)?;
        self.fence_page = page;
        self.fence_page.clear();
        self.root.fences.push(Fence {
            hash,
            sequence,
            crc,
        });
        Ok(())
    }

    fn flush_filter(&mut self) -> Result<(), IndexError> {
        let Some(first_hash) = self.hashes.first().copied() else {
            return Ok(());
        };
        let bytes = Filter::build(&self.hashes).unwrap_or_default();
        self.hashes.clear();
        let first_page = self.filter_pages;
        for part in bytes.chunks(MAX_BODY) {
            self.put(Kind::Filter, self.filter_pages, part)?;
            self.filter_pages = next(self.filter_pages)?;
        }
        let len = u32::try_from(bytes.len()).map_err(|_| too_many())?;
        let crc = crc32c::crc32c(&bytes);
        self.root.filters.push(FilterEntry {
            first_hash,
            first_page,
            len,
            crc,
        });
        Ok(())
    }

    /// Writes what is left and the root; `chain` is the log's chain hash at the run's end.
    pub(super) fn finish(mut self, chain: [u8; 32]) -> Result<RunEntry, IndexError> {
        self.close_chunk();
        self.flush_block()?;
        self.flush_fence_page()?;
        self.flush_filter()?;
        self.root.digest = *self.digest.finalize().as_bytes();
        let bytes = postcard::to_stdvec(&self.root).map_err(|_| too_many())?;
        for (number, part) in bytes.chunks(MAX_BODY).enumerate() {
            let number = u32::try_from(number).map_err(|_| too_many())?;
            self.put(Kind::Root, number, part)?;
        }
        self.flush_pending()?;
        Ok(RunEntry {
            id: self.root.run,
            level: self.root.level,
            first_segment: self.root.first_segment,
            last_segment: self.root.last_segment,
            blocks: self.root.blocks,
            streams: self.root.streams,
            events: self.root.events,
            chain,
            root_len: u32::try_from(bytes.len()).map_err(|_| too_many())?,
            root_hash: *blake3::hash(&bytes).as_bytes(),
        })
    }

    fn put(&mut self, kind: Kind, number: u32, body: &[u8]) -> Result<u32, IndexError> {
        let id = PageId {
            run: self.root.run,
            kind,
            number,
        };
        let (page, crc) = page::encode(id, body);
        self.pending.push((id.key().to_vec(), page));
        if self.pending.len() >= PENDING {
            self.flush_pending()?;
        }
        Ok(crc)
    }

    fn flush_pending(&mut self) -> Result<(), IndexError> {
        self.kv.put_new(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    fn unordered(&self) -> IndexError {
        let name = String::from_utf8_lossy(&self.name);
        IndexError::damaged(format!("postings of {name} came out of order"))
    }
}

fn next(number: u32) -> Result<u32, IndexError> {
    number.checked_add(1).ok_or_else(too_many)
}

fn too_many() -> IndexError {
    IndexError::damaged("a run has more pages than it can number")
}
