//! Streams over many buckets of ten: every border, by one writer, by racing ones, and again.

use std::sync::Barrier;

use tidelog_backends::{ScyllaConfig, ScyllaStore};
use tidelog_core::{
    AppendOutcome, Blocking, Error, ExpectedVersion, Limits, NewEvent, StreamId, StreamQuery,
};

use crate::keyspaces::{self, namespace, shared};
use crate::kit::*;

const SIZE: u64 = 10;

fn config(namespace: &str) -> ScyllaConfig {
    shared("borders", |config| config.bucket_events(SIZE)).namespace(namespace)
}

/// A store of one test, and another client that knows nothing of what the first one did.
fn two_clients() -> Option<(Store, Store)> {
    keyspaces::server()?;
    let namespace = namespace();
    Some((connect(config(&namespace)), connect(config(&namespace))))
}

fn one_client() -> Option<Store> {
    keyspaces::server()?;
    Some(connect(config(&namespace())))
}

/// Appends a stream of `head` events, one by one at its borders.
fn stream_at(store: &Store, id: &str, head: u64) -> (StreamId, Vec<NewEvent>) {
    let (stream, all) = (stream(id), events(head));
    let mut left = &all[..];
    while !left.is_empty() {
        let size = if left.len() > 7 { 3 } else { 1 };
        let (part, rest) = left.split_at(size);
        append(store, &stream, part);
        left = rest;
    }
    (stream, all)
}

#[test]
fn batches_of_every_size_are_appended_at_every_border() {
    let Some((store, other)) = two_clients() else {
        return;
    };
    for head in [0, 1, 8, 9, 10, 11, 19, 20, 21] {
        for size in [1, 2, SIZE - 1, SIZE] {
            let (stream, mut all) = stream_at(&store, &format!("{head} {size}"), head);
            for client in [&store, &other] {
                let expected = ExpectedVersion::Exact(all.len() as u64);
                let added = events(size);
                let receipt = try_append(client, &stream, expected, &added).unwrap();
                assert_eq!(receipt.outcome, AppendOutcome::Appended);
                assert_eq!(receipt.first_sequence, all.len() as u64 + 1);
                all.extend(added);
            }
            assert_holds(&store, &stream, &all);
            assert_holds(&other, &stream, &all);
        }
    }
}

#[test]
fn exact_beyond_an_empty_stream_is_refused() {
    let Some(store) = one_client() else {
        return;
    };
    let stream = stream("empty");
    for beyond in [1, 9, 10, 11, 100, 10_000, u64::MAX] {
        let missed = try_append(&store, &stream, ExpectedVersion::Exact(beyond), &events(2));
        assert_wrong_version(missed, 0);
    }
    assert_holds(&store, &stream, &[]);
    let added = events(1);
    append(&store, &stream, &added);
    assert_holds(&store, &stream, &added);
}

#[test]
fn a_bucket_is_begun_at_its_stream_s_head_alone() {
    let Some((store, other)) = two_clients() else {
        return;
    };
    for head in [9, 11] {
        let (stream, all) = stream_at(&store, &format!("{head}"), head);
        for client in [&other, &store] {
            for beyond in [10, 12, 19, 20, 21, 30] {
                let expected = ExpectedVersion::Exact(beyond);
                assert_wrong_version(try_append(client, &stream, expected, &events(3)), head);
            }
        }
        assert_holds(&store, &stream, &all);
    }
}

/// A batch that was recorded in one piece and is tried again in two, and the other way around.
#[test]
fn a_recut_batch_is_stored_once() {
    let Some((store, other)) = two_clients() else {
        return;
    };
    let mut next = 0;
    for others_write in [false, true] {
        for first_in_one_piece in [true, false] {
            for (client, retrying) in [(&store, &store), (&store, &other)] {
                next += 1;
                let (stream, mut all) = stream_at(client, &format!("{next}"), 8);
                let mine = events(4);
                let exact = ExpectedVersion::Exact;
                if first_in_one_piece {
                    try_append(client, &stream, exact(8), &mine).unwrap();
                } else {
                    try_append(client, &stream, exact(8), &mine[..2]).unwrap();
                    try_append(client, &stream, exact(10), &mine[2..]).unwrap();
                }
                all.extend(mine.clone());
                if others_write {
                    let theirs = events(9);
                    append(client, &stream, &theirs);
                    all.extend(theirs);
                }
                for (expected, part) in [
                    (exact(8), &mine[..]),
                    (exact(8), &mine[..2]),
                    (exact(10), &mine[2..]),
                    (exact(9), &mine[1..]),
                    (ExpectedVersion::Any, &mine[1..3]),
                ] {
                    let retry = try_append(retrying, &stream, expected, part).unwrap();
                    assert_eq!(retry.outcome, AppendOutcome::AlreadyAppended);
                    let at = all.iter().position(|e| e.event_id == part[0].event_id);
                    assert_eq!(retry.first_sequence, at.unwrap() as u64 + 1);
                }
                assert_holds(retrying, &stream, &all);
            }
        }
    }
}

#[test]
fn one_of_racing_writers_begins_a_bucket() {
    let Some((store, other)) = two_clients() else {
        return;
    };
    for head in [SIZE, SIZE + 1, 2 * SIZE] {
        for round in 0..8 {
            let (stream, all) = stream_at(&store, &format!("{head} {round}"), head);
            let start = Barrier::new(6);
            let won: Vec<Vec<NewEvent>> = std::thread::scope(|scope| {
                let racers: Vec<_> = (0..6)
                    .map(|n| {
                        let client = [&store, &other][n % 2];
                        let (start, stream) = (&start, &stream);
                        scope.spawn(move || {
                            let mine = events(n as u64 + 1);
                            start.wait();
                            let expected = ExpectedVersion::Exact(head);
                            match try_append(client, stream, expected, &mine) {
                                Ok(receipt) => {
                                    assert_eq!(receipt.outcome, AppendOutcome::Appended);
                                    Some(mine)
                                }
                                missed => {
                                    assert!(matches!(missed, Err(Error::WrongVersion { .. })));
                                    None
                                }
                            }
                        })
                    })
                    .collect();
                let racers = racers.into_iter();
                racers.filter_map(|racer| racer.join().unwrap()).collect()
            });
            let [winner] = &won[..] else {
                panic!("{} won", won.len());
            };
            assert_holds(&other, &stream, &[all, winner.clone()].concat());
        }
    }
}

/// Writers that expect nothing, in two processes as it were: each knows less than is there.
#[test]
fn writers_that_do_not_know_of_each_other_cross_borders() {
    let Some((store, other)) = two_clients() else {
        return;
    };
    let stream = stream("crossed");
    std::thread::scope(|scope| {
        for (n, client) in [&store, &other, &store, &other].into_iter().enumerate() {
            let stream = &stream;
            scope.spawn(move || {
                for round in 0..12 {
                    append(client, stream, &events(1 + (n as u64 + round) % 7));
                }
            });
        }
    });
    let there = read(&store, StreamQuery::new(stream.clone()));
    let expected: u64 = (0..4)
        .flat_map(|n| (0..12).map(move |round| 1 + (n + round) % 7))
        .sum();
    assert_eq!(there.len() as u64, expected);
    assert!((1..).zip(&there).all(|(n, event)| event.sequence == n));
    for batch in there.chunk_by(|a, b| a.batch == b.batch) {
        assert_eq!(batch.len(), batch[0].batch.count as usize);
        assert_eq!(batch[0].batch.first, batch[0].sequence);
    }
    let again = read(&other, StreamQuery::new(stream));
    assert!(again == there);
}

/// The retry window of 1,000 events reaches over a hundred buckets.
#[test]
fn the_retry_window_reaches_over_many_buckets() {
    let Some((store, other)) = two_clients() else {
        return;
    };
    let stream = stream("window");
    let (old, edge) = (events(1), events(1));
    append(&store, &stream, &old);
    append(&store, &stream, &edge);
    for _ in 0..111 {
        append(&store, &stream, &events(9));
    }
    for client in [&store, &other] {
        let retry = try_append(client, &stream, ExpectedVersion::Any, &edge).unwrap();
        assert_eq!(retry.outcome, AppendOutcome::AlreadyAppended);
        assert_eq!(retry.first_sequence, 2);
        let found = client.find_event(&stream, edge[0].event_id).unwrap();
        assert_eq!(found.unwrap().sequence, 2);
        assert_eq!(client.find_event(&stream, old[0].event_id).unwrap(), None);
        let retry = try_append(client, &stream, ExpectedVersion::NoStream, &old).unwrap();
        assert_eq!(retry.first_sequence, 1);
    }
    assert_eq!(store.head(&stream).unwrap().unwrap().sequence, 1_001);
}

#[test]
fn reads_begin_and_end_at_every_border() {
    let Some((store, other)) = two_clients() else {
        return;
    };
    // Batches over borders, and single events at them.
    for (name, sizes) in [
        ("single", &[1; 33][..]),
        ("whole", &[10, 10, 10, 3]),
        ("over", &[7, 10, 10, 6]),
        ("mixed", &[1, 10, 1, 9, 10, 1, 1]),
    ] {
        let stream = stream(name);
        for size in sizes {
            append(&store, &stream, &events(*size));
        }
        let all = read(&store, StreamQuery::new(stream.clone()));
        assert_eq!(all.len(), 33);
        let borders = [1, 2, 9, 10, 11, 12, 19, 20, 21, 22, 29, 30, 31, 33, 40];
        for from in borders {
            for to in borders.into_iter().filter(|to| *to >= from) {
                let query = || StreamQuery::new(stream.clone()).from(from).to(to);
                let (first, last) = (from as usize - 1, (to as usize).min(33));
                let expected = all.get(first..last).unwrap_or_default();
                assert!(read(&other, query()) == expected, "{name} {from} {to}");
                let mut backward = read(&other, query().backward());
                backward.reverse();
                assert!(backward == expected, "{name} {from} {to} backward");
            }
        }
    }
}

#[test]
fn a_batch_larger_than_a_bucket_is_refused() {
    if keyspaces::server().is_none() {
        return;
    }
    let limits = Limits {
        batch_events: SIZE as usize + 1,
        batch_bytes: 1 << 20,
        ..Limits::default()
    };
    let refused = ScyllaStore::connect_blocking(config(&namespace()).limits(limits));
    let refused: Result<Blocking<_>, _> = refused;
    match refused {
        Err(Error::InvalidInput { what, reason, .. }) => {
            assert_eq!(what, "limits");
            assert!(reason.contains("10 events"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}
