//! Backups: sealed segments never change, so only what is new is copied.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidelog_core::Error;

use super::checkpoints::Saved;
use super::format::Format;
use super::log::Log;
use super::options::{Phase, Progress, ProgressCallback};
use super::recover;
use super::sealed_file;
use super::segment::{self, SegmentHeader};
use super::state::{self, CleanMark};
use super::store::SledStore;
use super::streams::Tail;
use crate::platform;

const FILE: &str = "backup";
const LOG: &str = "log";

/// What stands in the `backup` file: that this is one, of what, and what each segment must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    commit: u64,
    position: u64,
    hash: [u8; 32],
    segments: Vec<Copied>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Copied {
    number: u64,
    /// Bytes that hold commits; the log only grows, so they never change.
    used: u64,
    /// Length of the file; zero above `used`.
    len: u64,
    /// BLAKE3 of the used bytes.
    hash: [u8; 32],
}

/// What a backup did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Position of the newest record in the backup.
    pub last_position: u64,
    /// Segments copied.
    pub copied_segments: u64,
    /// Segments that were there already, byte for byte.
    pub kept_segments: u64,
    /// Bytes copied.
    pub copied_bytes: u64,
}

impl SledStore {
    /// Copies the store to the directory `to` while it goes on working. Made again into the same
    /// directory, it copies only what is new.
    ///
    /// The backup holds everything acknowledged before the call, and what listeners had saved. It is not a store to go on with:
    /// put it back by [`restore_backup`], which begins a new epoch. Blocks for file I/O.
    ///
    /// # Errors
    /// [`Error::NotAStore`] when `to` holds something else or another store's backup;
    /// [`Error::Cancelled`]; [`Error::Io`]: the backup is not complete then, make it again.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<BackupReport, Error> {
        self.ensure_open()?;
        let shared = self.shared();
        // What a later version has beside the log is not known here.
        shared.format.ensure_writable(&shared.dir)?;
        shared.ensure_own()?;
        let saved = Saved::whole(&shared.dir)?;
        let (mark, tails, newest) = self.synced_end()?;
        let source = Source {
            log: &shared.log,
            format: &shared.format,
            format_now: &|| Ok(shared.format_now()),
            saved,
            mark,
            newest,
            sealed: &mut |number| sealed_len(&tails, number, &shared.log.path(number)),
            progress: shared.progress.as_ref(),
        };
        source.copy_to(to.as_ref())
    }

    /// The end of what is synced, and the segments that may not be cut to their length yet. What is
    /// written from then on only adds to it.
    fn synced_end(&self) -> Result<SyncedEnd, Error> {
        let mut committer = self.handle().lock();
        committer.sync_now()?;
        let tails = self.shared().streams.tails();
        Ok((committer.mark(), tails, committer.end()))
    }
}

/// What is copied, as of one moment: what is written from then on only adds to it.
pub(super) struct Source<'a> {
    pub log: &'a Log,
    pub format: &'a Format,
    /// With the flags that the log may have come to need since.
    pub format_now: &'a dyn Fn() -> Result<Format, Error>,
    /// Taken before the end was.
    pub saved: Saved,
    pub mark: CleanMark,
    /// Number, used bytes and length of the newest segment.
    pub newest: (u64, u64, u64),
    /// Used bytes of a segment before it.
    pub sealed: &'a mut dyn FnMut(u64) -> Result<u64, Error>,
    pub progress: Option<&'a ProgressCallback>,
}

impl Source<'_> {
    pub(super) fn copy_to(self, to: &Path) -> Result<BackupReport, Error> {
        refuse_inside(to, self.log.dir().parent().unwrap_or(Path::new("")))?;
        let known = prepare_target(to, self.format)?;
        let is_new = Format::read(to)?.is_none();
        let mark = self.mark;
        let (newest, used, len) = self.newest;
        let mut report = BackupReport {
            last_position: mark.position,
            ..BackupReport::default()
        };
        let mut copied = Vec::new();
        for number in 1..=newest {
            let progress = Progress {
                phase: Phase::Backup,
                done: number - 1,
                total: newest,
            };
            recover::report(self.progress, progress)?;
            let source = self.log.path(number);
            let (used, len) = if number == newest {
                (used, len)
            } else {
                let len = (self.sealed)(number)?;
                (len, len)
            };
            let target = segment::path(&to.join(LOG), number);
            let before = known
                .iter()
                .find(|copied| copied.number == number && copied.used == used);
            if let Some(before) = before
                && fs::metadata(&target).is_ok_and(|found| found.len() == len)
                && hash_file(&target, used)? == before.hash
            {
                report.kept_segments += 1;
                copied.push(Copied { len, ..*before });
                continue;
            }
            let hash = copy_segment(&source, &target, used, len)?;
            report.copied_segments += 1;
            report.copied_bytes += used;
            copied.push(Copied {
                number,
                used,
                len,
                hash,
            });
        }
        platform::sync_dir(&to.join(LOG))
            .map_err(|error| Error::io("sync", to.join(LOG), error))?;
        if !is_new {
            // What the log has now may need flags that it did not have then.
            (self.format_now)()?.write(to)?;
        }
        write_mark(
            to,
            &Mark {
                commit: mark.commit,
                position: mark.position,
                hash: mark.hash,
                segments: copied,
            },
        )?;
        // After the mark: an interrupted backup has older ones with its log, which is safe.
        self.saved.put(to)?;
        (self.format_now)()?.write(to)?;
        Ok(report)
    }
}

type SyncedEnd = (CleanMark, Arc<Vec<Arc<Tail>>>, (u64, u64, u64));

/// Bytes used of a full segment. Waiting until all are cut to that could last as long as appends do.
fn sealed_len(tails: &[Arc<Tail>], number: u64, path: &Path) -> Result<u64, Error> {
    let tail = tails.iter().find(|tail| tail.number == number);
    if let Some(end) = tail.and_then(|tail| *tail.end.lock()) {
        return Ok(end.offset);
    }
    let found = fs::metadata(path).map_err(|error| Error::io("inspect", path, error))?;
    Ok(found.len())
}

/// Puts the backup in `from` back as a store in `to`, which must be empty or missing.
///
/// Every segment is checked against the hash it was backed up with. The first time the restored
/// store is opened it begins a new epoch, so that it is never mistaken for the store it was copied
/// from. Listeners go on where they were when the backup was made.
///
/// # Errors
/// [`Error::NotAStore`] when `from` is no backup or `to` is not empty; [`Error::Damaged`] when a
/// file is not what was backed up; [`Error::Io`].
pub fn restore_backup(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), Error> {
    restore_backup_told(from, to, None)
}

/// [`restore_backup`] that tells how far it is, in segments, and may be cancelled: what stands in `to`
/// is no store then.
///
/// # Errors
/// As there, and [`Error::Cancelled`].
pub fn restore_backup_told(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    progress: Option<&ProgressCallback>,
) -> Result<(), Error> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let not = |path: &Path, reason: &str| Error::NotAStore {
        path: path.into(),
        reason: reason.into(),
    };
    refuse_inside(to, from)?;
    let mark = read_mark(from)?.ok_or_else(|| not(from, "it is not a complete backup"))?;
    let format = Format::read(from)?.ok_or_else(|| not(from, "it is not a complete backup"))?;
    format.ensure_writable(from)?;
    if to.exists()
        && (!to.is_dir()
            || fs::read_dir(to)
                .map_err(|error| Error::io("list", to, error))?
                .next()
                .is_some())
    {
        return Err(not(
            to,
            "there is something already; give an empty or missing directory",
        ));
    }
    let log_dir = to.join(LOG);
    platform::create_dir(&log_dir).map_err(|error| Error::io("create", &log_dir, error))?;
    write_mark(to, &mark)?;
    for (done, copied) in (0..).zip(&mark.segments) {
        let progress_now = Progress {
            phase: Phase::Restore,
            done,
            total: mark.segments.len() as u64,
        };
        recover::report(progress, progress_now)?;
        let source = segment::path(&from.join(LOG), copied.number);
        check_len(from, copied, &source)?;
        let target = segment::path(&log_dir, copied.number);
        if copy_segment(&source, &target, copied.used, copied.len)? != copied.hash {
            return Err(Error::damaged(
                source,
                "it is not what was backed up",
                "use another backup",
            ));
        }
    }
    platform::sync_dir(&log_dir).map_err(|error| Error::io("sync", &log_dir, error))?;
    Saved::whole(from)?.put(to)?;
    format.write(to)
}

/// What is copied is not changed, so nothing is copied into it.
fn refuse_inside(to: &Path, from: &Path) -> Result<(), Error> {
    if platform::lies_in(to, from).map_err(|error| Error::io("look at", to, error))? {
        let reason = "it is what is copied, or inside it; give another directory";
        return Err(Error::NotAStore {
            path: to.into(),
            reason: reason.into(),
        });
    }
    Ok(())
}

/// The room above the used bytes is filled with zeros: no more than the segment was made with.
fn check_len(from: &Path, copied: &Copied, source: &Path) -> Result<(), Error> {
    let failed = |error| Error::io("read", source, error);
    let mut bytes = Vec::new();
    let file = File::open(source).map_err(failed)?;
    file.take(segment::FIELDS as u64)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let capacity = SegmentHeader::decode(&bytes).map_or(0, |header| header.capacity);
    if copied.len > capacity.max(copied.used) {
        let (len, number) = (copied.len, copied.number);
        let what = format!("it has {len} bytes for segment {number}, which had {capacity}");
        return Err(Error::damaged(from.join(FILE), what, "use another backup"));
    }
    Ok(())
}

/// Whether `dir` is a backup, or a store restored from one and not opened since.
pub(crate) fn is_backup(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

/// The newest commit that a backup vouches for; 0 of anything else.
pub(crate) fn backed_up_commit(dir: &Path) -> u64 {
    let mark = read_mark(dir).ok().flatten();
    mark.map_or(0, |mark| mark.commit)
}

/// The new epoch is in the log: from here on it is a store of its own.
pub(crate) fn remove_mark(dir: &Path) -> Result<(), Error> {
    let path = dir.join(FILE);
    fs::remove_file(&path).map_err(|error| Error::io("remove", path, error))?;
    platform::sync_dir(dir).map_err(|error| Error::io("sync", dir, error))
}

fn prepare_target(to: &Path, format: &Format) -> Result<Vec<Copied>, Error> {
    let not = |reason: &str| Error::NotAStore {
        path: to.into(),
        reason: reason.into(),
    };
    if to.exists() {
        if !to.is_dir() {
            return Err(not("a file is there; give the path of a directory"));
        }
        match (read_mark(to)?, Format::read(to)?) {
            (Some(mark), Some(there)) if there.origin == format.origin => {
                there.ensure_writable(to)?;
                return Ok(mark.segments);
            }
            (Some(_), Some(_)) => return Err(not("it is the backup of another store")),
            (_, None) if to.join(FILE).exists() || is_unbegun(to)? => {}
            _ => {
                return Err(not(
                    "it holds something else; give an empty or missing directory",
                ));
            }
        }
    }
    let log_dir = to.join(LOG);
    platform::create_dir(&log_dir).map_err(|error| Error::io("create", &log_dir, error))?;
    // Until it is complete, it must not be taken for a store.
    write_mark(
        to,
        &Mark {
            commit: 0,
            position: 0,
            hash: [0; 32],
            segments: Vec::new(),
        },
    )?;
    Ok(Vec::new())
}

/// Whether nothing stands there, or only what a backup leaves that ended before its mark was there.
fn is_unbegun(to: &Path) -> Result<bool, Error> {
    let list = |dir: &Path| fs::read_dir(dir).map_err(|error| Error::io("list", dir, error));
    for entry in list(to)? {
        let entry = entry.map_err(|error| Error::io("list", to, error))?;
        let name = entry.file_name();
        let left = name == "backup.new"
            || (name == LOG && entry.path().is_dir() && list(&entry.path())?.next().is_none());
        if !left {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_mark(dir: &Path) -> Result<Option<Mark>, Error> {
    let path = dir.join(FILE);
    let Some(bytes) = sealed_file::read(&path)? else {
        return Ok(None);
    };
    let damaged = |what: &str| Error::damaged(&path, what, "make the backup again");
    let body = sealed_file::unseal(sealed_file::BACKUP_MAGIC, &bytes).map_err(damaged)?;
    postcard::from_bytes(body)
        .map(Some)
        .map_err(|_| damaged("it cannot be read"))
}

fn write_mark(dir: &Path, mark: &Mark) -> Result<(), Error> {
    sealed_file::write(dir, FILE, sealed_file::BACKUP_MAGIC, &state::encode(mark)?)
}

/// BLAKE3 of the first `used` bytes.
fn hash_file(path: &Path, used: u64) -> Result<[u8; 32], Error> {
    let failed = |error| Error::io("read", path, error);
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).map_err(failed)?.take(used);
    io::copy(&mut file, &mut hasher).map_err(failed)?;
    Ok(*hasher.finalize().as_bytes())
}

/// Copies the used bytes of a segment and makes the rest zero. What was there is replaced whole, so
/// that an interrupted backup leaves the one before as good as it was. Answers their hash.
fn copy_segment(source: &Path, target: &Path, used: u64, len: u64) -> Result<[u8; 32], Error> {
    let fresh = target.with_extension("seg.new");
    let from = File::open(source).map_err(|error| Error::io("open", source, error))?;
    let file = platform::create_file(&fresh).map_err(|error| Error::io("create", &fresh, error))?;
    let mut buffer = vec![0; 1 << 20];
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < used {
        let step = usize::try_from(used - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..step).unwrap_or_default();
        match platform::read_exact_at(&from, part, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let what = format!("it ends before byte {used}");
                return Err(Error::damaged(source, what, "use another backup"));
            }
            result => result.map_err(|error| Error::io("read", source, error))?,
        }
        hasher.update(part);
        platform::write_all_at(&file, part, at)
            .map_err(|error| Error::io("write", &fresh, error))?;
        at += step as u64;
    }
    platform::zero_fill(&file, used, len)
        .and_then(|()| file.sync_all())
        .and_then(|()| platform::rename(&fresh, target))
        .map_err(|error| Error::io("write", target, error))?;
    Ok(*hasher.finalize().as_bytes())
}
