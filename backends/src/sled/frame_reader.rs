//! Reads a segment commit by commit and believes nothing: what replay, verification and rebuilding
//! stand on.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;

use tidelog_core::Error;

use super::frame::{self, ChainHash, FrameHeader};
use super::mark;
use super::record::{self, Parsed};
use super::segment;
use crate::platform;

/// Read at once, unless a commit is larger.
const WINDOW: u64 = 1 << 20;

/// What the next commit must agree with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expect {
    pub salt: u64,
    pub commit: u64,
    pub position: u64,
    pub previous: ChainHash,
}

/// What was found where the next commit would stand.
pub(crate) enum Step {
    /// A whole commit; what comes after it is expected by `next`.
    Commit { header: FrameHeader, next: Expect },
    /// Zeros, the mark, or the end of the file.
    End,
    /// Bytes that are no commit, and why.
    Bad(&'static str),
}

/// Walks over the commits of one segment.
pub(crate) struct FrameReader<'a> {
    file: &'a File,
    path: PathBuf,
    len: u64,
    window: Vec<u8>,
    window_at: u64,
    offset: u64,
    body: Range<usize>,
    forgiving: bool,
    stray: Option<(u64, u64)>,
}

impl<'a> FrameReader<'a> {
    pub(crate) fn new(file: &'a File, path: PathBuf) -> Result<Self, Error> {
        let len = file
            .metadata()
            .map_err(|error| Error::io("inspect", &path, error))?
            .len();
        Ok(Self {
            file,
            path,
            len,
            window: Vec::new(),
            window_at: 0,
            offset: segment::DATA,
            body: 0..0,
            forgiving: false,
            stray: None,
        })
    }

    /// Where the next commit would stand.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// From now on what fills a commit up may be anything, or cut away: its records are whole
    /// without it.
    pub(crate) fn forgive_padding(&mut self) {
        self.len = self.len.next_multiple_of(frame::ALIGN as u64);
        self.forgiving = true;
    }

    /// First and last byte + 1 of what should be zero behind the commit read last, and is not.
    pub(crate) fn stray(&self) -> Option<(u64, u64)> {
        self.stray
    }

    /// The next commit is read at `offset`.
    pub(crate) fn seek(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The first frame header of the store at or after `from`, whatever follows it.
    pub(crate) fn find(
        &mut self,
        from: u64,
        salt: u64,
    ) -> Result<Option<(u64, FrameHeader)>, Error> {
        let mut at = from.next_multiple_of(frame::ALIGN as u64);
        while at < self.len {
            let range = self.fill(at, WINDOW.min(self.len - at))?;
            let bytes = self.window.get(range).unwrap_or_default();
            if !is_zero(bytes) {
                for (index, chunk) in bytes.chunks(frame::ALIGN).enumerate() {
                    let there = at + (index * frame::ALIGN) as u64;
                    if chunk.starts_with(&frame::MAGIC)
                        && let Some(header) = self.header_at(there)
                        && header.salt == salt
                    {
                        return Ok(Some((there, header)));
                    }
                }
            }
            at += bytes.len().max(frame::ALIGN) as u64;
        }
        Ok(None)
    }

    /// The frame header at `offset`, which may reach over the end of a window.
    fn header_at(&self, offset: u64) -> Option<FrameHeader> {
        let mut header = [0; frame::HEADER];
        if offset + header.len() as u64 > self.len {
            return None;
        }
        platform::read_exact_at(self.file, &mut header, offset).ok()?;
        FrameHeader::decode(&header)
    }

    /// Looks at nothing from byte `end` on: a segment has no more than its capacity, however long
    /// its file says it is.
    pub(crate) fn end_at(&mut self, end: u64) {
        self.len = self.len.min(end);
    }

    /// Length of the file when reading began, as far as it is looked at.
    pub(crate) fn file_len(&self) -> u64 {
        self.len
    }

    /// Reads the next commit; on `Commit` the reader stands after it.
    pub(crate) fn step(&mut self, expect: &Expect) -> Result<Step, Error> {
        let start = self.offset;
        let left = self.len.saturating_sub(start);
        let head = left.min(frame::HEADER as u64);
        let range = self.fill(start, head)?;
        let bytes = self.window.get(range).unwrap_or_default();
        let Some(header) = FrameHeader::decode(bytes) else {
            let zero = bytes.iter().all(|byte| *byte == 0);
            return Ok(if zero {
                Step::End
            } else {
                Step::Bad("no frame header can be read")
            });
        };
        if header.salt == expect.salt && mark::is_mark(&header) {
            return Ok(Step::End);
        }
        if let Some(why) = disagreement(&header, expect, left) {
            return Ok(Step::Bad(why));
        }
        let rest = header.frame_len() - frame::HEADER as u64;
        let rest = self.fill(start + frame::HEADER as u64, rest)?;
        self.body = rest.start..rest.start.saturating_add(header.body_len as usize);
        let body = self.body();
        if crc32c::crc32c(body) != header.body_crc {
            return Ok(Step::Bad("the commit's checksum does not match"));
        }
        let filled = self.body.end.saturating_add(header.trailer_len.into());
        let padding = self.window.get(filled..rest.end).unwrap_or_default();
        let end = start + header.frame_len();
        let is_filled = padding.iter().all(|byte| *byte == 0);
        let stray = (!is_filled).then(|| (end - padding.len() as u64, end));
        if !is_filled && !self.forgiving {
            return Ok(Step::Bad("what fills the commit up is not zero"));
        }
        let next = Expect {
            salt: expect.salt,
            commit: header.commit + 1,
            position: header.first_position + u64::from(header.records),
            previous: frame::chain(&header.previous, body),
        };
        self.stray = stray;
        self.offset = end;
        Ok(Step::Commit { header, next })
    }

    /// Damage found at `offset` of this segment.
    pub(crate) fn damaged(&self, offset: u64, why: &str) -> Error {
        let what = format!("at byte {offset}: {why}");
        Error::damaged(&self.path, what, super::recover::REMEDY)
    }

    /// The records of the commit read last.
    pub(crate) fn body(&self) -> &[u8] {
        self.window.get(self.body.clone()).unwrap_or_default()
    }

    /// Looks at everything from `from` on: the newest commit that any frame of the store vouches
    /// for, and where the last byte that is not zero ends.
    pub(crate) fn survey(&mut self, from: u64, salt: u64) -> Result<Survey, Error> {
        let mut survey = Survey {
            vouched: 0,
            nonzero_end: from,
        };
        let mut at = from.next_multiple_of(frame::ALIGN as u64);
        while at < self.len {
            let range = self.fill(at, WINDOW.min(self.len - at))?;
            let bytes = self.window.get(range).unwrap_or_default();
            if is_zero(bytes) {
                at += bytes.len().max(frame::ALIGN) as u64;
                continue;
            }
            for (index, chunk) in bytes.chunks(frame::ALIGN).enumerate() {
                if chunk.iter().all(|byte| *byte == 0) {
                    continue;
                }
                let inside = index * frame::ALIGN;
                survey.nonzero_end = at + (inside + chunk.len()) as u64;
                if !chunk.starts_with(&frame::MAGIC) {
                    continue;
                }
                if let Some(header) = self.header_at(at + inside as u64)
                    && header.salt == salt
                {
                    survey.vouched = survey.vouched.max(header.known_synced);
                }
            }
            at += bytes.len().max(frame::ALIGN) as u64;
        }
        Ok(survey)
    }

    fn read_window(&mut self, from: u64) -> std::io::Result<()> {
        match platform::read_exact_at(self.file, &mut self.window, from) {
            // The segment was sealed since its length was asked: what was cut away is zero.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                let left = self.file.metadata()?.len().saturating_sub(from);
                let left = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(self.window.len());
                let (there, cut) = self.window.split_at_mut(left);
                cut.fill(0);
                platform::read_exact_at(self.file, there, from)
            }
            result => result,
        }
    }

    fn fill(&mut self, from: u64, len: u64) -> Result<Range<usize>, Error> {
        let have = self.window_at..self.window_at + self.window.len() as u64;
        if from < have.start || from + len > have.end {
            let want = len.max(WINDOW.min(self.len.saturating_sub(from)));
            let want = usize::try_from(want).map_err(|_| {
                Error::damaged(&self.path, "a commit is larger than memory", "restore it")
            })?;
            if self.window.len() != want {
                self.window = vec![0; want];
            }
            self.window_at = from;
            self.read_window(from)
                .map_err(|error| Error::io("read", &self.path, error))?;
        }
        let start = usize::try_from(from - self.window_at).unwrap_or(usize::MAX);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Ok(start..start.saturating_add(len))
    }
}

/// What [`FrameReader::survey`] found.
pub(crate) struct Survey {
    pub vouched: u64,
    pub nonzero_end: u64,
}

/// Most of what is surveyed is zero: compared at the speed of memory.
fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let mut chunks = bytes.chunks(ZEROS.len());
    chunks.all(|chunk| Some(chunk) == ZEROS.get(..chunk.len()))
}

fn disagreement(header: &FrameHeader, expect: &Expect, left: u64) -> Option<&'static str> {
    if header.salt != expect.salt {
        return Some("the frame belongs to another store");
    }
    if header.commit != expect.commit {
        return Some("the commit number does not follow");
    }
    if header.previous != expect.previous {
        return Some("the chain hash does not follow");
    }
    if header.first_position != expect.position {
        return Some("the position does not follow");
    }
    if header.records == 0 || header.frame_len() > left {
        return Some("the frame does not fit into its segment");
    }
    None
}

/// Visits every record of a commit's body with its offset in the body and its length.
pub(crate) fn for_each_record<'b>(
    body: &'b [u8],
    mut visit: impl FnMut(usize, usize, Parsed<'b>) -> Result<(), Error>,
) -> Result<Result<u32, &'static str>, Error> {
    let mut at = 0;
    let mut count = 0;
    while let Some(rest) = body.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(bytes) = record::total_len(rest).and_then(|len| rest.get(..len)) else {
            return Ok(Err("a record does not fit into its commit"));
        };
        match record::parse(bytes) {
            Ok(parsed) => visit(at, bytes.len(), parsed)?,
            Err(why) => return Ok(Err(why)),
        }
        at += bytes.len();
        count += 1;
    }
    Ok(Ok(count))
}
