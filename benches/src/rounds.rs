//! All rounds: every contender once on every work, each in a process of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::child::Measured;
use crate::contenders::Kind;
use crate::facts;
use crate::options::{Job, Options};
use crate::works::Work;

/// What was measured, by job; one a round, in the order of the rounds.
pub type Rounds = BTreeMap<Job, Vec<Measured>>;

/// Runs all rounds.
pub fn run(options: &Options) -> Outcome<Rounds> {
    let mut rounds = Rounds::new();
    let wanted = |work: Work| options.works.contains(&work);
    for round in 0..options.rounds.unwrap_or_default() {
        for work in [Work::W1, Work::W2, Work::I1, Work::W4] {
            if wanted(work) {
                for contender in order(options, work, round) {
                    let job = Job { work, contender };
                    let dir = fresh(options, contender)?;
                    note(&mut rounds, job, measure(job, &dir, options)?);
                    fs::remove_dir_all(dir)?;
                }
            }
        }
        let reads: Vec<_> = [Work::R1, Work::R2]
            .into_iter()
            .filter(|work| wanted(*work))
            .collect();
        if !wanted(Work::W3) && reads.is_empty() {
            continue;
        }
        let contenders = order(options, Work::W3, round);
        for contender in &contenders {
            let work = Work::W3;
            let job = Job {
                work,
                contender: *contender,
            };
            let dir = fresh(options, *contender)?;
            note(&mut rounds, job, measure(job, &dir, options)?);
        }
        for work in reads {
            for contender in order(options, work, round) {
                let dir = options.dir.join(contender.to_string());
                facts::warm(&dir)?;
                let job = Job { work, contender };
                note(&mut rounds, job, measure(job, &dir, options)?);
            }
        }
        for contender in contenders {
            fs::remove_dir_all(options.dir.join(contender.to_string()))?;
        }
    }
    Ok(rounds)
}

/// Who takes part in `work`, beginning with another one each round.
fn order(options: &Options, work: Work, round: usize) -> Vec<Kind> {
    let mut kinds: Vec<_> = options.contenders.clone();
    kinds.retain(|kind| kind.does(work));
    if !kinds.is_empty() {
        let by = round % kinds.len();
        kinds.rotate_left(by);
    }
    kinds
}

/// An empty directory for `contender`.
fn fresh(options: &Options, contender: Kind) -> Outcome<std::path::PathBuf> {
    let dir = options.dir.join(contender.to_string());
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    // What was removed and written before must not be paid for by whoever comes next.
    let synced = Command::new("sync").status()?;
    if !synced.success() {
        return Err("sync failed".into());
    }
    Ok(dir)
}

fn measure(job: Job, dir: &Path, options: &Options) -> Outcome<Measured> {
    let output = Command::new(std::env::current_exe()?)
        .arg(format!("--child={job}"))
        .arg("--dir")
        .arg(dir)
        .arg("--purchases")
        .arg(&options.purchases)
        .args(options.sizes())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{job} failed").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn note(rounds: &mut Rounds, job: Job, measured: Measured) {
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
    rounds.entry(job).or_default().push(measured);
}
