//! Who works on a stream: one append at a time, and none before the reads that were asked for first.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use event_listener::Event;
use parking_lot::Mutex;
use tidelog_core::StreamId;

/// Turns of streams. Within one store appends to one stream wait for each other here, first come
/// first served, and not by losing conditional writes to each other.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Streams that somebody has, and who waits for them.
    taken: Mutex<HashMap<StreamId, VecDeque<oneshot::Sender<Turn>>>>,
    pins: Mutex<Pins>,
    pinned: Event,
}

/// Reads that have not seen their stream's head yet, numbered as they were asked for.
#[derive(Default)]
struct Pins {
    next: u64,
    open: HashMap<StreamId, BTreeSet<u64>>,
}

/// The right to append to a stream; passed on when it is dropped.
pub(crate) struct Turn(Option<(Arc<Shared>, StreamId)>);

/// A read that has not seen its stream's head yet.
pub(crate) struct Pin(Arc<Shared>, StreamId, u64);

impl Turns {
    /// Waits for a turn of `stream`.
    pub(crate) async fn take(&self, stream: &StreamId) -> Turn {
        loop {
            let waits = {
                let mut taken = self.0.taken.lock();
                match taken.get_mut(stream) {
                    None => {
                        taken.insert(stream.clone(), VecDeque::new());
                        return Turn(Some((Arc::clone(&self.0), stream.clone())));
                    }
                    Some(queue) => {
                        let (give, given) = oneshot::channel();
                        queue.push_back(give);
                        given
                    }
                }
            };
            if let Ok(turn) = waits.await {
                return turn;
            }
        }
    }

    /// Notes a read of `stream` whose head is still to be seen.
    pub(crate) fn pin(&self, stream: &StreamId) -> Pin {
        let mut pins = self.0.pins.lock();
        let number = pins.next;
        pins.next += 1;
        pins.open.entry(stream.clone()).or_default().insert(number);
        Pin(Arc::clone(&self.0), stream.clone(), number)
    }

    /// Waits until no read of `stream` that was asked for before this has its head still to see: it
    /// must not have in it what is appended next. Those asked for since are not waited for: there may
    /// be one at any time.
    pub(crate) async fn unpinned(&self, stream: &StreamId) {
        let mut before = None;
        loop {
            let changed = {
                let pins = self.0.pins.lock();
                let before = *before.get_or_insert(pins.next);
                let oldest = pins.open.get(stream).and_then(BTreeSet::first);
                if oldest.is_none_or(|oldest| *oldest >= before) {
                    return;
                }
                self.0.pinned.listen()
            };
            changed.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((shared, stream)) = self.0.take() else {
            return;
        };
        loop {
            let next = {
                let mut taken = shared.taken.lock();
                match taken.get_mut(&stream).and_then(VecDeque::pop_front) {
                    Some(next) => next,
                    None => {
                        taken.remove(&stream);
                        return;
                    }
                }
            };
            let turn = Turn(Some((Arc::clone(&shared), stream.clone())));
            match next.send(turn) {
                Ok(()) => return,
                // Nobody waits there any more: the turn comes back, and is no longer one.
                Err(refused) => refused.into_inner().0 = None,
            }
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.0.pins.lock();
        if let Some(open) = pins.open.get_mut(&self.1) {
            open.remove(&self.2);
            if open.is_empty() {
                pins.open.remove(&self.1);
            }
        }
        drop(pins);
        self.0.pinned.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn stream(id: &str) -> StreamId {
        StreamId::new("Test", id).unwrap()
    }

    #[test]
    fn turns_come_in_the_order_they_were_asked_for() {
        let turns = Turns::default();
        let (a, b) = (stream("a"), stream("b"));
        let first = pollster::block_on(turns.take(&a));
        let _other = pollster::block_on(turns.take(&b));
        let (mut second, mut third) = (pin!(turns.take(&a)), pin!(turns.take(&a)));
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        drop(first);
        assert!(poll(third.as_mut()).is_pending());
        let Poll::Ready(second) = poll(second.as_mut()) else {
            panic!("it was its turn");
        };
        drop(second);
        assert!(poll(third.as_mut()).is_ready());
    }

    #[test]
    fn who_gave_up_waiting_is_passed_over() {
        let turns = Turns::default();
        let a = stream("a");
        let first = pollster::block_on(turns.take(&a));
        for _ in 0..100 {
            let mut gone = Box::pin(turns.take(&a));
            assert!(poll(gone.as_mut()).is_pending());
        }
        // This one is given the turn and never looks at it.
        let mut late = Box::pin(turns.take(&a));
        assert!(poll(late.as_mut()).is_pending());
        drop(first);
        drop(late);
        drop(pollster::block_on(turns.take(&a)));
        assert!(turns.0.taken.lock().is_empty());
    }

    #[test]
    fn appends_wait_for_reads_that_were_asked_for_first() {
        let turns = Turns::default();
        let (a, b) = (stream("a"), stream("b"));
        let (one, two) = (turns.pin(&a), turns.pin(&a));
        let mut waits = pin!(turns.unpinned(&a));
        assert!(poll(waits.as_mut()).is_pending());
        pollster::block_on(turns.unpinned(&b));
        drop(one);
        assert!(poll(waits.as_mut()).is_pending());
        drop(two);
        assert!(poll(waits.as_mut()).is_ready());
        assert!(turns.0.pins.lock().open.is_empty());
    }

    #[test]
    fn reads_without_an_end_do_not_hold_up_an_append() {
        let turns = Turns::default();
        let a = stream("a");
        let mut asked = turns.pin(&a);
        let mut waits = pin!(turns.unpinned(&a));
        assert!(poll(waits.as_mut()).is_pending());
        // The next one is asked for before the last one has seen the head.
        let next = turns.pin(&a);
        drop(std::mem::replace(&mut asked, next));
        assert!(poll(waits.as_mut()).is_ready());
    }
}
