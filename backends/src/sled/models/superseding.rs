//! Events give way while others are appended and read.

use shuttle::future;
use shuttle::thread;
use tidelog_core::{
    Birth, Error, EventId, EventLog, EventStore, ExpectedVersion, StreamQuery, Subscribe,
    Supersede, Superseded, Supersession, Timestamp,
};
use uuid::Uuid;

use super::scene::{Answer, Scene, batch, id, stream};
use super::{choose, explore};
use crate::sled::SledStore;

const QUEUE: usize = 2_000;

/// Appends behind the first event, by either face.
fn append(store: &SledStore, n: u64) -> Answer {
    let mut batch = batch("s", n, 10).with_after(id(1));
    batch.expected = ExpectedVersion::Exact(1);
    if choose(2) == 0 {
        future::block_on(store.blocking().inner().append(batch))
    } else {
        future::block_on(store.append(batch))
    }
}

/// Lets the first event give way to another origin's.
fn supersede(store: &SledStore, n: u64) -> Answer {
    let birth = Birth {
        origin: Uuid::from_u128(1),
        epoch: Uuid::from_u128(2),
        position: 3,
        recorded_time: Timestamp::from_micros(4),
    };
    let head = tidelog_core::StreamHead {
        sequence: 1,
        event_id: id(1),
    };
    let adopted = batch("s", n, 10).events.into_iter();
    let adopted = adopted.map(|event| event.with_birth(birth)).collect();
    let what = Supersession::new(stream("s"), head, 1).with_adopted(adopted);
    future::block_on(store.supersede(what))
}

fn read(store: &SledStore) -> Vec<(u64, EventId)> {
    let events = store.read_stream(StreamQuery::new(stream("s")));
    let events = future::block_on(events.collect()).unwrap();
    events
        .iter()
        .map(|event| (event.sequence, event.event_id))
        .collect()
}

#[test]
fn of_all_that_follow_one_head_exactly_one_is_taken_and_readers_see_before_or_after() {
    explore("appends and supersessions", || {
        let scene = Scene::new(QUEUE);
        let store = scene.handle();
        future::block_on(store.append(batch("s", 1, 10))).unwrap();
        let takers: [(u64, fn(&SledStore, u64) -> Answer); 3] =
            [(2, append), (3, supersede), (4, supersede)];
        let takers = takers.map(|(n, take)| {
            let store = scene.handle();
            thread::spawn(move || (n, take(&store, n)))
        });
        let reader = {
            let store = scene.handle();
            thread::spawn(move || {
                let seen = read(&store);
                let head = future::block_on(store.head(&stream("s"))).unwrap();
                (seen, head.map(|head| (head.sequence, head.event_id)))
            })
        };
        let answers = takers.map(|taker| taker.join().unwrap());
        let taken: Vec<u64> = answers
            .iter()
            .filter(|(_, answer)| answer.is_ok())
            .map(|(n, _)| *n)
            .collect();
        for (_, answer) in &answers {
            assert!(
                matches!(answer, Ok(_) | Err(Error::WrongVersion { .. })),
                "{answer:?}"
            );
        }
        assert_eq!(taken.len(), 1, "{answers:?}");
        let before = vec![(1, id(1))];
        let after = match taken[0] {
            2 => vec![(1, id(1)), (2, id(2))],
            n => vec![(1, id(n))],
        };
        let (seen, head) = reader.join().unwrap();
        assert!(seen == before || seen == after, "{seen:?}");
        assert!(head == before.last().copied() || head == after.last().copied());
        assert_eq!(read(&store), after);
        let records = scene.log();
        let said = records
            .iter()
            .filter(|event| Superseded::of(event).is_some());
        assert_eq!(said.count(), usize::from(taken[0] != 2));
        scene.handle().close_blocking().unwrap();
    });
}

#[test]
fn a_subscription_delivers_one_history_or_says_that_it_cannot() {
    explore("supersessions and subscriptions", || {
        let scene = Scene::new(QUEUE);
        let append = |n| future::block_on(scene.handle().append(batch("s", n, 10))).unwrap();
        append(1);
        let store = scene.handle();
        let follows = thread::spawn(move || {
            let stream = stream("s");
            let mut events = store.subscribe(Subscribe::Stream { stream, after: 0 });
            let mut seen = Vec::new();
            while seen.len() < 2 {
                match future::block_on(events.next()).unwrap() {
                    Ok(event) => seen.push((event.sequence, event.event_id)),
                    Err(Error::Superseded { from, .. }) => {
                        assert_eq!((seen, from), (vec![(1, id(1))], 1));
                        return;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(seen, [(1, id(3)), (2, id(4))]);
        });
        supersede(&scene.handle(), 3).unwrap();
        append(4);
        follows.join().unwrap();
    });
}
