//! What is read of letters and of the parked set.

use super::*;

#[test]
fn the_set_is_read_behind_a_transaction_that_is_open() {
    let Some(group) = Group::new("open") else {
        return;
    };
    let member = group.join();
    member.park(group.parking(0, "a", 1)).unwrap();
    let before = group.parked(0, "b", 2);
    let (key, value) = super::super::parked_set::entry(&before).unwrap();
    let value = value.unwrap();
    let mut config = group.client();
    config.set("transactional.id", format!("{}-other", group.name));
    config.set("transaction.timeout.ms", "60000");
    let other: BaseProducer = config.create().unwrap();
    other.init_transactions(PATIENCE).unwrap();
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
        other.commit_transaction(PATIENCE).unwrap();
        let set = set.join().unwrap();
        assert!(set.contains(&before), "{set:?}");
        assert_eq!(set.len(), 2);
    });
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
    assert!(super::super::reading::stands(&known, &place, offset).unwrap());

    let mut config = group.client();
    config.set("transactional.id", format!("{}-other", group.name));
    let other: BaseProducer<Hears> = config.create_with_context(Hears::new(&known)).unwrap();
    other.init_transactions(PATIENCE).unwrap();
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
    other.abort_transaction(PATIENCE).unwrap();
    assert!(!super::super::reading::stands(&known, &place, given_up.offset).unwrap());
    assert!(Offset::Offset(given_up.offset).to_raw() > Some(offset));
}
