//! The embedded store with projections: inline ones have what a call recorded when it returns.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};

use parking_lot::Mutex;

use tidelog::{
    AppendBatch, Error, ExpectedVersion, Phase, ProjectionState, Tidelog, TidelogBuilder,
};

use crate::common::{Counts, Lever, Sum, Sums, added, stream};

fn builder(path: &Path) -> TidelogBuilder {
    Tidelog::builder(path).sparse_segments()
}

fn batch(id: &str, amounts: &[u64]) -> AppendBatch {
    let events = amounts.iter().copied().map(added).collect();
    AppendBatch::new(stream(id), ExpectedVersion::Any, events)
}

#[test]
fn what_was_appended_is_in_the_rows_when_the_call_returns() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let builder = builder(dir.path()).inline_projection(Sums::default());
        builder.projection(Counts).open().unwrap().blocking()
    };
    let log = open();
    let sums = log.projection::<Sums>().unwrap();
    for n in 1..=50 {
        log.append(batch("a", &[1, 2])).unwrap();
        let row = sums.get(&"a".into()).unwrap().unwrap();
        assert_eq!(
            row,
            Sum {
                total: 3 * n,
                events: 2 * n
            }
        );
    }
    log.append_streams(vec![batch("b", &[5]), batch("c", &[6])])
        .unwrap();
    assert_eq!(sums.find_range("total", 5_u64..=6, 9).unwrap().len(), 2);
    let status = log.projections();
    assert_eq!(status.len(), 2);
    assert!(
        matches!(status[0].state, ProjectionState::Live),
        "{:?}",
        status[0]
    );
    assert_eq!(
        (&*status[0].name, status[0].inline, status[0].rows),
        ("sums", true, 3)
    );
    log.close().unwrap();
    assert!(matches!(sums.get(&"a".into()), Err(Error::Closed)));
    drop((log, sums));

    // Right after opening they are there, and nothing is taken in twice.
    let log = open();
    let sums = log.projection::<Sums>().unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap().unwrap().events, 100);
    let counts = log.projection::<Counts>().unwrap();
    counts.wait_for(log.last_position()).unwrap();
    assert_eq!(counts.get(&"Sum".into()).unwrap(), Some(102));
}

#[test]
fn an_inline_projection_that_was_not_there_has_caught_up_when_open_returns() {
    let dir = tempfile::tempdir().unwrap();
    let log = builder(dir.path()).open().unwrap().blocking();
    for n in 0..300 {
        log.append(batch("a", &[n])).unwrap();
    }
    drop(log);
    let told = Arc::new(AtomicU64::new(0));
    let telling = Arc::clone(&told);
    let log = builder(dir.path())
        .inline_projection(Sums::default())
        .progress(move |progress| {
            if progress.phase == Phase::Projections {
                telling.fetch_add(1, Ordering::SeqCst);
                assert!(progress.done <= progress.total && progress.total == 300);
            }
            ControlFlow::Continue(())
        })
        .open()
        .unwrap()
        .blocking();
    let sums = log.projection::<Sums>().unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap().unwrap().events, 300);
    assert!(told.load(Ordering::SeqCst) > 0);
}

#[test]
fn catching_up_can_be_cancelled_and_the_store_is_closed_then() {
    let dir = tempfile::tempdir().unwrap();
    let log = builder(dir.path()).open().unwrap().blocking();
    log.append(batch("a", &[1])).unwrap();
    drop(log);
    let cancelled = builder(dir.path())
        .inline_projection(Sums::default())
        .progress(|progress| match progress.phase {
            Phase::Projections => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .open();
    // The runner may have been faster than the first look.
    match cancelled {
        Err(Error::Cancelled { .. }) => {}
        Ok(log) => drop(log),
        Err(other) => panic!("{other}"),
    }
    let again = builder(dir.path())
        .inline_projection(Sums::default())
        .open();
    let sums = again.unwrap().blocking().projection::<Sums>();
    assert!(sums.is_ok());
}

#[test]
fn a_broken_read_model_keeps_no_till_closed_and_no_append_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let lever = Lever::default();
    lever.fail_permanently(7);
    let open = || {
        let builder = builder(dir.path()).inline_projection(Sums(lever.clone()));
        builder.open().unwrap().blocking()
    };
    let log = open();
    log.append(batch("a", &[1])).unwrap();
    // Durable, so it is not reported as failed.
    log.append(batch("a", &[7])).unwrap();
    log.append(batch("a", &[2])).unwrap();
    assert!(matches!(
        log.projections()[0].state,
        ProjectionState::Stopped(_)
    ));
    drop(log);

    let log = open();
    let sums = log.projection::<Sums>().unwrap();
    assert!(matches!(
        sums.wait_for(3),
        Err(Error::Stopped { position: 2, .. })
    ));
    assert_eq!(sums.get(&"a".into()).unwrap().unwrap().total, 1);
    lever.mend(7);
    sums.retry().unwrap();
    log.append(batch("a", &[3])).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap().unwrap().total, 13);
}

#[test]
fn while_rows_are_made_anew_the_old_ones_have_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let log = builder(dir.path())
        .inline_projection(Sums::default())
        .open()
        .unwrap()
        .blocking();
    let sums = log.projection::<Sums>().unwrap();
    for _ in 0..20 {
        log.append(batch("a", &[1; 100])).unwrap();
    }
    let again = sums.clone();
    let rebuilding = std::thread::spawn(move || (0..5).try_for_each(|_| again.rebuild()));
    for n in 1..=200 {
        log.append(batch("a", &[1])).unwrap();
        assert_eq!(sums.get(&"a".into()).unwrap().unwrap().events, 2_000 + n);
    }
    rebuilding.join().unwrap().unwrap();
}

#[test]
fn a_rebuild_that_fails_says_so_and_the_old_rows_serve_on() {
    let dir = tempfile::tempdir().unwrap();
    let lever = Lever::default();
    let log = builder(dir.path())
        .inline_projection(Sums(lever.clone()))
        .open()
        .unwrap()
        .blocking();
    let sums = log.projection::<Sums>().unwrap();
    log.append(batch("a", &[7])).unwrap();
    lever.fail_permanently(7);
    let failed = sums.rebuild();
    assert!(
        matches!(failed, Err(Error::Stopped { position: 1, .. })),
        "{failed:?}"
    );
    for n in 1..=20 {
        log.append(batch("a", &[1])).unwrap();
        assert_eq!(sums.get(&"a".into()).unwrap().unwrap().events, 1 + n);
    }
    sums.wait_for(21).unwrap();
    let state = sums.progress().state;
    assert!(matches!(state, ProjectionState::Live), "{state:?}");
    lever.mend(7);
    sums.rebuild().unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap().unwrap().events, 21);
}

#[test]
fn refused_projections_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let refused = builder(&path).projection(Counts).projection(Counts).open();
    assert!(matches!(refused, Err(Error::InvalidInput { .. })));
    assert!(!path.exists());
}

#[test]
fn read_models_do_not_keep_the_store_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = builder(dir.path()).projection(Counts).open().unwrap();
    let counts = log.projection::<Counts>().unwrap().blocking();
    drop(log);
    let again = builder(dir.path()).open().unwrap();
    assert!(matches!(counts.get(&"Sum".into()), Err(Error::Closed)));
    drop(again);
}

#[test]
fn rows_are_exact_though_the_index_is_made_again_while_they_are_fed() {
    let dir = tempfile::tempdir().unwrap();
    let builder = builder(dir.path()).inline_projection(Sums::default());
    let log = builder.projection(Counts).open().unwrap().blocking();
    let (sums, counts) = (
        log.projection::<Sums>().unwrap(),
        log.projection::<Counts>().unwrap(),
    );
    std::thread::scope(|scope| {
        let appending = scope.spawn(|| {
            for _ in 0..300 {
                log.append(batch("a", &[1, 2])).unwrap();
            }
        });
        for _ in 0..5 {
            log.rebuild_index().unwrap();
        }
        appending.join().unwrap();
    });
    log.rebuild_index().unwrap();
    // Whoever asks first finds that they are gone, and everything goes on by itself.
    let last = log.last_position();
    let expected = Sum {
        total: 900,
        events: 600,
    };
    loop {
        sums.wait_for(last).unwrap();
        counts.wait_for(last).unwrap();
        match (sums.get(&"a".into()), counts.get(&"Sum".into())) {
            (Ok(sum), Ok(count)) => {
                assert_eq!((sum, count), (Some(expected), Some(600)));
                break;
            }
            (Err(Error::Rebuilding { .. }), _) | (_, Err(Error::Rebuilding { .. })) => {
                std::thread::yield_now();
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Drops what it holds when it wakes: on the thread of the projections.
struct DropsOnWake(Mutex<Option<Tidelog>>);

impl Wake for DropsOnWake {
    fn wake(self: Arc<Self>) {
        let held = self.0.lock().take();
        drop(held);
    }
}

#[test]
fn the_last_handle_may_be_dropped_on_the_projections_own_thread() {
    let dir = tempfile::tempdir().unwrap();
    let log = builder(dir.path()).projection(Counts).open().unwrap();
    let counts = log.projection::<Counts>().unwrap();
    let mut waiting = Box::pin(counts.wait_for(1));
    let holds = Arc::new(DropsOnWake(Mutex::new(None)));
    let waker = Waker::from(Arc::clone(&holds));
    // Appended by the store alone, so that the waker has the last handle when it wakes.
    let store = log.store().clone().blocking();
    *holds.0.lock() = Some(log);
    let cx = &mut Context::from_waker(&waker);
    assert!(waiting.as_mut().poll(cx).is_pending());
    store.append(batch("a", &[1])).unwrap();
    drop(store);
    loop {
        match builder(dir.path()).open() {
            Ok(_) => return,
            Err(Error::Locked { .. }) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn the_async_face_waits_and_closes_too() {
    let dir = tempfile::tempdir().unwrap();
    let log = builder(dir.path())
        .inline_projection(Sums::default())
        .open()
        .unwrap();
    let sums = log.projection::<Sums>().unwrap();
    for n in 1..=20 {
        log.append(batch("a", &[1])).await.unwrap();
        assert_eq!(sums.get(&"a".into()).await.unwrap().unwrap().events, n);
    }
    log.rebuild_index().await.unwrap();
    // The rows went with it and are made again; the append does not wait for that.
    log.append(batch("a", &[1])).await.unwrap();
    loop {
        match sums.get(&"a".into()).await {
            Ok(row) if row.as_ref().is_some_and(|row| row.events == 21) => break,
            Ok(_) | Err(Error::Rebuilding { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
    log.close().await.unwrap();
    assert!(matches!(sums.get(&"a".into()).await, Err(Error::Closed)));
    let again = builder(dir.path()).open();
    assert!(again.is_ok(), "{again:?}");
}
