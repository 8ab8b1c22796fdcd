//! W3: batches over many streams, round robin: acknowledged, and until the background is done.

use super::{Stopwatch, Timing};
use crate::Outcome;
use crate::contenders::Contender;
use crate::load::Append;
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
    let watch = Stopwatch::start();
    for first in (0..events).step_by(usize::try_from(options.batch)?) {
        let batch: Vec<_> = (first..first + options.batch)
            .map(|event| Append {
                #[allow(
                    clippy::cast_possible_truncation,
                    reason = "below the number of streams"
                )]
                stream: options.first_stream + (event % streams) as usize,
                expected: options.already + event / streams,
                payload: payloads.get(event),
            })
            .collect();
        contender.append_batch(&batch)?;
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
