//! R1: a scan of all that W3 wrote, every event decoded.

use super::{Stopwatch, Timing};
use crate::Outcome;
use crate::contenders::Contender;
use crate::load::Seen;
use crate::options::Options;

/// Runs it.
pub fn run(contender: &mut dyn Contender, options: &Options) -> Outcome<Timing> {
    let events = options.w3_events.unwrap_or_default();
    let watch = Stopwatch::start();
    let seen = contender.scan()?;
    let timing = watch.stop(events);
    let expected = Seen::expected(&options.payloads(), events);
    if seen != expected {
        return Err(format!("the scan met {seen:?}, not {expected:?}").into());
    }
    Ok(timing)
}
