//! A store that is there: opened and closed; its index made again.

use std::time::Instant;

use super::{Figures, figures};
use crate::Outcome;
use crate::facts;
use crate::options::Options;

/// Milliseconds until it was open; MiB that took at most.
pub fn open(options: &Options) -> Outcome<Figures> {
    let tuning = options.tuning().unwrap_or_default();
    let start = Instant::now();
    let log = tuning.builder(&options.dir).open()?.blocking();
    let millis = start.elapsed().as_secs_f64() * 1e3;
    let rebuilt = log.info()?.index_rebuilt;
    log.close()?;
    if let Some(why) = rebuilt {
        eprintln!("the index was made again while opening: {why}");
    }
    let peak = facts::peak_kib() as f64 / 1024.0;
    Ok(figures([("millis", millis), ("peak", peak)]))
}

/// Events a second.
pub fn rebuild(options: &Options) -> Outcome<Figures> {
    let tuning = options.tuning().unwrap_or_default();
    let log = tuning.builder(&options.dir).open()?.blocking();
    let start = Instant::now();
    log.rebuild_index()?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = log.last_position() as f64 / seconds;
    log.close()?;
    let peak = facts::peak_kib() as f64 / 1024.0;
    Ok(figures([("rate", rate), ("peak", peak)]))
}
