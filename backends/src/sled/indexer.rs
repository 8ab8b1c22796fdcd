//! Seals full segments and puts them into the stream index, on a thread of its own.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tidelog_core::Error;

use super::log::Log;
use super::shared::Shared;
use super::streams::{SegmentEnd, Tail};
use crate::platform;
use crate::primitives::{Condvar, Mutex};

/// Sealed segments that may wait; appends wait beyond.
pub(crate) const BACKLOG: usize = 4;

/// The segments that wait to be indexed.
#[derive(Default)]
pub(crate) struct Indexer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Tail>>,
    /// Waiting or being indexed.
    backlog: usize,
    merging: bool,
    failed: Option<Error>,
    stop: Stop,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stop {
    #[default]
    No,
    WhenDone,
    Now,
}

impl Indexer {
    /// Hands over a full segment.
    pub(crate) fn seal(&self, tail: Arc<Tail>) {
        let mut state = self.state.lock();
        state.backlog += 1;
        state.waiting.push_back(tail);
        self.changed.notify_all();
    }

    /// Waits until fewer than [`BACKLOG`] segments wait.
    pub(crate) fn wait_for_room(&self) -> Result<(), Error> {
        let mut state = self.state.lock();
        while state.backlog >= BACKLOG {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if state.stop == Stop::Now {
                return Err(Error::Closed);
            }
            self.changed.wait(&mut state);
        }
        Ok(())
    }

    /// Waits until everything is indexed and merged.
    pub(crate) fn drain(&self) -> Result<(), Error> {
        let mut state = self.state.lock();
        while state.backlog > 0 || state.merging {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if state.stop == Stop::Now {
                return Err(Error::Closed);
            }
            self.changed.wait(&mut state);
        }
        Ok(())
    }

    /// Waits until `done`, which is asked again whenever a segment was indexed.
    pub(crate) fn wait_until(&self, done: impl Fn() -> bool) -> Result<(), Error> {
        let mut state = self.state.lock();
        while !done() {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if state.stop != Stop::No {
                return Err(Error::Closed);
            }
            self.changed.wait(&mut state);
        }
        Ok(())
    }

    /// Lets whoever waits look again.
    pub(crate) fn wake(&self) {
        // Under the lock, or it falls between looking and waiting.
        let _state = self.state.lock();
        self.changed.notify_all();
    }

    pub(crate) fn backlog(&self) -> usize {
        self.state.lock().backlog
    }

    /// Lets the thread end: at once, or when what waits is indexed.
    pub(crate) fn stop(&self, now: bool) {
        self.state.lock().stop = if now { Stop::Now } else { Stop::WhenDone };
        self.changed.notify_all();
    }

    /// Nothing is indexed any more: tells whoever waits for it.
    pub(crate) fn fail(&self, error: Error) {
        self.state.lock().failed = Some(error);
        self.changed.notify_all();
    }

    fn stops_now(&self) -> bool {
        self.state.lock().stop != Stop::No
    }

    /// What the thread does.
    pub(crate) fn run(&self, shared: &Shared) {
        while let Some(tail) = self.next() {
            #[cfg(feature = "failpoints")]
            fail::fail_point!("indexer");
            let done = seal(&shared.log, &tail).and_then(|()| shared.streams.fold(&tail));
            {
                let mut state = self.state.lock();
                state.merging = true;
                match &done {
                    Ok(()) => state.backlog -= 1,
                    Err(error) => state.failed = Some(error.clone()),
                }
            }
            self.changed.notify_all();
            // Reads go on from memory and from the log; writes would fill memory without end.
            let merged = done.and_then(|()| shared.streams.merge(|| self.stops_now()));
            if let Err(error) = merged {
                shared.refuse(&error);
                self.fail(error);
            }
            self.state.lock().merging = false;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Arc<Tail>> {
        let mut state = self.state.lock();
        loop {
            if state.stop == Stop::Now || state.failed.is_some() && state.stop != Stop::No {
                return None;
            }
            if state.failed.is_none()
                && let Some(tail) = state.waiting.pop_front()
            {
                return Some(tail);
            }
            if state.stop == Stop::WhenDone {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }
}

fn seal(log: &Log, tail: &Tail) -> Result<(), Error> {
    match *tail.end.lock() {
        Some(end) => cut(&log.path(tail.number), end),
        None => Ok(()),
    }
}

/// Cuts a full segment to its length and makes it read-only.
pub(crate) fn cut(path: &Path, end: SegmentEnd) -> Result<(), Error> {
    let file = match File::options().write(true).open(path) {
        Ok(file) => file,
        // Sealed before the store was opened last.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(Error::io("open", path, error)),
    };
    let cut = || {
        file.set_len(end.offset)?;
        file.sync_all()?;
        platform::make_read_only(path)
    };
    cut().map_err(|error| Error::io("seal", path, error))
}
