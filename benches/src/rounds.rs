//! One round: every contender once on every work, each in a process of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

use crate::Outcome;
use crate::child::Measured;
use crate::contenders::Kind;
use crate::facts;
use crate::measures::{self, Found, Measure};
use crate::options::{Job, Options};
use crate::works::Work;

/// What was measured, by job; one a round, in the order of the rounds.
pub type Rounds = BTreeMap<Job, Vec<Measured>>;

/// Runs one round.
pub fn round(
    options: &Options,
    round: usize,
    rounds: &mut Rounds,
    found: &mut Found,
) -> Outcome<()> {
    let wanted = |work: Work| {
        let needs = |measure: &Measure| match work {
            Work::W2 => measure.needs_w2(),
            Work::W3 => measure.needs_w3(),
            _ => false,
        };
        options.works.contains(&work) || options.measures.iter().any(needs)
    };
    for work in [Work::W1, Work::W2, Work::I1, Work::W4] {
        if wanted(work) {
            for contender in order(options, work, round) {
                let job = Job { work, contender };
                let dir = fresh(options, contender)?;
                note(options, job, measure(job, &dir, options)?, rounds, found);
                fs::remove_dir_all(dir)?;
            }
        }
    }
    if options.is_about_goals() {
        measures::beside_peers(&[Work::W1, Work::W2, Work::W4], rounds, found);
    }
    measures::after_clients(options, rounds, found)?;
    measures::apart(options, found)?;
    measures::replicated(options, found)?;
    measures::published(options, found)?;
    let reads: Vec<_> = [Work::R1, Work::R2]
        .into_iter()
        .filter(|work| wanted(*work))
        .collect();
    if !wanted(Work::W3) && reads.is_empty() {
        return Ok(());
    }
    let contenders = order(options, Work::W3, round);
    for contender in &contenders {
        let work = Work::W3;
        let job = Job {
            work,
            contender: *contender,
        };
        let dir = fresh(options, *contender)?;
        note(options, job, measure(job, &dir, options)?, rounds, found);
    }
    for work in reads {
        for contender in order(options, work, round) {
            let dir = options.dir.join(contender.to_string());
            facts::warm(&dir)?;
            let job = Job { work, contender };
            note(options, job, measure(job, &dir, options)?, rounds, found);
        }
    }
    if options.is_about_goals() {
        measures::beside_peers(&[Work::W3, Work::R1, Work::R2], rounds, found);
    }
    if contenders.contains(&Kind::Tidelog) {
        let dir = options.dir.join(Kind::Tidelog.to_string());
        measures::on_store(&dir, options, "", round, found)?;
    }
    for contender in contenders {
        fs::remove_dir_all(options.dir.join(contender.to_string()))?;
    }
    Ok(())
}

/// Who takes part in `work`, beginning with another one each round.
fn order(options: &Options, work: Work, round: usize) -> Vec<Kind> {
    let mut kinds: Vec<_> = options.contenders.clone();
    let peers = round < options.peer_rounds.unwrap_or_default();
    kinds.retain(|kind| kind.does(work) && (peers || kind.in_every_round()));
    if !kinds.is_empty() {
        let by = round % kinds.len();
        kinds.rotate_left(by);
    }
    kinds
}

/// An empty directory for `contender`.
pub fn fresh(options: &Options, contender: Kind) -> Outcome<PathBuf> {
    let dir = options.dir.join(contender.to_string());
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    sync()?;
    Ok(dir)
}

/// What was removed and written before must not be paid for by whoever comes next.
pub fn sync() -> Outcome<()> {
    let synced = Command::new("sync").status()?;
    if !synced.success() {
        return Err("sync failed".into());
    }
    Ok(())
}

/// One measurement, in a process of its own.
pub fn measure(job: Job, dir: &Path, options: &Options) -> Outcome<Measured> {
    sync()?;
    let before = facts::device_bytes(dir);
    let mut command = command(dir, options)?;
    let mut measured: Measured = answer(command.arg(format!("--child={job}")), &job)?;
    sync()?;
    let after = facts::device_bytes(dir);
    measured.device_bytes = after.zip(before).map(|(after, before)| after - before);
    Ok(measured)
}

/// This program again, with the same sizes, on the store in `dir`.
pub fn command(dir: &Path, options: &Options) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("--dir")
        .arg(dir)
        .arg("--purchases")
        .arg(&options.purchases)
        .args(options.sizes());
    Ok(command)
}

/// What `command` prints; `what` names it when it fails.
pub fn answer<T: DeserializeOwned>(command: &mut Command, what: &dyn fmt::Display) -> Outcome<T> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{what} failed").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Notes one measurement, and the memory and wear of its work, which have no processes of their own.
fn note(options: &Options, job: Job, measured: Measured, rounds: &mut Rounds, found: &mut Found) {
    let timing = &measured.timing;
    let drained = timing.drained_seconds.unwrap_or(timing.seconds);
    eprintln!(
        "{:<18} {:>12.0} {:<9} drained {:>6.2} s  open {:>6.1} ms  close {:>6.1} ms  peak {:>4} MiB",
        job.to_string(),
        timing.count as f64 / timing.seconds,
        job.work.unit(),
        drained,
        measured.open_seconds * 1e3,
        measured.close_seconds * 1e3,
        measured.peak_kib >> 10,
    );
    if options.is_about_goals() {
        if job.contender == Kind::Tidelog {
            measures::peak_memory(&measured, &job.work.to_string(), found);
        }
        if matches!(job.work, Work::W1 | Work::W2 | Work::W3) {
            let name = format!("{}, {}", job.work, job.contender);
            measures::wear(&measured, &name, options, found);
        }
    }
    rounds.entry(job).or_default().push(measured);
}
