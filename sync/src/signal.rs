//! News for whoever waits, told outside of all locks: a waker is foreign code, and may drop the last
//! handle of the store.

use std::collections::BTreeMap;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

#[derive(Default)]
pub(crate) struct Signal(Mutex<State>);

#[derive(Default)]
struct State {
    /// How often there were news.
    news: u64,
    next: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl Signal {
    /// Ends the waiting of all who listen.
    pub(crate) fn notify(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.news += 1;
            mem::take(&mut state.waiting)
        };
        for waker in waiting.into_values() {
            // One that panics must not leave the others waiting.
            if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
                tracing::error!("a waker panicked");
            }
        }
    }

    /// Ends with the first news after this call.
    pub(crate) fn listen(&self) -> Listener<'_> {
        let mut state = self.0.lock();
        state.next += 1;
        Listener {
            signal: self,
            heard: state.news,
            key: state.next,
        }
    }
}

pub(crate) struct Listener<'a> {
    signal: &'a Signal,
    heard: u64,
    key: u64,
}

impl Future for Listener<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.signal.0.lock();
        if state.news != self.heard {
            return Poll::Ready(());
        }
        let before = state.waiting.insert(self.key, cx.waker().clone());
        drop(state);
        // Foreign code as well.
        drop(before);
        Poll::Pending
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let before = self.signal.0.lock().waiting.remove(&self.key);
        drop(before);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    struct Renotify(Arc<Signal>, Mutex<u32>);

    impl Wake for Renotify {
        fn wake(self: Arc<Self>) {
            *self.1.lock() += 1;
            self.0.notify();
        }
    }

    #[test]
    fn who_listened_before_is_told_once_and_a_waker_may_tell_in_turn() {
        let signal = Arc::new(Signal::default());
        let counting = Arc::new(Renotify(Arc::clone(&signal), Mutex::new(0)));
        let waker = Waker::from(Arc::clone(&counting));
        let mut cx = Context::from_waker(&waker);
        let mut listener = signal.listen();
        assert!(Pin::new(&mut listener).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut listener).poll(&mut cx).is_pending());
        signal.notify();
        assert_eq!(*counting.1.lock(), 1);
        assert!(Pin::new(&mut listener).poll(&mut cx).is_ready());
        let mut later = signal.listen();
        assert!(Pin::new(&mut later).poll(&mut cx).is_pending());
        drop(later);
        signal.notify();
        assert_eq!(*counting.1.lock(), 1, "who has gone is not told");
    }

    #[test]
    fn one_that_panics_leaves_no_other_waiting() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("on purpose");
            }
        }
        let signal = Arc::new(Signal::default());
        let panics = Waker::from(Arc::new(Panics));
        let counting = Arc::new(Renotify(Arc::default(), Mutex::new(0)));
        let (mut first, mut second) = (signal.listen(), signal.listen());
        let first = Pin::new(&mut first).poll(&mut Context::from_waker(&panics));
        let waker = Waker::from(Arc::clone(&counting));
        let second = Pin::new(&mut second).poll(&mut Context::from_waker(&waker));
        assert!(first.is_pending() && second.is_pending());
        signal.notify();
        assert_eq!(*counting.1.lock(), 1);
    }
}
