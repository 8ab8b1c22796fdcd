//! Law 7: a subscription delivers every record once, in order, from any place, however slow its
//! reader is.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use super::harness::Harness;
use super::tools::*;
use crate::error::Error;
use crate::read::Subscribe;
use crate::store::EventLog;
use crate::stream_id::StreamId;

/// What is there comes first, then what is appended, each once and in order.
pub fn a_subscription_catches_up_and_goes_on(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    append(&store, &stream("a"), &events(700));
    let mut live = store.subscribe(Subscribe::All { after: 0 }).into_blocking();
    assert_eq!(positions(&take(&mut live, 700)), dense(1, 700));
    for n in 0..50 {
        append(&store, &stream(&format!("{}", n % 3)), &events(2));
        let next = 701 + n * 2;
        assert_eq!(positions(&take(&mut live, 2)), dense(next, next + 1));
    }
}

/// A subscription starts right after the place it names, also at the end.
pub fn a_subscription_starts_after_any_place(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    append(&store, &stream("a"), &events(500));
    let places = [0, 1, 255, 256, 257, 499, 500];
    let mut live = places.map(|after| store.subscribe(Subscribe::All { after }).into_blocking());
    append(&store, &stream("b"), &events(10));
    for (subscription, after) in live.iter_mut().zip(places) {
        let count = usize::try_from(510 - after).unwrap();
        assert_eq!(positions(&take(subscription, count)), dense(after + 1, 510));
    }
}

/// A place that the log, or the stream, has not reached is invalid input: whoever was there saw
/// another log.
pub fn a_place_ahead_of_the_log_is_refused(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    append(&store, &stream("long"), &events(9));
    append(&store, &stream("short"), &events(3));
    let of = |id, after| Subscribe::Stream {
        stream: stream(id),
        after,
    };
    for ahead in [
        Subscribe::All { after: 13 },
        Subscribe::All { after: u64::MAX },
        of("short", 4),
        of("unknown", 1),
        of("long", u64::MAX),
    ] {
        let mut refused = store.subscribe(ahead).into_blocking();
        assert_invalid(refused.next_timeout(PATIENCE));
        assert!(refused.next().is_none(), "an error is the end");
    }
}

/// What a subscription delivers is what a read delivers.
pub fn subscriptions_and_reads_deliver_the_same(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    let one = stream("1");
    let mut all = store.subscribe(Subscribe::All { after: 0 }).into_blocking();
    let mut of_one = store
        .subscribe(Subscribe::Stream {
            stream: one.clone(),
            after: 0,
        })
        .into_blocking();
    for (n, part) in events(60).chunks(4).enumerate() {
        append(&store, &stream(&format!("{}", n % 3)), part);
    }
    let log = read_log(&store, crate::LogQuery::all());
    assert!(take(&mut all, log.len()) == log);
    let events = read(&store, &one);
    assert!(take(&mut of_one, events.len()) == events);
}

/// A subscription of one stream delivers its events and no others, from any of its sequences,
/// also before the stream exists.
pub fn a_stream_subscription_delivers_its_stream(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    let (mine, other) = (stream("mine"), stream("other"));
    let after = |after| {
        let stream = mine.clone();
        let what = Subscribe::Stream { stream, after };
        store.subscribe(what).into_blocking()
    };
    let mut early = after(0);
    for _ in 0..100 {
        append(&store, &other, &events(3));
        append(&store, &mine, &events(2));
    }
    let (mut caught_up, mut late) = (after(200), after(150));
    assert_eq!(sequences(&take(&mut early, 200)), dense(1, 200));
    assert_eq!(sequences(&take(&mut late, 50)), dense(151, 200));
    append(&store, &other, &events(3));
    append(&store, &mine, &events(4));
    for live in [&mut early, &mut late, &mut caught_up] {
        let there = take(live, 4);
        assert_eq!(sequences(&there), dense(201, 204));
        assert!(there.iter().all(|envelope| envelope.stream == mine));
    }
}

/// Subscriptions that begin at any moment of a writer's work miss nothing and get nothing twice:
/// the seam between what was there and what comes is tight.
pub fn the_seam_between_past_and_present_is_tight(harness: &mut impl Harness<Store: EventLog>) {
    const APPENDS: u64 = 400;
    const TOTAL: u64 = APPENDS * 2;
    let store = harness.store();
    std::thread::scope(|scope| {
        let writer = {
            let store = &store;
            scope.spawn(move || {
                for n in 0..APPENDS {
                    append(store, &stream(&format!("{}", n % 2)), &events(2));
                }
            })
        };
        let subscribers: Vec<_> = (0..4)
            .map(|n| {
                let store = &store;
                scope.spawn(move || {
                    // Anew until the writer is done, so that many moments are met.
                    while store.last_position() < TOTAL {
                        let after = if n % 2 == 0 {
                            store.last_position()
                        } else {
                            store.last_position() / 2
                        };
                        let what = Subscribe::All { after };
                        let mut live = store.subscribe(what).into_blocking();
                        let count = (TOTAL - after).min(60);
                        let there = take(&mut live, usize::try_from(count).unwrap());
                        assert_eq!(positions(&there), dense(after + 1, after + count));
                    }
                })
            })
            .collect();
        let of_one = {
            let store = &store;
            scope.spawn(move || {
                let what = Subscribe::Stream {
                    stream: stream("1"),
                    after: 0,
                };
                let mut live = store.subscribe(what).into_blocking();
                let there = take(&mut live, usize::try_from(APPENDS).unwrap());
                assert_eq!(sequences(&there), dense(1, APPENDS));
            })
        };
        writer.join().unwrap();
        for subscriber in subscribers {
            subscriber.join().unwrap();
        }
        of_one.join().unwrap();
    });
}

/// Subscribers that take each event while the next one is being appended are woken for every one,
/// also beside others who wait for something else.
pub fn no_wake_up_is_lost(harness: &mut impl Harness<Store: EventLog>) {
    const ROUNDS: u64 = 300;
    let store = harness.store();
    let (busy, idle) = (stream("busy"), stream("idle"));
    let of = |stream: &StreamId| Subscribe::Stream {
        stream: stream.clone(),
        after: 0,
    };
    let seen = [AtomicU64::new(0), AtomicU64::new(0)];
    std::thread::scope(|scope| {
        let mut waiting = store.subscribe(of(&idle)).into_blocking();
        scope.spawn(move || take(&mut waiting, 1));
        let subscriptions = [Subscribe::All { after: 0 }, of(&busy)];
        for (what, seen) in subscriptions.into_iter().zip(&seen) {
            let mut live = store.subscribe(what).into_blocking();
            scope.spawn(move || {
                for n in 1..=ROUNDS {
                    assert_eq!(take(&mut live, 1)[0].sequence, n);
                    seen.store(n, Ordering::SeqCst);
                }
            });
        }
        let deadline = Instant::now() + PATIENCE;
        for n in 1..=ROUNDS {
            append(&store, &busy, &events(1));
            // Without sleeping, so that the next append meets them on their way to wait.
            while seen.iter().any(|seen| seen.load(Ordering::SeqCst) < n) {
                assert!(Instant::now() < deadline, "nobody came for event {n}");
                std::thread::yield_now();
            }
        }
        append(&store, &idle, &events(1));
    });
}

/// A subscriber that sleeps through thousands of appends gets them all when it wakes, and does not
/// hold up the writer meanwhile.
pub fn a_slow_subscriber_misses_nothing(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    append(&store, &stream("a"), &events(10));
    let mut slow = store.subscribe(Subscribe::All { after: 0 }).into_blocking();
    assert_eq!(positions(&take(&mut slow, 3)), dense(1, 3));
    for n in 0..40 {
        append(&store, &stream(&format!("{n}")), &events(250));
        if n % 10 == 0 {
            take(&mut slow, 1);
        }
    }
    assert_eq!(positions(&take(&mut slow, 10_003)), dense(8, 10_010));
}

/// A hundred subscribers, half of them asleep until the writer is done, each get everything.
pub fn a_hundred_subscribers_each_get_everything(harness: &mut impl Harness<Store: EventLog>) {
    const TOTAL: u64 = 300;
    let store = harness.store();
    append(&store, &stream("a"), &events(100));
    let subscribe = || store.subscribe(Subscribe::All { after: 0 }).into_blocking();
    let check = |mut live| {
        let there = take(&mut live, usize::try_from(TOTAL).unwrap());
        assert_eq!(positions(&there), dense(1, TOTAL));
    };
    let asleep: Vec<_> = (0..50).map(|_| subscribe()).collect();
    std::thread::scope(|scope| {
        let awake: Vec<_> = (0..50)
            .map(|_| {
                let live = subscribe();
                scope.spawn(move || check(live))
            })
            .collect();
        for part in events(200).chunks(4) {
            append(&store, &stream("b"), part);
        }
        for subscriber in awake {
            subscriber.join().unwrap();
        }
    });
    asleep.into_iter().for_each(check);
}

/// Dropping a subscription ends it, whether it waits or has more to deliver, and nothing else.
pub fn dropping_ends_a_subscription_only(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    append(&store, &stream("a"), &events(300));
    let mut kept = store.subscribe(Subscribe::All { after: 0 }).into_blocking();
    for n in 0..100 {
        let mut waiting = store.subscribe(Subscribe::All { after: 300 });
        let mut next = Box::pin(waiting.next());
        assert!(poll_once(&mut next).is_pending(), "nothing is there yet");
        drop(next);
        drop(waiting);
        let mut reading = store.subscribe(Subscribe::All { after: 0 }).into_blocking();
        take(&mut reading, 1 + n);
    }
    append(&store, &stream("a"), &events(1));
    assert_eq!(positions(&take(&mut kept, 301)), dense(1, 301));
}

/// A call of `next` that is dropped while it waits loses nothing.
pub fn a_dropped_wait_loses_nothing(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    let mut live = store.subscribe(Subscribe::All { after: 0 });
    let mut seen = Vec::new();
    for _ in 0..40 {
        for _ in 0..2 {
            if let std::task::Poll::Ready(next) = poll_once(&mut Box::pin(live.next())) {
                seen.push(next.unwrap().unwrap());
            }
        }
        append(&store, &stream("a"), &events(2));
    }
    let mut live = live.into_blocking();
    let left = 80 - seen.len();
    seen.extend(take(&mut live, left));
    assert_eq!(positions(&seen), dense(1, 80));
}

/// A subscription that waited on one thread wakes the thread that it was moved to.
pub fn a_subscription_may_move_between_threads(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    let mut live = store.subscribe(Subscribe::All { after: 0 });
    for n in 1..=20 {
        let pending = poll_once(&mut Box::pin(live.next())).is_pending();
        assert!(pending, "nothing is there yet");
        let started = Barrier::new(2);
        live = std::thread::scope(|scope| {
            let started = &started;
            let reader = scope.spawn(move || {
                started.wait();
                let next = wait(live.next()).unwrap().unwrap();
                (live, next)
            });
            started.wait();
            append(&store, &stream("a"), &events(1));
            let (live, next) = reader.join().unwrap();
            assert_eq!(next.position, Some(n));
            live
        });
    }
}

/// Closing the store ends subscriptions with an error, also those that wait on other threads; the
/// error is the end.
pub fn closing_ends_subscriptions(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    append(&store, &stream("a"), &events(2));
    let everything = Subscribe::All { after: 0 };
    let of_stream = Subscribe::Stream {
        stream: stream("a"),
        after: 0,
    };
    let (ready, all_ready) = mpsc::channel();
    let waiting: Vec<_> = [everything.clone(), of_stream, everything]
        .into_iter()
        .map(|what| {
            let (mut live, ready) = (store.subscribe(what).into_blocking(), ready.clone());
            std::thread::spawn(move || {
                take(&mut live, 2);
                ready.send(()).unwrap();
                let end = live.next_timeout(PATIENCE);
                (live, end)
            })
        })
        .collect();
    for _ in &waiting {
        all_ready.recv().unwrap();
    }
    let other = store.clone();
    harness.close(store);
    for subscriber in waiting {
        let (mut live, end) = subscriber.join().unwrap();
        assert_closed(end);
        assert!(live.next().is_none(), "an error is the end");
    }
    let mut late = other.subscribe(Subscribe::All { after: 2 }).into_blocking();
    match late.next() {
        Some(Err(Error::Closed)) => {}
        end => panic!("expected a closed store, got {end:?}"),
    }
}

/// When the last handle is gone nothing can come any more: a subscription ends instead of waiting
/// for ever.
pub fn the_last_handle_gone_ends_subscriptions(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    append(&store, &stream("a"), &events(2));
    let mut live = store.subscribe(Subscribe::All { after: 0 }).into_blocking();
    take(&mut live, 2);
    let waiting = std::thread::spawn(move || live.next_timeout(PATIENCE));
    let other = store.clone();
    drop(store);
    append(&other, &stream("a"), &events(1));
    let delivered = waiting.join().unwrap().unwrap();
    assert_eq!(delivered.unwrap().position, Some(3));

    let mut live = other.subscribe(Subscribe::All { after: 3 }).into_blocking();
    drop(other);
    assert_closed(live.next_timeout(PATIENCE));
}
