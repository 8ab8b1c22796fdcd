//! Listeners' checkpoints in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_core::{
    CheckpointClaim, CheckpointStore, Error, MAX_CHECKPOINT_BYTES, check_listener_name,
};

use super::{MemoryStore, Shared};
use crate::claims::Claims;

/// What listeners have saved, and who is at work.
#[derive(Default)]
pub(super) struct Checkpoints {
    saved: Mutex<BTreeMap<String, Bytes>>,
    claimed: Claims,
}

impl Shared {
    /// Refuses a place that the log has not reached.
    fn check_reached(&self, position: u64) -> Result<(), Error> {
        let last = self.with_model(|model| Ok(model.last_position()))?;
        if position > last {
            let reason = format!("the log ends at {last}");
            return Err(Error::invalid("position", position, reason));
        }
        Ok(())
    }

    /// Does `work` on what is saved, unless the store is closed.
    fn with_saved<T>(
        &self,
        work: impl FnOnce(&mut BTreeMap<String, Bytes>) -> T,
    ) -> Result<T, Error> {
        self.with_model(|_| Ok(work(&mut self.checkpoints.saved.lock())))
    }
}

impl CheckpointStore for MemoryStore {
    fn claim(&self, name: &str) -> Result<CheckpointClaim, Error> {
        let shared = self.shared();
        shared.with_model(|_| shared.checkpoints.claimed.claim("memory".into(), name))
    }

    async fn load(&self, name: &str) -> Result<Option<Bytes>, Error> {
        check_listener_name(name)?;
        self.shared().with_saved(|saved| saved.get(name).cloned())
    }

    async fn save(&self, name: &str, position: u64, state: Bytes) -> Result<(), Error> {
        check_listener_name(name)?;
        if state.len() > MAX_CHECKPOINT_BYTES {
            let size = state.len();
            return Err(Error::too_large("checkpoint", size, MAX_CHECKPOINT_BYTES));
        }
        self.shared().check_reached(position)?;
        self.shared().with_saved(|saved| {
            saved.insert(name.to_owned(), state);
        })
    }

    async fn make_durable(&self, position: u64) -> Result<(), Error> {
        self.shared().check_reached(position)
    }

    async fn names(&self) -> Result<Vec<String>, Error> {
        let names = |saved: &mut BTreeMap<String, Bytes>| saved.keys().cloned().collect();
        self.shared().with_saved(names)
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        check_listener_name(name)?;
        self.shared().with_saved(|saved| {
            saved.remove(name);
        })
    }
}
