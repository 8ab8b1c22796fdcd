//! What is delivered, what is not, and what is set aside.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use tidelog::{
    Applied, Error, EventEnvelope, EventListenerContainer, HandlerError, InOrder, Ledger,
    ListenerPhase, Poison, StartAt, StreamId,
};

use super::kit::{Group, PATIENCE, of, options, start_with, told};
use crate::topics;

#[test]
fn after_a_stop_nothing_comes_again() {
    let Some(group) = Group::new("stop", 3) else {
        return;
    };
    let events: Vec<(String, u64)> = (1..=20)
        .flat_map(|sequence| ["a", "b", "c"].map(|id| (id.to_owned(), sequence)))
        .collect();
    let named: Vec<(&str, u64)> = events.iter().map(|(id, at)| (id.as_str(), *at)).collect();
    group.write(&named);
    let (listener, heard) = told();
    let running = group.start(listener);
    let mut handled = heard.next(60);
    running.stop().unwrap();
    assert!(heard.rest().is_empty());
    for id in ["a", "b", "c"] {
        let of_key = handled.iter().filter(|(of, _)| of == id).cloned();
        assert_eq!(of_key.collect::<Vec<_>>(), of(id, 1..=20));
    }
    handled.sort();
    handled.dedup();
    assert_eq!(handled.len(), 60);

    group.write(&[("a", 21)]);
    let (listener, heard) = told();
    let running = group.start(listener);
    assert_eq!(heard.next(1), of("a", [21]));
    running.stop().unwrap();
    assert!(heard.rest().is_empty());
}

#[test]
fn a_group_that_starts_at_the_end_skips_what_was_there_and_nothing_after() {
    let Some(group) = Group::new("end", 2) else {
        return;
    };
    group.write(&[("a", 1), ("b", 1)]);
    let (listener, heard) = told();
    let at_end = || options().start(StartAt::End);
    let running = start_with(group.config(), listener, at_end());
    let control = running.control().blocking();
    // The ends are put down before anything is taken, and that is what others see first.
    control.wait_until(|status| status.places.iter().filter(|p| p.end.is_some()).count() == 2);
    group.write(&[("a", 2)]);
    assert_eq!(heard.next(1), of("a", [2]));
    running.stop().unwrap();

    group.write(&[("a", 3), ("b", 2)]);
    let (listener, heard) = told();
    let running = start_with(group.config(), listener, at_end());
    let mut handled = heard.next(2);
    handled.sort();
    assert_eq!(handled, [("a".to_owned(), 3), ("b".to_owned(), 2)]);
    running.stop().unwrap();
}

/// Somebody, killed since, put this down in a transaction that stays open as long as what is answered.
fn puts_down_and_is_killed(group: &Group, offset: i64) -> BaseProducer {
    let mut config = topics::client(&group.address);
    config.set("group.id", &group.name);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut config = topics::client(&group.address);
    config.set("transactional.id", topics::unique("killed"));
    let open: BaseProducer = config.create().unwrap();
    open.init_transactions(PATIENCE).unwrap();
    open.begin_transaction().unwrap();
    let mut offsets = TopicPartitionList::new();
    let added = offsets.add_partition_offset(&group.topic, 0, Offset::Offset(offset));
    added.unwrap();
    let of = consumer.group_metadata().unwrap();
    open.send_offsets_to_transaction(&offsets, &of, PATIENCE)
        .unwrap();
    open
}

#[test]
fn what_is_put_down_in_an_open_transaction_is_waited_for_and_nothing_is_skipped() {
    let Some(group) = Group::new("open", 1) else {
        return;
    };
    group.write(&[("a", 1)]);
    let (listener, heard) = told();
    let running = group.start(listener);
    assert_eq!(heard.next(1), of("a", [1]));
    running.stop().unwrap();
    group.write(&[("a", 2), ("a", 3)]);
    let open = puts_down_and_is_killed(&group, 2);

    // It is no new group, whose places would begin at their ends.
    let (listener, heard) = told();
    let running = start_with(group.config(), listener, options().start(StartAt::End));
    let control = running.control().blocking();
    control.wait_until(|status| {
        let committed = status.places.first().and_then(|place| place.committed);
        status.last_error.is_some() || committed == Some(3)
    });
    let waits = control.status().last_error.unwrap();
    assert!(waits.to_string().contains("where a place ends"), "{waits}");
    open.abort_transaction(PATIENCE).unwrap();
    assert_eq!(heard.next(2), of("a", [2, 3]));
    running.stop().unwrap();
}

#[test]
fn garbage_is_parked_with_its_reason_and_others_go_on() {
    let Some(group) = Group::new("garbage", 1) else {
        return;
    };
    let long = "x".repeat(600 << 10);
    let bad: [topics::Written<'_>; 4] = [
        (Some(b"g1"), Some(b"\x00\xff"), &[]),
        (None, Some(b"no key"), &[("ce_id", "1")]),
        (Some(b"g2"), None, &[("ce_specversion", "9")]),
        (Some(b"g3"), Some(b"x"), &[("ce_id", &long)]),
    ];
    topics::write(&group.address, &group.topic, bad);
    group.write(&[("a", 1)]);
    let (listener, heard) = told();
    let running = group.start(listener);
    assert_eq!(heard.next(1), of("a", [1]));
    let control = running.control().blocking();
    control.wait_until(|status| {
        let committed = status.places.first().and_then(|place| place.committed);
        status.parked == 3 && committed == Some(5)
    });
    assert_eq!(control.status().garbage, 4);
    let reasons: Vec<_> = control
        .parked()
        .into_iter()
        .map(|parked| parked.reason)
        .collect();
    assert!(
        reasons.iter().all(|reason| reason.contains("message")),
        "{reasons:?}"
    );
    running.stop().unwrap();
    let letters = topics::read(&group.address, &format!("{}.dead", group.name));
    assert_eq!(letters.values().map(Vec::len).sum::<usize>(), 4);

    // They do not come again, and cannot be taken in; skipped, they are gone.
    let (listener, _heard) = told();
    let running = group.start(listener);
    let control = running.control().blocking();
    control.wait_until(|status| status.parked == 3);
    let refused = control.resume("g1").unwrap_err();
    assert!(refused.to_string().contains("message"), "{refused}");
    control.skip("g1").unwrap();
    assert_eq!(control.status().parked, 2);
    running.stop().unwrap();
}

#[test]
fn by_the_other_policy_it_stops_at_what_cannot_be_handled_and_goes_on_when_told() {
    let Some(group) = Group::new("stops", 1) else {
        return;
    };
    group.write(&[("a", 1), ("a", 2)]);
    let (listener, heard) = told();
    heard.poison.lock().push(("a".into(), 2));
    let stops = options().poison(Poison::Stop);
    let running = start_with(group.config(), listener, stops);
    assert_eq!(heard.next(1), of("a", [1]));
    let control = running.control().blocking();
    control.wait_until(|status| matches!(status.phase, ListenerPhase::Stopped(_)));
    let ListenerPhase::Stopped(Error::Stopped { position, .. }) = control.status().phase else {
        panic!("{control:?}");
    };
    assert_eq!(position, 1);
    heard.poison.lock().clear();
    control.retry().unwrap();
    assert_eq!(heard.next(1), of("a", [2]));
    running.stop().unwrap();
}

#[test]
fn without_a_topic_for_letters_it_says_so_at_once() {
    let Some(group) = Group::new("no-dead", 1) else {
        return;
    };
    let config = group.config().parked_topic(topics::unique("nowhere"));
    let (listener, _heard) = told();
    let container = EventListenerContainer::kafka(config).listener(listener);
    let refused = pollster::block_on(container.build().unwrap().run()).unwrap_err();
    assert!(matches!(refused, Error::NoTopic { .. }), "{refused}");
}

/// Applies in memory.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Vec<(StreamId, Applied)>>>);

impl Ledger for Book {
    async fn last(&self, stream: &StreamId) -> Result<Option<Applied>, HandlerError> {
        let book = self.0.lock();
        let applied = book.iter().rev().find(|(of, _)| of == stream);
        Ok(applied.map(|(_, applied)| *applied))
    }

    async fn apply(&self, event: &EventEnvelope, _: Option<Applied>) -> Result<(), HandlerError> {
        self.0
            .lock()
            .push((event.stream.clone(), Applied::of(event)));
        Ok(())
    }
}

impl Book {
    fn sequences(&self) -> Vec<u64> {
        self.0
            .lock()
            .iter()
            .map(|(_, applied)| applied.sequence)
            .collect()
    }
}

#[test]
fn a_gap_is_held_until_a_republish_fills_it_and_parked_when_none_does() {
    let Some(group) = Group::new("gap", 1) else {
        return;
    };
    let book = Book::default();
    group.write(&[("a", 1), ("a", 3), ("a", 4)]);
    let config = group.config().hold_for(Duration::from_secs(600));
    let running = start_with(config, InOrder::new(book.clone()), options());
    let control = running.control().blocking();
    control.wait_until(|status| status.held == 2);
    assert_eq!(book.sequences(), [1]);
    group.write(&[("a", 2), ("a", 3), ("a", 4), ("a", 5)]);
    control.wait_until(|status| status.places.first().and_then(|place| place.committed) == Some(7));
    assert_eq!(book.sequences(), [1, 2, 3, 4, 5]);
    assert_eq!(control.status().parked, 0);
    running.stop().unwrap();

    group.write(&[("a", 8)]);
    let config = group.config().hold_for(Duration::from_millis(100));
    let running = start_with(config, InOrder::new(book.clone()), options());
    let control = running.control().blocking();
    control.wait_until(|status| status.parked == 1);
    let reason = control.parked()[0].reason.to_string();
    assert!(
        reason.contains("sequence 8 came where 6 is next"),
        "{reason}"
    );
    assert_eq!(book.sequences(), [1, 2, 3, 4, 5]);
    running.stop().unwrap();
}

#[test]
fn a_stopped_group_begins_again_and_one_with_members_does_not() {
    let Some(group) = Group::new("replay", 2) else {
        return;
    };
    group.write(&[("a", 1), ("b", 1)]);
    let (listener, heard) = told();
    let running = group.start(listener);
    heard.next(2);
    let control = running.control();
    let refused = control.blocking().replay_from_beginning().unwrap_err();
    assert!(matches!(refused, Error::ServerRefused { .. }), "{refused}");
    running.stop().unwrap();
    control.blocking().replay_from_beginning().unwrap();
    let (listener, heard) = told();
    let running = group.start(listener);
    heard.next(2);
    running.stop().unwrap();
}
