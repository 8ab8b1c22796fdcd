//! R1: a scan of all that W3 wrote, every event decoded.

use std::time::Instant;

use super::Timing;
use crate::Outcome;
use crate::contenders::Contender;
use crate::load::{Payloads, Seen};
use crate::options::Options;

/// Runs it.
pub fn run(contender: &mut dyn Contender, options: &Options) -> Outcome<Timing> {
    let events = options.w3_events.unwrap_or_default();
    let start = Instant::now();
    let seen = contender.scan()?;
    let seconds = start.elapsed().as_secs_f64();
    let expected = Seen::expected(&Payloads::new(options.seed, options.payload), events);
    if seen != expected {
        return Err(format!("the scan met {seen:?}, not {expected:?}").into());
    }
    Ok(Timing {
        count: events,
        seconds,
        drained_seconds: None,
    })
}
