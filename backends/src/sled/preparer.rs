//! Makes the next segment ahead of time, on a thread of its own.

use std::path::PathBuf;
use std::sync::Arc;

use tidelog_core::Error;

use super::segment::{self, Filling, Prepared};
use crate::primitives::{Condvar, Mutex};

/// Segments double up to this size.
pub(crate) struct Preparer {
    log_dir: PathBuf,
    largest: u64,
    filling: Filling,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    asked: Option<(u64, u64)>,
    number: u64,
    /// The newest segment that went into use.
    taken: u64,
    ready: Option<Result<Prepared, Error>>,
    failed: Option<Error>,
    stopped: bool,
}

impl Preparer {
    pub(crate) fn new(log_dir: PathBuf, largest: u64, filling: Filling) -> Arc<Self> {
        Arc::new(Self {
            log_dir,
            largest,
            filling,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Asks for segment `number`, the one before it having `capacity`. Asking twice is once.
    pub(crate) fn ask(&self, number: u64, capacity: u64) {
        let mut state = self.state.lock();
        if state.number < number {
            state.number = number;
            state.ready = None;
            state.asked = Some((number, self.next_capacity(capacity)));
            self.changed.notify_all();
        }
    }

    fn next_capacity(&self, capacity: u64) -> u64 {
        capacity.saturating_mul(2).min(self.largest)
    }

    /// Waits until segment `number` is made, or went into use, or nothing is made any more: whoever
    /// takes it is told why.
    pub(crate) fn wait(&self, number: u64, capacity: u64) {
        self.ask(number, capacity);
        let mut state = self.state.lock();
        while state.number == number
            && state.taken < number
            && state.ready.is_none()
            && state.failed.is_none()
            && !state.stopped
        {
            self.changed.wait(&mut state);
        }
    }

    /// Waits for segment `number`.
    pub(crate) fn take(&self, number: u64, capacity: u64) -> Result<Prepared, Error> {
        self.ask(number, capacity);
        let mut state = self.state.lock();
        let mut again = true;
        loop {
            match state.ready.take() {
                // It may have failed long ago, for want of room that is there now.
                Some(Err(_)) if std::mem::take(&mut again) => {
                    state.asked = Some((number, self.next_capacity(capacity)));
                    self.changed.notify_all();
                }
                Some(ready) => {
                    if ready.is_ok() {
                        state.taken = number;
                        self.changed.notify_all();
                    }
                    return ready;
                }
                None => {}
            }
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if state.stopped {
                return Err(Error::Closed);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Nothing is made any more: tells whoever waits for it.
    pub(crate) fn fail(&self, error: Error) {
        self.state.lock().failed = Some(error);
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// What the thread does.
    pub(crate) fn run(&self) {
        loop {
            let (number, capacity) = {
                let mut state = self.state.lock();
                loop {
                    if state.stopped {
                        return;
                    }
                    if let Some(asked) = state.asked.take() {
                        break asked;
                    }
                    self.changed.wait(&mut state);
                }
            };
            #[cfg(feature = "failpoints")]
            fail::fail_point!("preparer");
            let made = segment::prepare(&self.log_dir, number, capacity, self.filling);
            self.state.lock().ready = Some(made);
            self.changed.notify_all();
        }
    }
}
