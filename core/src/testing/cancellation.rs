//! Law 10: a dropped append is wholly there or absent, and the store goes on.

use std::task::Poll;

use super::harness::Harness;
use super::tools::*;
use crate::append::ExpectedVersion;
use crate::envelope::NewEvent;
use crate::store::EventStore;
use crate::stream_id::StreamId;

/// What a dropped append may have left: nothing or all of it, at every look; and a retry settles
/// which, so that it stands there once.
fn assert_whole_or_absent(store: &impl EventStore, stream: &StreamId, dropped: &[NewEvent]) {
    let there = read(store, stream).len();
    assert!(
        there == 0 || there == dropped.len(),
        "{there} of {} events are there",
        dropped.len()
    );
    try_append(store, stream, ExpectedVersion::NoStream, dropped).unwrap();
    assert_holds(store, stream, dropped);
}

/// An append that was never polled does nothing.
pub fn an_append_never_polled_does_nothing(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("unpolled");
    let added = events(3);
    for _ in 0..100 {
        drop(store.append(batch(&stream, ExpectedVersion::Any, &added)));
    }
    append(&store, &super::tools::stream("other"), &events(1));
    assert_holds(&store, &stream, &[]);
    append(&store, &stream, &added);
    assert_holds(&store, &stream, &added);
}

/// An append dropped after its first poll is wholly there or absent.
pub fn an_append_dropped_in_flight_is_whole_or_absent(harness: &mut impl Harness) {
    let store = harness.store();
    for n in 0..30 {
        let stream = stream(&format!("dropped {n}"));
        let added = events(3);
        let mut future = Box::pin(store.append(batch(&stream, ExpectedVersion::Any, &added)));
        let _ = poll_once(&mut future);
        drop(future);
        assert_whole_or_absent(&store, &stream, &added);
    }
}

/// A thousand appends in flight, all dropped at once by another thread while this one goes on
/// appending: each is wholly there or absent.
pub fn a_thousand_appends_dropped_at_once_are_whole_or_absent(harness: &mut impl Harness) {
    let store = harness.store();
    let dropped: Vec<_> = (0..1_000)
        .map(|n| (stream(&format!("dropped {n}")), events(2)))
        .collect();
    let kept = stream("kept");
    let mut flying = Vec::new();
    for (stream, added) in &dropped {
        let mut future = Box::pin(store.append(batch(stream, ExpectedVersion::NoStream, added)));
        // One that is answered at once must not be polled again; it is dropped like the others.
        let _ = poll_once(&mut future);
        flying.push(future);
    }
    let mine = events(50);
    std::thread::scope(|scope| {
        scope.spawn(move || drop(flying));
        for one in mine.chunks(1) {
            append(&store, &kept, one);
        }
    });
    assert_holds(&store, &kept, &mine);
    // All looks come first: whatever is still under way may land between them, but only whole.
    for (stream, added) in &dropped {
        let there = read(&store, stream).len();
        assert!(there == 0 || there == added.len());
    }
    for (stream, added) in &dropped[..100] {
        assert_whole_or_absent(&store, stream, added);
    }
}

/// Dropped appends to one stream leave its sequences dense, and racing them is safe.
pub fn dropped_appends_leave_no_holes(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("dense");
    let mut kept = Vec::new();
    for _ in 0..30 {
        let mut lost = Box::pin(store.append(batch(&stream, ExpectedVersion::Any, &events(3))));
        let _ = poll_once(&mut lost);
        let added = events(1);
        let receipt = append(&store, &stream, &added);
        drop(lost);
        kept.push((receipt.first_sequence, added[0].event_id));
    }
    let there = read(&store, &stream);
    assert_eq!(sequences(&there), dense(1, there.len() as u64));
    for (sequence, id) in kept {
        let at = usize::try_from(sequence).unwrap() - 1;
        assert_eq!(there[at].event_id, id);
    }
    for batch in there.chunk_by(|a, b| a.batch == b.batch) {
        assert_eq!(batch.len(), batch[0].batch.count as usize);
    }
}

/// An append begun on one thread may be finished on another.
pub fn an_append_may_move_between_threads(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("moved");
    for n in 0..30 {
        let added = events(1);
        let mut future = Box::pin(store.append(batch(&stream, ExpectedVersion::Exact(n), &added)));
        let receipt = match poll_once(&mut future) {
            Poll::Ready(answer) => answer.unwrap(),
            Poll::Pending => std::thread::scope(|scope| {
                let finish = scope.spawn(move || wait(future).unwrap());
                finish.join().unwrap()
            }),
        };
        assert_eq!(receipt.last_sequence, n + 1);
    }
    assert_eq!(read(&store, &stream).len(), 30);
}

/// Dropping other calls in flight harms nothing either.
pub fn other_calls_may_be_dropped_in_flight(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("asked");
    let added = events(2);
    append(&store, &stream, &added);
    for _ in 0..30 {
        let mut head = Box::pin(store.head(&stream));
        let _ = poll_once(&mut head);
        let mut find = Box::pin(store.find_event(&stream, added[0].event_id));
        let _ = poll_once(&mut find);
    }
    assert_holds(&store, &stream, &added);
}
