//! News reach everybody who listened before they came.

use std::sync::Arc;

use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::{future, thread};

use super::{GivesUp, choose, explore};
use crate::sled::signal::Signal;

#[test]
fn whoever_listens_and_then_looks_misses_nothing() {
    explore("signal", || {
        const NEWS: u64 = 2;
        let signal = Arc::new(Signal::default());
        let happened = Arc::new(AtomicU64::new(0));
        let waiters: Vec<_> = (1..=NEWS)
            .chain([NEWS])
            .map(|wanted| {
                let (signal, happened) = (Arc::clone(&signal), Arc::clone(&happened));
                thread::spawn(move || {
                    loop {
                        let listener = signal.listen();
                        if happened.load(Ordering::SeqCst) >= wanted {
                            break;
                        }
                        future::block_on(listener);
                    }
                })
            })
            .collect();
        let gives_up = {
            let signal = Arc::clone(&signal);
            thread::spawn(move || future::block_on(GivesUp::after(choose(2), signal.listen())))
        };
        for _ in 0..NEWS {
            happened.fetch_add(1, Ordering::SeqCst);
            signal.notify();
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
        gives_up.join().unwrap();
        assert_eq!(signal.waiting(), 0, "a listener left its waker behind");
    });
}
