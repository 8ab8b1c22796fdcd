//! Closing a store from one of its own threads, where a waker runs, while somebody else closes it and
//! waits for that thread.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod tools;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use tidelog_backends::SledStore;
use tidelog_core::*;
use tools::{event, stream};

/// Longer than anything takes that does not hang.
const HANGS: Duration = Duration::from_secs(60);

/// Once woken, waits until the store is being closed and then closes it as well.
struct ClosesToo {
    store: SledStore,
    woken: Mutex<Option<Sender<String>>>,
}

impl Wake for ClosesToo {
    fn wake(self: Arc<Self>) {
        let Some(woken) = self.woken.lock().unwrap().take() else {
            return;
        };
        let name = thread::current().name().unwrap_or_default().to_owned();
        woken.send(name).unwrap();
        while self.store.info().is_ok() {
            thread::yield_now();
        }
        self.store.close_blocking().unwrap();
    }
}

/// Polls what `ask` begins until one answer is late enough to wake somebody; answers the thread that
/// then runs the waker, which closes `store` on it.
fn woken_on<F: Future>(store: &SledStore, ask: impl Fn(&SledStore) -> F) -> String {
    loop {
        let (woken, is_woken): (_, Receiver<String>) = channel();
        let closes = Arc::new(ClosesToo {
            store: store.clone(),
            woken: Mutex::new(Some(woken)),
        });
        let waker = Waker::from(closes);
        let mut asked = Box::pin(ask(store));
        let polled = asked.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            return is_woken.recv().unwrap();
        }
    }
}

fn closed_from_inside<F: Future>(ask: impl Fn(&SledStore) -> F + Send + 'static, thread: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_path_buf();
    let (done, is_done) = channel();
    thread::spawn(move || {
        let store = SledStore::open(&path).unwrap();
        let batch = AppendBatch::new(stream("a"), ExpectedVersion::Any, vec![event(0, 50)]);
        store.blocking().append(batch).unwrap();
        let on = woken_on(&store, ask);
        store.close_blocking().unwrap();
        // Whoever closed it, the lock is free now.
        let records = SledStore::open(&path).unwrap().last_position();
        done.send((on, records)).unwrap();
    });
    let (on, records) = is_done.recv_timeout(HANGS).unwrap();
    assert_eq!(on, thread);
    assert!(records >= 1);
}

#[test]
fn a_reader_that_closes_the_store_while_it_is_being_closed_is_not_waited_for() {
    let ask = |store: &SledStore| {
        let store = store.clone();
        async move { store.head(&stream("a")).await.map(drop) }
    };
    closed_from_inside(ask, "tidelog-reader");
}

#[test]
fn the_writer_that_closes_the_store_while_it_is_being_closed_is_not_waited_for() {
    let ask = |store: &SledStore| {
        let store = store.clone();
        let batch = AppendBatch::new(stream("a"), ExpectedVersion::Any, vec![event(1, 50)]);
        async move { store.append(batch).await.map(drop) }
    };
    closed_from_inside(ask, "tidelog-writer");
}
