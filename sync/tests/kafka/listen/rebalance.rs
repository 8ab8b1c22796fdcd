//! Members that come, go, are killed and stand still, while events come.

use std::collections::BTreeSet;
use std::path::Path;

use tidelog::StartAt;

use super::kit::{Group, of, options, start_with, told};
use super::members::{Kind, Members, files_of, lines_of};
use crate::topics;

const STREAMS: u64 = 24;
const EVENTS: u64 = 60;

/// Events of all streams, written and waited for.
struct Load<'a> {
    group: &'a Group,
    members: &'a Members<'a>,
    ids: Vec<String>,
    next: u64,
    handled: BTreeSet<(String, u64)>,
}

impl<'a> Load<'a> {
    fn new(group: &'a Group, members: &'a Members<'a>) -> Self {
        Self {
            group,
            members,
            ids: (0..STREAMS).map(|id| format!("s{id}")).collect(),
            next: 1,
            handled: BTreeSet::new(),
        }
    }

    fn write(&mut self, until: u64) {
        while self.next <= until {
            let ids = self.ids.iter();
            let events: Vec<(&str, u64)> = ids.map(|id| (id.as_str(), self.next)).collect();
            self.group.write(&events);
            self.next += 1;
        }
    }

    /// Waits until everything up to there was handled by somebody.
    fn reach(&mut self, until: u64) {
        let all = usize::try_from(until * STREAMS).unwrap();
        let reached = |handled: &BTreeSet<(String, u64)>| {
            handled.iter().filter(|(_, at)| *at <= until).count() == all
        };
        while !reached(&self.handled) {
            let said = self.members.next();
            let (id, sequence) = said.split_once(' ').unwrap();
            self.handled.insert((id.into(), sequence.parse().unwrap()));
        }
    }
}

/// Five members of which one is killed and one stands still beyond its session's time-out.
fn come_and_go(group: &Group, folder: &Path, kind: Kind) -> Vec<String> {
    let members = Members::new(group, folder, kind);
    let mut load = Load::new(group, &members);
    let (one, two) = (members.start(), members.start());
    load.write(10);
    load.reach(10);
    let (three, four) = (members.start(), members.start());
    load.write(25);
    one.kill();
    load.reach(25);
    // It believes to have places that others have.
    two.signal("-STOP");
    load.write(40);
    load.reach(40);
    two.signal("-CONT");
    three.stop();
    let five = members.start();
    load.write(EVENTS);
    load.reach(EVENTS);
    for member in [two, four, five] {
        member.stop();
    }
    assert_eq!(letters(group), 0);
    load.ids.clone()
}

fn letters(group: &Group) -> usize {
    let letters = topics::read(&group.address, &format!("{}.dead", group.name));
    letters.values().map(Vec::len).sum()
}

#[test]
fn every_event_is_applied_once_whatever_happens_to_the_members_of_a_group() {
    let Some(group) = Group::new("members", 6) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for id in come_and_go(&group, folder.path(), Kind::InOrder) {
        let sequences = files_of(&folder.path().join(&id));
        assert_eq!(sequences, (1..=EVENTS).collect::<Vec<_>>(), "{id}");
    }
}

#[test]
fn without_a_ledger_every_event_is_handled_at_least_once_and_those_of_a_key_in_order() {
    let Some(group) = Group::new("at-least-once", 6) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut doubles = 0;
    for id in come_and_go(&group, folder.path(), Kind::AsTheyCome) {
        let handled = lines_of(folder.path(), &id);
        let mut seen = BTreeSet::new();
        let first: Vec<u64> = handled
            .iter()
            .copied()
            .filter(|sequence| seen.insert(*sequence))
            .collect();
        assert_eq!(first, (1..=EVENTS).collect::<Vec<_>>(), "{id}");
        doubles += handled.len() - first.len();
    }
    crate::say(&format!("at least once: {doubles} events came again"));
}

/// The broker divides the places, and says when a member is missed: 45 s unless it is set up otherwise.
#[test]
fn a_group_whose_places_the_broker_divides_applies_every_event_once() {
    let Some(group) = Group::new("kip-848", 6) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let members = Members::new(&group, folder.path(), Kind::InOrder)
        .settings(&[("group.protocol", "consumer")]);
    let mut load = Load::new(&group, &members);
    let one = members.start();
    load.write(5);
    load.reach(5);
    let (two, three) = (members.start(), members.start());
    load.write(10);
    load.reach(10);
    one.stop();
    load.write(15);
    load.reach(15);
    two.kill();
    load.write(20);
    load.reach(20);
    three.stop();
    for id in &load.ids {
        let sequences = files_of(&folder.path().join(id));
        assert_eq!(sequences, (1..=20).collect::<Vec<_>>(), "{id}");
    }
}

#[test]
fn a_member_that_was_missed_parks_nothing_of_what_is_anothers() {
    let Some(group) = Group::new("zombie", 1) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let members = Members::new(&group, folder.path(), Kind::FailsWhenTold);
    let mut zombie = members.start();
    group.write(&[("a", 1)]);
    assert_eq!(members.next(), "met a 1");
    zombie.signal("-STOP");
    // Handled here once the other one is missed.
    let (listener, heard) = told();
    let running = group.start(listener);
    assert_eq!(heard.next(1), of("a", [1]));
    let control = running.control().blocking();
    control.wait_until(|status| status.places.first().and_then(|place| place.committed) == Some(1));
    // Whoever is missed for a moment before that handles it once more.
    assert!(
        heard
            .rest()
            .iter()
            .all(|event| *event == ("a".to_owned(), 1))
    );
    // It goes on where it stood: the event fails for ever, and its key is to be parked.
    zombie.tell();
    zombie.signal("-CONT");
    assert_eq!(members.next(), "lost");
    zombie.kill();
    assert_eq!(letters(&group), 0);
    let parked = group.config().parked_keys().unwrap().blocking();
    assert_eq!(parked.list().unwrap(), []);
    group.write(&[("a", 2)]);
    assert_eq!(heard.next(1), of("a", [2]));
    running.stop().unwrap();
}

#[test]
fn two_first_members_that_start_at_the_end_skip_what_was_there_and_nothing_after() {
    let Some(group) = Group::new("both-end", 4) else {
        return;
    };
    let ids: Vec<String> = (0..12).map(|id| format!("k{id}")).collect();
    let write = |sequence| {
        let events: Vec<(&str, u64)> = ids.iter().map(|id| (id.as_str(), sequence)).collect();
        group.write(&events);
    };
    write(1);
    let at_end = || options().start(StartAt::End);
    let (first, heard) = told();
    let second = start_with(group.config(), first.twin(), at_end());
    let first = start_with(group.config(), first, at_end());
    // Each place has an end, which its member was told, and that is put down before.
    for running in [&first, &second] {
        let control = running.control().blocking();
        control.wait_until(|status| {
            let known = status.places.iter().filter(|place| place.end.is_some());
            status.places.len() == 2 && known.count() == 2
        });
    }
    write(2);
    let mut handled = heard.next(ids.len());
    first.stop().unwrap();
    second.stop().unwrap();
    handled.extend(heard.rest());
    handled.sort();
    handled.dedup();
    let mut expected: Vec<(String, u64)> = ids.iter().map(|id| (id.clone(), 2)).collect();
    expected.sort();
    assert_eq!(handled, expected);
}
