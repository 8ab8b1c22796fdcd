//! tidelog beside its peers: the same work, on the same disk, in the same run.
//!
//! Every measurement runs in a process of its own (`--child`, `--step`), so that peak memory is that
//! of one contender and reads meet a store that was just opened. Rounds are interleaved and ratios
//! are taken inside a round: absolute numbers drift with the machine, ratios hold.
//!
//! ```text
//! cargo run --release -p tidelog-benches                     # writes benches/results.md
//! cargo run --release -p tidelog-benches -- --large          # also ten million events
//! cargo run --release -p tidelog-benches -- --quick          # about two minutes, writes nothing
//! cargo run --release -p tidelog-benches -- --works W2 --measures X1,T1 --rounds 5
//! cargo bench -p tidelog-benches                             # micro-benchmarks of parts
//! ```
//!
//! - `--works` and `--contenders` choose what all contenders do, `--measures` what is measured of
//!   tidelog alone. `--works` R1 and R2 bring W3 along; X1 and T1 bring W2, Open, Idle and Rebuild W3.
//! - `--large` takes `--large-rounds` rounds, one unless given, and 4 GB of disk; memory, opening and
//!   growth are then measured at ten million events (`--large-events`) and at a million streams.
//! - `--dir` must be on the disk to be measured; what stood there before is removed.
//! - Bytes written at the device count whatever else writes to it: leave the machine alone.
//! - `--help` lists the sizes.

#![allow(
    clippy::cast_precision_loss,
    reason = "counts of a benchmark are far below 2^52"
)]

mod child;
mod contenders;
mod facts;
mod goals;
mod load;
mod measures;
mod options;
mod report;
mod rounds;
mod works;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use measures::Found;
use options::Options;

/// Whatever went wrong; a benchmark only has to say it.
type Failure = Box<dyn Error + Send + Sync>;
/// A result of this program.
type Outcome<T> = Result<T, Failure>;

fn main() -> ExitCode {
    let options = Options::parse().settled();
    let done = match (options.child, options.step) {
        (Some(job), _) => child::run(job, &options),
        (None, Some(step)) => step.run(&options),
        (None, None) => run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidelog-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all rounds, prints the tables, writes them down.
fn run(options: &Options) -> Outcome<()> {
    facts::refuse_memory_disk(&options.dir)?;
    let mut facts = facts::machine(&options.dir);
    let before = facts::load_average();
    let mut measured = Vec::new();
    let mut found = Found::default();
    for (kind, options) in options.by_payload() {
        eprintln!("{kind} payloads");
        measured.push((kind, rounds::run(&options, &mut found)?));
    }
    let after = facts::load_average();
    facts.push(format!(
        "load average: {before} before the run, {after} after"
    ));
    let text = report::write(options, &facts, &measured, &found);
    println!("{text}");
    if let Some(out) = options.results_file() {
        std::fs::write(&out, &text)?;
        eprintln!("written to {}", out.display());
    }
    Ok(())
}
