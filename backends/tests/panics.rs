//! Foreign code that panics (a progress callback, a waker) costs its caller an error, nobody else
//! anything, and never an answer that is wrong.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod tools;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use tidelog_backends::{Phase, SledStore};
use tidelog_core::*;
use tools::{event, read_all, stream};

fn append(store: &SledStore, to: &str, n: u64) -> Result<AppendReceipt, Error> {
    let batch = AppendBatch::new(stream(to), ExpectedVersion::NoStream, vec![event(n, 1_000)]);
    store.blocking().append(batch)
}

#[test]
fn a_progress_callback_that_panics_in_a_rebuild_makes_no_head_read_low() {
    let dir = tempfile::tempdir().unwrap();
    let panics = Arc::new(AtomicBool::new(false));
    let armed = Arc::clone(&panics);
    let store = SledStore::builder(dir.path())
        .segment_size(64 << 10)
        .progress(move |progress| {
            let now = progress.phase == Phase::Rebuild && progress.done == 1;
            assert!(!(now && armed.load(Ordering::SeqCst)), "armed by a test");
            ControlFlow::Continue(())
        })
        .open()
        .unwrap();
    for n in 0..300 {
        append(&store, &n.to_string(), n).unwrap();
    }
    store.drain().unwrap();
    panics.store(true, Ordering::SeqCst);
    match store.rebuild_index() {
        Err(Error::Engine { source, .. }) => {
            assert!(source.to_string().contains("armed by a test"), "{source}");
        }
        other => panic!("{other:?}"),
    }
    // The runs are half made: until the store is opened again, no stream in them is thought new.
    for n in 0..300 {
        let name = n.to_string();
        let head = store.blocking().head(&stream(&name));
        assert!(!matches!(head, Ok(None)), "stream {name} is forgotten");
        assert!(
            append(&store, &name, 1_000 + n).is_err(),
            "stream {name} is forked"
        );
    }
    panics.store(false, Ordering::SeqCst);
    store.close_blocking().unwrap();
    drop(store);
    let store = SledStore::open(dir.path()).unwrap();
    assert_eq!(read_all(&store).unwrap().len(), 300);
    assert_eq!(store.verify().unwrap().indexed, 300);
}

/// Panics when it is woken, as a broken runtime might.
struct Broken(Arc<AtomicBool>);

impl Wake for Broken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
        panic!("a broken waker");
    }
}

#[test]
fn wakers_that_panic_leave_the_readers_running() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    append(&store, "s", 1).unwrap();
    // More of them than there are readers.
    for _ in 0..8 {
        let told = Arc::new(AtomicBool::new(false));
        let waker = Waker::from(Arc::new(Broken(Arc::clone(&told))));
        let mut reading = store.read_all(LogQuery::all());
        let mut next = Box::pin(reading.next_page());
        let mut poll = || next.as_mut().poll(&mut Context::from_waker(&waker));
        // Either the waker is told, and panics, or the answer is there before anybody waits.
        while poll().is_pending() && !told.load(Ordering::SeqCst) {
            thread::yield_now();
        }
    }
    let (done, read) = channel();
    let page = async move { store.read_all(LogQuery::all()).next_page().await };
    thread::spawn(move || done.send(pollster::block_on(page)));
    let page = read
        .recv_timeout(Duration::from_secs(60))
        .expect("nobody reads any more");
    assert_eq!(page.unwrap().unwrap().len(), 1);
}
