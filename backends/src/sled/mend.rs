//! A sealed segment that is damaged, made again from its commits as a replica has them.
//!
//! Where a frame stands follows from the lengths of the commits before it, so what is made here has
//! every record where the index looks for it. History is the same: no new epoch begins.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tidelog_core::{CheckpointClaim, Clock, Error, SystemClock};

use super::commits::{Commit, CommitEnd};
use super::control;
use super::format::Format;
use super::frame::{self, FrameHeader};
use super::frame_reader::{Expect, FrameReader, Step, for_each_record};
use super::lock::Lock;
use super::log::Log;
use super::mark;
use super::segment::{self, About, End, Epoch, SegmentHeader};
use super::store::SledStore;
use super::walk::{end_of, expect_of};
use crate::platform;

const REMEDY: &str = "restore the store from a backup or from its replica, or `repair` it";

/// A segment being made again; no part of the API. Dropping it leaves the damaged one as it is.
pub struct SegmentMend {
    log_dir: PathBuf,
    header: SegmentHeader,
    /// Whether `header` is the segment's own, and not made from its neighbours.
    is_own: bool,
    next: Expect,
    ends: End,
    file: File,
    fresh: PathBuf,
    offset: u64,
    open: Option<(Arc<Log>, CheckpointClaim)>,
    _lock: Option<Lock>,
}

#[doc(hidden)]
impl SledStore {
    /// Begins to make the sealed segment `number` of this open store again. Blocks for file I/O.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it is not sealed, or is being made again already, [`Error::Damaged`]
    /// when its neighbours do not say what belongs there, [`Error::Io`], [`Error::Closed`].
    pub fn mend(&self, number: u64) -> Result<SegmentMend, Error> {
        self.ensure_open()?;
        let shared = self.shared();
        shared.format.ensure_writable(&shared.dir)?;
        let name = format!("mend.{number}");
        let claim = shared.claims.claim(shared.dir.clone(), &name);
        let claim = claim.map_err(|_| {
            let reason = "it is being made again by somebody else";
            Error::invalid("segment", number, reason)
        })?;
        // Whoever seals it cuts it meanwhile.
        shared.indexer.drain()?;
        let log = Arc::clone(&shared.log);
        let open = Some((Arc::clone(&log), claim));
        SegmentMend::begin(log.dir(), &shared.format, number, open, None)
    }
}

impl SegmentMend {
    /// The same for the store in `dir`, which nobody has open: it may not open because of that
    /// segment.
    ///
    /// # Errors
    /// As [`SledStore::mend`]; [`Error::NotAStore`], [`Error::Locked`].
    pub fn closed(dir: &Path, number: u64) -> Result<Self, Error> {
        let lock = Lock::take(dir, SystemClock.now())?;
        let format = Format::read(dir)?.ok_or_else(|| Error::NotAStore {
            path: dir.into(),
            reason: "there is no store in it".into(),
        })?;
        format.ensure_writable(dir)?;
        Self::begin(&dir.join("log"), &format, number, None, Some(lock))
    }

    fn begin(
        log_dir: &Path,
        format: &Format,
        number: u64,
        open: Option<(Arc<Log>, CheckpointClaim)>,
        lock: Option<Lock>,
    ) -> Result<Self, Error> {
        let path = segment::path(log_dir, number);
        let own = read_header(log_dir, format, number)?;
        let after = read_header(log_dir, format, number + 1)?;
        let Some(after) = after.filter(|after| has_begun(log_dir, after)) else {
            let reason = "only a segment behind which another one has begun is made again";
            return Err(Error::invalid("segment", number, reason));
        };
        let ends = after.end_before();
        let header = match own {
            Some(own) => own,
            None => header_between(log_dir, format, number, &after)?,
        };
        if end_of(&expect_of(&header)).commit > ends.commit {
            let what = "it does not belong before the next one";
            return Err(Error::damaged(path, what, REMEDY));
        }
        let fresh = path.with_extension("seg.new");
        let file =
            platform::create_file(&fresh).map_err(|error| Error::io("create", &fresh, error))?;
        Ok(Self {
            log_dir: log_dir.into(),
            next: expect_of(&header),
            is_own: own.is_some(),
            header,
            ends,
            file,
            fresh,
            offset: segment::DATA,
            open,
            _lock: lock,
        })
    }

    /// What the next commit must follow.
    pub fn next(&self) -> CommitEnd {
        CommitEnd {
            number: self.next.commit - 1,
            position: self.next.position - 1,
            hash: self.next.previous,
        }
    }

    /// Whose log it is of.
    pub fn origin(&self) -> uuid::Uuid {
        self.header.origin
    }

    /// The last commit that belongs into the segment.
    pub fn last(&self) -> CommitEnd {
        CommitEnd {
            number: self.ends.commit - 1,
            position: self.ends.position - 1,
            hash: self.ends.previous,
        }
    }

    /// Takes the next commit: `body` are its records, `hash` is the chain hash after it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it does not follow, is not whole, or does not belong into the
    /// segment; [`Error::Io`].
    pub fn push(&mut self, number: u64, body: &[u8], hash: [u8; 32]) -> Result<(), Error> {
        if number != self.next.commit || number >= self.ends.commit {
            let (next, last) = (self.next.commit, self.ends.commit - 1);
            let reason = format!("the segment goes on with commit {next}, and ends with {last}");
            return Err(Error::invalid("commit", number, reason));
        }
        let commit = Commit::new(&self.next(), Bytes::copy_from_slice(body))?;
        if commit.hash != hash {
            let reason = "its records do not have the chain hash that it was sent with";
            return Err(Error::invalid("commit", number, reason));
        }
        if !self.is_own && number == self.header.first_commit {
            self.header.about = about(&commit)?;
        }
        let header = FrameHeader {
            body_len: u32::try_from(body.len()).unwrap_or(u32::MAX),
            salt: self.next.salt,
            commit: number,
            known_synced: self.header.first_commit - 1,
            previous: commit.previous,
            first_position: commit.first_position,
            records: commit.records,
            trailer_len: 0,
            body_crc: crc32c::crc32c(body),
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(body);
        let len = usize::try_from(header.frame_len()).unwrap_or(bytes.len());
        bytes.resize(len, 0);
        platform::write_all_at(&self.file, &bytes, self.offset)
            .map_err(|error| Error::io("write", &self.fresh, error))?;
        self.offset += header.frame_len();
        self.next = Expect {
            salt: self.next.salt,
            commit: number + 1,
            position: commit.last_position() + 1,
            previous: commit.hash,
        };
        Ok(())
    }

    /// Puts the segment in the place of the damaged one; durable when this returns. Readers of an open
    /// store go on.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when commits are missing, [`Error::Damaged`] when what was written reads
    /// back as something else, [`Error::Io`]: the damaged one stands there as before.
    pub fn finish(mut self) -> Result<(), Error> {
        if end_of(&self.next) != self.ends {
            let (next, last) = (self.next.commit, self.ends.commit - 1);
            let reason = format!("it lacks commits {next} to {last}, or is of another history");
            return Err(Error::invalid("segment", self.header.number, reason));
        }
        let number = self.header.number;
        let path = segment::path(&self.log_dir, number);
        self.header.capacity = self.header.capacity.max(mark::capacity_for(self.offset));
        let failed = |error| Error::io("write", &self.fresh, error);
        platform::write_all_at(&self.file, &self.header.encode(), 0)
            .and_then(|()| self.file.sync_all())
            .map_err(failed)?;
        self.check()?;
        platform::make_read_only(&self.fresh).map_err(failed)?;
        fail::fail_point!("mend_rename", |_| Err(Error::Closed));
        platform::rename(&self.fresh, &path)
            .and_then(|()| platform::sync_dir(&self.log_dir))
            .map_err(|error| Error::io("replace", &path, error))?;
        if let Some((log, _)) = &self.open {
            log.reopen(number);
        }
        Ok(())
    }

    /// Reads back what was written.
    fn check(&self) -> Result<(), Error> {
        let file =
            File::open(&self.fresh).map_err(|error| Error::io("open", &self.fresh, error))?;
        let mut reader = FrameReader::new(&file, self.fresh.clone())?;
        let mut next = expect_of(&self.header);
        loop {
            let offset = reader.offset();
            match reader.step(&next)? {
                Step::Commit { next: after, .. } => next = after,
                Step::End if end_of(&next) == self.ends && offset == self.offset => return Ok(()),
                Step::End => return Err(reader.damaged(offset, "it ends too early")),
                Step::Bad(why) => return Err(reader.damaged(offset, why)),
            }
        }
    }
}

impl Drop for SegmentMend {
    fn drop(&mut self) {
        // Gone if it was put into its place.
        let _ = fs::remove_file(&self.fresh);
    }
}

/// What a segment is about whose first commit this is.
fn about(commit: &Commit) -> Result<About, Error> {
    let mut about = About::EVENTS;
    let read = for_each_record(&commit.body, |_, _, parsed| {
        about.losses |= control::declared_by(&parsed).is_some();
        about.branches |= control::superseded_by(&parsed).is_some();
        Ok(())
    })?;
    read.map_err(|why| Error::invalid("commit", commit.number, why))?;
    Ok(about)
}

/// The header of a segment, if it can be read and is the store's.
fn read_header(
    log_dir: &Path,
    format: &Format,
    number: u64,
) -> Result<Option<SegmentHeader>, Error> {
    let path = segment::path(log_dir, number);
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| Error::io("open", &path, error))?,
    };
    let mut bytes = [0; segment::FIELDS];
    match platform::read_exact_at(&file, &mut bytes, 0) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read.map_err(|error| Error::io("read", path, error))?,
    }
    let ours = |header: &SegmentHeader| {
        (header.origin, header.salt, header.number) == (format.origin, format.salt, number)
    };
    Ok(SegmentHeader::decode(&bytes).filter(ours))
}

/// Whether the segment has a commit. Without one it is removed at the next opening, and the one before
/// is written to again: that has room behind its commits, which one that is made again has not.
fn has_begun(log_dir: &Path, header: &SegmentHeader) -> bool {
    let path = segment::path(log_dir, header.number);
    File::open(&path).is_ok_and(|file| {
        let reader = FrameReader::new(&file, path.clone());
        let step = reader.and_then(|mut reader| reader.step(&expect_of(header)));
        matches!(step, Ok(Step::Commit { .. }))
    })
}

/// The header of a segment whose own cannot be read: from where the one before it ends.
fn header_between(
    log_dir: &Path,
    format: &Format,
    number: u64,
    after: &SegmentHeader,
) -> Result<SegmentHeader, Error> {
    let path = segment::path(log_dir, number);
    let unknown = |what: &str| Error::damaged(&path, what, REMEDY);
    let (begins, epoch) = if number == 1 {
        if after.epoch.parent_position > 0 {
            return Err(unknown("its header is gone, and with it the first epoch"));
        }
        let begins = End {
            commit: 1,
            position: 1,
            previous: frame::genesis(&format.origin, &after.epoch.id),
        };
        (begins, after.epoch)
    } else {
        let before = read_header(log_dir, format, number - 1)?
            .ok_or_else(|| unknown("its header is gone, and so is that of the one before"))?;
        end_of_segment(log_dir, &before)?
    };
    Ok(SegmentHeader {
        origin: format.origin,
        salt: format.salt,
        number,
        first_commit: begins.commit,
        first_position: begins.position,
        previous: begins.previous,
        epoch,
        capacity: 0,
        gap: None,
        about: About::EVENTS,
    })
}

/// Where a sealed segment ends, and the epoch in force there.
fn end_of_segment(log_dir: &Path, header: &SegmentHeader) -> Result<(End, Epoch), Error> {
    let path = segment::path(log_dir, header.number);
    let file = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
    let mut reader = FrameReader::new(&file, path)?;
    let mut next = expect_of(header);
    let mut epoch = header.epoch;
    loop {
        let offset = reader.offset();
        match reader.step(&next)? {
            Step::Commit { next: after, .. } => next = after,
            Step::End => return Ok((end_of(&next), epoch)),
            Step::Bad(why) => return Err(reader.damaged(offset, why)),
        }
        let read = for_each_record(reader.body(), |_, _, parsed| {
            epoch = control::epoch_of(&parsed).unwrap_or(epoch);
            Ok(())
        })?;
        read.map_err(|why| reader.damaged(offset, why))?;
    }
}
