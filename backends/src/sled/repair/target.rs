//! The directory that a store is repaired into. Until it is done a mark stands in it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tidelog_core::{Clock, Error, SystemClock};

use super::super::checkpoints::{self, Saved};
use super::super::format;
use super::super::frame::{self, FrameHeader};
use super::super::lock::{self, Lock};
use super::super::mark;
use super::super::sealed_file;
use super::super::segment::{self, About, End, Epoch, SegmentHeader};
use crate::platform;

/// Exists from the first change to the last.
const MARK: &str = "repair";
const LOG: &str = "log";
/// Where the copy of the damaged index stands meanwhile.
const SCRATCH: &str = "repair-index";
/// Bytes copied at once.
const BUFFER: usize = 1 << 20;

/// Whether a repair into `dir` was begun and never ended.
pub(crate) fn is_unfinished(dir: &Path) -> bool {
    dir.join(MARK).exists()
}

/// Whole commits in a file of the damaged log.
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub bytes: (u64, u64),
    /// Bytes among them that should be zero, and are not.
    pub strays: &'a [(u64, u64)],
}

pub(super) struct Target<'a> {
    dir: &'a Path,
    log_dir: PathBuf,
    number: u64,
    /// So that two repairs never write to one place.
    _lock: Lock,
}

impl<'a> Target<'a> {
    /// Takes an empty directory, or one that an earlier repair left unfinished.
    pub(super) fn begin(dir: &'a Path) -> Result<Self, Error> {
        if dir.exists() {
            check_is_free(dir)?;
        }
        platform::create_dir(dir).map_err(|error| Error::io("create", dir, error))?;
        let lock = Lock::take(dir, SystemClock.now())?;
        // What is in it says nothing: that it is there is what counts.
        sealed_file::write(dir, MARK, sealed_file::REPAIR_MAGIC, &[])?;
        let log_dir = dir.join(LOG);
        for left in [&log_dir, &dir.join(SCRATCH), &dir.join(checkpoints::DIR)] {
            remove_tree(left)?;
        }
        for left in [format::FILE, "format.new"] {
            remove_file(&dir.join(left))?;
        }
        platform::create_dir(&log_dir).map_err(|error| Error::io("create", &log_dir, error))?;
        Ok(Self {
            dir,
            log_dir,
            number: 0,
            _lock: lock,
        })
    }

    pub(super) fn scratch(&self) -> PathBuf {
        self.dir.join(SCRATCH)
    }

    pub(super) fn forget_scratch(&self) -> Result<(), Error> {
        remove_tree(&self.scratch())
    }

    /// Makes the next segment: `header` with its number and capacity, then what `source` says.
    pub(super) fn copy(
        &mut self,
        header: SegmentHeader,
        source: Option<&Source<'_>>,
    ) -> Result<(), Error> {
        let (start, end) = source.map_or((0, 0), |source| source.bytes);
        let len = segment::DATA + (end - start);
        // As of every segment that has a successor, so that losing that one is seen.
        let capacity = mark::capacity_for(len).min(segment::MAX_LEN);
        let (path, file) = self.segment(header, len, capacity)?;
        let failed = |error| Error::io("write", &path, error);
        if let Some(Source {
            path: source,
            strays,
            ..
        }) = source
        {
            let from = File::open(source).map_err(|error| Error::io("open", source, error))?;
            let there = from
                .metadata()
                .map_err(|error| Error::io("inspect", source, error))?;
            // What fills up the last frame may be cut away.
            let end = end.min(there.len());
            let mut buffer = vec![0; BUFFER];
            let mut at = start;
            while at < end {
                let len = usize::try_from(end - at)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                let part = buffer.get_mut(..len).unwrap_or_default();
                platform::read_exact_at(&from, part, at)
                    .map_err(|error| Error::io("read", source, error))?;
                platform::write_all_at(&file, part, segment::DATA + (at - start))
                    .map_err(failed)?;
                at += len as u64;
            }
            for (first, end) in *strays {
                let inside = |at: u64| segment::DATA + (at - start);
                platform::zero_fill(&file, inside(*first), inside(*end)).map_err(failed)?;
            }
        }
        file.sync_all().map_err(failed)
    }

    /// Makes the newest segment, with room, and one commit of these records.
    pub(super) fn commit(
        &mut self,
        header: SegmentHeader,
        records: u32,
        frame: &mut [u8],
        room: u64,
    ) -> Result<(), Error> {
        let body = frame.get(frame::HEADER..).unwrap_or_default();
        let too_large = |_| Error::too_large("the record of what is lost", body.len(), 1 << 32);
        let written = FrameHeader {
            body_len: u32::try_from(body.len()).map_err(too_large)?,
            salt: header.salt,
            commit: header.first_commit,
            // All before it is synced already.
            known_synced: header.first_commit - 1,
            previous: header.previous,
            first_position: header.first_position,
            records,
            trailer_len: 0,
            body_crc: crc32c::crc32c(body),
        };
        let capacity = room.max(mark::capacity_for(segment::DATA + written.frame_len()));
        if capacity > segment::MAX_LEN {
            let size = usize::try_from(capacity).unwrap_or(usize::MAX);
            return Err(Error::too_large(
                "the record of what is lost",
                size,
                1 << 32,
            ));
        }
        if let Some(place) = frame.first_chunk_mut::<{ frame::HEADER }>() {
            *place = written.encode();
        }
        let (path, file) = self.segment(header, capacity, capacity)?;
        platform::write_all_at(&file, frame, segment::DATA)
            .and_then(|()| file.sync_all())
            .map_err(|error| Error::io("write", path, error))
    }

    fn segment(
        &mut self,
        header: SegmentHeader,
        len: u64,
        capacity: u64,
    ) -> Result<(PathBuf, File), Error> {
        self.number += 1;
        let path = segment::path(&self.log_dir, self.number);
        let header = SegmentHeader {
            number: self.number,
            capacity,
            ..header
        };
        let file =
            platform::create_file(&path).map_err(|error| Error::io("create", &path, error))?;
        platform::zero_fill(&file, 0, len)
            .and_then(|()| platform::write_all_at(&file, &header.encode(), 0))
            .map_err(|error| Error::io("write", &path, error))?;
        Ok((path, file))
    }

    /// Makes it a store, with what listeners have saved in the one at `from`, damaged or not.
    pub(super) fn end(self, format: &format::Format, from: &Path) -> Result<(), Error> {
        Saved::as_it_stands(from)?.put(self.dir)?;
        platform::sync_dir(&self.log_dir)
            .map_err(|error| Error::io("sync", &self.log_dir, error))?;
        format.write(self.dir)?;
        let mark = self.dir.join(MARK);
        remove_file(&mark)?;
        platform::sync_dir(self.dir).map_err(|error| Error::io("sync", self.dir, error))
    }
}

/// A header whose number and capacity are not known yet.
pub(super) fn header(
    format: &format::Format,
    begins: End,
    before: End,
    epoch: Epoch,
) -> SegmentHeader {
    SegmentHeader {
        origin: format.origin,
        salt: format.salt,
        number: 0,
        first_commit: begins.commit,
        first_position: begins.position,
        previous: begins.previous,
        epoch,
        capacity: 0,
        gap: (begins != before).then_some(before),
        about: About::EVENTS,
    }
}

/// Nothing stands there, or only what an unfinished repair leaves.
fn check_is_free(dir: &Path) -> Result<(), Error> {
    let not = |reason: String| Error::NotAStore {
        path: dir.into(),
        reason: reason.into(),
    };
    if !dir.is_dir() {
        return Err(not("a file is there; give the path of a directory".into()));
    }
    let begun = is_unfinished(dir);
    for entry in fs::read_dir(dir).map_err(|error| Error::io("list", dir, error))? {
        let name = entry
            .map_err(|error| Error::io("list", dir, error))?
            .file_name();
        let first = ["repair.new", lock::FILE];
        let later = [
            MARK,
            LOG,
            SCRATCH,
            checkpoints::DIR,
            format::FILE,
            "format.new",
        ];
        let is_ours = first.iter().any(|ours| name == *ours)
            || (begun && later.iter().any(|ours| name == *ours));
        if !is_ours {
            let name = name.to_string_lossy();
            return Err(not(format!(
                "it holds {name} already; give an empty or missing directory"
            )));
        }
    }
    Ok(())
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, error))
        }
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, error))
        }
        _ => Ok(()),
    }
}
