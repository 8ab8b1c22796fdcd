//! Listeners' checkpoints: one sealed file each, in `listeners/`, replaced whole.
//!
//! They are the truth, like the log: what a listener has done outside stands nowhere else. So they
//! are apart from everything that is made again, and apart from each other: one listener with many
//! parked streams makes no other's file larger.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tidelog_core::{
    CheckpointClaim, CheckpointStore, Error, EventLog, MAX_CHECKPOINT_BYTES, check_listener_name,
};

use super::handle::Handle;
use super::sealed_file;
use super::shared::Shared;
use super::store::SledStore;
use crate::platform;
use crate::primitives::MutexGuard;

/// The folder they stand in, inside the store's.
pub(crate) const DIR: &str = "listeners";

/// What an open store knows of it.
#[derive(Default)]
pub(crate) struct Folder {
    /// Its name was synced since the store was opened: whoever made it may have been killed before.
    is_durable: bool,
}

const REMEDY: &str = "restore it from a backup, or remove this checkpoint and choose where its \
                      listener begins";

impl CheckpointStore for SledStore {
    fn claim(&self, name: &str) -> Result<CheckpointClaim, Error> {
        self.ensure_open()?;
        let shared = self.shared();
        // A consumer that cannot save would begin again and again.
        shared.format.ensure_writable(&shared.dir)?;
        shared.claims.claim(shared.dir.join(DIR), name)
    }

    async fn load(&self, name: &str) -> Result<Option<Bytes>, Error> {
        check_listener_name(name)?;
        let name = name.to_owned();
        self.read(move |shared| load(&shared.dir, &name)).await
    }

    async fn save(&self, name: &str, position: u64, state: Bytes) -> Result<(), Error> {
        check_listener_name(name)?;
        if state.len() > MAX_CHECKPOINT_BYTES {
            let size = state.len();
            return Err(Error::too_large("checkpoint", size, MAX_CHECKPOINT_BYTES));
        }
        self.ensure_open()?;
        self.check_reached(position)?;
        let (name, handle) = (name.to_owned(), self.handle_arc());
        self.read(move |shared| {
            shared.format.ensure_writable(&shared.dir)?;
            make_durable(shared, &handle, position)?;
            let mut folder = open(shared)?;
            fail::fail_point!("checkpoint_before_save", |_| Err(Error::Closed));
            write(&shared.dir, &name, &state, &mut folder)
        })
        .await
    }

    async fn make_durable(&self, position: u64) -> Result<(), Error> {
        self.ensure_open()?;
        self.check_reached(position)?;
        if position <= self.shared().durable() {
            return Ok(());
        }
        let handle = self.handle_arc();
        self.read(move |shared| make_durable(shared, &handle, position))
            .await
    }

    async fn names(&self) -> Result<Vec<String>, Error> {
        self.read(|shared| names(&shared.dir)).await
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        check_listener_name(name)?;
        let name = name.to_owned();
        self.read(move |shared| {
            shared.format.ensure_writable(&shared.dir)?;
            let _open = open(shared)?;
            remove(&shared.dir, &name)
        })
        .await
    }
}

impl SledStore {
    /// Refuses a place that the log has not reached.
    fn check_reached(&self, position: u64) -> Result<(), Error> {
        let last = self.last_position();
        if position > last {
            let reason = format!("the log ends at {last}");
            return Err(Error::invalid("position", position, reason));
        }
        Ok(())
    }
}

/// Keeps other checkpoints from being written, and the store from being closed: another process may
/// have it open afterwards.
fn open(shared: &Shared) -> Result<MutexGuard<'_, Folder>, Error> {
    let one_at_a_time = shared.checkpoints.lock();
    if shared.live.is_closed() {
        return Err(Error::Closed);
    }
    Ok(one_at_a_time)
}

fn make_durable(shared: &Shared, handle: &Arc<Handle>, position: u64) -> Result<(), Error> {
    if position <= shared.durable() {
        return Ok(());
    }
    let mut committer = handle.lock();
    // Whoever had the lock may have synced it.
    if position <= shared.durable() {
        return Ok(());
    }
    committer.sync_now()
}

fn path(store: &Path, name: &str) -> PathBuf {
    store.join(DIR).join(name)
}

pub(crate) fn load(store: &Path, name: &str) -> Result<Option<Bytes>, Error> {
    let path = path(store, name);
    let Some(bytes) = sealed_file::read(&path)? else {
        return Ok(None);
    };
    let bytes = Bytes::from(bytes);
    let body = sealed_file::unseal_as(name, sealed_file::LISTENER_MAGIC, &bytes)
        .map_err(|what| Error::damaged(&path, what, REMEDY))?;
    Ok(Some(bytes.slice_ref(body)))
}

fn write(store: &Path, name: &str, state: &[u8], folder: &mut Folder) -> Result<(), Error> {
    let dir = store.join(DIR);
    if !folder.is_durable || !dir.is_dir() {
        platform::create_dir(&dir).map_err(|error| Error::io("create", &dir, error))?;
        folder.is_durable = true;
    }
    sealed_file::write_as(&dir, name, sealed_file::LISTENER_MAGIC, state)
}

fn remove(store: &Path, name: &str) -> Result<(), Error> {
    let path = path(store, name);
    match fs::remove_file(&path) {
        Ok(()) => {
            let dir = store.join(DIR);
            platform::sync_dir(&dir).map_err(|error| Error::io("sync", dir, error))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove", path, error)),
    }
}

/// The names saved in the store at `store`, in order. What else stands there is no checkpoint.
pub(crate) fn names(store: &Path) -> Result<Vec<String>, Error> {
    let dir = store.join(DIR);
    let failed = |error| Error::io("list", &dir, error);
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if !entry.file_type().map_err(failed)?.is_file() {
            continue;
        }
        let name = entry.file_name();
        let name = name
            .to_str()
            .filter(|name| check_listener_name(name).is_ok());
        names.extend(name.map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

/// What is saved in a store, taken before the end of its log is: none of it is ahead of what is
/// copied then.
pub(crate) struct Saved(Vec<(String, Vec<u8>)>);

impl Saved {
    /// What stands in the store at `store`, byte for byte.
    pub(crate) fn as_it_stands(store: &Path) -> Result<Self, Error> {
        let mut saved = Vec::new();
        for name in names(store)? {
            // One removed meanwhile is no more to be copied.
            if let Some(bytes) = sealed_file::read(&path(store, &name))? {
                saved.push((name, bytes));
            }
        }
        Ok(Self(saved))
    }

    /// The same, if all of it is whole.
    pub(crate) fn whole(store: &Path) -> Result<Self, Error> {
        let saved = Self::as_it_stands(store)?;
        for (name, bytes) in &saved.0 {
            sealed_file::unseal_as(name, sealed_file::LISTENER_MAGIC, bytes)
                .map_err(|what| Error::damaged(path(store, name), what, REMEDY))?;
        }
        Ok(saved)
    }

    /// Puts it into the store at `store`, where nothing else is saved afterwards.
    pub(crate) fn put(&self, store: &Path) -> Result<(), Error> {
        for name in names(store)? {
            if !self.0.iter().any(|(saved, _)| *saved == name) {
                remove(store, &name)?;
            }
        }
        let dir = store.join(DIR);
        if !self.0.is_empty() {
            platform::create_dir(&dir).map_err(|error| Error::io("create", &dir, error))?;
        }
        for (name, bytes) in &self.0 {
            platform::replace_file(&dir, name, bytes)
                .map_err(|error| Error::io("replace", dir.join(name), error))?;
        }
        Ok(())
    }
}
