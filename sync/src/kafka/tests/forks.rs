//! Copies of a store that is published to Kafka alone: what each of them is told, and what forking does.

use tidelog_core::EventLog as _;

use super::world::Till;
use super::{counted, halts};
use crate::folder::copy_tree;
use crate::kafka::sink::Ask;
use crate::replicate::Other;
use crate::replicate::mailbox::Message;

/// Two copies of a store of which three events are published; the first is at work, the second is not
/// known yet.
fn copies() -> (Till, Till) {
    let mut till = Till::new();
    till.append("T/a", 3, 10);
    till.settle();
    till.run_for(std::time::Duration::from_secs(2));
    till.stop();
    pollster::block_on(till.store.close()).unwrap();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for copy in [&first, &second] {
        copy_tree(&till.dir.path().join("events"), &copy.path().join("events"));
    }
    let mut original = Till::open(first, till.script.clone(), None);
    original.append("T/b", 1, 10);
    original.settle();
    original.run_for(std::time::Duration::from_secs(2));
    let clone = Till::open(second, till.script.clone(), None);
    (original, clone)
}

fn sent(till: &Till) -> usize {
    till.script.world.lock().topics["tidelog.T"].len()
}

#[test]
fn where_no_other_copy_goes_on_the_old_epoch_is_given_up_for_good() {
    let (mut original, mut clone) = copies();
    clone.append("T/c", 2, 10);
    assert_eq!(halts(&mut clone), "halted_cloned");
    let old = clone.store.identity().epoch;
    clone.ask(Ask::Fork(Other::Gone)).unwrap();
    clone.settle();
    assert_eq!(clone.sequences("T/c"), [1, 2]);
    let record = clone.script.world.lock().record.clone().unwrap();
    assert_eq!(
        (record.parent, &record.retired[..]),
        (Some(old), &[old][..])
    );
    // Whoever comes with it all the same is refused, for as long as there is a record.
    let before = sent(&original);
    original.append("T/b", 1, 10);
    original.crash();
    assert_eq!(halts(&mut original), "halted_epoch_retired");
    original.tell(Message::Retry).unwrap();
    assert_eq!(halts(&mut original), "halted_epoch_retired");
    assert_eq!(sent(&original), before);
    // Until it goes on as somebody else.
    original.ask(Ask::Fork(Other::Lives)).unwrap();
    original.settle();
    assert_eq!(original.sequences("T/b"), [1, 2]);
}

#[test]
fn an_epoch_that_the_cluster_does_not_know_stands_still_until_it_is_forked() {
    let (mut original, mut clone) = copies();
    assert_eq!(halts(&mut clone), "halted_cloned");
    clone.ask(Ask::Fork(Other::Lives)).unwrap();
    clone.append("T/c", 2, 10);
    clone.settle();
    clone.run_for(std::time::Duration::from_secs(2));
    let before = sent(&original);
    original.append("T/b", 1, 10);
    original.crash();
    assert_eq!(halts(&mut original), "halted_unknown_epoch");
    assert_eq!(
        sent(&original),
        before,
        "it sends nothing before it is told to"
    );
    original.ask(Ask::Fork(Other::Gone)).unwrap();
    original.settle();
    for (stream, last) in [("T/a", 3), ("T/b", 2), ("T/c", 2)] {
        assert_eq!(original.sequences(stream), counted(1, last), "{stream}");
    }
    // Of the two, one goes on.
    clone.crash();
    assert_eq!(halts(&mut clone), "halted_epoch_retired");
}

#[test]
fn a_fork_of_what_the_cluster_does_not_know_or_cannot_be_asked_about_changes_nothing() {
    let mut till = Till::new();
    let epoch = till.store.identity().epoch;
    till.append("T/a", 1, 10);
    till.script.world.lock().is_down = true;
    till.run_until(|status| status.retries > 0);
    let away = till.ask(Ask::Fork(Other::Gone)).unwrap_err();
    assert_eq!(away.code(), "unreachable", "{away}");
    assert_eq!(till.store.identity().epoch, epoch);
    till.script.world.lock().is_down = false;
    till.settle();
    till.script.world.lock().record = None;
    let unknown = till.ask(Ask::Fork(Other::Gone)).unwrap_err();
    assert_eq!(unknown.code(), "invalid_input", "{unknown}");
    assert_eq!(till.store.identity().epoch, epoch);
    till.append("T/a", 1, 10);
    till.settle();
    assert_eq!(till.sequences("T/a"), [1, 2]);
}
