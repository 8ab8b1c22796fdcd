//! W3: batches over many streams, round robin: acknowledged, and until the background is done.

use super::{Stopwatch, Timing};
use crate::Outcome;
use crate::contenders::Contender;
use crate::load::{Append, Payloads};
use crate::options::Options;

/// Runs it.
pub fn run(contender: &mut dyn Contender, options: &Options) -> Outcome<Timing> {
    let payloads = options.payloads();
    let (events, streams) = (
        options.w3_events.unwrap_or_default(),
        options.streams.unwrap_or_default(),
    );
    let divides = |a: u64, b: u64| a > 0 && b.is_multiple_of(a);
    if !divides(options.batch, streams) || !divides(streams, events) {
        return Err("--batch must divide --streams, and that must divide --w3-events".into());
    }
    let mut already = options.already;
    if options.warm_up {
        warm_up(contender, options)?;
        already += 1;
    }
    let watch = Stopwatch::start();
    for first in (0..events).step_by(usize::try_from(options.batch)?) {
        append(contender, options, &payloads, first, already)?;
        if options.tell {
            println!("{}", first + options.batch);
        }
    }
    let acknowledged = watch.seconds();
    contender.drain()?;
    let drained = watch.stop(events);
    Ok(Timing {
        seconds: acknowledged,
        drained_seconds: Some(drained.seconds),
        ..drained
    })
}

/// One event more in each of W3's streams, off the clock.
pub fn warm_up(contender: &mut dyn Contender, options: &Options) -> Outcome<()> {
    let payloads = options.payloads();
    let streams = options.streams.unwrap_or_default();
    for first in (0..streams).step_by(usize::try_from(options.batch)?) {
        append(contender, options, &payloads, first, options.already)?;
    }
    contender.drain()
}

fn append(
    contender: &mut dyn Contender,
    options: &Options,
    payloads: &Payloads,
    first: u64,
    already: u64,
) -> Outcome<()> {
    let streams = options.streams.unwrap_or_default();
    let batch: Vec<_> = (first..first + options.batch)
        .map(|event| Append {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "below the number of streams"
            )]
            stream: options.first_stream + (event % streams) as usize,
            expected: already + event / streams,
            payload: payloads.get(event),
        })
        .collect();
    contender.append_batch(&batch)
}
