//! News for many waiters, told without holding a lock.
//!
//! Wakers are foreign code: one may drop the future that waits here, or the store's last handle.
//! The event-listener crate wakes under its own lock, where both would deadlock (a test in
//! `tests/closing.rs` shows it); so this one takes the wakers out first.

use crate::primitives::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Something that happens again and again.
#[derive(Default)]
pub(crate) struct Signal(Mutex<State>);

#[derive(Default)]
struct State {
    round: u64,
    next_listener: u64,
    /// In the order of listening, and so they are woken.
    waiting: BTreeMap<u64, Waker>,
}

impl Signal {
    /// Wakes all who listen.
    pub(crate) fn notify(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.round += 1;
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting.into_values() {
            waker.wake();
        }
    }

    /// How many wakers it holds.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// Resolves at the first `notify` after this call.
    pub(crate) fn listen(self: &Arc<Self>) -> Listener {
        let mut state = self.0.lock();
        let id = state.next_listener;
        state.next_listener += 1;
        Listener {
            signal: Arc::clone(self),
            id,
            round: state.round,
        }
    }
}

/// A wait for one [`Signal`]; given up when dropped.
pub(crate) struct Listener {
    signal: Arc<Signal>,
    id: u64,
    round: u64,
}

impl Future for Listener {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let replaced = {
            let mut state = self.signal.0.lock();
            if state.round != self.round {
                return Poll::Ready(());
            }
            state.waiting.insert(self.id, waker)
        };
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let left = self.signal.0.lock().waiting.remove(&self.id);
        drop(left);
    }
}

#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests {
    use super::*;

    #[test]
    fn news_between_listening_and_polling_are_not_missed() {
        let signal = Arc::new(Signal::default());
        let listener = signal.listen();
        signal.notify();
        pollster::block_on(listener);
    }

    #[test]
    fn every_listener_is_woken() {
        let signal = Arc::new(Signal::default());
        let listeners: Vec<_> = (0..9).map(|_| signal.listen()).collect();
        let waiters: Vec<_> = listeners
            .into_iter()
            .map(|listener| std::thread::spawn(move || pollster::block_on(listener)))
            .collect();
        signal.notify();
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(signal.waiting(), 0);
    }

    #[test]
    fn a_listener_that_is_dropped_leaves_nothing() {
        let signal = Arc::new(Signal::default());
        let mut listener = signal.listen();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut listener).poll(&mut cx).is_pending());
        drop(listener);
        assert_eq!(signal.waiting(), 0);
    }
}
