//! Law 3 on real threads: of racing writers exactly one wins each sequence.

use std::sync::Barrier;
use std::task::Poll;

use super::harness::Harness;
use super::tools::*;
use crate::append::{AppendOutcome, ExpectedVersion};
use crate::error::Error;
use crate::read::StreamQuery;
use crate::store::EventStore;

const THREADS: usize = 8;

/// Runs `work` on all threads at once and returns what each made.
fn race<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        let racers: Vec<_> = (0..THREADS)
            .map(|n| {
                let (start, work) = (&start, &work);
                scope.spawn(move || {
                    start.wait();
                    work(n)
                })
            })
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect()
    })
}

/// All threads append to one stream where they believe its end to be: each sequence has exactly
/// one winner, and every loser is told where the stream really is.
pub fn one_writer_wins_each_sequence(harness: &mut impl Harness) {
    const WINS: u64 = 25;
    let store = harness.store();
    let stream = stream("raced");
    let won: Vec<_> = race(|n| {
        let (mut mine, mut believed) = (Vec::new(), 0);
        while (mine.len() as u64) < WINS {
            let one = [event(&format!("{n} wins {}", mine.len()))];
            let expected = ExpectedVersion::Exact(believed);
            match try_append(&store, &stream, expected, &one) {
                Ok(receipt) => {
                    assert_eq!(receipt.outcome, AppendOutcome::Appended);
                    assert_eq!(receipt.first_sequence, believed + 1);
                    believed = receipt.last_sequence;
                    let [one] = one;
                    mine.push((receipt.first_sequence, one));
                }
                Err(Error::WrongVersion { actual, .. }) => {
                    assert_ne!(actual, believed, "a miss that was none");
                    // Another thread's append is visible before anything depends on it.
                    assert!(head_sequence(&store, &stream) >= actual);
                    believed = actual;
                }
                Err(error) => panic!("{error}"),
            }
        }
        mine
    });
    let mut all: Vec<_> = won.into_iter().flatten().collect();
    all.sort_unstable_by_key(|(sequence, _)| *sequence);
    let (won, all): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    assert_eq!(won, dense(1, THREADS as u64 * WINS));
    assert_holds(&store, &stream, &all);
}

/// All threads create the same stream: one succeeds.
pub fn one_writer_creates_a_stream(harness: &mut impl Harness) {
    let store = harness.store();
    for round in 0..20 {
        let stream = stream(&format!("round {round}"));
        let created = race(|_| {
            let expected = ExpectedVersion::NoStream;
            match try_append(&store, &stream, expected, &events(2)) {
                Ok(_) => true,
                missed => {
                    assert_wrong_version(missed, &stream, expected, 2);
                    false
                }
            }
        });
        assert_eq!(created.into_iter().filter(|won| *won).count(), 1);
        assert_eq!(read(&store, &stream).len(), 2);
    }
}

/// Writers of different streams do not get in each other's way.
pub fn writers_of_different_streams_all_succeed(harness: &mut impl Harness) {
    let store = harness.store();
    race(|n| {
        let stream = stream(&format!("of {n}"));
        for (before, one) in events(40).chunks(1).enumerate() {
            let expected = ExpectedVersion::Exact(before as u64);
            let receipt = try_append(&store, &stream, expected, one).unwrap();
            assert_eq!(receipt.outcome, AppendOutcome::Appended);
        }
    });
    for n in 0..THREADS {
        let there = read(&store, &stream(&format!("of {n}")));
        assert_eq!(sequences(&there), dense(1, 40));
    }
}

/// Writers that expect nothing all succeed on one stream, each batch in one piece.
pub fn writers_without_expectations_all_succeed(harness: &mut impl Harness) {
    const BATCHES: usize = 15;
    let store = harness.store();
    let stream = stream("open");
    race(|n| {
        for round in 0..BATCHES {
            let size = 1 + (n + round) % 4;
            let batch: Vec<_> = (0..size).map(|_| event(&format!("{n} {round}"))).collect();
            let receipt = append(&store, &stream, &batch);
            assert_eq!(
                receipt.last_sequence - receipt.first_sequence + 1,
                size as u64
            );
        }
    });
    let there = read(&store, &stream);
    assert_eq!(sequences(&there), dense(1, there.len() as u64));
    let batches: Vec<_> = there.chunk_by(|a, b| a.batch == b.batch).collect();
    assert_eq!(batches.len(), THREADS * BATCHES);
    for batch in batches {
        assert_eq!(batch.len(), batch[0].batch.count as usize);
        assert!(
            batch
                .iter()
                .all(|envelope| envelope.event == batch[0].event)
        );
    }
}

/// One thread keeps many appends under way at once, each is answered for itself.
pub fn appends_in_flight_are_answered_each(harness: &mut impl Harness) {
    let store = harness.store();
    let streams: Vec<_> = (0..5).map(|n| stream(&format!("flight {n}"))).collect();
    let all = events(200);
    let flying: Vec<_> = all
        .iter()
        .zip(streams.iter().cycle())
        .map(|(one, stream)| {
            let one = std::slice::from_ref(one);
            let mut future = Box::pin(store.append(batch(stream, ExpectedVersion::Any, one)));
            let answer = poll_once(&mut future);
            (future, answer)
        })
        .collect();
    for ((one, stream), (future, answer)) in all.iter().zip(streams.iter().cycle()).zip(flying) {
        let receipt = match answer {
            Poll::Ready(answer) => answer.unwrap(),
            Poll::Pending => wait(future).unwrap(),
        };
        assert_eq!(receipt.stream, *stream);
        let place = StreamQuery::new(stream.clone())
            .from(receipt.first_sequence)
            .to(receipt.last_sequence);
        let there = read_query(&store, place);
        assert_eq!(there.len(), 1);
        assert_eq!(there[0].event_id, one.event_id);
    }
    for stream in &streams {
        assert_eq!(sequences(&read(&store, stream)), dense(1, 40));
    }
}
