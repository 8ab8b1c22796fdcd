//! Bounds in bytes what waits to be written.

use std::collections::VecDeque;
use std::sync::Arc;

use super::signal::Signal;
use crate::primitives::{Mutex, block_on};

/// Lets bytes in, first come first served, until there are `limit` of them; one larger piece is let
/// in alone.
pub(crate) struct ByteGate {
    limit: usize,
    state: Mutex<State>,
    changed: Arc<Signal>,
}

#[derive(Default)]
struct State {
    inside: usize,
    /// Who waits, in order: nobody passes a piece that came before, so large ones do not starve.
    waiting: VecDeque<u64>,
    next_ticket: u64,
}

impl ByteGate {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            state: Mutex::default(),
            changed: Arc::default(),
        })
    }

    /// Bytes inside, and how many wait for room.
    #[cfg(test)]
    #[cfg(feature = "shuttle")]
    pub(crate) fn load(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.inside, state.waiting.len())
    }

    /// Waits for room without blocking the thread.
    pub(crate) async fn enter(self: &Arc<Self>, bytes: usize) -> Permit {
        let mut place = Place::new(self);
        loop {
            let listener = self.changed.listen();
            if let Some(permit) = place.try_enter(bytes) {
                return permit;
            }
            listener.await;
        }
    }

    /// Waits for room.
    pub(crate) fn enter_blocking(self: &Arc<Self>, bytes: usize) -> Permit {
        block_on(self.enter(bytes))
    }
}

/// A place in the line; given up when dropped.
struct Place {
    gate: Arc<ByteGate>,
    ticket: Option<u64>,
}

impl Place {
    fn new(gate: &Arc<ByteGate>) -> Self {
        Self {
            gate: Arc::clone(gate),
            ticket: None,
        }
    }

    fn try_enter(&mut self, bytes: usize) -> Option<Permit> {
        let mut state = self.gate.state.lock();
        let is_next = match self.ticket {
            None => state.waiting.is_empty(),
            Some(_) => state.waiting.front().copied() == self.ticket,
        };
        if is_next && (state.inside == 0 || state.inside + bytes <= self.gate.limit) {
            state.inside += bytes;
            if self.ticket.take().is_some() {
                state.waiting.pop_front();
                // The next in line may fit as well.
                drop(state);
                self.gate.changed.notify();
            }
            return Some(Permit {
                gate: Arc::clone(&self.gate),
                bytes,
            });
        }
        if self.ticket.is_none() {
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.waiting.push_back(ticket);
            self.ticket = Some(ticket);
        }
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.gate
                .state
                .lock()
                .waiting
                .retain(|waiting| *waiting != ticket);
            self.gate.changed.notify();
        }
    }
}

/// Room inside a [`ByteGate`]; given back when dropped.
pub(crate) struct Permit {
    gate: Arc<ByteGate>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.state.lock().inside -= self.bytes;
        self.gate.changed.notify();
    }
}

#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests {
    use super::*;

    fn try_once(gate: &Arc<ByteGate>, bytes: usize) -> Option<Permit> {
        Place::new(gate).try_enter(bytes)
    }

    #[test]
    fn a_piece_above_the_limit_enters_alone() {
        let gate = ByteGate::new(10);
        let large = try_once(&gate, 50).unwrap();
        assert!(try_once(&gate, 1).is_none());
        drop(large);
        let small = try_once(&gate, 10).unwrap();
        assert!(try_once(&gate, 1).is_none());
        drop(small);
        assert!(try_once(&gate, 1).is_some());
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

    #[test]
    fn small_pieces_do_not_pass_a_large_one_that_waits() {
        let gate = ByteGate::new(10);
        let inside = try_once(&gate, 5).unwrap();
        let mut large = Place::new(&gate);
        assert!(large.try_enter(8).is_none());
        assert!(try_once(&gate, 1).is_none(), "the large one came first");
        drop(inside);
        assert!(large.try_enter(8).is_some());
        assert!(try_once(&gate, 1).is_some());
    }

    #[test]
    fn a_waiter_that_gives_up_lets_the_next_one_in() {
        let gate = ByteGate::new(10);
        let _inside = try_once(&gate, 5).unwrap();
        let mut large = Place::new(&gate);
        assert!(large.try_enter(8).is_none());
        drop(large);
        assert!(try_once(&gate, 5).is_some());
    }
}
