//! From a path to a running store.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use tidelog_core::{Error, IdSource};
use uuid::Uuid;

use super::backup;
use super::branches::Branches;
use super::checkpoints;
use super::commit::Committer;
use super::control;
use super::format::{self, Format};
use super::frame;
use super::gate::ByteGate;
use super::hash::NameHash;
use super::heads::Heads;
use super::index::{self, Index, IndexOptions};
use super::indexer::{self, BACKLOG, Indexer};
use super::live::Live;
use super::lock::{self, Lock};
use super::log::Log;
use super::losses::Lossy;
use super::options::{Phase, Progress, SledStoreBuilder};
use super::preparer::Preparer;
use super::queue::Queue;
use super::read_models::ReadModels;
use super::recent_ids::RecentIds;
use super::recover::{self, Recovered, Recovery};
use super::repair;
use super::segment::{self, About, Epoch, SegmentHeader};
use super::shared::Shared;
use super::state::{self, State};
use super::streams::{Streams, Tail};
use super::workers::Workers;
use crate::claims::Claims;
use crate::platform;
use crate::primitives::Mutex;
use crate::primitives::atomic::AtomicU64;

const LOG: &str = "log";

/// A store that is ready, but for its threads.
pub(crate) struct Opened {
    pub shared: Arc<Shared>,
    pub committer: Committer,
    pub state: State,
    pub lock: Lock,
    /// The epoch to begin first: this is a backup, or was restored from one.
    pub new_epoch: Option<Uuid>,
}

/// What is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// A store of its own.
    Store,
    /// A copy of the log that this origin began in this epoch.
    Copy { origin: Uuid, first_epoch: Uuid },
}

impl Opening {
    /// Refuses a store that is something else.
    fn check(self, dir: &Path, format: &Format) -> Result<(), Error> {
        let reason = match self {
            Self::Store if format.is_copy() => {
                "it is an unfinished copy of another store's log; restore it to its end, or read it as a peer"
                    .to_owned()
            }
            Self::Copy { .. } if !format.is_copy() => {
                "it is a store of its own and no copy of a log; give another path".to_owned()
            }
            Self::Copy { origin, .. } if origin != format.origin => {
                let other = format.origin;
                format!("it is the copy of origin {other}'s log and not of {origin}'s")
            }
            _ => return Ok(()),
        };
        Err(Error::NotAStore {
            path: dir.into(),
            reason: reason.into(),
        })
    }
}

/// Opens or makes the store.
pub(crate) fn open(options: &SledStoreBuilder, opening: Opening) -> Result<Opened, Error> {
    let dir = options.path.as_path();
    let there = inspect(dir)?;
    if !there {
        platform::create_dir(dir).map_err(|error| refused(dir, "create", error))?;
    }
    let lock = Lock::take(dir, options.clock.now()).map_err(|error| match error {
        Error::Io { action, source, .. } if is_denied(source.kind()) => {
            refused(dir, action, io::Error::new(source.kind(), source))
        }
        error => error,
    })?;
    let format = match Format::read(dir)? {
        Some(format) => format,
        None => create(dir, options, opening)?,
    };
    opening.check(dir, &format)?;
    let read_only = format.read_only(dir);
    let mut state = State::read(dir)?;
    let log_dir = dir.join(LOG);
    let hash = NameHash::new(&format.name_key, options.hash_bits);
    let clean = state.clean();
    let none = Branches::default();
    let mut recovery = Recovery {
        log_dir: &log_dir,
        format: &format,
        hash: &hash,
        branches: &none,
        clean,
        covered: 0,
        read_only: read_only.is_some(),
        progress: options.progress.as_ref(),
    };
    let branches = recovery.declared_branches()?;
    recovery.branches = &branches;
    recovery.check_end()?;
    let newest = recovery.newest()?;
    let index = open_index(dir, options, &format, clean.is_some(), newest)?;
    let keep = if read_only.is_some() {
        usize::MAX
    } else {
        BACKLOG - 1
    };
    let index = match index.covered {
        None => index.index,
        Some(covered) if recovery.chain_before(covered.segment + 1)? == Some(covered.chain) => {
            recovery.covered = covered.segment;
            index.index
        }
        Some(_) => {
            index
                .index
                .reset("it covers another history")
                .map_err(super::index_failed)?;
            index.index
        }
    };
    let recovered = recovery.run(keep, &mut |segment, end| {
        indexer::cut(&segment::path(&log_dir, segment.segment()), end)?;
        index
            .add_segment(segment, end.hash)
            .map_err(super::index_failed)?;
        while index.merge_step().map_err(super::index_failed)? {}
        Ok(())
    })?;
    if recovered.rewritten + recovered.cut > 0 {
        let (rewritten, cut) = (recovered.rewritten, recovered.cut);
        tracing::info!(
            rewritten,
            cut,
            "the store was not closed; its end is made whole"
        );
    }
    let report = Progress {
        phase: Phase::Replay,
        done: 1,
        total: 1,
    };
    recover::report(options.progress.as_ref(), report)?;
    if clean.is_some() && read_only.is_none() {
        // From here on the store is not cleanly closed any more.
        state.set_clean(None)?;
        state.write(dir)?;
    }
    let (shared, committer) = assemble(options, format, hash, index, recovered, branches)?;
    let begins_epoch = backup::is_backup(dir) && read_only.is_none();
    let new_epoch = begins_epoch.then(|| options.ids.next_uuid());
    Ok(Opened {
        shared,
        committer,
        state,
        lock,
        new_epoch,
    })
}

fn assemble(
    options: &SledStoreBuilder,
    format: Format,
    hash: NameHash,
    index: Index,
    recovered: Recovered,
    branches: Branches,
) -> Result<(Arc<Shared>, Committer), Error> {
    let log_dir = options.path.join(LOG);
    let Recovered {
        segments,
        active,
        tails,
        sealed_ends,
        hops,
        next,
        last_recorded,
        epoch,
        losses,
        ..
    } = recovered;
    let log = Arc::new(Log::new(
        log_dir.clone(),
        format.salt,
        segments,
        hops,
        Lossy::new(losses),
        branches,
    ));
    let mut ends = sealed_ends.into_iter().map(Some).chain([None]);
    let tails: Vec<Arc<Tail>> = tails
        .into_iter()
        .map(|tail| Tail::new(tail, ends.next().flatten()))
        .collect();
    let Some(newest) = tails.last().cloned() else {
        return Err(Error::damaged(
            log_dir,
            "there is no segment to write to",
            recover::REMEDY,
        ));
    };
    let last = next.position - 1;
    let streams = Streams::new(
        index,
        tails.clone(),
        Arc::clone(&log),
        hash,
        options.progress.clone(),
    );
    // The shares of the memory budget, here and in `open_index`, add up to all of it.
    let budget = options.memory_budget;
    let read_models = ReadModels::new(index_identity(options.hash_bits, &format));
    let shared = Arc::new(Shared {
        dir: options.path.clone(),
        format,
        flags: Mutex::new(format.incompatible),
        limits: options.limits,
        clock: Arc::clone(&options.clock),
        ids: Arc::clone(&options.ids),
        progress: options.progress.clone(),
        hash,
        control: control::stream()?,
        epoch: Mutex::new(epoch.id),
        log,
        streams: Arc::new(streams),
        live: Arc::new(Live::new(last)),
        heads: Heads::new(budget / 16 * 5),
        recent_ids: RecentIds::new(budget / 16, options.limits.retry_window()),
        queue: Queue::new(),
        gate: ByteGate::new(budget / 16),
        workers: Workers::new(),
        preparer: Preparer::new(log_dir, options.segment_size, options.filling),
        indexer: Indexer::default(),
        durable_position: AtomicU64::new(last),
        snapshots: Mutex::new(()),
        checkpoints: Mutex::new(checkpoints::Folder::default()),
        read_models,
        claims: Claims::default(),
        refused: OnceLock::new(),
        foreign: OnceLock::new(),
    });
    if let Some(cause) = shared.format.read_only(&shared.dir) {
        tracing::warn!(%cause, "the store is open for reading alone");
        let _ = shared.refused.set(cause);
    } else {
        for tail in tails.iter().filter(|tail| tail.end.lock().is_some()) {
            shared.indexer.seal(Arc::clone(tail));
        }
    }
    let committer = Committer::new(
        Arc::clone(&shared),
        active,
        newest,
        next,
        last_recorded,
        epoch,
    );
    Ok((shared, committer))
}

fn open_index(
    dir: &Path,
    options: &SledStoreBuilder,
    format: &Format,
    clean_stop: bool,
    newest: u64,
) -> Result<index::Opened, Error> {
    let identity = index_identity(options.hash_bits, format);
    let promised = index::promised(dir, &identity).map_err(super::index_failed)?;
    refuse_lost_segments(dir, promised, newest)?;
    let budget = options.memory_budget;
    let index_options = IndexOptions {
        engine: options.engine,
        identity,
        clean_stop,
        cache_bytes: (budget / 16 * 3) as u64,
        sled_cache_bytes: (budget / 8) as u64,
        // One for each stream of a run: where they find no room, each stream that is new costs a
        // read of every run. 12 MiB are enough for ten million.
        filter_bytes: budget / 4,
        open_timeout: options.open_timeout,
        merge_fan_in: options.merge_fan_in,
    };
    if format.read_only(dir).is_some() {
        let index = Index::without_runs(dir, index_options);
        return Ok(index::Opened {
            index,
            covered: None,
        });
    }
    let sealed = (newest > 1).then(|| 1..=newest - 1);
    Index::open(dir, index_options, sealed).map_err(super::index_failed)
}

/// Refuses a log whose newest segment is one that the index knows to be sealed.
pub(crate) fn refuse_lost_segments(
    dir: &Path,
    promised: Option<u64>,
    newest: u64,
) -> Result<(), Error> {
    match promised.filter(|sealed| *sealed >= newest) {
        None => Ok(()),
        Some(sealed) => {
            let what = format!("it is the newest segment, but segment {sealed} was sealed before");
            let path = segment::path(&dir.join(LOG), newest);
            let remedy = "put the newer segments back, or restore a backup";
            Err(Error::damaged(path, what, remedy))
        }
    }
}

/// What the index was made for: another store's, or one with other hashes, is not believed.
pub(crate) fn index_identity(hash_bits: u32, format: &Format) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format.origin.as_bytes());
    hasher.update(&format.name_key);
    hasher.update(&hash_bits.to_le_bytes());
    let mut identity = [0; 16];
    hasher.finalize_xof().fill(&mut identity);
    identity
}

/// Whether there is something to open; an error when it cannot be a store. Changes nothing.
fn inspect(dir: &Path) -> Result<bool, Error> {
    let not_a_store = |reason: &str| Error::NotAStore {
        path: dir.into(),
        reason: reason.into(),
    };
    match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                Some(parent) if parent.exists() && !parent.is_dir() => Err(not_a_store(
                    "its parent is a file; choose a path inside a directory",
                )),
                _ => Ok(false),
            };
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let reason = "a file stands in its path; choose a path inside a directory";
            return Err(not_a_store(reason));
        }
        Err(error) => return Err(refused(dir, "look at", error)),
        Ok(found) if !found.is_dir() => {
            return Err(not_a_store("a file is there; give the path of a directory"));
        }
        Ok(_) => {}
    }
    if repair::is_unfinished(dir) {
        let reason = "a repair into it never ended; repair the damaged store into it again";
        return Err(not_a_store(reason));
    }
    if dir.join(format::FILE).exists() {
        return Ok(true);
    }
    refuse_lost_format(dir)?;
    // An empty directory may become a store, and so may one whose creation was interrupted.
    let ours = [lock::FILE, LOG, "format.new"];
    for entry in fs::read_dir(dir).map_err(|error| refused(dir, "list", error))? {
        let name = entry
            .map_err(|error| refused(dir, "list", error))?
            .file_name();
        if !ours.iter().any(|ours| name == *ours) {
            let reason = format!(
                "it holds {} but no store; give an empty or missing directory",
                name.to_string_lossy()
            );
            return Err(not_a_store(&reason));
        }
    }
    Ok(true)
}

/// Refuses a store without `format` that had one.
pub(crate) fn refuse_lost_format(dir: &Path) -> Result<(), Error> {
    // These come after `format`: who has them and a log had one.
    let later = [state::FILE, index::MANIFEST, index::DIR, checkpoints::DIR];
    if dir.join(LOG).is_dir() && later.iter().any(|name| dir.join(name).exists()) {
        return Err(lost_format(dir));
    }
    Ok(())
}

fn refused(dir: &Path, action: &'static str, error: io::Error) -> Error {
    if !is_denied(error.kind()) {
        return Error::io(action, dir, error);
    }
    let reason = format!("cannot {action} it ({error}); choose a path this process may write to");
    Error::NotAStore {
        path: dir.into(),
        reason: reason.into(),
    }
}

fn is_denied(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(kind, PermissionDenied | ReadOnlyFilesystem)
}

/// Makes a new store; the `format` file comes last, so that an interrupted creation is seen.
fn create(dir: &Path, options: &SledStoreBuilder, opening: Opening) -> Result<Format, Error> {
    // Whoever made it before may have been killed before its name was synced.
    platform::create_dir(dir).map_err(|error| Error::io("create", dir, error))?;
    let log_dir = dir.join(LOG);
    platform::create_dir(&log_dir).map_err(|error| Error::io("create", &log_dir, error))?;
    remove_interrupted(dir, &log_dir)?;
    let mut format = new_format(options);
    let mut epoch_id = options.ids.next_uuid();
    if let Opening::Copy {
        origin,
        first_epoch,
    } = opening
    {
        format.origin = origin;
        format.incompatible |= format::COPY;
        epoch_id = first_epoch;
    }
    let epoch = Epoch {
        id: epoch_id,
        parent: Uuid::nil(),
        parent_position: 0,
        parent_hash: [0; 32],
    };
    let prepared = segment::prepare(&log_dir, 1, options.first_segment, options.filling)?;
    let header = SegmentHeader {
        origin: format.origin,
        salt: format.salt,
        number: 1,
        first_commit: 1,
        first_position: 1,
        previous: frame::genesis(&format.origin, &epoch_id),
        epoch,
        capacity: prepared.capacity,
        gap: None,
        about: About::EVENTS,
    };
    platform::write_all_at(&prepared.file, &header.encode(), 0)
        .and_then(|()| prepared.file.sync_all())
        .map_err(|error| Error::io("write", segment::path(&log_dir, 1), error))?;
    platform::sync_dir(dir).map_err(|error| Error::io("sync", dir, error))?;
    format.write(dir)?;
    Ok(format)
}

/// Takes away what an interrupted creation left; anything more is a store that lost its `format`.
fn remove_interrupted(dir: &Path, log_dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(log_dir).map_err(|error| Error::io("list", log_dir, error))? {
        let path = entry
            .map_err(|error| Error::io("list", log_dir, error))?
            .path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name != "00000001.seg" && name != "00000001.seg.new" {
            return Err(lost_format(dir));
        }
        if holds_data(&path).map_err(|error| Error::io("read", &path, error))? {
            return Err(lost_format(dir));
        }
        fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
    }
    Ok(())
}

/// There is a log, and no `format`.
fn lost_format(dir: &Path) -> Error {
    Error::damaged(
        dir.join(format::FILE),
        "it is missing, but there is a log",
        "put the format file back from a backup, or `repair` the store into another directory: the \
         log beside it may be whole",
    )
}

/// Whether anything but zeros stands where the first frame would.
fn holds_data(path: &Path) -> io::Result<bool> {
    let mut file = io::BufReader::new(fs::File::open(path)?);
    io::Seek::seek(&mut file, io::SeekFrom::Start(segment::DATA))?;
    for byte in io::Read::bytes(file) {
        if byte? != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Random bytes that nobody outside can know.
fn secret(ids: &dyn IdSource, domain: &[u8], out: &mut [u8]) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(domain);
    for _ in 0..4 {
        hasher.update(ids.next_uuid().as_bytes());
    }
    hasher.finalize_xof().fill(out);
}

/// A key of name hashes that no other store has.
pub(crate) fn new_name_key(ids: &dyn IdSource) -> [u8; 16] {
    let mut key = [0; 16];
    secret(ids, b"tidelog name key v1", &mut key);
    key
}

fn new_format(options: &SledStoreBuilder) -> Format {
    let mut salt = [0; 8];
    secret(&*options.ids, b"tidelog salt v1", &mut salt);
    let name_key = new_name_key(&*options.ids);
    Format {
        version: format::VERSION,
        compatible: 0,
        read_only: 0,
        incompatible: 0,
        origin: options.ids.next_uuid(),
        salt: u64::from_le_bytes(salt),
        name_key,
        created: options.clock.now(),
    }
}
