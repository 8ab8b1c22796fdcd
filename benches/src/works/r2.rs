//! R2: loads of whole streams that lie interleaved on the disk, in random order.

use super::{Stopwatch, Timing};
use crate::Outcome;
use crate::contenders::Contender;
use crate::load::{Seen, mix};
use crate::options::Options;

/// Runs it.
pub fn run(contender: &mut dyn Contender, options: &Options) -> Outcome<Timing> {
    let (events, streams) = (
        options.w3_events.unwrap_or_default(),
        options.streams.unwrap_or_default(),
    );
    let loads = options.loads();
    let mut order: Vec<_> = (0..usize::try_from(loads)?).collect();
    order.sort_unstable_by_key(|stream| mix(options.seed ^ *stream as u64));
    let each_pass = events / streams;
    // W3 wrote the same events again to streams that had some.
    let passes = 1 + options.already / each_pass;
    let each = passes * each_pass;
    let mut all = Seen::default();
    let watch = Stopwatch::start();
    for stream in order {
        let seen = contender.load(stream)?;
        if seen.events != each {
            return Err(format!("stream {stream} has {} events, not {each}", seen.events).into());
        }
        all.events += seen.events;
        all.bytes += seen.bytes;
        all.mark = all.mark.wrapping_add(seen.mark);
    }
    let timing = watch.stop(loads);
    let written = (0..passes).flat_map(|_| 0..events);
    let loaded = written.filter(|event| event % streams < loads);
    let expected = Seen::of(&options.payloads(), loaded);
    if all != expected {
        return Err(format!("the loads met {all:?}, not {expected:?}").into());
    }
    Ok(timing)
}
