//! Backups: sealed segments never change, so only what is new is copied.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tidelog_core::Error;

use super::format;
use super::options::{Phase, Progress};
use super::recover;
use super::sealed_file;
use super::segment;
use super::state;
use super::store::SledStore;
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Copied {
    number: u64,
    len: u64,
    /// BLAKE3 of the file.
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
    /// The backup holds everything acknowledged before the call. It is not a store to go on with:
    /// put it back by [`restore_backup`], which begins a new epoch. Blocks for file I/O.
    ///
    /// # Errors
    /// [`Error::NotAStore`] when `to` holds something else or another store's backup;
    /// [`Error::Cancelled`]; [`Error::Io`]: the backup is not complete then, make it again.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<BackupReport, Error> {
        self.ensure_open()?;
        let (shared, to) = (self.shared(), to.as_ref());
        let known = prepare_target(to, &shared.format)?;
        // Under the lock no commit is half written; what is copied of the newest segment ends here.
        let (mark, newest, end) = {
            let mut committer = self.committer().lock();
            committer.sync_now()?;
            let (newest, end) = committer.end();
            (committer.mark(), newest, end)
        };
        let mut report = BackupReport {
            last_position: mark.position,
            ..BackupReport::default()
        };
        let segments: Vec<u64> = shared
            .log
            .segments()
            .iter()
            .map(|info| info.number)
            .filter(|number| *number <= newest)
            .collect();
        let mut copied = Vec::new();
        for (done, number) in segments.iter().enumerate() {
            let progress = Progress {
                phase: Phase::Backup,
                done: done as u64,
                total: segments.len() as u64,
            };
            recover::report(shared.progress.as_ref(), progress)?;
            let source = shared.log.path(*number);
            let target = segment::path(&to.join(LOG), *number);
            let used = (*number == newest).then_some(end);
            let (len, hash) = match used {
                Some(_) => (0, [0; 32]),
                None => hash_file(&source)?,
            };
            let same = Copied {
                number: *number,
                len,
                hash,
            };
            if used.is_none()
                && known.contains(&same)
                && fs::metadata(&target).is_ok_and(|found| found.len() == len)
            {
                report.kept_segments += 1;
                copied.push(same);
                continue;
            }
            let (len, hash) = copy_segment(&source, &target, used)?;
            report.copied_segments += 1;
            report.copied_bytes += len;
            copied.push(Copied {
                number: *number,
                len,
                hash,
            });
        }
        let mark = Mark {
            commit: mark.commit,
            position: mark.position,
            hash: mark.hash,
            segments: copied,
        };
        platform::sync_dir(&to.join(LOG))
            .map_err(|error| Error::io("sync", to.join(LOG), error))?;
        write_mark(to, &mark)?;
        shared.format.write(to)?;
        Ok(report)
    }
}

/// Puts the backup in `from` back as a store in `to`, which must be empty or missing.
///
/// Every segment is checked against the hash it was backed up with. The first time the restored
/// store is opened it begins a new epoch, so that it is never mistaken for the store it was copied
/// from.
///
/// # Errors
/// [`Error::NotAStore`] when `from` is no backup or `to` is not empty; [`Error::Damaged`] when a
/// file is not what was backed up; [`Error::Io`].
pub fn restore_backup(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), Error> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let not = |path: &Path, reason: &str| Error::NotAStore {
        path: path.into(),
        reason: reason.into(),
    };
    let mark = read_mark(from)?.ok_or_else(|| not(from, "it is not a complete backup"))?;
    let format =
        format::Format::read(from)?.ok_or_else(|| not(from, "it is not a complete backup"))?;
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
    for copied in &mark.segments {
        let source = segment::path(&from.join(LOG), copied.number);
        let found = copy_segment(&source, &segment::path(&log_dir, copied.number), None)?;
        if found != (copied.len, copied.hash) {
            return Err(Error::damaged(
                source,
                "it is not what was backed up",
                "use another backup",
            ));
        }
    }
    platform::sync_dir(&log_dir).map_err(|error| Error::io("sync", &log_dir, error))?;
    format.write(to)
}

/// Whether `dir` is a backup, or a store restored from one and not opened since.
pub(crate) fn is_backup(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

/// The new epoch is in the log: from here on it is a store of its own.
pub(crate) fn remove_mark(dir: &Path) -> Result<(), Error> {
    let path = dir.join(FILE);
    fs::remove_file(&path).map_err(|error| Error::io("remove", path, error))?;
    platform::sync_dir(dir).map_err(|error| Error::io("sync", dir, error))
}

fn prepare_target(to: &Path, format: &format::Format) -> Result<Vec<Copied>, Error> {
    let not = |reason: &str| Error::NotAStore {
        path: to.into(),
        reason: reason.into(),
    };
    if to.exists() {
        if !to.is_dir() {
            return Err(not("a file is there; give the path of a directory"));
        }
        let empty = fs::read_dir(to)
            .map_err(|error| Error::io("list", to, error))?
            .next()
            .is_none();
        match (read_mark(to)?, format::Format::read(to)?) {
            (Some(mark), Some(there)) if there.origin == format.origin => return Ok(mark.segments),
            (Some(_), Some(_)) => return Err(not("it is the backup of another store")),
            (_, None) if empty || to.join(FILE).exists() => {}
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

fn hash_file(path: &Path) -> Result<(u64, [u8; 32]), Error> {
    let failed = |error| Error::io("read", path, error);
    let mut hasher = blake3::Hasher::new();
    let len = io::copy(&mut File::open(path).map_err(failed)?, &mut hasher).map_err(failed)?;
    Ok((len, *hasher.finalize().as_bytes()))
}

/// Copies a segment, of the newest only what is used; the rest of that one is zero, as it was made.
fn copy_segment(source: &Path, target: &Path, used: Option<u64>) -> Result<(u64, [u8; 32]), Error> {
    let from = File::open(source).map_err(|error| Error::io("open", source, error))?;
    let len = from
        .metadata()
        .map_err(|error| Error::io("inspect", source, error))?
        .len();
    if target.exists() {
        fs::remove_file(target).map_err(|error| Error::io("replace", target, error))?;
    }
    let file = platform::create_file(target).map_err(|error| Error::io("create", target, error))?;
    let mut buffer = vec![0; 1 << 20];
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < len {
        let step = usize::try_from(len - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..step).unwrap_or_default();
        platform::read_exact_at(&from, part, at)
            .map_err(|error| Error::io("read", source, error))?;
        if let Some(used) = used
            && at + step as u64 > used
        {
            let keep = usize::try_from(used.saturating_sub(at)).unwrap_or_default();
            part.iter_mut().skip(keep).for_each(|byte| *byte = 0);
        }
        hasher.update(part);
        platform::write_all_at(&file, part, at)
            .map_err(|error| Error::io("write", target, error))?;
        at += step as u64;
    }
    file.sync_all()
        .map_err(|error| Error::io("sync", target, error))?;
    Ok((len, *hasher.finalize().as_bytes()))
}
