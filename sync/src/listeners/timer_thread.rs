//! Waiting without a runtime.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tidelog_core::{BoxFuture, Sleeper};

/// Waits by the machine's own passing of time, on any runtime or none: a thread wakes whoever is
/// due. It is started when the first one waits, and ends with the last clone.
///
/// ```
/// use std::time::Duration;
/// use tidelog::{Sleeper, ThreadSleeper};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// ThreadSleeper::new().sleep(Duration::from_millis(1)).await;
/// # }
/// ```
#[derive(Clone, Default)]
pub struct ThreadSleeper(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waits: Arc<Waits>,
}

#[derive(Default)]
struct Waits {
    queue: Mutex<Queue>,
    /// Notified when an earlier wait than all others came, and at the end.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    next: u64,
    wakers: BTreeMap<(Instant, u64), Waker>,
    has_thread: bool,
    is_over: bool,
}

impl ThreadSleeper {
    /// Without a thread, until somebody waits.
    pub fn new() -> Self {
        Self::default()
    }
}

impl std::fmt::Debug for ThreadSleeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadSleeper").finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.waits.queue.lock().is_over = true;
        self.waits.changed.notify_all();
    }
}

impl Sleeper for ThreadSleeper {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        // Beyond what an `Instant` can say nobody waits to the end.
        let now = Instant::now();
        let until = now
            .checked_add(duration)
            .unwrap_or_else(|| now + Duration::from_secs(1 << 31));
        Box::pin(Wait {
            shared: Arc::clone(&self.0),
            until,
            key: None,
        })
    }
}

struct Wait {
    // Whoever waits keeps the thread.
    shared: Arc<Shared>,
    until: Instant,
    key: Option<(Instant, u64)>,
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.until {
            return Poll::Ready(());
        }
        let waits = Arc::clone(&self.shared.waits);
        let mut queue = waits.queue.lock();
        let key = self.key.unwrap_or_else(|| {
            queue.next += 1;
            (self.until, queue.next)
        });
        let is_first = queue.wakers.keys().next().is_none_or(|first| key < *first);
        match queue.wakers.get_mut(&key) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => drop(queue.wakers.insert(key, cx.waker().clone())),
        }
        self.key = Some(key);
        if !std::mem::replace(&mut queue.has_thread, true) {
            let weak = Arc::downgrade(&waits);
            let thread = thread::Builder::new().name("tidelog-timer".into());
            if let Err(error) = thread.spawn(move || wake(&weak)) {
                // Tried again with the next poll; until then this wait is over too early.
                tracing::error!(%error, "the timer thread does not start");
                queue.has_thread = false;
                return Poll::Ready(());
            }
        } else if is_first {
            waits.changed.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.shared.waits.queue.lock().wakers.remove(&key);
            // Not under the lock: with it a task may go that waits here, too.
            drop(waker);
        }
    }
}

fn wake(waits: &Weak<Waits>) {
    let Some(waits) = waits.upgrade() else { return };
    let mut queue = waits.queue.lock();
    while !queue.is_over {
        let now = Instant::now();
        let later = queue.wakers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut queue.wakers, later);
        if !due.is_empty() {
            parking_lot::MutexGuard::unlocked(&mut queue, || {
                due.into_values().for_each(Waker::wake);
            });
            continue;
        }
        match queue.wakers.keys().next() {
            Some((until, _)) => {
                let until = *until;
                waits.changed.wait_until(&mut queue, until);
            }
            None => waits.changed.wait(&mut queue),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_waits_ends_and_not_before_its_time() {
        let sleeper = ThreadSleeper::new();
        thread::scope(|scope| {
            for millis in [40, 1, 20] {
                let sleeper = &sleeper;
                scope.spawn(move || {
                    let begun = Instant::now();
                    let duration = Duration::from_millis(millis);
                    pollster::block_on(sleeper.sleep(duration));
                    assert!(begun.elapsed() >= duration);
                });
            }
        });
        assert!(sleeper.0.waits.queue.lock().wakers.is_empty());
    }

    #[test]
    fn a_wait_outlives_the_sleeper_that_made_it() {
        let wait = ThreadSleeper::new().sleep(Duration::from_millis(1));
        pollster::block_on(wait);
    }
}
