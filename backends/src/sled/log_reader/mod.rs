//! A store's log, read beside whoever has the store open: without its lock, and without changing a
//! byte.
//!
//! What is read is what something vouches for, as opening would ask: so it is on the disk, and never
//! disappears again. Where the log ends is looked for once and followed from there on.

mod backing_up;
mod check;
mod facts;
mod saved;
mod tail;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_core::{Error, EventEnvelope, LogIdentity, LogQuery};

pub use facts::{LogInfo, StoreKind};
pub use saved::SavedState;

use self::tail::Tail;
use super::backup;
use super::branches::Branches;
use super::format::Format;
use super::hash::NameHash;
use super::index;
use super::log::Log;
use super::log_pages::LogPages;
use super::losses::{Losses, Lossy};
use super::open::{index_identity, refuse_lost_format, refuse_lost_segments};
use super::read_ahead::{Piece, Pieces};
use super::recover::Recovery;
use super::repair;
use super::state::State;
use crate::platform;

const LOG: &str = "log";
/// How often the end is looked for again while a writer is at work there, or opens the store.
const ATTEMPTS: u32 = 5;

/// The log of a store, a backup or a copy, read without its lock: also while another process has it open
/// and appends. Nothing on disk is changed, made or locked.
///
/// It knows the commits that survive a power cut, up to when it was opened or last
/// [refreshed](Self::refresh). A writer's newest commit is among them some 40 ms after it was synced, or
/// as soon as another one follows. Payloads are those of the log: what a
/// [`PayloadCodec`](tidelog_core::PayloadCodec) made stays as it is. All calls block for file I/O.
///
/// ```
/// use tidelog_backends::{LogReader, SledStore};
/// use tidelog_core::*;
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("events");
/// let store = SledStore::open(&path)?.blocking();
/// let till = StreamId::new("Till", "7")?;
/// let sold = NewEvent::new("Sold", 1, ContentType::Json, "{}");
/// store.append(AppendBatch::new(till, ExpectedVersion::Any, vec![sold]))?;
/// store.inner().drain()?; // notes at once that it is synced
///
/// let log = LogReader::open(&path)?; // the store stays open
/// let events: Vec<_> = log.read(LogQuery::all()).collect::<Result<_, _>>()?;
/// assert_eq!(&*events[0].event_type, "Sold");
/// # Ok::<(), Error>(())
/// ```
pub struct LogReader {
    dir: PathBuf,
    format: Format,
    log: Arc<Log>,
    tail: Tail,
}

impl LogReader {
    /// Looks for the end of the log in `dir`.
    ///
    /// # Errors
    /// [`Error::NotAStore`] when there is none, [`Error::UnsupportedFormat`], [`Error::Io`], and
    /// [`Error::Damaged`] when it cannot be told which segments there are. Other damage is an error of the
    /// read that comes to it, and of [`verify`](Self::verify).
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let format = identity(dir)?;
        // What is known to be there, however it was learned: whoever begins to look after that finds it,
        // or it is gone.
        let mut vouched = 0;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let reader = match Self::look(dir, format, vouched) {
                // Somebody may be opening the store, or making its next segment.
                Err(Error::Damaged { .. } | Error::Io { .. }) if attempt < ATTEMPTS => continue,
                looked => looked?,
            };
            if reader.tail.damage().is_some() || attempt >= ATTEMPTS {
                return Ok(reader);
            }
            let found = reader.tail.survey(&reader.log)?;
            if found <= reader.tail.whole().number {
                return Ok(reader);
            }
            vouched = found;
        }
    }

    fn look(dir: &Path, format: Format, vouched: u64) -> Result<Self, Error> {
        let log_dir = dir.join(LOG);
        // A state that cannot be read proves nothing; verifying tells of it.
        let clean = State::read(dir).ok().and_then(|state| state.clean());
        let hash = NameHash::new(&format.name_key, 64);
        let none = Branches::default();
        let recovery = Recovery {
            log_dir: &log_dir,
            format: &format,
            hash: &hash,
            branches: &none,
            clean,
            covered: 0,
            read_only: true,
            progress: None,
        };
        // Before the segments are listed: what is sealed then is followed by another one.
        let promised = index::promised(dir, &index_identity(64, &format));
        let found = recovery.look()?;
        refuse_lost_segments(dir, promised.ok().flatten(), found.newest.number)?;
        let vouched = found
            .vouched
            .max(vouched)
            .max(backup::backed_up_commit(dir));
        let log = Log::new(
            log_dir,
            format.salt,
            found.segments,
            Vec::new(),
            Lossy::new(found.losses),
            found.branches,
        );
        let mut tail = Tail::new(&found.newest, vouched, clean);
        tail.follow(&log)?;
        Ok(Self {
            dir: dir.into(),
            format,
            log: Arc::new(log),
            tail,
        })
    }

    /// Learns of what was synced since. Cheap when nothing was.
    ///
    /// # Errors
    /// [`Error::NotAStore`] when the store is gone, or another stands in its place, also one that was
    /// put back from a backup: open a new reader then. [`Error::Damaged`], [`Error::Io`].
    pub fn refresh(&mut self) -> Result<(), Error> {
        self.refuse_another()?;
        self.tail.follow(&self.log)
    }

    /// What is open here would be read for ever, though nobody writes to it any more.
    fn refuse_another(&self) -> Result<(), Error> {
        let not = |reason: &str| Error::NotAStore {
            path: self.dir.clone(),
            reason: reason.into(),
        };
        let found = match Format::read(&self.dir) {
            Ok(found) => found.ok_or_else(|| not("it is not there any more"))?,
            // Whose it is cannot be told.
            Err(Error::Damaged { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let (segment, ..) = self.tail.place();
        let (open, path) = (self.log.file(segment)?, self.log.path(segment));
        let is_same = platform::is_at(&open, &path);
        let is_same = is_same.map_err(|error| Error::io("look at", path, error))?;
        if is_same && (found.origin, found.salt) == (self.format.origin, self.format.salt) {
            return Ok(());
        }
        Err(not("another log stands there than the one that was opened"))
    }

    /// Which log this is, and the epoch that its newest durable commit is of.
    pub fn identity(&self) -> LogIdentity {
        LogIdentity {
            origin: self.format.origin,
            epoch: self.tail.durable_epoch(),
        }
    }

    /// Position of the oldest record.
    pub fn first_position(&self) -> u64 {
        self.log.first_position()
    }

    /// Position of the newest record that survives a power cut; 0 when there is none.
    pub fn last_position(&self) -> u64 {
        self.tail.durable().position
    }

    /// Whole commits behind that, of which nothing says yet that they are on the disk: of a writer at
    /// work, or of a process that was killed. They are not read.
    pub fn pending_commits(&self) -> u64 {
        self.tail.whole().number - self.tail.durable().number
    }

    /// What was found to be gone at the end of the log though it was synced; [`read`](Self::read) comes to
    /// it.
    pub fn damage(&self) -> Option<&Error> {
        self.tail.damage()
    }

    /// Reads the log, control records included, oldest first.
    ///
    /// It ends with [`Error::Gap`] where a repair has left something out and nobody has accepted that,
    /// and with [`Error::Damaged`] where the log is damaged: what was read before is right.
    pub fn read(&self, query: LogQuery) -> LogRecords {
        let last = self.last_position();
        let to = query.to.min(last);
        let next = query.from.max(self.first_position());
        LogRecords {
            log: Arc::clone(&self.log),
            next,
            to,
            one_by_one: false,
            pages: LogPages::new(Arc::clone(&self.log), next, to),
            pieces: VecDeque::new(),
            page: Vec::new().into_iter(),
            left: query.limit.unwrap_or(u64::MAX),
            damage: self.tail.damage().filter(|_| query.to > last).cloned(),
            ended: false,
        }
    }

    /// Position of the record by which the event, as it was read here, gave way to another origin's.
    pub fn superseded_at(&self, event: &EventEnvelope) -> Option<u64> {
        let position = event.position.filter(|_| event.sequence > 0)?;
        let branches = &self.log.branches;
        let at = branches.superseded_at(&event.stream, event.sequence, position);
        at.filter(|at| *at <= self.last_position())
    }

    /// What repairs have lost of this log, and what of that was accepted.
    pub fn losses(&self) -> Losses {
        self.log.losses.report()
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn format(&self) -> &Format {
        &self.format
    }
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader")
            .field("path", &self.dir)
            .field("last_position", &self.last_position())
            .finish_non_exhaustive()
    }
}

/// Whose log stands in `dir`; an error when none does.
pub(crate) fn identity(dir: &Path) -> Result<Format, Error> {
    let not = |reason: &str| Error::NotAStore {
        path: dir.into(),
        reason: reason.into(),
    };
    match std::fs::metadata(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(not("there is nothing; give the directory of a store"));
        }
        Err(error) => return Err(Error::io("look at", dir, error)),
        Ok(found) if !found.is_dir() => {
            return Err(not("a file is there; give the directory of a store"));
        }
        Ok(_) => {}
    }
    if repair::is_unfinished(dir) {
        return Err(not(
            "a repair into it never ended; repair the damaged store into it again",
        ));
    }
    if let Some(format) = Format::read(dir)? {
        return Ok(format);
    }
    if backup::is_backup(dir) {
        return Err(not("it is a backup that was never completed"));
    }
    refuse_lost_format(dir)?;
    Err(not(
        "there is no store in it; give the directory of a store",
    ))
}

/// Records being read by [`LogReader::read`]: at most a page of them, some 1,000 records, is in memory.
pub struct LogRecords {
    log: Arc<Log>,
    /// Position of the next record.
    next: u64,
    to: u64,
    /// Within the next page one is damaged: those before it are not.
    one_by_one: bool,
    pages: LogPages,
    pieces: VecDeque<Piece>,
    page: std::vec::IntoIter<EventEnvelope>,
    left: u64,
    damage: Option<Error>,
    ended: bool,
}

impl LogRecords {
    fn next_page(&mut self) -> Result<bool, Error> {
        while self.page.len() == 0 {
            match self.read_page() {
                Err(Error::Damaged { .. }) if !self.one_by_one => self.one_by_one = true,
                Ok(None) => return self.damage.take().map_or(Ok(false), Err),
                read => self.page = read?.unwrap_or_default().into_iter(),
            }
        }
        Ok(true)
    }

    /// The next page, which may be empty; `None` at the end.
    fn read_page(&mut self) -> Result<Option<Vec<EventEnvelope>>, Error> {
        if self.one_by_one {
            self.pieces.clear();
            let to = self.to.min(self.next);
            self.pages = LogPages::new(Arc::clone(&self.log), self.next, to);
        }
        if let Some(piece) = self.pieces.pop_front() {
            return piece.read().map(Some);
        }
        let more = self.pages.next_pieces(&mut self.pieces)?;
        let piece = self.pieces.pop_front().filter(|_| more);
        piece.map(Piece::read).transpose()
    }
}

impl Iterator for LogRecords {
    type Item = Result<EventEnvelope, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended || self.left == 0 {
            return None;
        }
        let there = self.next_page();
        self.ended = !matches!(there, Ok(true));
        self.left -= 1;
        match there {
            Ok(_) => {
                let event = self.page.next()?;
                self.next = event.position.unwrap_or(self.next) + 1;
                Some(Ok(event))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl std::fmt::Debug for LogRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogRecords")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
