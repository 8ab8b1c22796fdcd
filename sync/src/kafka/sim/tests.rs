//! The runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tidelog_core::StreamId;

use super::mutants::Mutant;
use super::plan;
use super::scripts::{self, Break, Script};
use super::world::World;
use crate::kafka::broker::{Broker, Message, Place, Tag};
use crate::kafka::fake::Fake;
use crate::kafka::fake::moves::Move;

/// Random schedules that are run; all of them together with the scripted ones below are ten thousand.
const RANDOM: u64 = 9_000;
/// The least number of schedules that the scripts are broken off into, by one seed.
const SCRIPTED: usize = 1_000;
const _: () = assert!(RANDOM + SCRIPTED as u64 >= 10_000);
/// The whole sweep: random schedules, and seeds of each script.
const ALL_RANDOM: u64 = 100_000;
const ALL_SEEDS: u64 = 8;

fn is_full() -> bool {
    std::env::var("TIDELOG_SWEEP").as_deref() == Ok("full")
}

/// How many random schedules are run; a number in `TIDELOG_SWEEP` is one, too.
fn count() -> u64 {
    match std::env::var("TIDELOG_SWEEP").as_deref() {
        Ok("full") => ALL_RANDOM,
        Ok(count) => count.parse().unwrap_or(RANDOM),
        Err(_) => RANDOM,
    }
}

fn seed() -> Option<u64> {
    let seed = std::env::var("TIDELOG_SEED").ok()?;
    Some(seed.parse().expect("TIDELOG_SEED is a number"))
}

/// Runs one seed with its trace.
fn replay(seed: u64) {
    let cut = std::env::var("TIDELOG_CUT").ok();
    let cut = cut.map(|cut| cut.parse().expect("TIDELOG_CUT is a number"));
    let outcome = plan::run(seed, cut, true);
    for line in &outcome.trace {
        println!("{line}");
    }
    println!("{} steps, {} met", outcome.steps, outcome.met);
    assert_eq!(outcome.failure, None, "seed {seed}");
}

/// The least number of steps with trouble after which it still fails.
fn shrink(seed: u64) -> (u64, String) {
    let failure = |cut| plan::run(seed, Some(cut), false).failure;
    let (mut good, mut bad) = (0_u64, 500);
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if failure(middle).is_some() {
            bad = middle;
        } else {
            good = middle;
        }
    }
    let text = failure(bad).unwrap_or_default();
    (bad, text)
}

#[test]
fn random_schedules_end_with_everything_published() {
    if let Some(seed) = seed() {
        return replay(seed);
    }
    let count = count();
    let (next, ran) = (AtomicU64::new(0), AtomicU64::new(0));
    let (met, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let failures = Mutex::new(Vec::new());
    let looked: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count || failures.lock().len() >= 40 {
                        return;
                    }
                    let outcome = plan::run(seed, None, false);
                    ran.fetch_add(1, Ordering::Relaxed);
                    met.fetch_add(outcome.met, Ordering::Relaxed);
                    steps.fetch_add(outcome.steps, Ordering::Relaxed);
                    if let Some(failure) = outcome.failure {
                        failures.lock().push((seed, failure));
                    }
                    let mut looked = looked.lock();
                    for (rule, often) in outcome.looked {
                        *looked.entry(rule).or_default() += often;
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner();
    failures.sort();
    println!(
        "{} schedules, {} met, {} steps, {:?}",
        ran.load(Ordering::Relaxed),
        met.into_inner(),
        steps.into_inner(),
        begun.elapsed()
    );
    for (rule, often) in looked.into_inner() {
        println!("{often:>12}  {rule}");
    }
    for (seed, failure) in &failures {
        let text: String = failure.chars().take(300).collect();
        println!("seed {seed}: {text}");
    }
    if let Some((seed, failure)) = failures.first() {
        let (cut, still) = shrink(*seed);
        panic!(
            "{} seeds fail; TIDELOG_SEED={seed}: {failure}\nwith trouble for {cut} steps alone: {still}",
            failures.len()
        );
    }
    assert_eq!(ran.into_inner(), count);
}

#[test]
fn a_script_that_is_broken_off_anywhere_ends_with_everything_published() {
    let scripts = scripts::scripts();
    let seeds = if is_full() { ALL_SEEDS } else { 1 };
    // `TIDELOG_BREAK="clone 17 AfterIt"` plays that one with its trace.
    let one = std::env::var("TIDELOG_BREAK").ok();
    let mut work = Vec::new();
    for seed in 0..seeds {
        for script in &scripts {
            let outcome = scripts::play(script, seed, None, one.is_some());
            if one.as_deref() == Some(script.name) {
                outcome.trace.iter().for_each(|line| println!("{line}"));
            }
            assert_eq!(outcome.failure, None, "{}", script.name);
            for at in 0..outcome.met {
                for how in Break::ALL {
                    work.push((seed, script, at, how));
                }
            }
        }
    }
    if let Some(one) = one {
        let named = |(_, script, at, how): &&(u64, &Script, u64, Break)| {
            format!("{} {at} {how:?}", script.name) == one
        };
        let Some((seed, script, at, how)) = work.iter().find(named) else {
            return;
        };
        let outcome = scripts::play(script, *seed, Some((*at, *how)), true);
        outcome.trace.iter().for_each(|line| println!("{line}"));
        assert_eq!(outcome.failure, None);
        return;
    }
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((seed, script, at, how)) =
                    work.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let outcome = scripts::play(script, *seed, Some((*at, *how)), false);
                    if let Some(failure) = outcome.failure {
                        let which = format!("{} {at} {how:?} (seed {seed})", script.name);
                        failures.lock().push((which, failure));
                    }
                }
            });
        }
    });
    println!("{} broken off, {:?}", work.len(), begun.elapsed());
    let failures = failures.into_inner();
    for (which, failure) in failures.iter().take(40) {
        let text: String = failure.chars().take(300).collect();
        println!("{which}: {text}");
    }
    assert!(failures.is_empty(), "{} fail", failures.len());
    let least = SCRIPTED * usize::try_from(seeds).unwrap();
    assert!(work.len() >= least, "{} of {least}", work.len());
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 0..40 {
        let first = plan::run(seed, None, true);
        let second = plan::run(seed, None, true);
        assert!(!first.trace.is_empty());
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
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
    for (mutant, rule) in Mutant::ALL {
        let is_it = |failure: &String| failure.starts_with(rule);
        let found = if mutant == Mutant::LossForgotten {
            broken_off(mutant, "lost").find(|(_, failure)| is_it(failure))
        } else {
            (0..2_000).find_map(|seed| {
                let outcome = plan::run_with(seed, None, false, Some(mutant));
                Some((seed, outcome.failure.filter(is_it)?))
            })
        };
        let (seed, failure) = found.unwrap_or_else(|| panic!("{mutant:?} is not found"));
        let failure: String = failure.chars().take(120).collect();
        println!("{mutant:?}: seed {seed}: {failure}");
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
