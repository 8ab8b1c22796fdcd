//! The runs.

use std::collections::BTreeMap;
use std::time::Instant;

use super::mutants::Mutant;
use super::plan;
use super::scripts::{self, Break};
use crate::sim::runs::{self, Broken};

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

#[test]
fn random_schedules_end_in_peace() {
    runs::random((RANDOM, ALL_RANDOM), plan::run);
}

#[test]
fn a_script_that_is_broken_off_anywhere_ends_in_peace() {
    let scripts = scripts::scripts();
    let broken = Broken {
        scripts: scripts.iter().map(|script| script.name).collect(),
        ways: &Break::ALL,
        seeds: if runs::is_full() { ALL_SEEDS } else { 1 },
        least: SCRIPTED,
    };
    broken.run(|script, seed, at, traced| scripts::play(&scripts[script], seed, at, traced));
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
    let count = if runs::is_full() { ALL_PULLED } else { PULLED };
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
    runs::are_the_same(plan::run);
}

/// A rule that nothing can break holds nothing: each has a fault on purpose that it must find.
#[test]
fn every_rule_finds_the_fault_that_breaks_it() {
    runs::are_found(Mutant::ALL, &(0..1_000), |seed, mutant| {
        plan::run_with(seed, None, false, Some(mutant))
    });
}

#[test]
fn what_is_wrong_with_what_is_kept_is_found() {
    let seeds = (0..200).filter(|seed| plan::machines(*seed) > 1);
    runs::are_found(Mutant::PULLED, &seeds, |seed, mutant| {
        plan::run_pulled(seed, false, Some(mutant))
    });
}
