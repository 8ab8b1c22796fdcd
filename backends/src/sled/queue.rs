//! Work that waits for the store's own threads: appends for the writer, reads for the readers.

use crate::primitives::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::Duration;

/// First come, first served, until it is stopped.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Something came, or nothing will any more.
    changed: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    /// Threads inside [`Queue::next`] that found nothing.
    idle: usize,
    nudged: bool,
    stopped: bool,
}

/// Why [`Queue::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Something is there.
    Work,
    /// By [`Queue::nudge`].
    Nudged,
    /// Nothing came in time.
    TimeUp,
    /// Nothing will come any more.
    Stopped,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            idle: 0,
            nudged: false,
            stopped: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Adds `item`; gives it back once the queue is stopped.
    #[must_use]
    pub(crate) fn push(&self, item: T) -> Option<T> {
        let mut state = self.state.lock();
        if state.stopped {
            return Some(item);
        }
        state.waiting.push_back(item);
        drop(state);
        self.changed.notify_one();
        None
    }

    /// Adds what `item` makes if somebody is idle and takes it at once.
    pub(crate) fn offer(&self, item: impl FnOnce() -> T) {
        let mut state = self.state.lock();
        if state.idle > state.waiting.len() && !state.stopped {
            state.waiting.push_back(item());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Whether anything waits.
    pub(crate) fn busy(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }

    /// What came first, when anything is there.
    pub(crate) fn take(&self) -> Option<T> {
        self.state.lock().waiting.pop_front()
    }

    /// Waits until something is there, and takes nothing; without a limit as long as it takes.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Woken {
        let mut state = self.state.lock();
        let mut time_up = false;
        loop {
            if state.stopped {
                return Woken::Stopped;
            }
            if !state.waiting.is_empty() {
                return Woken::Work;
            }
            if std::mem::take(&mut state.nudged) {
                return Woken::Nudged;
            }
            if time_up {
                return Woken::TimeUp;
            }
            match limit {
                Some(limit) => time_up = self.changed.wait_for(&mut state, limit).timed_out(),
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// Lets [`wait`](Self::wait) return though nothing came: the call under way, or else the next.
    pub(crate) fn nudge(&self) {
        self.state.lock().nudged = true;
        self.changed.notify_one();
    }

    /// Waits for what came first and takes it; `None` once the queue is stopped.
    pub(crate) fn next(&self) -> Option<T> {
        let mut state = self.state.lock();
        while !state.stopped {
            if let Some(item) = state.waiting.pop_front() {
                return Some(item);
            }
            state.idle += 1;
            self.changed.wait(&mut state);
            state.idle -= 1;
        }
        None
    }

    /// From now on nothing waits here; what did is handed out, to be answered by the caller.
    #[must_use]
    pub(crate) fn stop(&self) -> VecDeque<T> {
        let mut state = self.state.lock();
        state.stopped = true;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        self.changed.notify_all();
        left
    }
}

#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests {
    use super::*;

    #[test]
    fn what_came_first_is_taken_first() {
        let queue = Queue::new();
        assert!((0..3).all(|item| queue.push(item).is_none()));
        assert_eq!(queue.wait(None), Woken::Work);
        assert_eq!(
            [queue.take(), queue.next(), queue.take()],
            [Some(0), Some(1), Some(2)]
        );
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn a_stopped_queue_hands_out_what_waited_and_gives_back_what_comes() {
        let queue = Queue::new();
        assert_eq!(queue.push(1), None);
        assert_eq!(queue.stop(), [1]);
        assert_eq!(queue.push(2), Some(2));
        assert_eq!(queue.wait(None), Woken::Stopped);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_nudge_ends_one_wait_and_a_limit_each() {
        let queue = Queue::new();
        let limit = Some(Duration::from_millis(1));
        queue.nudge();
        queue.nudge();
        assert_eq!(queue.wait(None), Woken::Nudged);
        assert_eq!(queue.wait(limit), Woken::TimeUp);
        queue.nudge();
        assert_eq!(queue.push(1), None);
        assert_eq!(queue.wait(limit), Woken::Work, "it counts more");
        assert_eq!(queue.take(), Some(1));
        assert_eq!(queue.wait(limit), Woken::Nudged);
    }

    #[test]
    fn everybody_who_waits_is_woken_when_the_queue_is_stopped() {
        let queue = Queue::<()>::new();
        std::thread::scope(|scope| {
            let waiters = [
                scope.spawn(|| queue.wait(None) != Woken::Stopped),
                scope.spawn(|| queue.next().is_some()),
            ];
            assert!(queue.stop().is_empty());
            assert!(waiters.map(|waiter| waiter.join().unwrap()) == [false, false]);
        });
    }
}
