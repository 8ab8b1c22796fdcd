//! The publisher against a cluster that does what a test says.

mod aside;
mod copies;
mod forks;
mod losses;
mod republishing;
mod world;

use std::sync::Arc;
use std::time::Duration;

use tidelog_core::EventLog as _;

use self::world::Till;
use super::broker::Fatal;
use super::sink::Ask;
use super::status::{PublishingState, StatusCell};
use crate::replicate::Other;
use crate::replicate::mailbox::Message;

fn counted(from: u64, to: u64) -> Vec<u64> {
    (from..=to).collect()
}

fn halt_of(till: &Till) -> &'static str {
    match till.status.status().state {
        PublishingState::Halted(halt) => halt.code(),
        other => panic!("{other:?}"),
    }
}

fn halts(till: &mut Till) -> &'static str {
    till.run_until(|status| matches!(status.state, PublishingState::Halted(_)));
    halt_of(till)
}

#[test]
fn every_stream_comes_in_order_and_a_restart_sends_nothing_twice() {
    let mut till = Till::new();
    for round in 1..=20 {
        for stream in ["T/a", "T/b", "T/c"] {
            till.append(stream, round % 3 + 1, 10);
        }
    }
    till.settle();
    let a = till.sequences("T/a");
    assert_eq!(a, counted(1, a.len() as u64));
    let sent = till.script.world.lock().topics["tidelog.T"].len();
    assert_eq!(sent as u64, till.store.last_position());
    till.run_until(|status| status.lag_events == 0);
    till.run_for(Duration::from_secs(2));
    till.crash();
    till.append("T/a", 1, 10);
    till.settle();
    assert_eq!(till.status.status().delivered, 1);
}

#[test]
fn only_the_message_refused_alone_parks_its_stream_durably_and_the_others_go_on() {
    let mut till = Till::new();
    till.script.world.lock().limit = 100;
    for number in 0..30 {
        till.append(&format!("T/{number}"), 2, 10);
    }
    till.append("T/7", 1, 200);
    till.append("T/7", 2, 10);
    till.append("T/9", 3, 10);
    till.settle();
    assert_eq!(till.parked(), [("T/7".to_owned(), "too_large", 3)]);
    assert_eq!(till.sequences("T/7"), [1, 2]);
    assert_eq!(till.sequences("T/9"), counted(1, 5));
    // It stays so, whatever comes.
    till.crash();
    till.append("T/7", 1, 10);
    till.append("T/8", 1, 10);
    till.settle();
    assert_eq!(till.parked(), [("T/7".to_owned(), "too_large", 3)]);
    assert_eq!(till.sequences("T/7"), [1, 2]);
    let stream: tidelog_core::StreamId = "T/7".parse().unwrap();
    till.ask(Ask::Retry(stream.clone())).unwrap();
    till.run_until(|status| status.refused >= 1 && status.in_flight == 0);
    till.run_for(Duration::from_secs(1));
    assert_eq!(till.parked(), [("T/7".to_owned(), "too_large", 3)]);
    till.script.world.lock().limit = 1_000;
    till.ask(Ask::Retry(stream)).unwrap();
    till.run_until(|status| status.parked == 0);
    assert_eq!(till.sequences("T/7"), counted(1, 6));
    till.append("T/7", 2, 10);
    till.settle();
    assert_eq!(till.sequences("T/7"), counted(1, 8));
    let other: tidelog_core::StreamId = "T/1".parse().unwrap();
    assert_eq!(
        till.ask(Ask::Retry(other)).unwrap_err().code(),
        "invalid_input"
    );
}

#[test]
fn all_that_is_parked_is_tried_again_together_and_what_comes_meanwhile_follows() {
    let mut till = Till::new();
    till.script.world.lock().limit = 100;
    for number in 0..9 {
        let stream = format!("T/{number}");
        till.append(&stream, 1, 10);
        till.append(&stream, 1, if number % 2 == 0 { 200 } else { 10 });
        till.append(&stream, 3, 10);
    }
    till.settle();
    assert_eq!(till.parked().len(), 5);
    till.script.world.lock().limit = 1_000;
    till.ask(Ask::RetryAll).unwrap();
    for number in 0..9 {
        till.append(&format!("T/{number}"), 2, 10);
    }
    till.run_until(|status| status.parked == 0);
    till.settle();
    for number in 0..9 {
        assert_eq!(till.sequences(&format!("T/{number}")), counted(1, 7));
    }
}

#[test]
fn a_topic_that_is_missing_keeps_its_streams_waiting_and_no_others() {
    let mut till = Till::new();
    till.append("U/x", 3, 10);
    let there = till.append("T/a", 3, 10);
    till.run_until(|status| status.delivered == 3 && !status.missing_topics.is_empty());
    let status = till.status.status();
    assert_eq!(&*status.missing_topics[0], "tidelog.U");
    assert_eq!(status.last_error.unwrap().code(), "no_topic");
    assert!(status.settled < there);
    till.run_for(Duration::from_secs(20));
    assert!(till.parked().is_empty());
    assert_eq!(
        till.status.status().stalled_by.as_deref(),
        Some("tidelog.U")
    );
    till.script.world.lock().make("tidelog.U");
    till.settle();
    assert!(till.status.status().missing_topics.is_empty());
    let stands = till.script.world.lock().sequences("tidelog.U");
    assert_eq!(stands["U/x"], [1, 2, 3]);
}

#[test]
fn a_topic_made_again_is_noticed_and_publishing_it_all_once_more_refills_it() {
    let mut till = Till::new();
    for _ in 0..10 {
        till.append("T/a", 1, 10);
        till.append("T/b", 1, 10);
    }
    till.settle();
    till.script.world.lock().make("tidelog.T");
    // A test's own view of gaps begins with what comes next.
    till.script.world.lock().topics.remove("tidelog.T");
    till.append("T/a", 1, 10);
    till.run_until(|status| !status.missing_topics.is_empty());
    till.script.world.lock().make_without_memory("tidelog.T");
    till.settle();
    till.run_until(|status| !status.restarted_topics.is_empty());
    till.settle();
    till.ask(Ask::Republish {
        from: 1,
        to: u64::MAX,
    })
    .unwrap();
    till.append("T/b", 1, 10);
    till.run_until(|status| status.restarted_topics.is_empty());
    till.settle();
    let world = till.script.world.lock();
    let (a, b) = (
        &world.sequences("tidelog.T")["T/a"],
        &world.sequences("tidelog.T")["T/b"],
    );
    let mut a = a.clone();
    a.sort_unstable();
    assert_eq!(a, counted(1, 11));
    let mut b = b.clone();
    b.sort_unstable();
    assert_eq!(b, counted(1, 11));
}

#[test]
fn a_topic_that_began_again_while_nobody_looked_is_noticed_at_the_next_connection() {
    let mut till = Till::new();
    till.append("T/a", 8, 10);
    till.rest();
    till.stop();
    till.script.world.lock().make_without_memory("tidelog.T");
    till.crash();
    till.run_until(|status| !status.restarted_topics.is_empty());
    // What was published last is there again.
    till.run_until(|status| status.delivered > 0);
    till.settle();
    assert!(
        till.sequences("T/a").ends_with(&[7, 8]),
        "{:?}",
        till.sequences("T/a")
    );
}

#[test]
fn a_producer_that_gives_up_is_followed_by_another_which_sends_what_was_in_flight() {
    let mut till = Till::new();
    till.append("T/a", 2, 10);
    till.settle();
    till.script.world.lock().is_still = true;
    till.append("T/a", 3, 10);
    till.append("T/b", 3, 10);
    till.run_until(|status| status.in_flight == 2);
    let reason = "out of order".into();
    let lost_data = false;
    till.script.world.lock().fatal = Some(Fatal { reason, lost_data });
    till.run_until(|status| status.fatals == 1);
    till.script.world.lock().is_still = false;
    till.settle();
    let status = till.status.status();
    assert_eq!(status.generations, 2);
    assert_eq!(till.sequences("T/a"), counted(1, 5));
    assert_eq!(till.sequences("T/b"), counted(1, 3));
}

#[test]
fn where_a_broker_lost_what_it_acknowledged_what_was_published_last_is_sent_again() {
    let mut till = Till::new();
    till.append("T/a", 10, 10);
    till.settle();
    let reason = "out of order".into();
    let lost_data = true;
    till.script.world.lock().fatal = Some(Fatal { reason, lost_data });
    till.run_until(|status| status.fatals == 1 && status.again > 0);
    till.settle();
    let world = till.script.world.lock();
    // By whole commits: all ten were one append.
    assert_eq!(world.topics["tidelog.T"].len(), 20);
}

#[test]
fn a_report_that_is_lost_is_missed_and_its_message_sent_again() {
    let mut till = Till::new();
    till.append("T/b", 1, 10);
    till.settle();
    till.script.world.lock().loses = 1;
    till.append("T/a", 2, 10);
    till.run_for(Duration::from_secs(1));
    assert_eq!(till.status.status().in_flight, 1);
    till.skip(Duration::from_secs(299));
    till.settle();
    let status = till.status.status();
    assert_eq!(status.generations, 2);
    let world = till.script.world.lock();
    let a = world.topics["tidelog.T"].iter();
    let a: Vec<(u64, String)> = a
        .filter(|stored| stored.stream == "T/a")
        .map(|stored| (stored.sequence, stored.id.clone()))
        .collect();
    assert_eq!(
        a.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(),
        [1, 1, 2]
    );
    assert_eq!(a[0], a[1], "the same message");
}

#[test]
fn publishing_once_more_goes_on_after_a_crash_and_what_is_new_waits_for_it() {
    let mut till = Till::new();
    for _ in 0..50 {
        till.append("T/a", 1, 10);
    }
    till.settle();
    till.script.world.lock().is_still = true;
    till.ask(Ask::Republish { from: 1, to: 40 }).unwrap();
    till.run_for(Duration::from_secs(2));
    till.run_until_kept(|kept| kept.republish.is_some());
    assert!(matches!(
        till.status.status().state,
        PublishingState::Republishing {
            from: 1,
            to: 40,
            ..
        }
    ));
    assert_eq!(till.status.status().settled, 50, "which it was");
    till.append("T/a", 1, 10);
    till.crash();
    till.script.world.lock().is_still = false;
    till.run_until(|status| status.settled == 51);
    let world = till.script.world.lock();
    let sent: Vec<u64> = world.topics["tidelog.T"]
        .iter()
        .map(|stored| stored.sequence)
        .collect();
    let again = &sent[50..];
    let (last, pass) = again.split_last().unwrap();
    assert_eq!(*last, 51);
    assert!(pass.ends_with(&counted(1, 40)), "{again:?}");
}

#[test]
fn what_cannot_be_published_once_more_is_refused() {
    let mut till = Till::new();
    till.append("T/a", 1, 10);
    till.settle();
    let refused = till.ask(Ask::Republish { from: 2, to: 9 }).unwrap_err();
    assert_eq!(refused.code(), "invalid_input");
}

#[test]
fn another_copy_is_told_apart_and_the_one_that_forks_goes_on() {
    let mut till = Till::new();
    till.append("T/a", 3, 10);
    till.settle();
    till.run_for(Duration::from_secs(2));
    let mut record = till.script.world.lock().record.clone().unwrap();
    assert_eq!(record.position, 3);
    // Another copy took its place meanwhile.
    record.session = uuid::Uuid::from_u128(77);
    till.stop();
    till.script.world.lock().record = Some(record);
    till.crash();
    assert_eq!(halts(&mut till), "halted_cloned");
    let sent = till.script.world.lock().topics["tidelog.T"].len();
    till.append("T/a", 1, 10);
    till.run_for(Duration::from_secs(2));
    assert_eq!(till.script.world.lock().topics["tidelog.T"].len(), sent);
    let epoch = till.store.identity().epoch;
    till.ask(Ask::Fork(Other::Lives)).unwrap();
    till.settle();
    let record = till.script.world.lock().record.clone().unwrap();
    assert_ne!(record.epoch, epoch);
    assert_eq!(record.parent, Some(epoch));
    assert_eq!(till.sequences("T/a"), counted(1, 4));
}

#[test]
fn a_cluster_that_is_another_one_stops_it_until_the_state_is_forgotten() {
    let mut till = Till::new();
    till.append("T/a", 3, 10);
    till.settle();
    till.script.world.lock().id = "c2";
    till.script.world.lock().record = None;
    till.crash();
    assert_eq!(halts(&mut till), "halted_other_cluster");
    till.tell(Message::ForgetState).unwrap();
    till.run_until(|status| status.delivered == 3);
    till.settle();
}

#[test]
fn claims_that_had_no_answer_make_no_other_copy_of_a_store_however_many_there_were() {
    let mut till = Till::new();
    till.append("T/a", 3, 10);
    till.settle();
    till.run_for(Duration::from_secs(2));
    let session = till.script.world.lock().record.clone().unwrap().session;
    till.script.world.lock().unfenced = 5;
    for _ in 0..3 {
        till.crash();
        till.run_for(Duration::from_millis(20));
    }
    till.append("T/a", 1, 10);
    till.settle();
    assert_eq!(till.script.world.lock().unfenced, 0);
    till.run_for(Duration::from_secs(2));
    let record = till.script.world.lock().record.clone().unwrap();
    assert_eq!(record.position, 4);
    assert_ne!(record.session, session);
}

#[test]
fn what_was_forgotten_is_published_again_under_the_claim_that_stands() {
    let mut till = Till::new();
    till.append("T/a", 3, 10);
    till.settle();
    till.tell(Message::ForgetState).unwrap();
    till.run_until(|status| status.delivered == 6);
    till.append("T/a", 1, 10);
    till.settle();
    till.run_for(Duration::from_secs(3));
    let record = till.script.world.lock().record.clone().unwrap();
    assert!(
        record.position == 4 && !record.session.is_nil(),
        "{record:?}"
    );
    till.crash();
    till.append("T/a", 1, 10);
    till.settle();
    assert_eq!(till.sequences("T/a"), counted(1, 5));
}

#[test]
fn what_was_lost_is_sent_again_also_when_the_next_producer_gives_up_at_once() {
    let mut till = Till::new();
    till.append("T/a", 10, 10);
    till.settle();
    till.script.world.lock().is_still = true;
    let fatal = |lost_data| {
        let reason = "out of order".into();
        Some(Fatal { reason, lost_data })
    };
    till.script.world.lock().fatal = fatal(true);
    till.run_until(|status| status.fatals == 1 && status.in_flight > 0);
    till.script.world.lock().fatal = fatal(false);
    till.run_until(|status| status.fatals == 2);
    till.script.world.lock().is_still = false;
    till.run_until(|status| status.again >= 10);
}

/// A cell in the place of the replica's, which tells what a test says.
fn replica(till_epoch: uuid::Uuid) -> Arc<StatusCell> {
    Arc::new(StatusCell::new(till_epoch))
}

fn accepts(till: &Till, settled: u64, parked: &[(&str, u64)]) {
    let cell = till.replica.as_ref().unwrap();
    let listed = parked
        .iter()
        .map(|(stream, first_position)| super::PublishingParked {
            stream: stream.parse().unwrap(),
            reason: crate::ParkedReason::Diverged,
            first_sequence: 0,
            first_position: *first_position,
            event_id: tidelog_core::EventId::from_uuid(uuid::Uuid::nil()),
        });
    cell.set_parked(listed.collect());
    let epoch = till.store.identity().epoch;
    cell.change(true, |told| {
        told.settled = settled;
        told.settled_epoch = epoch;
    });
}

#[test]
fn nothing_is_published_that_the_replica_has_not_accepted_and_what_it_holds_is_withheld() {
    let mut till = Till::behind(Some(replica(uuid::Uuid::nil())));
    for _ in 0..4 {
        till.append("T/a", 1, 10);
        till.append("T/b", 1, 10);
    }
    till.run_for(Duration::from_secs(2));
    assert!(till.sequences("T/a").is_empty());
    accepts(&till, 4, &[]);
    till.run_until(|status| status.settled == 4);
    assert_eq!(
        (till.sequences("T/a"), till.sequences("T/b")),
        (vec![1, 2], vec![1, 2])
    );
    assert_eq!(till.status.status().available, 4);
    // The third event of T/b, at position 6, is in another's place.
    accepts(&till, 8, &[("T/b", 6)]);
    till.run_until(|status| status.settled == 8);
    assert_eq!(
        (till.sequences("T/a"), till.sequences("T/b")),
        (counted(1, 4), vec![1, 2])
    );
    assert_eq!(till.parked(), [("T/b".to_owned(), "not_replicated", 3)]);
    assert_eq!(
        (till.status.status().withheld, till.status.status().parked),
        (1, 0)
    );
    // What others go on from does not leave it out.
    assert_eq!(till.published.get(), Some(5));
    till.append("T/b", 1, 10);
    till.crash();
    accepts(&till, 9, &[("T/b", 6)]);
    till.run_until(|status| status.settled == 9);
    assert_eq!(till.sequences("T/b"), [1, 2]);
    accepts(&till, 9, &[]);
    till.run_until(|status| status.withheld == 0);
    assert_eq!(till.sequences("T/b"), counted(1, 5));
    till.run_until(|_| true);
    till.append("T/b", 1, 10);
    accepts(&till, 10, &[]);
    till.run_until(|status| status.settled == 10);
    assert_eq!(till.published.get(), Some(10));
}

#[test]
fn publishing_once_more_waits_for_a_replica_of_which_nothing_is_known_yet() {
    let mut till = Till::behind(Some(replica(uuid::Uuid::nil())));
    for _ in 0..8 {
        till.append("T/a", 1, 10);
    }
    accepts(&till, 8, &[]);
    till.settle();
    till.run_for(Duration::from_secs(2));
    till.script.world.lock().is_still = true;
    let all = Ask::Republish {
        from: 1,
        to: u64::MAX,
    };
    till.ask(all).unwrap();
    till.run_until_kept(|kept| kept.republish.is_some());
    till.replica = Some(replica(uuid::Uuid::nil()));
    till.stop();
    till.crash();
    till.script.world.lock().is_still = false;
    till.run_for(Duration::from_secs(2));
    accepts(&till, 8, &[]);
    till.run_until(|status| status.again == 8);
}

#[test]
fn a_first_run_begins_where_it_is_told_to_whatever_the_replica_has_accepted() {
    let mut till = Till::behind(Some(replica(uuid::Uuid::nil())));
    till.begins = crate::listeners::StartAt::After(3);
    till.crash();
    for _ in 0..5 {
        till.append("T/a", 1, 10);
    }
    till.script.world.lock().make_without_memory("tidelog.T");
    till.run_for(Duration::from_secs(1));
    accepts(&till, 5, &[]);
    till.settle();
    assert_eq!(till.sequences("T/a"), [4, 5]);
}

#[test]
fn an_event_of_an_epoch_that_began_meanwhile_is_published_as_of_that_epoch() {
    let mut till = Till::behind(Some(replica(uuid::Uuid::nil())));
    till.append("T/a", 1, 10);
    accepts(&till, 1, &[]);
    till.settle();
    let epoch = till.store.begin_epoch().unwrap();
    let last = till.append("T/a", 1, 10);
    accepts(&till, last, &[]);
    till.settle();
    let world = till.script.world.lock();
    let stored = world.topics["tidelog.T"].last().unwrap();
    assert_eq!((stored.sequence, &*stored.epoch), (2, &*epoch.to_string()));
}
