//! Whether the store is open, and how many calls are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use event_listener::Event;
use tidelog_core::Error;

/// Lets calls in until it is closed; a handle.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Shared>);

#[derive(Default)]
struct Shared {
    is_closed: AtomicBool,
    calls: AtomicUsize,
    changed: Event,
}

/// A call that is under way.
pub(crate) struct Call(Arc<Shared>);

impl Gate {
    /// # Errors
    /// [`Error::Closed`].
    pub(crate) fn enter(&self) -> Result<Call, Error> {
        // Counted first: whoever closes then waits for it, or it sees that it is closed.
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let call = Call(Arc::clone(&self.0));
        if self.is_closed() {
            return Err(Error::Closed);
        }
        Ok(call)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::SeqCst)
    }

    pub(crate) fn close(&self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
        self.0.changed.notify(usize::MAX);
    }

    /// Waits until it is closed.
    pub(crate) async fn closed(&self) {
        self.until(|shared| shared.is_closed.load(Ordering::SeqCst))
            .await;
    }

    /// Waits until no call is under way.
    pub(crate) async fn idle(&self) {
        self.until(|shared| shared.calls.load(Ordering::SeqCst) == 0)
            .await;
    }

    async fn until(&self, holds: impl Fn(&Shared) -> bool) {
        loop {
            let changed = self.0.changed.listen();
            if holds(&self.0) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn whoever_closes_waits_for_calls_under_way() {
        let gate = Gate::default();
        let call = gate.enter().unwrap();
        let (mut closed, mut idle) = (pin!(gate.closed()), pin!(gate.idle()));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(closed.as_mut().poll(cx).is_pending());
        gate.close();
        assert!(closed.as_mut().poll(cx).is_ready());
        assert!(matches!(gate.enter(), Err(Error::Closed)));
        assert!(idle.as_mut().poll(cx).is_pending());
        drop(call);
        assert!(idle.as_mut().poll(cx).is_ready());
    }
}
