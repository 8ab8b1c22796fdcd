//! Shuttle's locks behind the calls of `parking_lot`, and an answer that shuttle may come between.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::Duration;

use shuttle::rand::RngCore;
use shuttle::{sync, thread};

#[derive(Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

/// Empty only inside [`Condvar::wait`] and [`Condvar::wait_for`].
pub(crate) struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>, &'a Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard(Some(guard), self)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(MutexGuard(Some(guard), self)),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => {
                Some(MutexGuard(Some(poisoned.into_inner()), self))
            }
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().unwrap()
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().unwrap()
    }
}

#[derive(Default)]
pub(crate) struct Condvar(sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.0.take().unwrap();
        guard.0 = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
    }

    /// The scheduler decides whether the time is up: after others had a turn or two, or never.
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _limit: Duration) -> TimedOut {
        let time_is_up = shuttle::rand::thread_rng().next_u64() % 2 == 0;
        if time_is_up {
            guard.0 = None;
            thread::yield_now();
            guard.0 = guard.1.lock().0;
        } else {
            self.wait(guard);
        }
        TimedOut(time_is_up)
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Whether a wait ended because its time was up.
pub(crate) struct TimedOut(bool);

impl TimedOut {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

pub(crate) struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The crate's own channel. Shuttle cannot look inside, so each call on it is one step, before
/// which any other thread may run.
pub(crate) mod oneshot {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use oneshot::{RecvError, SendError};
    use shuttle::sync::atomic::{AtomicBool, Ordering};

    fn anything_may_happen() {
        AtomicBool::new(false).load(Ordering::SeqCst);
    }

    pub(crate) struct Sender<T>(Option<oneshot::Sender<T>>);

    pub(crate) struct AsyncReceiver<T>(Option<oneshot::AsyncReceiver<T>>);

    pub(crate) fn async_channel<T>() -> (Sender<T>, AsyncReceiver<T>) {
        let (sender, receiver) = oneshot::async_channel();
        (Sender(Some(sender)), AsyncReceiver(Some(receiver)))
    }

    impl<T> Sender<T> {
        pub(crate) fn send(mut self, value: T) -> Result<(), SendError<T>> {
            anything_may_happen();
            self.0.take().unwrap().send(value)
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            if self.0.is_some() {
                anything_may_happen();
            }
        }
    }

    impl<T> Future for AsyncReceiver<T> {
        type Output = Result<T, RecvError>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            anything_may_happen();
            Pin::new(self.0.as_mut().unwrap()).poll(cx)
        }
    }

    impl<T> Drop for AsyncReceiver<T> {
        fn drop(&mut self) {
            anything_may_happen();
        }
    }
}
