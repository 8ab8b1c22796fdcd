//! The log as its readers see it: which segments there are, their open files, and where a position
//! stands.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use quick_cache::sync::Cache;
use tidelog_core::Error;

use super::branches::Branches;
use super::frame::{self, FrameHeader};
use super::losses::Lossy;
use super::segment::{self, About, End};
use crate::platform;
use crate::primitives::Mutex;

/// Segment files kept open for reading.
const OPEN_FILES: usize = 128;
/// Segments whose hops are remembered.
const HOPS: usize = 64;
/// Log bytes between two remembered places.
const HOP_BYTES: u64 = 64 << 10;
/// Read at once when looking for a place.
const WINDOW: usize = 256 << 10;
/// So much memory is taken for a record by the word of the index alone.
const UNCHECKED: u64 = 1 << 20;

/// One begun segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    pub number: u64,
    pub first_commit: u64,
    pub first_position: u64,
    /// Where the segment before it ends: below its own beginning after a declared gap.
    pub before: End,
    /// What its first frames are about.
    pub about: About,
}

impl SegmentInfo {
    /// First and last of the positions that a repair left out before it.
    pub(crate) fn hole(&self) -> Option<(u64, u64)> {
        let (first, next) = (self.before.position, self.first_position);
        (first < next).then(|| (first, next - 1))
    }
}

/// Where a frame begins, and the position of its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub position: u64,
    pub offset: u64,
}

/// Where reading goes on: at a frame's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub segment: u64,
    pub offset: u64,
}

/// All begun segments, for readers. The newest grows; nothing else changes.
pub(crate) struct Log {
    dir: PathBuf,
    pub salt: u64,
    segments: ArcSwap<Vec<SegmentInfo>>,
    files: Cache<u64, Arc<File>>,
    hops: Cache<u64, Arc<Vec<Hop>>>,
    newest_hops: Mutex<Vec<Hop>>,
    /// Positions that repairs left out, ascending. Only a copy meets more while it is open.
    holes: ArcSwap<Vec<(u64, u64)>>,
    pub losses: Lossy,
    pub branches: Branches,
}

impl Log {
    pub(crate) fn new(
        dir: PathBuf,
        salt: u64,
        segments: Vec<SegmentInfo>,
        hops: Vec<Hop>,
        losses: Lossy,
        branches: Branches,
    ) -> Self {
        Self {
            dir,
            salt,
            holes: ArcSwap::from_pointee(segments.iter().filter_map(SegmentInfo::hole).collect()),
            losses,
            branches,
            segments: ArcSwap::from_pointee(segments),
            files: Cache::new(OPEN_FILES),
            hops: Cache::new(HOPS),
            newest_hops: Mutex::new(hops),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, number: u64) -> PathBuf {
        segment::path(&self.dir, number)
    }

    pub(crate) fn segments(&self) -> Arc<Vec<SegmentInfo>> {
        self.segments.load_full()
    }

    pub(crate) fn first_position(&self) -> u64 {
        self.segments
            .load()
            .first()
            .map_or(1, |first| first.first_position)
    }

    /// The hole that `position` is in.
    pub(crate) fn hole_at(&self, position: u64) -> Option<(u64, u64)> {
        let holes = self.holes.load();
        let at = holes.partition_point(|(_, last)| *last < position);
        let hole = holes.get(at).copied();
        hole.filter(|(first, _)| *first <= position)
    }

    /// The first position behind `position` that is in a hole; `u64::MAX` without one.
    pub(crate) fn next_hole(&self, position: u64) -> u64 {
        let holes = self.holes.load();
        let at = holes.partition_point(|(first, _)| *first < position);
        holes.get(at).map_or(u64::MAX, |(first, _)| *first)
    }

    /// The last of `count` records from `from` on, or a position beyond the end.
    pub(crate) fn last_of(&self, from: u64, count: u64) -> u64 {
        let mut last = (from - 1).saturating_add(count);
        for (first, end) in self.holes.load().iter() {
            if *end >= from && *first <= last {
                last = last.saturating_add(end - (*first).max(from) + 1);
            }
        }
        last
    }

    /// The segment that `position` stands in.
    pub(crate) fn segment_of(&self, position: u64) -> u64 {
        let segments = self.segments.load();
        let after = segments.partition_point(|segment| segment.first_position <= position);
        let info = after.checked_sub(1).and_then(|at| segments.get(at));
        info.map_or(0, |info| info.number)
    }

    /// The writer begins the next segment.
    pub(crate) fn begin(&self, info: SegmentInfo) {
        let mut segments = Vec::clone(&self.segments.load());
        let hops = std::mem::take(&mut *self.newest_hops.lock());
        if let Some(last) = segments.last() {
            self.hops.insert(last.number, Arc::new(hops));
        }
        if let Some(hole) = info.hole() {
            let mut holes = Vec::clone(&self.holes.load());
            holes.push(hole);
            self.holes.store(Arc::new(holes));
        }
        segments.push(info);
        self.segments.store(Arc::new(segments));
    }

    /// The writer has published a frame of the newest segment.
    pub(crate) fn passed(&self, hop: Hop) {
        push_hop(&mut self.newest_hops.lock(), hop);
    }

    /// An open file to read segment `number` from.
    pub(crate) fn file(&self, number: u64) -> Result<Arc<File>, Error> {
        self.files.get_or_insert_with(&number, || {
            let path = self.path(number);
            File::open(&path)
                .map(Arc::new)
                .map_err(|error| Error::io("open", path, error))
        })
    }

    /// Another file stands in the place of segment `number`: who reads from now on reads that.
    pub(crate) fn reopen(&self, number: u64) {
        self.files.remove(&number);
        self.hops.remove(&number);
    }

    /// Fills `bytes` from `offset` of segment `number`.
    pub(crate) fn read_at(&self, number: u64, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.read_from(&*self.file(number)?, number, offset, bytes)
    }

    /// The same from the segment's open file.
    pub(crate) fn read_from(
        &self,
        file: &File,
        number: u64,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<(), Error> {
        platform::read_exact_at(file, bytes, offset).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                self.damaged(number, offset, "the file ends before a record does")
            } else {
                Error::io("read", self.path(number), error)
            }
        })
    }

    /// Refuses a range that its file does not reach, before memory is taken for it.
    pub(crate) fn check_range(&self, number: u64, offset: u64, len: u64) -> Result<(), Error> {
        if len <= UNCHECKED {
            return Ok(());
        }
        let failed = |error| Error::io("inspect", self.path(number), error);
        let there = self.file(number)?.metadata().map_err(failed)?.len();
        if offset.saturating_add(len) > there {
            return Err(self.damaged(number, offset, "the file ends before a record does"));
        }
        Ok(())
    }

    /// Reads up to `len` bytes from `offset`; fewer at the end of the file.
    pub(crate) fn read_up_to(
        &self,
        number: u64,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, Error> {
        let mut bytes = BytesMut::new();
        self.read_into(number, offset, len, &mut bytes)?;
        Ok(bytes.into())
    }

    /// The same into `bytes`, in place of what it held.
    pub(crate) fn read_into(
        &self,
        number: u64,
        offset: u64,
        len: usize,
        bytes: &mut BytesMut,
    ) -> Result<(), Error> {
        let file = self.file(number)?;
        let failed = |error| Error::io("read", self.path(number), error);
        let there = || {
            let there = file.metadata().map_err(failed)?.len();
            Ok(usize::try_from(there.saturating_sub(offset)).unwrap_or(usize::MAX))
        };
        bytes.resize(there()?.min(len), 0);
        // A segment is cut to its used length when it is sealed, which may be right now.
        match platform::read_exact_at(&file, bytes, offset) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                bytes.truncate(there()?);
                platform::read_exact_at(&file, bytes, offset).map_err(failed)
            }
            result => result.map_err(failed),
        }
    }

    pub(crate) fn damaged(&self, number: u64, offset: u64, what: &str) -> Error {
        Error::damaged(
            self.path(number),
            format!("at byte {offset}: {what}"),
            "restore the store from a backup, or close it and `repair` it into another directory",
        )
    }

    /// The frame that holds `position`, which must be in the log.
    pub(crate) fn locate(&self, position: u64) -> Result<Cursor, Error> {
        let segments = self.segments.load();
        let after = segments.partition_point(|segment| segment.first_position <= position);
        let Some(info) = after.checked_sub(1).and_then(|at| segments.get(at)) else {
            let first = segments.first().map_or(1, |first| first.first_position);
            return Err(Error::invalid(
                "position",
                position,
                format!("the log begins at {first}"),
            ));
        };
        let newest = after == segments.len();
        let start = if newest {
            best_hop(&self.newest_hops.lock(), position)
        } else {
            let number = info.number;
            let hops = self
                .hops
                .get_or_insert_with(&number, || self.find_hops(number).map(Arc::new))?;
            best_hop(&hops, position)
        };
        let mut offset = start.map_or(segment::DATA, |hop| hop.offset);
        let mut found = None;
        self.walk(info.number, offset, |header, at| {
            offset = at;
            found = (header.first_position + u64::from(header.records) > position).then_some(at);
            found.is_none()
        })?;
        let offset = found.ok_or_else(|| {
            self.damaged(info.number, offset, "a position that was recorded is gone")
        })?;
        Ok(Cursor {
            segment: info.number,
            offset,
        })
    }

    fn find_hops(&self, number: u64) -> Result<Vec<Hop>, Error> {
        let mut hops = Vec::new();
        self.walk(number, segment::DATA, |header, offset| {
            push_hop(
                &mut hops,
                Hop {
                    position: header.first_position,
                    offset,
                },
            );
            true
        })?;
        Ok(hops)
    }

    /// Visits frame headers from `offset` on until `visit` says stop or no frame follows.
    fn walk(
        &self,
        number: u64,
        mut offset: u64,
        mut visit: impl FnMut(&FrameHeader, u64) -> bool,
    ) -> Result<(), Error> {
        let mut window = Vec::new();
        let mut window_at = offset;
        loop {
            let mut inside = usize::try_from(offset - window_at).unwrap_or(usize::MAX);
            if inside.saturating_add(frame::HEADER) > window.len() {
                window = self.read_up_to(number, offset, WINDOW)?;
                window_at = offset;
                inside = 0;
            }
            let Some(header) = window.get(inside..).and_then(FrameHeader::decode) else {
                return Ok(());
            };
            if header.salt != self.salt || !visit(&header, offset) {
                return Ok(());
            }
            offset += header.frame_len();
        }
    }
}

pub(crate) fn push_hop(hops: &mut Vec<Hop>, hop: Hop) {
    if hops
        .last()
        .is_none_or(|last| hop.offset >= last.offset + HOP_BYTES)
    {
        hops.push(hop);
    }
}

fn best_hop(hops: &[Hop], position: u64) -> Option<Hop> {
    let after = hops.partition_point(|hop| hop.position <= position);
    hops.get(after.checked_sub(1)?).copied()
}
