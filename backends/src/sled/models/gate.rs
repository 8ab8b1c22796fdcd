//! The bound on bytes that wait: held, left by everybody, passed in the order of asking.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use shuttle::sync::Barrier;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::{future, thread};

use super::{GivesUp, choose, explore};
use crate::sled::gate::ByteGate;

const LIMIT: usize = 10;

/// What is inside, as those inside count it.
#[derive(Default)]
struct Inside {
    bytes: AtomicUsize,
    pieces: AtomicUsize,
}

impl Inside {
    fn enters(&self, bytes: usize) {
        let others = self.pieces.fetch_add(1, Ordering::SeqCst);
        let with_it = self.bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        assert!(
            others == 0 || with_it <= LIMIT,
            "{with_it} bytes are inside"
        );
    }

    fn leaves(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.pieces.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn the_bound_holds_and_everybody_gets_in_whoever_gives_up() {
    explore("gate", || {
        let gate = ByteGate::new(LIMIT);
        let inside = Arc::new(Inside::default());
        let callers: Vec<_> = [(4, false), (7, false), (15, false), (9, true), (6, true)]
            .into_iter()
            .map(|(bytes, gives_up)| {
                let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
                thread::spawn(move || {
                    let permit = if gives_up {
                        future::block_on(GivesUp::after(choose(4), gate.enter(bytes)))
                    } else {
                        Some(gate.enter_blocking(bytes))
                    };
                    if let Some(permit) = permit {
                        inside.enters(bytes);
                        inside.leaves(bytes);
                        drop(permit);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        assert_eq!(gate.load(), (0, 0), "bytes inside, and who waits");
    });
}

#[test]
fn a_large_piece_that_waits_is_not_passed() {
    explore("gate, in order", || {
        let gate = ByteGate::new(LIMIT);
        let first = gate.enter_blocking(5);
        let mut large = pin!(gate.enter(8));
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(large.as_mut().poll(&mut nobody).is_pending());
        let entered = Arc::new(AtomicUsize::new(0));
        let small: Vec<_> = (0..2)
            .map(|_| {
                let (gate, entered) = (Arc::clone(&gate), Arc::clone(&entered));
                thread::spawn(move || {
                    // Fits beside the first, not beside the large one.
                    let _permit = gate.enter_blocking(3);
                    entered.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        let leaves = thread::spawn(move || drop(first));
        let permit = future::block_on(large);
        assert_eq!(entered.load(Ordering::SeqCst), 0);
        leaves.join().unwrap();
        drop(permit);
        for caller in small {
            caller.join().unwrap();
        }
        assert_eq!(gate.load(), (0, 0), "bytes inside, and who waits");
    });
}

#[test]
fn all_that_fit_get_in_together() {
    explore("gate, together", || {
        let gate = ByteGate::new(LIMIT);
        let first = gate.enter_blocking(LIMIT);
        let met = Arc::new(Barrier::new(2));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (gate, met) = (Arc::clone(&gate), Arc::clone(&met));
                thread::spawn(move || {
                    let _permit = gate.enter_blocking(4);
                    met.wait();
                })
            })
            .collect();
        drop(first);
        for caller in callers {
            caller.join().unwrap();
        }
        assert_eq!(gate.load(), (0, 0), "bytes inside, and who waits");
    });
}
