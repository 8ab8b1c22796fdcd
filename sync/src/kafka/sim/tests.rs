//! The runs.

use tidelog_core::StreamId;

use super::mutants::Mutant;
use super::plan;
use super::scripts::{self, Break};
use super::world::World;
use crate::kafka::broker::{Broker, Message, Place, Tag};
use crate::kafka::fake::Fake;
use crate::kafka::fake::moves::Move;
use crate::sim::runs::{self, Broken};

/// Random schedules that are run; all of them together with the scripted ones below are ten thousand.
const RANDOM: u64 = 9_000;
/// The least number of schedules that the scripts are broken off into, by one seed.
const SCRIPTED: usize = 1_000;
const _: () = assert!(RANDOM + SCRIPTED as u64 >= 10_000);
/// The whole sweep: random schedules, and seeds of each script.
const ALL_RANDOM: u64 = 100_000;
const ALL_SEEDS: u64 = 8;

#[test]
fn random_schedules_end_with_everything_published() {
    runs::random((RANDOM, ALL_RANDOM), plan::run);
}

#[test]
fn a_script_that_is_broken_off_anywhere_ends_with_everything_published() {
    let scripts = scripts::scripts();
    let broken = Broken {
        scripts: scripts.iter().map(|script| script.name).collect(),
        ways: &Break::ALL,
        seeds: if runs::is_full() { ALL_SEEDS } else { 1 },
        least: SCRIPTED,
    };
    broken.run(|script, seed, at, traced| scripts::play(&scripts[script], seed, at, traced));
}

#[test]
fn the_same_seed_does_the_same() {
    runs::are_the_same(plan::run);
}

/// What fails of a script that is broken off somewhere, and at which place.
fn broken_off(mutant: Mutant, name: &str) -> impl Iterator<Item = (u64, String)> {
    let script = scripts::scripts().into_iter().find(|it| it.name == name);
    let script = script.expect("it is there");
    let met = scripts::play_with(&script, 0, None, false, Some(mutant)).met;
    let all = (0..met).flat_map(|at| Break::ALL.map(|how| (at, how)));
    all.filter_map(move |(at, how)| {
        let outcome = scripts::play_with(&script, 0, Some((at, how)), false, Some(mutant));
        Some((at, outcome.failure?))
    })
}

/// A rule that nothing can break holds nothing: each has a fault on purpose that it must find.
#[test]
fn every_rule_finds_the_fault_that_breaks_it() {
    let random = |mutant: &(Mutant, &str)| mutant.0 != Mutant::LossForgotten;
    let mutants = Mutant::ALL.into_iter().filter(random);
    runs::are_found(mutants, &(0..2_000), |seed, mutant| {
        plan::run_with(seed, None, false, Some(mutant))
    });
    let others = Mutant::ALL.into_iter().filter(|it| !random(it));
    for (mutant, rule) in others {
        let found = broken_off(mutant, "lost").find(|(_, failure)| failure.starts_with(rule));
        let (at, failure) = found.unwrap_or_else(|| panic!("{mutant:?} is not found"));
        println!("{mutant:?}: broken off at {at}: {failure:.120}");
    }
}

/// Lets all that is under way happen.
fn settle(world: &mut World) {
    loop {
        world.run().unwrap();
        let next = world.fake.lock().moves().first().cloned();
        match (next, world.jobs.first()) {
            (Some(next), _) => world.make(next).unwrap(),
            (None, Some(job)) => world.run_job(job),
            (None, None) => return,
        }
    }
}

/// After a repair the replica may have accepted what ends amid a commit, or what is not there any more.
#[test]
fn a_replica_that_stands_amid_a_commit_keeps_nobody_reading() {
    let types = ["T0".to_owned()];
    let mut world = World::new(1, plan::sizes(false, true, 3));
    world.ensure_topics(&types, 1, 1_000);
    let node = world.add_node();
    world.start(node);
    let stream = StreamId::new("T0", "a").unwrap();
    world.append(node, &[(stream, 3)], true);
    let at = &mut world.nodes[node];
    (at.replica.settled, at.replica.most) = (2, 2);
    at.replica.tell(&at.log, None);
    // A future that calls without end is found out by this.
    settle(&mut world);
    assert_eq!(
        world.nodes[node]
            .running
            .as_ref()
            .unwrap()
            .status
            .status()
            .settled,
        0
    );
    world.come_to_rest(&types).unwrap();
}

/// Why one message of a stream is in flight at a time, whatever librdkafka promises: a producer that
/// hands in all it has, and is to stop at the first that is refused, is too late. Brokers take any
/// sequence first of a producer that they do not know, and the next batch is on its way already.
#[test]
fn a_gapless_producer_leaves_a_gap() {
    let fake = Fake::new(plan::sizes(false, false, 3).queue);
    fake.lock().cluster.make_topic("t", 1, 1_000);
    fake.lock().cluster.poison.insert(b"1".to_vec());
    let mut broker = fake.broker(0);
    broker.renew(1).unwrap();
    let headers = tidelog_core::cloudevents::Headers::default();
    for sequence in 1..=3_u32 {
        let value = sequence.to_string();
        let message = Message {
            topic: "t",
            key: b"a",
            headers: &headers,
            value: value.as_bytes(),
        };
        let tag = Tag {
            generation: 1,
            lane: sequence,
        };
        broker.send(&message, tag).unwrap();
    }
    let place = Place {
        topic: "t".into(),
        partition: 0,
    };
    let make = |next: Move| fake.lock().make(next);
    let first = |is: &dyn Fn(&Move) -> bool| fake.lock().moves().into_iter().find(is).unwrap();
    make(first(&|next| matches!(next, Move::Look(..))));
    let Move::Cut(id, ..) = first(&|next| matches!(next, Move::Cut(..))) else {
        panic!("it is one");
    };
    // Both are on their way before anything is heard of the first.
    make(Move::Cut(id, place.clone(), 1));
    make(Move::Cut(id, place, 2));
    make(Move::Meet(id, 0));
    make(Move::Meet(id, 1));
    let there = |fake: &Fake, topic: &str, key: &[u8]| -> Vec<Vec<u8>> {
        let state = fake.lock();
        let part = &state.cluster.topics[topic].parts[0];
        let of_key = part.messages.iter().filter(|message| message.key == key);
        of_key.map(|message| message.value.clone()).collect()
    };
    assert_eq!(
        there(&fake, "t", b"a"),
        [b"2", b"3"],
        "the first is missing"
    );

    // The same to the publisher.
    let types = ["T0".to_owned()];
    let mut world = World::new(1, plan::sizes(false, false, 3));
    world.ensure_topics(&types, 1, 1_000);
    let node = world.add_node();
    let of = |id| StreamId::new("T0", id).unwrap();
    world.append(node, &[(of("a"), 3), (of("b"), 3)], true);
    let first = world.nodes[node].log.disk.lock().records()[0]
        .event
        .to_vec();
    world.fake.lock().cluster.poison.insert(first);
    world.start(node);
    settle(&mut world);
    assert_eq!(there(&world.fake, "tidelog.T0", b"a").len(), 0);
    assert_eq!(there(&world.fake, "tidelog.T0", b"b").len(), 3);
    world.come_to_rest(&types).unwrap();
    assert_eq!(there(&world.fake, "tidelog.T0", b"a").len(), 3);
}
