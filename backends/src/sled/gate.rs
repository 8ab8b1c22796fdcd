//! Bounds in bytes what waits to be written.

use std::sync::Arc;

use event_listener::{Event, Listener};
use parking_lot::Mutex;

/// Lets bytes in until there are `limit` of them; one larger piece is let in alone.
pub(crate) struct ByteGate {
    limit: usize,
    inside: Mutex<usize>,
    left: Event,
}

impl ByteGate {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            inside: Mutex::new(0),
            left: Event::new(),
        })
    }

    /// Waits for room without blocking the thread.
    pub(crate) async fn enter(self: &Arc<Self>, bytes: usize) -> Permit {
        loop {
            if let Some(permit) = self.try_enter(bytes) {
                return permit;
            }
            let listener = self.left.listen();
            if let Some(permit) = self.try_enter(bytes) {
                return permit;
            }
            listener.await;
        }
    }

    /// Waits for room.
    pub(crate) fn enter_blocking(self: &Arc<Self>, bytes: usize) -> Permit {
        loop {
            if let Some(permit) = self.try_enter(bytes) {
                return permit;
            }
            let listener = self.left.listen();
            if let Some(permit) = self.try_enter(bytes) {
                return permit;
            }
            listener.wait();
        }
    }

    fn try_enter(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        let mut inside = self.inside.lock();
        if *inside > 0 && *inside + bytes > self.limit {
            return None;
        }
        *inside += bytes;
        Some(Permit {
            gate: Arc::clone(self),
            bytes,
        })
    }
}

/// Room inside a [`ByteGate`]; given back when dropped.
pub(crate) struct Permit {
    gate: Arc<ByteGate>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.gate.inside.lock() -= self.bytes;
        self.gate.left.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_above_the_limit_enters_alone() {
        let gate = ByteGate::new(10);
        let large = gate.try_enter(50).unwrap();
        assert!(gate.try_enter(1).is_none());
        drop(large);
        let small = gate.try_enter(10).unwrap();
        assert!(gate.try_enter(1).is_none());
        drop(small);
        assert!(gate.try_enter(1).is_some());
    }

    #[test]
    fn a_waiter_is_woken_when_room_is_given_back() {
        let gate = ByteGate::new(10);
        let permit = gate.enter_blocking(10);
        let waiter = std::thread::spawn({
            let gate = Arc::clone(&gate);
            move || drop(gate.enter_blocking(10))
        });
        drop(permit);
        waiter.join().unwrap();
    }
}
