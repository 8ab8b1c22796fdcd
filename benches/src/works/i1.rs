//! I1: the bank account example imports its ledger, every command a durable append of its own.

use super::{Stopwatch, Timing};
use crate::Outcome;
use crate::contenders::Contender;
use crate::options::Options;

/// Runs it.
pub fn run(contender: &mut dyn Contender, options: &Options) -> Outcome<Timing> {
    let watch = Stopwatch::start();
    let recorded = contender.import(&options.purchases)?;
    Ok(watch.stop(recorded))
}
