//! Generations: the directories under `index/` that sled stands in, one after the other.
//!
//! sled's open can fail, panic, abort the process, or hang and keep its file locked. So it is done
//! on a thread of its own, while the file `index/opening` exists: whoever finds that file, or waits
//! too long, leaves the generation alone and begins another one.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_core::Error;

use super::kv::{Kv, SledKv};
use super::{Engine, IndexError, IndexOptions};
use crate::platform;
use crate::sled::varint::MAX_NUMBER;

const MARKER: &str = "opening";

/// Directories whose open hung: their threads may still be at work in them.
static ABANDONED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

/// The generations of one store.
pub(super) struct Generations {
    index: PathBuf,
    engine: Engine,
    sled_cache_bytes: u64,
    timeout: Duration,
}

/// A generation whose sled is open.
pub(super) struct OpenGeneration {
    pub kv: Arc<dyn Kv>,
    pub dir: PathBuf,
    /// Whether the filesystem writes its files through.
    pub sync_flag: bool,
}

impl Generations {
    pub(super) fn new(root: &Path, options: &IndexOptions) -> Result<Self, Error> {
        let index = root.join(super::DIR);
        if !index.is_dir() {
            platform::create_dir(&index).map_err(|e| Error::io("create", &index, e))?;
            platform::sync_dir(root).map_err(|e| Error::io("sync", root, e))?;
        }
        Ok(Self::at(root, options))
    }

    /// The same whether its directory is there or not.
    pub(super) fn at(root: &Path, options: &IndexOptions) -> Self {
        Self {
            index: root.join(super::DIR),
            engine: options.engine,
            sled_cache_bytes: options.sled_cache_bytes,
            timeout: options.open_timeout,
        }
    }

    pub(super) fn dir(&self, generation: u64) -> PathBuf {
        self.index.join(format!("{generation:08}"))
    }

    /// Whether an open was begun and never ended.
    pub(super) fn marker_found(&self) -> bool {
        self.index.join(MARKER).exists()
    }

    /// The highest generation that left anything behind; 0 when there is none.
    pub(super) fn highest(&self) -> Result<u64, Error> {
        Ok(self
            .list()?
            .into_iter()
            .map(|(generation, _)| generation)
            .max()
            .unwrap_or(0))
    }

    /// Opens a generation, or makes it when `fresh`. The marker stays until [`Self::opened`].
    ///
    /// # Errors
    /// `Damaged` when sled did not open: begin another generation.
    pub(super) fn open(&self, generation: u64, fresh: bool) -> Result<OpenGeneration, IndexError> {
        let dir = self.dir(generation);
        let content = format!("{generation}\n");
        platform::replace_file(&self.index, MARKER, content.as_bytes())
            .map_err(|e| Error::io("write", self.index.join(MARKER), e))?;
        if fresh {
            platform::create_dir(&dir).map_err(|e| Error::io("create", &dir, e))?;
            platform::sync_dir(&self.index).map_err(|e| Error::io("sync", &self.index, e))?;
        }
        // Files made afterwards inherit it, so it must stand before sled makes any.
        let sync_flag = platform::set_sync_flag(&dir);
        let kv = match self.engine {
            Engine::Sled => self.open_sled(&dir, fresh)?,
            #[cfg(any(feature = "fuzzing", all(test, feature = "shuttle")))]
            Engine::Memory => Arc::new(super::memory_kv::MemoryKv::default()),
        };
        Ok(OpenGeneration { kv, dir, sync_flag })
    }

    fn open_sled(&self, dir: &Path, fresh: bool) -> Result<Arc<dyn Kv>, IndexError> {
        let (sender, receiver) = sync_channel(1);
        let (thread_dir, cache, timeout) = (dir.to_path_buf(), self.sled_cache_bytes, self.timeout);
        std::thread::Builder::new()
            .name("tidelog-index-open".into())
            .spawn(move || {
                // Nobody listens any more after the time limit: sled is then dropped here.
                let _ = sender.send(open_sled(&thread_dir, cache, timeout, fresh));
            })
            .map_err(|e| Error::io("start a thread to open", dir, e))?;
        match receiver.recv_timeout(self.timeout) {
            Ok(Ok(kv)) => Ok(Arc::new(kv)),
            Ok(Err(error)) => Err(IndexError::damaged(format!("sled did not open: {error}"))),
            Err(RecvTimeoutError::Disconnected) => {
                Err(IndexError::damaged("sled panicked while it was opened"))
            }
            Err(RecvTimeoutError::Timeout) => {
                ABANDONED
                    .lock()
                    .get_or_insert_default()
                    .insert(dir.to_path_buf());
                let seconds = self.timeout.as_secs_f32();
                Err(IndexError::damaged(format!(
                    "sled did not open within {seconds} s"
                )))
            }
        }
    }

    /// Takes the marker away, once the manifest names the generation that is open.
    pub(super) fn opened(&self) -> Result<(), Error> {
        let marker = self.index.join(MARKER);
        match fs::remove_file(&marker) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("remove", marker, error));
            }
            _ => {}
        }
        platform::sync_dir(&self.index).map_err(|e| Error::io("sync", &self.index, e))
    }

    /// Removes all generations but this one, save those that a hung thread may be at work in. What
    /// cannot be removed now is left for the next open.
    pub(super) fn remove_others(&self, keep: u64) {
        // What stands behind a link need not be ours.
        if is_link(&self.index) {
            return;
        }
        let Ok(found) = self.list() else { return };
        for (generation, path) in found {
            let abandoned = || {
                ABANDONED
                    .lock()
                    .as_ref()
                    .is_some_and(|set| set.contains(&path))
            };
            if generation != keep && !abandoned() {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }

    fn list(&self) -> Result<Vec<(u64, PathBuf)>, Error> {
        let failed = |e| Error::io("list", &self.index, e);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.index).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(generation) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // Other names are not ours, and above a higher number there could be none.
            if generation <= MAX_NUMBER && entry.path() == self.dir(generation) {
                found.push((generation, entry.path()));
            }
        }
        Ok(found)
    }
}

fn open_sled(
    dir: &Path,
    cache_bytes: u64,
    patience: Duration,
    fresh: bool,
) -> ::sled::Result<SledKv> {
    fail::fail_point!("sled_open_hang");
    fail::fail_point!("sled_open_abort", |_| std::process::abort());
    if !fresh {
        remove_half_made_snapshots(dir)?;
        let opened = SledKv::open(dir, cache_bytes, patience)?;
        make_private(dir)?;
        return Ok(opened);
    }
    // sled writes a snapshot of itself only when it is opened: the second open makes the first.
    if !SledKv::open(dir, cache_bytes, patience)?.close() {
        // No later sync would write what this one was to.
        let failed = std::io::Error::other("its first sync failed");
        return Err(::sled::Error::Io(failed));
    }
    // Some filesystems (XFS) do not hand the flag down; sled must then open the files anew.
    for entry in fs::read_dir(dir)? {
        platform::set_sync_flag(&entry?.path());
    }
    let made = SledKv::open(dir, cache_bytes, patience)?;
    make_private(dir)?;
    // What was written before a file had the flag stands in the page cache; and not every filesystem
    // syncs names by the directory's flag.
    sync_all(dir)?;
    Ok(made)
}

/// sled makes its files with whatever mode the process makes files with.
fn make_private(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        platform::make_private(&entry?.path())?;
    }
    Ok(())
}

/// A kill while sled is opened can leave them, and it then never opens again. Where a link stands
/// among its files, sled would write to what it leads to: that is refused.
fn remove_half_made_snapshots(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if is_link(&path) {
            let what = format!("{} is a link", path.display());
            return Err(std::io::Error::new(ErrorKind::InvalidData, what));
        }
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Whether a symbolic link stands there.
pub(super) fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}

/// Whether sled spilled nothing into `blobs/`, whose files it never syncs.
pub(super) fn blobs_empty(dir: &Path) -> bool {
    fs::read_dir(dir.join("blobs")).map_or(true, |mut entries| entries.next().is_none())
}

/// Syncs all files of a generation that is closed, where the filesystem does not do it by itself.
pub(super) fn sync_files(dir: &Path) -> Result<(), Error> {
    sync_all(dir).map_err(|e| Error::io("sync", dir, e))
}

fn sync_all(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() {
            fs::File::open(&path)?.sync_all()?;
        }
    }
    platform::sync_dir(dir)
}
