//! Commands to one account take turns: decided side by side, all but one would be decided in vain.

use std::hash::{BuildHasher as _, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// Accounts that share a turn by chance are few beside those that are changed at once.
const TURNS: usize = 1_024;

/// One turn for each account, or several of them.
pub(super) struct Turns {
    turns: Vec<Mutex<()>>,
    /// Nobody outside can tell which accounts share one.
    hasher: RandomState,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            turns: (0..TURNS).map(|_| Mutex::new(())).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Waits until it is the turn of this command, which is over when the answer is dropped; who came
    /// first is first. `None` for what is about nothing that is there yet.
    pub(super) async fn of(&self, account: &str) -> Option<MutexGuard<'_, ()>> {
        if account.is_empty() {
            return None;
        }
        let number = self.hasher.hash_one(account) % TURNS as u64;
        let turn = self.turns.get(usize::try_from(number).ok()?)?;
        Some(turn.lock().await)
    }
}
