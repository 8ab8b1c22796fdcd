//! Names that one consumer of a process has at a time.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_core::{CheckpointClaim, Error, check_listener_name};

/// The names that are claimed; each claim holds the set.
#[derive(Clone, Default)]
pub(crate) struct Claims(Arc<Mutex<BTreeSet<String>>>);

impl Claims {
    /// Claims `name` until the answer is dropped; `store` is where it is claimed in.
    pub(crate) fn claim(&self, store: PathBuf, name: &str) -> Result<CheckpointClaim, Error> {
        check_listener_name(name)?;
        if !self.0.lock().insert(name.to_owned()) {
            return Err(Error::Locked {
                path: store,
                holder: format!("another listener called {name} in this process").into(),
            });
        }
        Ok(CheckpointClaim::new(Claimed {
            names: self.clone(),
            name: name.to_owned(),
        }))
    }
}

struct Claimed {
    names: Claims,
    name: String,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.names.0.lock().remove(&self.name);
    }
}
