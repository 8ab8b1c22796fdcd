//! Subscriptions beside appends: from the log to the buffer of newest commits, while subscribers
//! come and go and segments are sealed, to the closing.

use shuttle::future;
use shuttle::thread::{self, JoinHandle};
use tidelog_core::{Error, EventEnvelope, EventLog, EventStore, EventStream, Subscribe};

use super::scene::{Scene, batch, stream};
use super::{GivesUp, choose, explore};
use crate::sled::SledStore;

/// Two of them fill a segment.
const PAYLOAD: usize = 1_500;
const QUEUE: usize = 4_000;
/// Events of each of the two streams, `a` and `b`.
const EVENTS: u64 = 2;

/// Appends to both streams at once, until that is done or the store is closed.
fn publish(scene: &Scene) -> [JoinHandle<()>; 2] {
    let (async_face, blocking_face) = (scene.handle(), scene.handle());
    let appended = |answer: Result<_, Error>| match answer {
        Ok(_) => true,
        Err(Error::Closed) => false,
        Err(error) => panic!("{error}"),
    };
    let to_a = thread::spawn(move || {
        let append = |n| future::block_on(async_face.append(batch("a", n, PAYLOAD)));
        (0..EVENTS).all(|n| appended(append(n)));
    });
    let to_b = thread::spawn(move || {
        let face = blocking_face.blocking();
        let append = |n| future::block_on(face.inner().append(batch("b", n, 10)));
        (EVENTS..2 * EVENTS).all(|n| appended(append(n)));
    });
    [to_a, to_b]
}

/// Subscribes by either face.
fn subscribe(store: &SledStore, what: Subscribe) -> EventStream {
    if choose(2) == 0 {
        store.subscribe(what)
    } else {
        store.blocking().inner().subscribe(what)
    }
}

/// What is numbered without holes: positions of the log, or sequences of a stream.
fn number(envelope: &EventEnvelope, of_stream: bool) -> u64 {
    if of_stream {
        envelope.sequence
    } else {
        envelope.position.unwrap()
    }
}

/// Follows the log or stream `a` from its start, or from a place that it has reached, to `last`; what
/// is delivered must be dense.
fn follow(store: SledStore, of_stream: bool, last: u64) -> JoinHandle<()> {
    thread::spawn(move || {
        let (what, after) = if of_stream {
            let stream = stream("a");
            let head = future::block_on(store.head(&stream)).unwrap();
            let after = choose(2) * head.map_or(0, |head| head.sequence);
            (Subscribe::Stream { stream, after }, after)
        } else {
            let after = choose(2) * store.last_position();
            (Subscribe::All { after }, after)
        };
        let mut events = subscribe(&store, what);
        drop(store);
        for expected in after + 1..=last {
            let envelope = future::block_on(events.next()).unwrap().unwrap();
            assert_eq!(number(&envelope, of_stream), expected);
        }
    })
}

/// Follows the log or stream `a` from its start until the store is closed.
fn follow_to_the_end(store: SledStore, of_stream: bool) -> JoinHandle<()> {
    thread::spawn(move || {
        let what = if of_stream {
            let stream = stream("a");
            Subscribe::Stream { stream, after: 0 }
        } else {
            Subscribe::All { after: 0 }
        };
        let mut events = subscribe(&store, what);
        drop(store);
        for expected in 1.. {
            match future::block_on(events.next()) {
                Some(Ok(envelope)) => assert_eq!(number(&envelope, of_stream), expected),
                Some(Err(Error::Closed)) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(future::block_on(events.next()).is_none());
    })
}

/// Subscribes, looks for events some times and goes.
fn come_and_go(store: SledStore) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut events = subscribe(&store, Subscribe::All { after: 0 });
        drop(store);
        for expected in 1..=choose(3) {
            if let Some(next) = future::block_on(GivesUp::after(choose(4), events.next())) {
                assert_eq!(next.unwrap().unwrap().position, Some(expected));
            } else {
                break;
            }
        }
    })
}

#[test]
fn every_event_is_delivered_once_and_in_order_whoever_comes_and_goes() {
    explore("subscriptions", || {
        let scene = Scene::new(QUEUE);
        let publishers = publish(&scene);
        let goes = come_and_go(scene.handle());
        let follows = [
            follow(scene.handle(), false, 2 * EVENTS),
            follow(scene.handle(), true, EVENTS),
        ];
        // Each must be told of what comes: the store is closed only when they have everything.
        for thread in publishers.into_iter().chain(follows).chain([goes]) {
            thread.join().unwrap();
        }
    });
}

#[test]
fn closing_ends_every_subscription_after_what_it_delivered() {
    explore("subscriptions and closing", || {
        let scene = Scene::new(QUEUE);
        let publishers = publish(&scene);
        let follows = [
            follow_to_the_end(scene.handle(), false),
            follow_to_the_end(scene.handle(), true),
        ];
        scene.handle().close_blocking().unwrap();
        for thread in publishers.into_iter().chain(follows) {
            thread.join().unwrap();
        }
    });
}

#[test]
fn nothing_is_kept_once_the_last_subscriber_has_gone() {
    explore("the last subscriber goes", || {
        let scene = Scene::new(QUEUE);
        let publishers = publish(&scene);
        let going = [come_and_go(scene.handle()), come_and_go(scene.handle())];
        for thread in publishers.into_iter().chain(going) {
            thread.join().unwrap();
        }
        let kept = scene.shared.live.kept();
        assert_eq!(kept, (0, 0), "subscribers, and commits kept for them");
    });
}
