//! Runs of many schedules: which of them, on all of the machine, and what is said of those that fail.
//!
//! | environment | |
//! |---|---|
//! | `TIDELOG_SWEEP=full` | the whole sweep |
//! | `TIDELOG_SWEEP=<count>`, `<from>..<to>` | so many random schedules, or those of these seeds |
//! | `TIDELOG_SEED=<seed>` | one of them, with its trace |
//! | `TIDELOG_CUT=<steps>` | nothing goes wrong in it after so many steps |
//! | `TIDELOG_BREAK="clone 17 After"` | a script, broken off there and so, with its trace |

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::outcome::Outcome;

/// No more are looked for when so many fail.
const FAILURES: usize = 40;
/// A sweep says how far it is, each time that it has run so many.
const SAY_EACH: u64 = 5_000;
/// Seeds whose schedules are run twice.
const TWICE: u64 = 40;

pub(crate) fn is_full() -> bool {
    std::env::var("TIDELOG_SWEEP").as_deref() == Ok("full")
}

/// Which random schedules are run, by their seeds: so many in a part of the sweep, and in all of it.
fn seeds(part: u64, all: u64) -> Range<u64> {
    let sweep = std::env::var("TIDELOG_SWEEP").unwrap_or_default();
    let number = |text: &str| text.parse::<u64>().expect("TIDELOG_SWEEP has numbers");
    match (sweep.as_str(), sweep.split_once("..")) {
        ("", _) => 0..part,
        ("full", _) => 0..all,
        (_, Some((from, to))) => number(from)..number(to),
        (count, None) => 0..number(count),
    }
}

fn number(variable: &str) -> Option<u64> {
    let number = std::env::var(variable).ok()?;
    Some(number.parse().expect("it is a number"))
}

/// Runs `work` on every processor.
fn on_all(work: impl Fn() + Sync) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
}

/// Runs the random schedules; panics when some fail. `run` runs that of a seed, with trouble for as many
/// steps as it is told to if it is, and traced if it is to be.
pub(crate) fn random(
    (part, all): (u64, u64),
    run: impl Fn(u64, Option<u64>, bool) -> Outcome + Sync,
) {
    if let Some(seed) = number("TIDELOG_SEED") {
        let outcome = run(seed, number("TIDELOG_CUT"), true);
        return show(&outcome, &format!("seed {seed}"));
    }
    let seeds = seeds(part, all);
    let (next, ran) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let (met, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let failures = Mutex::new(Vec::new());
    let looked: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    let begun = Instant::now();
    on_all(|| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || failures.lock().len() >= FAILURES {
                return;
            }
            let outcome = run(seed, None, false);
            met.fetch_add(outcome.met, Ordering::Relaxed);
            steps.fetch_add(outcome.steps, Ordering::Relaxed);
            if let Some(failure) = outcome.failure {
                println!("seed {seed}: {failure:.300}");
                failures.lock().push((seed, failure));
            }
            let mut looked = looked.lock();
            for (rule, often) in outcome.looked {
                *looked.entry(rule).or_default() += often;
            }
            let count = ran.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_multiple_of(SAY_EACH) {
                println!("{count} schedules, {:?}", begun.elapsed());
            }
        }
    });
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
    let mut failures = failures.into_inner();
    failures.sort();
    if let Some((seed, failure)) = failures.first() {
        let (cut, still) = shrink(*seed, &run);
        panic!(
            "{} seeds fail; TIDELOG_SEED={seed}: {failure}\nwith trouble for {cut} steps alone: {still}",
            failures.len()
        );
    }
    assert_eq!(ran.into_inner(), seeds.end - seeds.start);
}

/// Prints a schedule; panics if it failed.
fn show(outcome: &Outcome, which: &str) {
    outcome.trace.iter().for_each(|line| println!("{line}"));
    println!("{} steps, {} met", outcome.steps, outcome.met);
    assert_eq!(outcome.failure, None, "{which}");
}

/// The least number of steps with trouble after which it still fails.
fn shrink(seed: u64, run: impl Fn(u64, Option<u64>, bool) -> Outcome) -> (u64, String) {
    let failure = |cut| run(seed, Some(cut), false).failure;
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

/// Scripts that are broken off in every place, in each of some ways.
pub(crate) struct Broken<'a, B> {
    pub scripts: Vec<&'static str>,
    pub ways: &'a [B],
    /// Seeds of each script.
    pub seeds: u64,
    /// So many at least are broken off, of one seed.
    pub least: usize,
}

impl<B: Copy + Debug + Sync> Broken<'_, B> {
    /// Plays them all; panics when some fail. `play` plays one, by its number, and breaks it off.
    pub(crate) fn run(&self, play: impl Fn(usize, u64, Option<(u64, B)>, bool) -> Outcome + Sync) {
        let one = std::env::var("TIDELOG_BREAK").ok();
        let mut work = Vec::new();
        for seed in 0..self.seeds {
            for (script, name) in self.scripts.iter().enumerate() {
                let outcome = play(script, seed, None, one.as_deref() == Some(*name));
                outcome.trace.iter().for_each(|line| println!("{line}"));
                assert_eq!(outcome.failure, None, "{name}");
                for at in 0..outcome.met {
                    work.extend(self.ways.iter().map(|how| (seed, script, at, *how)));
                }
            }
        }
        let which = |(seed, script, at, how): &(u64, usize, u64, B)| {
            format!("{} {at} {how:?} (seed {seed})", self.scripts[*script])
        };
        if let Some(one) = one {
            let one = format!("{one} (seed ");
            if let Some(found) = work.iter().find(|it| which(it).starts_with(&one)) {
                let (seed, script, at, how) = *found;
                show(&play(script, seed, Some((at, how)), true), &which(found));
            }
            return;
        }
        let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let begun = Instant::now();
        on_all(|| {
            while let Some(it) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (seed, script, at, how) = *it;
                if let Some(failure) = play(script, seed, Some((at, how)), false).failure {
                    let before = failed.fetch_add(1, Ordering::Relaxed);
                    if before < FAILURES {
                        println!("{}: {failure:.300}", which(it));
                    }
                }
            }
        });
        println!("{} broken off, {:?}", work.len(), begun.elapsed());
        assert_eq!(failed.into_inner(), 0, "of {}", work.len());
        let least = self.least * usize::try_from(self.seeds).unwrap();
        assert!(work.len() >= least, "{} of {least}", work.len());
    }
}

/// The same seed does the same, step by step.
pub(crate) fn are_the_same(run: impl Fn(u64, Option<u64>, bool) -> Outcome) {
    for seed in 0..TWICE {
        let first = run(seed, None, true);
        let second = run(seed, None, true);
        assert!(!first.trace.is_empty());
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}

/// Each of these faults on purpose is found, by the rule that it is there for, within these seeds.
pub(crate) fn are_found<M: Copy + Debug>(
    mutants: impl IntoIterator<Item = (M, &'static str)>,
    seeds: &(impl Iterator<Item = u64> + Clone),
    run: impl Fn(u64, M) -> Outcome,
) {
    for (mutant, rule) in mutants {
        let found = seeds.clone().find_map(|seed| {
            let failure = run(seed, mutant).failure?;
            failure.starts_with(rule).then_some((seed, failure))
        });
        let (seed, failure) = found.unwrap_or_else(|| panic!("{mutant:?} is not found"));
        println!("{mutant:?}: seed {seed}: {failure:.120}");
    }
}
