//! Members and brokers killed while a key is parked.

use super::*;

/// Not a test by itself: what the next one starts and kills.
#[test]
fn child_parks_until_it_is_killed() {
    let Ok(order) = std::env::var(PARKS) else {
        return;
    };
    let [address, name] = order.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{order}")
    };
    let group = Group {
        address: address.into(),
        name: name.into(),
        topic: format!("{name}.in"),
    };
    let member = group.join();
    for number in 0.. {
        member.park(three_letters(&group, number)).unwrap();
        println!("parked {number}");
    }
}

/// Where the child is told what to do.
const PARKS: &str = "TIDELOG_TEST_PARKS";

/// A key of three records, all of them letters.
fn three_letters(group: &Group, number: i64) -> Parking {
    let (key, first) = (format!("key {number}"), 3 * number);
    let mut change = group.parking(0, &key, first);
    let more = (1..3).map(|at| group.letter(0, &key, first + at));
    change.letters.extend(more);
    change.offsets = vec![(group.place(0), first + 3)];
    change
}

#[test]
fn a_member_killed_while_it_parks_leaves_all_of_it_or_nothing() {
    if services::kafka().is_none() {
        return;
    }
    // Whether one of ten is met in the middle of it is chance; that none of a hundred is would be none.
    let is_met = (0..10).any(|_| ten_killed_while_parking() > 0);
    assert!(is_met, "none was in the middle of it");
}

/// Answers how many left letters that are of no parking.
fn ten_killed_while_parking() -> usize {
    std::thread::scope(|scope| {
        let rounds = (0..10).map(|round| scope.spawn(move || killed_while_parking(round)));
        let rounds: Vec<_> = rounds.collect();
        let torn = rounds.into_iter().map(|round| round.join().unwrap());
        torn.filter(|is_torn| *is_torn).count()
    })
}

/// Answers whether letters stand there that are of no parking.
fn killed_while_parking(round: u64) -> bool {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    let group = Group::new("killed").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg("kafka::listen::dead::tests::killed::child_parks_until_it_is_killed")
        .env(PARKS, format!("{} {}", group.address, group.name))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let parked = |line: std::io::Result<String>| {
        let line = line.unwrap();
        line.split_once("parked ")?.1.parse().ok()
    };
    let mut last: i64 = said.find_map(parked).expect("it parks");
    // Anywhere in the next one or two, which take some 150 ms each.
    std::thread::sleep(Duration::from_millis(29 * round));
    child.kill().unwrap();
    child.wait().unwrap();
    last = said.filter_map(parked).last().unwrap_or(last);

    let (dead, _heard) = group.dead();
    // Waits for the end of what was open.
    let set = block_on(dead.parked_set()).unwrap();
    let keys = i64::try_from(set.len()).unwrap();
    // The last one may not have come to say so.
    assert!(keys == last + 1 || keys == last + 2, "{keys} and {last}");
    assert_eq!(group.committed(), BTreeMap::from([(0, 3 * keys)]));
    assert_eq!(group.letters(), usize::try_from(3 * keys).unwrap());
    for parked in &set {
        let letters = dead.letters(parked.key.clone(), parked.letter.unwrap());
        let offsets = block_on(letters).unwrap().letters.into_iter();
        let offsets: Vec<_> = offsets.map(|(_, letter)| letter.record.offset).collect();
        let first = parked.first_offset;
        assert_eq!(offsets, [first, first + 1, first + 2]);
    }
    let all = topics::read_with(&group.address, &group.topics().letters, "read_uncommitted");
    all.values().map(Vec::len).sum::<usize>() > group.letters()
}

#[test]
fn a_broker_killed_while_letters_are_committed_doubles_and_loses_none() {
    let Some(broker) = services::Own::kafka() else {
        return;
    };
    let group = Group::at("in-doubt", broker.address());
    let member = group.join();
    assert_eq!(member.set(), []);
    let (ends, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (mut failed, mut number) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..5 {
                // In another moment of a transaction each time.
                std::thread::sleep(Duration::from_millis(1_000 + 37 * round));
                broker.kill();
                broker.start_again();
            }
            ends.store(true, Ordering::SeqCst);
        });
        let (consumer, is_over) = (&member.consumer, &is_over);
        // It is a member as long as it polls, and again when it was away for too long.
        scope.spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                drop(consumer.poll(Duration::from_millis(50)));
            }
        });
        let begun = std::time::Instant::now();
        while !ends.load(Ordering::SeqCst) || number < 20 {
            if begun.elapsed() > Duration::from_secs(240) {
                break;
            }
            match member.park(three_letters(&group, number)) {
                Ok(_) => number += 1,
                Err(FeedError::Passing(_) | FeedError::Lost) => failed += 1,
                Err(error) => {
                    is_over.store(true, Ordering::SeqCst);
                    panic!("{error:?}");
                }
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });
    assert!(number >= 20, "{number} parked, {failed} failed");
    let set = member.set();
    assert_eq!(i64::try_from(set.len()).unwrap(), number);
    assert_eq!(group.committed(), BTreeMap::from([(0, 3 * number)]));
    let letters = group.letters();
    assert_eq!(
        i64::try_from(letters).unwrap(),
        3 * number,
        "{failed} failed"
    );
}
