//! Merging runs into one, block by block.

use std::sync::Arc;

use super::IndexError;
use super::block::Chunk;
use super::page::Page;
use super::run::Run;
use super::run_writer::RunWriter;
use crate::sled::varint::Reader;

/// How many blocks are read before it is asked again whether to stop.
const BLOCKS_BETWEEN_STOPS: u64 = 16;

/// Writes all postings of `runs`, which stand oldest first, into `writer`; `false` when `stopped`
/// said so before the end.
pub(super) fn merge(
    runs: &[Arc<Run>],
    writer: &mut RunWriter<'_>,
    stopped: &dyn Fn() -> bool,
) -> Result<bool, IndexError> {
    let mut cursors = Vec::with_capacity(runs.len());
    for run in runs {
        cursors.push(Cursor::open(run)?);
    }
    let mut name = Vec::new();
    let mut blocks = 0;
    while let Some(hash) = cursors.iter().filter_map(Cursor::hash).min() {
        let with_hash = cursors.iter().filter(|cursor| cursor.hash() == Some(hash));
        let lowest = with_hash
            .filter_map(Cursor::chunk)
            .map(|chunk| chunk.name)
            .min();
        name.clear();
        name.extend_from_slice(lowest.unwrap_or_default());
        writer.begin_stream(hash, &name)?;
        for cursor in cursors
            .iter_mut()
            .filter(|cursor| cursor.hash() == Some(hash))
        {
            while let Some(chunk) = cursor.chunk().filter(|c| c.hash == hash && c.name == name) {
                let mut outcome = Ok(());
                let decoded = chunk.decode(cursor.run.entry.first_segment, |sequence, posting| {
                    if outcome.is_ok() {
                        outcome = writer.push(sequence, &posting);
                    }
                });
                decoded.ok_or_else(|| cursor.run.undecodable(cursor.block))?;
                outcome?;
                blocks += u64::from(cursor.advance()?);
            }
        }
        if blocks >= BLOCKS_BETWEEN_STOPS {
            blocks = 0;
            if stopped() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Walks the chunks of one run in order.
pub(super) struct Cursor<'a> {
    run: &'a Run,
    /// Number of the block that `page` is, or of the one that is not there at the end.
    block: u32,
    page: Option<Page>,
    /// Bytes of the page's body behind the current chunk.
    rest: usize,
    /// Bytes of it from the current chunk on.
    current: usize,
    /// Hash of the current chunk.
    hash: Option<u64>,
}

impl<'a> Cursor<'a> {
    pub(super) fn open(run: &'a Run) -> Result<Self, IndexError> {
        let mut cursor = Self {
            run,
            block: 0,
            page: None,
            rest: 0,
            current: 0,
            hash: None,
        };
        cursor.load()?;
        Ok(cursor)
    }

    /// The current chunk's hash; `None` at the end.
    #[inline]
    fn hash(&self) -> Option<u64> {
        self.hash
    }

    /// The current chunk; `None` at the end.
    #[inline]
    pub(super) fn chunk(&self) -> Option<Chunk<'_>> {
        let body = self.page.as_ref()?.body();
        // It decoded when the cursor stepped onto it.
        Chunk::read(&mut Reader(body.get(body.len() - self.current..)?))
    }

    /// The number of the block that the current chunk is in.
    pub(super) fn block(&self) -> u32 {
        self.block
    }

    /// Steps onto the next chunk; says whether that began another block.
    pub(super) fn advance(&mut self) -> Result<bool, IndexError> {
        if self.rest > 0 {
            self.step()?;
            return Ok(false);
        }
        self.block += 1;
        self.load()?;
        Ok(true)
    }

    fn load(&mut self) -> Result<(), IndexError> {
        if self.block >= self.run.entry.blocks {
            self.page = None;
            self.hash = None;
            return Ok(());
        }
        let page = self.run.load_block(self.block)?;
        self.rest = page.body().len();
        self.page = Some(page);
        self.step()
    }

    fn step(&mut self) -> Result<(), IndexError> {
        let undecodable = || self.run.undecodable(self.block);
        let body = self.page.as_ref().map(Page::body).unwrap_or_default();
        let mut reader = Reader(body.get(body.len() - self.rest..).unwrap_or_default());
        self.current = reader.0.len();
        let chunk = Chunk::read(&mut reader).ok_or_else(undecodable)?;
        self.hash = Some(chunk.hash);
        self.rest = reader.0.len();
        Ok(())
    }
}
