//! A backup that was put back, and copies that live on, of stores that Kafka alone knows.

use std::thread;
use std::time::{Duration, Instant};

use tempfile::tempdir;
use tidelog::{
    BlockingTidelog, Error, Halt, Other, PublishingState, Stage, StreamId, restore_backup,
};

use crate::folder::copy_tree;
use crate::stores::{self, Shop};
use crate::sweep::Random;
use crate::{services, topics};

fn say(log: &BlockingTidelog, stream: &StreamId, count: usize) -> u64 {
    (0..count).fold(0, |_, _| stores::append(log, stream, b"said".to_vec()))
}

fn halted(log: &BlockingTidelog) -> Halt {
    let is = |state: &PublishingState| matches!(state, PublishingState::Halted(_));
    stores::until(log, "it does not stand still", |status| is(&status.state));
    log.publishing().halt().unwrap()
}

/// Panics unless what is appended now stays here, and whoever waits for it is told so.
fn assert_sends_nothing(log: &BlockingTidelog, shop: &Shop, stream: &StreamId) {
    let before = shop.seen();
    let position = say(log, stream, 1);
    let waited = log.wait_for(position, Stage::Published);
    assert!(matches!(waited, Err(Error::Halted(_))), "{waited:?}");
    assert_eq!(shop.seen().messages, before.messages);
}

#[test]
fn a_backup_that_was_put_back_is_noticed_by_kafka_alone_and_goes_on_when_told() {
    let Some(address) = services::kafka() else {
        return;
    };
    let shop = Shop::new("restored", address, 2);
    let dir = tempdir().unwrap();
    let (first, backup, second) = (
        dir.path().join("first"),
        dir.path().join("backup"),
        dir.path().join("second"),
    );
    let [before, lost, after] = [1, 2, 3].map(stores::stream);
    let log = shop.open(&first);
    say(&log, &before, 10);
    stores::level(&log);
    log.backup(&backup).unwrap();
    let last = say(&log, &lost, 5);
    stores::level(&log);
    log.close().unwrap();

    restore_backup(&backup, &second).unwrap();
    let restored = shop.open(&second);
    let halt = halted(&restored);
    let Halt::RestoredBackup { watermark, .. } = halt else {
        panic!("{halt:?}");
    };
    assert_eq!(watermark, last);
    assert_sends_nothing(&restored, &shop, &after);
    // Not by trying again, nor by opening it again.
    restored.publishing().retry().unwrap();
    assert!(matches!(halted(&restored), Halt::RestoredBackup { .. }));
    restored.close().unwrap();
    let restored = shop.open(&second);
    assert!(matches!(halted(&restored), Halt::RestoredBackup { .. }));

    restored.publishing().fork(Other::Gone).unwrap();
    say(&restored, &after, 2);
    stores::level(&restored);
    let seen = shop.seen();
    seen.assert_in_order();
    let counts = [&before, &lost, &after].map(|stream| seen.streams()[&stream.to_string()].len());
    assert_eq!(counts, [10, 5, 3]);
    restored.close().unwrap();

    // The machine of before comes back.
    let old = shop.open(&first);
    let halt = halted(&old);
    assert!(matches!(halt, Halt::EpochRetired { .. }), "{halt:?}");
    assert_sends_nothing(&old, &shop, &lost);
    old.close().unwrap();
    // The one that was told to go on does, without being asked again.
    let restored = shop.open(&second);
    say(&restored, &after, 1);
    stores::level(&restored);
    assert_eq!(shop.seen().events(), 19);
    restored.close().unwrap();
    shop.forget();
}

#[test]
fn of_two_copies_that_kafka_alone_knows_one_publishes_and_the_other_says_so() {
    let Some(address) = services::kafka() else {
        return;
    };
    let shop = Shop::new("cloned", address, 2);
    let dir = tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let [common, mine, others] = [1, 2, 3].map(stores::stream);
    let log = shop.open(&first);
    say(&log, &common, 10);
    stores::level(&log);
    log.close().unwrap();
    copy_tree(&first, &second);

    let original = shop.open(&first);
    say(&original, &mine, 2);
    stores::level(&original);
    let clone = shop.open(&second);
    let halt = halted(&clone);
    assert!(matches!(halt, Halt::Cloned { .. }), "{halt:?}");
    assert_sends_nothing(&clone, &shop, &others);
    // It has taken nothing from the one that is at work.
    say(&original, &mine, 1);
    stores::level(&original);
    assert!(original.publishing().halt().is_none());

    // The other one is at work, and may take the fence back in between: then it is said.
    let mut tries = 1;
    while let Err(error) = clone.publishing().fork(Other::Lives) {
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert!(tries < 100, "it never comes to it: {error}");
        tries += 1;
    }
    say(&clone, &others, 1);
    stores::level(&clone);
    // Which finds out as soon as it would note how far it is, or publish.
    say(&original, &mine, 1);
    let halt = halted(&original);
    assert!(matches!(halt, Halt::UnknownEpoch { .. }), "{halt:?}");
    say(&clone, &others, 1);
    stores::level(&clone);
    let seen = shop.seen();
    seen.assert_in_order();
    let counts = [&common, &others].map(|stream| seen.streams()[&stream.to_string()].len());
    assert_eq!(counts, [10, 3]);
    original.close().unwrap();
    clone.close().unwrap();
    shop.forget();
}

#[test]
fn of_a_store_and_its_copy_one_stands_still_also_while_what_is_told_of_them_does() {
    let Some(address) = services::kafka() else {
        return;
    };
    let shop = Shop::new("taken", address, 1);
    topics::alter(&shop.address, &shop.topic(), "max.message.bytes", "10000");
    let dir = tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let [small, large, of_original, of_copy, later] = [1, 2, 3, 4, 5].map(stores::stream);
    let original = shop.open(&first);
    say(&original, &small, 1);
    // Nothing behind it is told of the log while it is parked.
    stores::append(&original, &large, stores::noise(&mut Random(3), 200_000));
    stores::level(&original);
    stores::until(&original, "none is parked", |status| status.parked == 1);
    // While it runs: the copy knows under which session.
    copy_tree(&first, &second);
    let copy = shop.open(&second);
    say(&copy, &of_copy, 1);
    say(&original, &of_original, 1);

    // Whose record comes last has the place: the copy's, or one that the original owes for what it
    // sends.
    let begun = Instant::now();
    let (at_work, stream, still, halt) = loop {
        assert!(
            begun.elapsed() < stores::PATIENCE,
            "both publish: {:?} and {:?}",
            original.publishing().status(),
            copy.publishing().status()
        );
        match (original.publishing().halt(), copy.publishing().halt()) {
            (Some(halt), None) => break (&copy, &of_copy, &original, halt),
            (None, Some(halt)) => break (&original, &of_original, &copy, halt),
            (None, None) => {
                // Who rests finds out when there is something to send.
                say(&original, &of_original, 1);
                thread::sleep(Duration::from_millis(100));
            }
            both => panic!("nobody publishes: {both:?}"),
        }
    };
    assert!(matches!(halt, Halt::Cloned { .. }), "{halt:?}");
    stores::level(at_work);
    assert_sends_nothing(still, &shop, &later);
    say(at_work, stream, 1);
    stores::level(at_work);
    assert!(at_work.publishing().halt().is_none());
    original.close().unwrap();
    copy.close().unwrap();
    shop.forget();
}
