//! The index of a store that nobody has open, looked into by way of a copy: to open sled is to write
//! to it.

use std::fs;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};

use tidelog_core::{
    Checkpoint, Direction, Error, ParkedStream, Slot, SnapshotEnvelope, Space, StreamId,
};

use super::format::Format;
use super::hash::NameHash;
use super::index::{self, Index, IndexError, IndexOptions};
use super::lock::Lock;
use super::log_reader::{self, LogReader};
use super::open::index_identity;
use super::options::ProgressCallback;
use super::read_models::ReadModels;
use super::snapshots;
use super::verify::{VerifyReport, check_entry};
use crate::platform;

const REMEDY: &str = "nothing true stands in it alone: it is made again from the log when the store is opened, \
                      or by rebuilding the index";

/// What stands in the index of a store that nobody has open: snapshots and the rows of read models, and
/// the index itself, to be checked against the log.
///
/// The store's lock is held, so that nobody opens it meanwhile; it is not changed by a single byte: the
/// index is copied, and the copy opened.
pub struct IndexCopy {
    index: Index,
    format: Format,
    dir: PathBuf,
    damage: Option<String>,
    _held: Option<Lock>,
}

/// A snapshot as it stands there. Whether its event still stands in its stream was not looked at.
pub type StoredSnapshot = SnapshotEnvelope;

/// A read model as it stands there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredModel {
    /// What its projection is called.
    pub name: String,
    /// The rows that are asked; `None` when there are none that add up.
    pub active: Option<ModelState>,
    /// Those that are being made anew.
    pub building: Option<ModelState>,
}

/// One copy of a read model's rows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ModelState {
    /// Which projection made them, up to where, and how many there are.
    pub checkpoint: Checkpoint,
    /// The streams that its projection has set aside.
    pub parked: Vec<ParkedStream>,
}

impl IndexCopy {
    /// Takes the lock of the store in `store`, and copies its index into `scratch`, an empty directory
    /// that the caller removes. Blocks for file I/O.
    ///
    /// # Errors
    /// [`Error::Locked`] when the store is open, [`Error::NotAStore`], [`Error::UnsupportedFormat`],
    /// [`Error::Io`].
    pub fn open(store: impl AsRef<Path>, scratch: impl AsRef<Path>) -> Result<Self, Error> {
        let (store, scratch) = (store.as_ref(), scratch.as_ref());
        // Whether there is one, before its lock is looked for.
        log_reader::identity(store)?;
        let held = Lock::hold(store)?;
        let reader = LogReader::open(store)?;
        let format = *reader.format();
        format.ensure_writable(store)?;
        let sealed = reader.log().segments().len() as u64 - 1;
        copy_index(store, scratch)
            .map_err(|error| Error::io("copy the index to", scratch, error))?;
        let options = IndexOptions {
            identity: index_identity(64, &format),
            // Where sled may have lost writes, its pages no longer agree with the manifest's hashes.
            clean_stop: true,
            ..IndexOptions::default()
        };
        let opened = Index::open(scratch, options, (sealed > 0).then_some(1..=sealed));
        let opened = opened.map_err(super::index_failed)?;
        let stats = opened.index.stats().map_err(super::index_failed)?;
        let mut damage = stats.rebuilt;
        if let Some(covered) = opened.covered {
            let ends = super::walk::header(reader.log(), covered.segment + 1)?.end_before();
            if ends.previous != covered.chain {
                damage = Some("it covers another history".into());
            }
        }
        Ok(Self {
            index: opened.index,
            format,
            dir: store.join(index::DIR),
            damage,
            _held: held,
        })
    }

    /// [`Error::Damaged`] when the index is not believed and will be made again; nothing is found in it
    /// then.
    pub fn damage(&self) -> Option<Error> {
        self.damage.clone().map(|what| self.damaged(what))
    }

    /// Hands each snapshot that is whole to `visit`, until that breaks off.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn snapshots(
        &self,
        mut visit: impl FnMut(StoredSnapshot) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut last: Option<String> = None;
        while let Some(name) = self.asked(self.index.next_snapshot(last.as_deref()))? {
            let stream = name.split_once('/');
            let stream = stream.and_then(|(of, id)| StreamId::new_reserved(of, id).ok());
            let bytes = self.asked(self.index.snapshot_named(&name))?;
            let snapshot = stream.zip(bytes);
            let snapshot = snapshot.and_then(|(stream, bytes)| snapshots::decode(&stream, &bytes));
            if snapshot.is_some_and(|snapshot| visit(snapshot).is_break()) {
                return Ok(());
            }
            last = Some(name);
        }
        Ok(())
    }

    /// All read models, with the streams that they have parked. All rows are read, to see whether they add
    /// up; `progress` is told how many entries were, and may cancel.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Cancelled`], [`Error::Io`].
    pub fn models(
        &self,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Vec<StoredModel>, Error> {
        let models = ReadModels::new(index_identity(64, &self.format));
        let names = self.asked(ReadModels::names(&self.index))?;
        let mut all = Vec::new();
        for name in names {
            let slots = models.slots(&self.index, &name, progress)?;
            let state = |found: Option<(Slot, Checkpoint)>| -> Result<_, Error> {
                let Some((slot, checkpoint)) = found else {
                    return Ok(None);
                };
                let every = (Bound::Unbounded, Bound::Unbounded);
                let (space, forward) = (Space::Parked, Direction::Forward);
                let found = models.scan(&self.index, &slot, space, every, forward, usize::MAX);
                let parked = self.asked(found)?.into_iter();
                let parked = parked.filter_map(|(_, bytes)| postcard::from_bytes(&bytes).ok());
                let parked = parked.collect();
                Ok(Some(ModelState { checkpoint, parked }))
            };
            all.push(StoredModel {
                active: state(slots.active)?,
                building: state(slots.building)?,
                name,
            });
        }
        Ok(all)
    }

    /// Checks log and index: [`LogReader::verify`], then that every entry of the index leads to the right
    /// record, and none is missing of the segments that it covers; [`VerifyReport::indexed`] is their
    /// number. What is in no run yet stands in memory of an open store alone, and is not counted.
    ///
    /// # Errors
    /// As [`LogReader::verify`]; [`Error::Damaged`] for the index, with its folder as the path.
    pub fn check(
        &self,
        log: &LogReader,
        progress: Option<&ProgressCallback>,
    ) -> Result<VerifyReport, Error> {
        let (mut report, events) = log.check(progress)?;
        if let Some(damage) = self.damage() {
            return Err(damage);
        }
        let names = NameHash::new(&self.format.name_key, 64);
        let covered = self.index.covered().map_or(0, |covered| covered.segment);
        let mut buffer = Vec::new();
        let mut visit = |hash: u64, name: &str, sequence: u64, place: index::Posting| {
            let entry = (hash, name, sequence, place);
            check_entry(log.log(), &names, entry, &mut buffer)?;
            report.indexed += 1;
            Ok(())
        };
        self.asked(self.index.verify(&mut visit))?;
        let within = events.iter().filter(|(number, _)| *number <= covered);
        let expected: u64 = within.map(|(_, events)| events).sum();
        if report.indexed != expected {
            let indexed = report.indexed;
            return Err(self.damaged(format!("it has {indexed} entries for {expected} events")));
        }
        Ok(report)
    }

    fn asked<T>(&self, answer: Result<T, IndexError>) -> Result<T, Error> {
        answer.map_err(|error| match error {
            IndexError::Failed(error) => error,
            IndexError::Damaged(what) => self.damaged(what),
        })
    }

    fn damaged(&self, what: String) -> Error {
        Error::damaged(&self.dir, what, REMEDY)
    }
}

impl std::fmt::Debug for IndexCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexCopy")
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}

/// Copies what there is of manifest and index of the store at `from` to `to`.
pub(crate) fn copy_index(from: &Path, to: &Path) -> io::Result<()> {
    platform::create_dir(to)?;
    match fs::copy(from.join(index::MANIFEST), to.join(index::MANIFEST)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        copied => drop(copied?),
    }
    let (from, to) = (from.join(index::DIR), to.join(index::DIR));
    platform::create_dir(&to)?;
    let Ok(generations) = fs::read_dir(&from) else {
        return Ok(());
    };
    for generation in generations {
        let generation = generation?;
        // Neither the marker of an open nor what stands behind a link.
        if generation.file_type()?.is_dir() {
            copy_files(&generation.path(), &to.join(generation.file_name()))?;
        }
    }
    Ok(())
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    platform::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let target = to.join(entry.file_name());
            fs::copy(entry.path(), &target)?;
            platform::make_writable(&target)?;
        }
    }
    Ok(())
}
