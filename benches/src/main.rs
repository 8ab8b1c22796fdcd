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
//!   growth are then measured at ten million events (`--large-events`) and at a million streams. W3
//!   or W4 of that size is ended after `--large-seconds`, and the goals say how far it came.
//! - SQLite, redb and fjall take part in the first `--peer-rounds` rounds; payloads of JSON run in
//!   `--json-rounds`. Goals are about random payloads.
//! - The results file is written after each round; until the run is done it says what is missing.
//! - `--dir` must be on the disk to be measured; what stood there before is removed.
//! - Bytes written at the device count whatever else writes to it: leave the machine alone.
//! - `--help` lists the sizes.

#![allow(
    clippy::cast_precision_loss,
    reason = "counts of a benchmark are far below 2^52"
)]

mod accepting;
mod child;
mod contenders;
mod facts;
mod goals;
mod load;
mod measures;
mod options;
mod report;
mod rounds;
mod run;
mod works;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

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
        (None, None) => run::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidelog-benches: {error}");
            ExitCode::FAILURE
        }
    }
}
