//! Group commit without a thread of its own: of the threads that wait, one writes for all.

use std::io;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::Outcome;

/// What waits to be written, and by whom.
#[derive(Default)]
struct State {
    /// Bytes of the group that is gathered.
    gathered: Vec<u8>,
    /// Number of that group.
    group: u64,
    /// Groups below this are durable.
    durable: u64,
    /// A thread is writing.
    led: bool,
    /// A write failed; nothing is written any more.
    failed: bool,
}

/// Writes whole groups by `write`.
pub struct Leader<W> {
    state: Mutex<State>,
    // Two, so that the end of a group does not wake those who wait for the next.
    done: [Condvar; 2],
    write: W,
}

impl<W: Fn(&[u8]) -> io::Result<()>> Leader<W> {
    /// Groups are made durable by `write`.
    pub fn new(write: W) -> Self {
        Self {
            state: Mutex::default(),
            done: Default::default(),
            write,
        }
    }

    /// Returns when `record` is durable.
    pub fn append(&self, record: &[u8]) -> Outcome<()> {
        let lock = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = lock();
        state.gathered.extend_from_slice(record);
        let group = state.group;
        let done = &self.done[usize::from(group % 2 == 1)];
        while state.durable <= group {
            if state.failed {
                return Err("a write failed".into());
            }
            if state.led {
                state = done.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.led = true;
            state.group += 1;
            let bytes = std::mem::take(&mut state.gathered);
            drop(state);
            let written = (self.write)(&bytes);
            state = lock();
            state.led = false;
            match written {
                Ok(()) => state.durable = group + 1,
                Err(_) => state.failed = true,
            }
            // Those of this group are done, and of the next one leads.
            done.notify_all();
            let next = &self.done[usize::from(group % 2 == 0)];
            if state.failed {
                next.notify_all();
            } else {
                next.notify_one();
            }
            written?;
        }
        Ok(())
    }
}
