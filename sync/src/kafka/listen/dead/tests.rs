//! Dead letters against a real broker, with consumers as the members that they would be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use pollster::block_on;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tidelog_core::{Error, Timestamp};
use uuid::Uuid;

use super::client::{Hears, Known};
use super::{Changed, DeadLetters, DeadTopics, Heard};
use crate::kafka::connection::Connection;
use crate::kafka::ensure::TopicSpec;
use crate::kafka::listen::feed::{
    Asked, FeedError, Letter, LetterPlace, ParkedKey, Parking, Place, Record, RecordKey,
};
use crate::kafka::{services, topics};

/// A group with a topic of two partitions, ten records each.
struct Group {
    address: String,
    name: String,
    topic: String,
}

/// A member of it.
struct Member {
    consumer: BaseConsumer,
    dead: DeadLetters,
    heard: Receiver<Heard>,
}

impl Group {
    /// `None` where there is no broker.
    fn new(test: &str) -> Option<Self> {
        Some(Self::at(test, services::kafka()?))
    }

    fn at(test: &str, address: String) -> Self {
        let group = Self::without_topics(test, address);
        let spec = TopicSpec::new(3, 1);
        block_on(group.topics().ensure(group.connection(), spec)).unwrap();
        group
    }

    fn without_topics(test: &str, address: String) -> Self {
        let name = topics::unique(test);
        let topic = format!("{name}.in");
        topics::create(&address, &topic, 2, &[]);
        Self {
            address,
            name,
            topic,
        }
    }

    fn topics(&self) -> DeadTopics {
        DeadTopics::of(&self.name)
    }

    fn connection(&self) -> Connection {
        Connection::new([&self.address])
    }

    fn dead(&self) -> (DeadLetters, Receiver<Heard>) {
        let (hear, heard) = channel();
        let hear = move |what| drop(hear.send(what));
        let member = Uuid::from_u128(u128::from(std::process::id()) << 64 | unique());
        let dead = DeadLetters::new(self.connection(), &self.name, self.topics(), member, hear);
        (dead.unwrap(), heard)
    }

    /// Joins, and waits until all places are its own.
    fn join(&self) -> Member {
        let mut config = self.client();
        config.set("group.id", &self.name);
        config.set("enable.auto.commit", "false");
        config.set("auto.offset.reset", "earliest");
        config.set("session.timeout.ms", "6000");
        config.set("max.poll.interval.ms", "6000");
        config.set("partition.assignment.strategy", "cooperative-sticky");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&[&self.topic]).unwrap();
        while consumer.assignment().unwrap().count() < 2 {
            drop(consumer.poll(Duration::from_millis(50)));
        }
        let (dead, heard) = self.dead();
        Member {
            consumer,
            dead,
            heard,
        }
    }

    fn client(&self) -> ClientConfig {
        topics::client(&self.address)
    }

    fn place(&self, partition: i32) -> Place {
        Place {
            topic: (&*self.topic).into(),
            partition,
        }
    }

    fn key(&self, partition: i32, key: &str) -> RecordKey {
        RecordKey {
            place: self.place(partition),
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
        }
    }

    fn letter(&self, partition: i32, key: &str, offset: i64) -> Letter {
        let RecordKey { place, key } = self.key(partition, key);
        let headers = vec![("ce_id".into(), Some(Bytes::from(offset.to_string())))];
        let record = Record {
            place,
            offset,
            key,
            value: Some(Bytes::from(format!("value of {offset}"))),
            headers,
        };
        Letter {
            record,
            reason: "it is broken".into(),
            attempts: 3,
            since: Timestamp::from_micros(1),
        }
    }

    fn parked(&self, partition: i32, key: &str, offset: i64) -> ParkedKey {
        ParkedKey {
            key: self.key(partition, key),
            stream: format!("Order/{key}").into(),
            reason: "it is broken".into(),
            since: Timestamp::from_micros(1),
            first_offset: offset,
            letter: None,
            attempts: 3,
            asked: None,
        }
    }

    /// Parks a key with its first letter.
    fn parking(&self, partition: i32, key: &str, offset: i64) -> Parking {
        Parking {
            letters: vec![self.letter(partition, key, offset)],
            parked: vec![self.parked(partition, key, offset)],
            resumed: vec![],
            offsets: vec![(self.place(partition), offset + 1)],
        }
    }

    /// What the group is to read next.
    fn committed(&self) -> BTreeMap<i32, i64> {
        let mut config = self.client();
        config.set("group.id", &self.name);
        let consumer: BaseConsumer = config.create().unwrap();
        let mut places = TopicPartitionList::new();
        for partition in 0..2 {
            places.add_partition(&self.topic, partition);
        }
        let found = consumer.committed_offsets(places, Duration::from_secs(20));
        let found = found.unwrap();
        let known = found.elements().into_iter().filter_map(|element| {
            let offset = element.offset().to_raw().filter(|offset| *offset >= 0)?;
            Some((element.partition(), offset))
        });
        known.collect()
    }

    fn letters(&self) -> usize {
        let all = topics::read(&self.address, &self.topics().letters);
        all.values().map(Vec::len).sum()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let DeadTopics { letters, parked } = self.topics();
        topics::delete(&self.address, &[&self.topic, &letters, &parked]);
    }
}

impl Member {
    fn park(&self, change: Parking) -> Result<Vec<LetterPlace>, FeedError> {
        let group = self.consumer.group_metadata().unwrap();
        block_on(self.dead.park(change, group))
    }

    fn set(&self) -> Vec<ParkedKey> {
        block_on(self.dead.parked_set()).unwrap()
    }

    fn letters(&self, key: RecordKey, from: LetterPlace) -> Result<super::Letters, FeedError> {
        block_on(self.dead.letters(key, from))
    }

    /// What it hears next of the parked set.
    fn hears(&self) -> Changed {
        match self.heard.recv_timeout(Duration::from_secs(60)).unwrap() {
            Heard::Changed(changed) => changed,
            Heard::Trouble(error) => panic!("{error}"),
        }
    }
}

fn unique() -> u128 {
    use std::sync::atomic::AtomicU64;
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed).into()
}

#[test]
fn letters_entries_and_offsets_are_there_together() {
    let Some(group) = Group::new("together") else {
        return;
    };
    let member = group.join();
    assert_eq!(member.set(), []);
    let mut change = group.parking(0, "a", 4);
    change.letters.push(group.letter(0, "a", 6));
    let more = group.parking(1, "b", 0);
    change.letters.extend(more.letters);
    change.parked.extend(more.parked);
    change.offsets = vec![(group.place(0), 7), (group.place(1), 1)];
    let places = member.park(change).unwrap();
    assert_eq!(places[0].partition, places[1].partition);
    assert_eq!(group.committed(), BTreeMap::from([(0, 7), (1, 1)]));

    let set = member.set();
    assert_eq!(set.len(), 2);
    let found = |key: &RecordKey| set.iter().find(|parked| parked.key == *key).unwrap();
    let a = found(&group.key(0, "a"));
    assert_eq!(a.letter, Some(places[0]));
    assert_eq!(found(&group.key(1, "b")).letter, Some(places[2]));

    let page = member.letters(a.key.clone(), places[0]).unwrap();
    let expected = [
        (places[0], group.letter(0, "a", 4)),
        (places[1], group.letter(0, "a", 6)),
    ];
    assert_eq!(page.letters, expected);
    let rest = member.letters(a.key.clone(), page.next).unwrap();
    assert_eq!((rest.letters, rest.next), (vec![], page.next));

    // Taken in again: nothing is left of it in the set, and others are.
    let resumed = Parking {
        resumed: vec![a.key.clone()],
        offsets: vec![(group.place(0), 7)],
        ..Parking::default()
    };
    member.park(resumed).unwrap();
    let set = member.set();
    assert_eq!(set.len(), 1);
    assert_eq!(set[0].key, group.key(1, "b"));
}

#[test]
fn records_without_a_key_stay_in_order() {
    let Some(group) = Group::new("keyless") else {
        return;
    };
    let member = group.join();
    let keyless = |offset| {
        let mut letter = group.letter(1, "", offset);
        letter.record.key = None;
        letter
    };
    let mut change = group.parking(1, "", 0);
    change.parked[0].key.key = None;
    change.letters = (0..20).map(keyless).collect();
    let places = member.park(change).unwrap();
    let key = RecordKey {
        place: group.place(1),
        key: None,
    };
    let page = member.letters(key, places[0]).unwrap();
    let offsets: Vec<_> = page
        .letters
        .iter()
        .map(|(_, letter)| letter.record.offset)
        .collect();
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_member_that_lost_its_place_parks_nothing() {
    let Some(group) = Group::new("zombie") else {
        return;
    };
    let zombie = group.join();
    let places = zombie.park(group.parking(0, "a", 1)).unwrap();
    let believes = zombie.consumer.group_metadata().unwrap();
    // It does not poll any more; the other one gets its places when its time is over.
    let heir = group.join();
    assert_eq!(heir.set().len(), 1);
    let refused = block_on(zombie.dead.park(group.parking(0, "b", 2), believes));
    assert!(matches!(refused, Err(FeedError::Lost)), "{refused:?}");
    let set = heir.set();
    assert_eq!((set.len(), set[0].letter), (1, Some(places[0])));
    assert_eq!(group.committed(), BTreeMap::from([(0, 2)]));
    assert_eq!(group.letters(), 1);
    // Its producer goes on where it may.
    heir.park(group.parking(0, "b", 2)).unwrap();
    assert_eq!(heir.set().len(), 2);
}

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
    let torn: usize = std::thread::scope(|scope| {
        let rounds = (0..10).map(|round| scope.spawn(move || killed_while_parking(round)));
        let rounds: Vec<_> = rounds.collect();
        let torn = rounds.into_iter().map(|round| round.join().unwrap());
        torn.filter(|is_torn| *is_torn).count()
    });
    assert!(torn > 0, "none was in the middle of it");
}

/// Answers whether letters stand there that are of no parking.
fn killed_while_parking(round: u64) -> bool {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    let group = Group::new("killed").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg("kafka::listen::dead::tests::child_parks_until_it_is_killed")
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

#[test]
fn the_set_is_read_behind_a_transaction_that_is_open() {
    let Some(group) = Group::new("open") else {
        return;
    };
    let member = group.join();
    member.park(group.parking(0, "a", 1)).unwrap();
    let before = group.parked(0, "b", 2);
    let (key, value) = super::parked_set::entry(&before).unwrap();
    let value = value.unwrap();
    let mut config = group.client();
    config.set("transactional.id", format!("{}-other", group.name));
    config.set("transaction.timeout.ms", "60000");
    let other: BaseProducer = config.create().unwrap();
    other.init_transactions(Duration::from_secs(20)).unwrap();
    other.begin_transaction().unwrap();
    let topic = group.topics().parked;
    let record = BaseRecord::to(&topic).key(&key).payload(&value);
    other.send(record).map_err(|(error, _)| error).unwrap();
    while other.in_flight_count() > 0 {
        other.poll(Duration::from_millis(20));
    }
    // It stands there, uncommitted: who reads to what looks like the end does not find it.
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        let set = member.dead.parked_set();
        let set = scope.spawn(move || {
            let set = block_on(set).unwrap();
            sender.send(()).unwrap();
            set
        });
        // Not the time matters: it cannot answer before the end of the transaction.
        let early = receiver.recv_timeout(Duration::from_secs(2));
        assert!(early.is_err(), "it did not wait");
        other.commit_transaction(Duration::from_secs(20)).unwrap();
        let set = set.join().unwrap();
        assert!(set.contains(&before), "{set:?}");
        assert_eq!(set.len(), 2);
    });
}

#[test]
fn every_member_hears_what_happens_to_the_set() {
    let Some(group) = Group::new("heard") else {
        return;
    };
    let (member, (other, heard)) = (group.join(), group.dead());
    assert_eq!(block_on(other.parked_set()).unwrap(), []);
    assert_eq!(member.set(), []);
    let next = || match heard.recv_timeout(Duration::from_secs(60)).unwrap() {
        Heard::Changed(changed) => changed,
        Heard::Trouble(error) => panic!("{error}"),
    };
    let places = member.park(group.parking(0, "a", 1)).unwrap();
    let mut entry = group.parked(0, "a", 1);
    entry.letter = Some(places[0]);
    assert_eq!(member.hears(), Changed::Parked(entry.clone()));
    assert_eq!(next(), Changed::Parked(entry.clone()));

    let key = entry.key.clone();
    block_on(other.ask(key.clone(), Asked::Skip)).unwrap();
    assert_eq!(member.hears(), Changed::Asked(key.clone(), Asked::Skip));
    assert_eq!(next(), Changed::Asked(key.clone(), Asked::Skip));
    assert_eq!(member.set()[0].asked, Some(Asked::Skip));

    // It failed again: what was asked is over.
    entry.attempts += 1;
    let again = Parking {
        parked: vec![entry.clone()],
        offsets: vec![(group.place(0), 2)],
        ..Parking::default()
    };
    member.park(again).unwrap();
    assert_eq!(next(), Changed::Parked(entry.clone()));
    assert_eq!(member.set(), [entry]);

    let resumed = Parking {
        resumed: vec![key.clone()],
        offsets: vec![(group.place(0), 2)],
        ..Parking::default()
    };
    member.park(resumed).unwrap();
    assert_eq!(next(), Changed::Resumed(key));
}

#[test]
fn who_resumes_from_outside_is_told_what_came_of_it() {
    let Some(group) = Group::new("outside") else {
        return;
    };
    let (member, (outside, _heard)) = (group.join(), group.dead());
    let key = group.key(0, "a");
    let patience = Duration::from_secs(60);
    let none = block_on(outside.resume(key.clone(), Asked::Resume, patience));
    assert!(matches!(none, Err(Error::InvalidInput { .. })), "{none:?}");

    assert_eq!(member.set(), []);
    let places = member.park(group.parking(0, "a", 1)).unwrap();
    let mut entry = group.parked(0, "a", 1);
    entry.letter = Some(places[0]);
    assert_eq!(member.hears(), Changed::Parked(entry.clone()));

    let nobody = block_on(outside.resume(key.clone(), Asked::Resume, Duration::ZERO));
    let Err(Error::Parked { stream, reason, .. }) = nobody else {
        panic!("{nobody:?}")
    };
    assert_eq!(stream.to_string(), "Order/a");
    assert!(reason.contains("no member"), "{reason}");

    std::thread::scope(|scope| {
        let asked = Changed::Asked(key.clone(), Asked::Resume);
        // What was asked before stays asked.
        assert_eq!(member.hears(), asked);
        let again = scope.spawn(|| block_on(outside.resume(key.clone(), Asked::Resume, patience)));
        assert_eq!(member.hears(), asked);
        entry.reason = "still broken".into();
        let failed = Parking {
            parked: vec![entry.clone()],
            offsets: vec![(group.place(0), 2)],
            ..Parking::default()
        };
        // Only what it has read is taken back.
        assert_eq!(member.set()[0].asked, Some(Asked::Resume));
        member.park(failed).unwrap();
        let again = again.join().unwrap();
        let Err(Error::Parked { reason, .. }) = again else {
            panic!("{again:?}")
        };
        assert_eq!(&*reason, "still broken");

        assert_eq!(member.hears(), Changed::Parked(entry));
        let again = scope.spawn(|| block_on(outside.resume(key.clone(), Asked::Resume, patience)));
        assert_eq!(member.hears(), asked);
        let resumed = Parking {
            resumed: vec![key.clone()],
            offsets: vec![(group.place(0), 2)],
            ..Parking::default()
        };
        member.park(resumed).unwrap();
        again.join().unwrap().unwrap();
    });
    assert_eq!(member.set(), []);
}

#[test]
fn a_letter_that_does_not_fit_goes_without_what_can_be_had_elsewhere() {
    let Some(group) = Group::new("large") else {
        return;
    };
    let DeadTopics { letters, .. } = group.topics();
    topics::alter(&group.address, &letters, "max.message.bytes", "4000");
    // Nothing that could be compressed.
    let text: String = (0..160_u32)
        .map(|number| blake3::hash(&number.to_be_bytes()).to_hex().to_string())
        .collect();
    let (value, header) = (text.as_bytes(), &text[..3_950]);
    let key = Some(&b"a"[..]);
    let large = Some(value);
    let small = Some(&b"y"[..]);
    topics::write_to(
        &group.address,
        &group.topic,
        0,
        [
            (key, large, &[][..]),
            (key, small, &[("long", header)][..]),
            (key, small, &[("short", "1")][..]),
            (key, Some(&value[..3_800]), &[][..]),
        ],
    );
    let records = topics::read(&group.address, &group.topic)
        .remove(&0)
        .unwrap();
    let letter = |at: usize| {
        let (record, message) = (
            group.letter(0, "a", i64::try_from(at).unwrap()),
            &records[at],
        );
        let mut letter = record;
        letter.record.value = message.payload().map(Bytes::copy_from_slice);
        let headers = ["long", "short"].into_iter().filter_map(|name| {
            let value = topics::header(message, name)?;
            Some((name.into(), Some(Bytes::from(value))))
        });
        letter.record.headers = headers.collect();
        letter
    };
    let member = group.join();
    let mut change = group.parking(0, "a", 0);
    change.letters = (0..4).map(letter).collect();
    change.offsets = vec![(group.place(0), 4)];
    let places = member.park(change).unwrap();
    let page = member.letters(group.key(0, "a"), places[0]).unwrap();
    let found: Vec<_> = page
        .letters
        .iter()
        .map(|(_, letter)| letter.record.clone())
        .collect();
    let expected: Vec<_> = (0..4).map(|at| letter(at).record).collect();
    assert_eq!(found, expected);
    let written = topics::read(&group.address, &letters);
    let written = &written[&places[0].partition];
    let left_out: Vec<_> = written
        .iter()
        .map(|message| topics::header(message, "tidelog-left-out"))
        .collect();
    let left_out: Vec<_> = left_out.iter().map(|text| text.as_deref()).collect();
    let all = [
        Some("reason,value"),
        Some("reason,value,headers"),
        None,
        Some("reason"),
    ];
    // The third one is innocent.
    assert_eq!(left_out[2], None);
    assert_eq!(left_out, all);
    // What stays elsewhere can be lost there, which is said.
    topics::delete_until(&group.address, &group.topic, 0, 1);
    let gone = member.letters(group.key(0, "a"), places[0]);
    let Err(FeedError::Gone { from, found }) = gone else {
        panic!("{gone:?}")
    };
    assert_eq!((from, found.offset), (places[0], places[0].offset + 1));
}

#[test]
fn letters_that_are_gone_are_missed() {
    let Some(group) = Group::new("gone") else {
        return;
    };
    let member = group.join();
    let mut change = group.parking(0, "a", 0);
    change.letters.push(group.letter(0, "a", 1));
    let places = member.park(change).unwrap();
    let DeadTopics { letters, .. } = group.topics();
    let partition = places[0].partition;
    topics::delete_until(&group.address, &letters, partition, places[1].offset);
    let gone = member.letters(group.key(0, "a"), places[0]);
    let Err(FeedError::Gone { from, found }) = gone else {
        panic!("{gone:?}")
    };
    assert_eq!((from, found), (places[0], places[1]));
    let rest = member.letters(group.key(0, "a"), found).unwrap();
    assert_eq!(rest.letters.len(), 1);
    // A topic that was made again does not have what it had.
    let behind = LetterPlace {
        partition,
        offset: 100,
    };
    let gone = member.letters(group.key(0, "a"), behind);
    assert!(matches!(gone, Err(FeedError::Gone { .. })), "{gone:?}");
}

#[test]
fn a_topic_that_is_missing_is_named() {
    let Some(address) = services::kafka() else {
        return;
    };
    let group = Group::without_topics("missing", address);
    let DeadTopics { letters, parked } = group.topics();
    let member = group.join();
    let set = block_on(member.dead.parked_set());
    assert!(
        matches!(&set, Err(FeedError::NoTopic(topic)) if *topic == parked),
        "{set:?}"
    );
    topics::create(&group.address, &parked, 1, &[("cleanup.policy", "compact")]);
    assert_eq!(member.set(), []);
    let written = member.park(group.parking(0, "a", 0));
    assert!(
        matches!(&written, Err(FeedError::NoTopic(topic)) if *topic == letters),
        "{written:?}"
    );
    assert_eq!(group.committed(), BTreeMap::new());
    topics::create(&group.address, &letters, 1, &[]);
    member.park(group.parking(0, "a", 0)).unwrap();
    assert_eq!(member.set().len(), 1);
}

#[test]
fn topics_are_made_once_and_left_alone() {
    let Some(group) = Group::new("ensured") else {
        return;
    };
    let DeadTopics { letters, parked } = group.topics();
    let spec = TopicSpec::new(9, 1);
    let report = block_on(group.topics().ensure(group.connection(), spec)).unwrap();
    assert_eq!((report.created.len(), report.found.len()), (0, 2));
    assert_eq!(report.differs.len(), 1, "{report:?}");
    assert_eq!(topics::partitions(&group.address, &letters), Some(3));
    assert_eq!(topics::partitions(&group.address, &parked), Some(1));
}

#[test]
fn whether_a_record_was_committed_can_be_asked() {
    let Some(group) = Group::new("stands") else {
        return;
    };
    let member = group.join();
    let places = member.park(group.parking(0, "a", 0)).unwrap();
    let known = std::sync::Arc::new(Known {
        connection: group.connection(),
        topics: group.topics(),
        group: (&*group.name).into(),
    });
    let place = Place {
        topic: group.topics().letters,
        partition: places[0].partition,
    };
    let offset = places[0].offset;
    assert!(super::reading::stands(&known, &place, offset).unwrap());

    let mut config = group.client();
    config.set("transactional.id", format!("{}-other", group.name));
    let other: BaseProducer<Hears> = config.create_with_context(Hears::new(&known)).unwrap();
    other.init_transactions(Duration::from_secs(20)).unwrap();
    other.begin_transaction().unwrap();
    let mut record = BaseRecord::with_opaque_to(&place.topic, 7)
        .key("k")
        .payload("v");
    record.partition = Some(place.partition);
    other.send(record).map_err(|(error, _)| error).unwrap();
    while other.in_flight_count() > 0 {
        other.poll(Duration::from_millis(20));
    }
    let reports = other.context().take_reports();
    let [(7, Ok(given_up))] = reports[..] else {
        panic!("{reports:?}")
    };
    other.abort_transaction(Duration::from_secs(20)).unwrap();
    assert!(!super::reading::stands(&known, &place, given_up.offset).unwrap());
    assert!(Offset::Offset(given_up.offset).to_raw() > Some(offset));
}
