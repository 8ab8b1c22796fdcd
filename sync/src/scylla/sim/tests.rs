//! The runs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::mutants::Mutant;
use super::plan;
use super::scripts::{self, Break, Script};

/// Random schedules that are run; all of them together with the scripted ones below are ten thousand.
const RANDOM: u64 = 8_200;
/// The least number of schedules that the scripts are broken off into, by one seed.
const SCRIPTED: usize = 1_800;
const _: () = assert!(RANDOM + SCRIPTED as u64 >= 10_000);
/// The whole sweep: random schedules, and seeds of each script.
const ALL_RANDOM: u64 = 100_000;
const ALL_SEEDS: u64 = 8;
/// Schedules with files, in a part of the sweep and in all of it.
const PULLED: usize = 60;
const ALL_PULLED: usize = 2_000;

fn is_full() -> bool {
    std::env::var("TIDELOG_SWEEP").as_deref() == Ok("full")
}

/// Which random schedules are run, by their seeds: so many, or from one to another.
fn range() -> Range<u64> {
    let sweep = std::env::var("TIDELOG_SWEEP").unwrap_or_default();
    let number = |text: &str| text.parse::<u64>().expect("TIDELOG_SWEEP has numbers");
    match (sweep.as_str(), sweep.split_once("..")) {
        ("", _) => 0..RANDOM,
        ("full", _) => 0..ALL_RANDOM,
        (_, Some((from, to))) => number(from)..number(to),
        (count, None) => 0..number(count),
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
    println!("{} steps, {} requests", outcome.steps, outcome.asked);
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
fn random_schedules_end_in_peace() {
    if let Some(seed) = seed() {
        return replay(seed);
    }
    let seeds = range();
    let (next, ran) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let (requests, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let failures = Mutex::new(Vec::new());
    let looked: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failures.lock().len() >= 20 {
                        return;
                    }
                    let outcome = plan::run(seed, None, false);
                    ran.fetch_add(1, Ordering::Relaxed);
                    requests.fetch_add(outcome.asked, Ordering::Relaxed);
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
        "{} schedules, {} requests, {} steps, {:?}",
        ran.load(Ordering::Relaxed),
        requests.into_inner(),
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
    assert_eq!(ran.into_inner(), seeds.end - seeds.start);
}

#[test]
fn a_script_that_is_broken_off_anywhere_ends_in_peace() {
    let scripts = scripts::scripts();
    let seeds = if is_full() { ALL_SEEDS } else { 1 };
    // `TIDELOG_BREAK="clone 17 AfterIt"` plays that one with its trace.
    let one = std::env::var("TIDELOG_BREAK").ok();
    let mut work = Vec::new();
    for seed in 0..seeds {
        for script in &scripts {
            let (requests, outcome) = scripts::play(script, seed, None, one.is_some());
            if one.as_deref() == Some(script.name) {
                outcome.trace.iter().for_each(|line| println!("{line}"));
            }
            assert_eq!(outcome.failure, None, "{}", script.name);
            for at in 0..requests {
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
        let (_, outcome) = scripts::play(script, *seed, Some((*at, *how)), true);
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
                    let (_, outcome) = scripts::play(script, *seed, Some((*at, *how)), false);
                    if let Some(failure) = outcome.failure {
                        let which = format!("{} {at} {how:?} (seed {seed})", script.name);
                        failures.lock().push((which, failure));
                    }
                }
            });
        }
    });
    println!("{} broken off, {:?}", work.len(), begun.elapsed());
    let least = SCRIPTED * usize::try_from(seeds).unwrap();
    assert!(work.len() >= least, "{} of {least}", work.len());
    let failures = failures.into_inner();
    for (which, failure) in failures.iter().take(40) {
        let text: String = failure.chars().take(300).collect();
        println!("{which}: {text}");
    }
    assert!(failures.is_empty(), "{} fail", failures.len());
}

/// Files are slower than all else here: fewer schedules. `TIDELOG_PULLED=<seed>` runs one with its trace.
#[test]
fn what_is_kept_of_others_is_what_they_have_in_the_end() {
    if let Ok(seed) = std::env::var("TIDELOG_PULLED") {
        let outcome = plan::run_pulled(seed.parse().unwrap(), true, None);
        outcome.trace.iter().for_each(|line| println!("{line}"));
        assert_eq!(outcome.failure, None);
        return;
    }
    let count = if is_full() { ALL_PULLED } else { PULLED };
    let mut looked: BTreeMap<&str, u64> = BTreeMap::new();
    let begun = Instant::now();
    // Those of more than one machine: what one writes itself it does not keep.
    let seeds = (0..).filter(|seed| plan::machines(*seed) > 1);
    let mut failures = Vec::new();
    for seed in seeds.take(count) {
        let outcome = plan::run_pulled(seed, false, None);
        failures.extend(outcome.failure.map(|failure| (seed, failure)));
        for (rule, often) in outcome.looked {
            *looked.entry(rule).or_default() += often;
        }
    }
    println!("{count} schedules, {:?}", begun.elapsed());
    for (rule, often) in looked.iter().filter(|(rule, _)| rule.starts_with('6')) {
        println!("{often:>12}  {rule}");
    }
    for (seed, failure) in &failures {
        println!("TIDELOG_PULLED={seed}: {failure:.300}");
    }
    assert!(failures.is_empty(), "{} of {count} fail", failures.len());
    assert!(looked.keys().any(|rule| rule.contains("is kept")));
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

/// A rule that nothing can break holds nothing: each has a fault on purpose that it must find.
#[test]
fn every_rule_finds_the_fault_that_breaks_it() {
    for (mutant, rule) in Mutant::ALL {
        let found = (0..1_000).find_map(|seed| {
            let outcome = plan::run_with(seed, None, false, Some(mutant));
            let failure = outcome
                .failure
                .filter(|failure| failure.starts_with(rule))?;
            Some((seed, failure))
        });
        let (seed, failure) = found.unwrap_or_else(|| panic!("{mutant:?} is not found"));
        let failure: String = failure.chars().take(120).collect();
        println!("{mutant:?}: seed {seed}: {failure}");
    }
}

#[test]
fn what_is_wrong_with_what_is_kept_is_found() {
    for (mutant, rule) in Mutant::PULLED {
        let seeds = (0..200).filter(|seed| plan::machines(*seed) > 1);
        let mut failures =
            seeds.filter_map(|seed| plan::run_pulled(seed, false, Some(mutant)).failure);
        let found = failures.find(|failure| failure.starts_with(rule));
        let failure = found.unwrap_or_else(|| panic!("{mutant:?} is not found"));
        println!("{mutant:?}: {failure:.120}");
    }
}
