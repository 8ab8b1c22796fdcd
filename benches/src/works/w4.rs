//! W4: new streams only, each event the first of its own: acknowledged, and until the background
//! is done. Names are made on the fly, by every contender.

use super::{Stopwatch, Timing};
use crate::Outcome;
use crate::contenders::Contender;
use crate::load::Append;
use crate::options::Options;

/// Runs it.
pub fn run(contender: &mut dyn Contender, options: &Options) -> Outcome<Timing> {
    let payloads = options.payloads();
    let events = options.w4_events.unwrap_or_default();
    let watch = Stopwatch::start();
    for first in (0..events).step_by(usize::try_from(options.batch)?) {
        let batch: Vec<_> = (first..events.min(first + options.batch))
            .map(|event| {
                Ok(Append {
                    stream: usize::try_from(event)?,
                    expected: 0,
                    payload: payloads.get(event),
                })
            })
            .collect::<Outcome<_>>()?;
        contender.append_batch(&batch)?;
        if options.tell {
            println!("{}", events.min(first + options.batch));
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
