//! W2: many clients at once, one event an append each, expected version checked.

use super::{Stopwatch, Timing, w3};
use crate::Outcome;
use crate::contenders::Contender;
use crate::load::Client;
use crate::options::Options;

/// Runs it.
pub fn run(contender: &mut dyn Contender, options: &Options) -> Outcome<Timing> {
    let payloads = options.payloads();
    let events = options.w2_events.unwrap_or_default() / options.clients;
    let mut already = options.already;
    if options.warm_up {
        w3::warm_up(contender, options)?;
        already += 1;
    }
    let mut clients = Vec::new();
    for number in 0..options.clients {
        clients.push(Client {
            first_stream: options.first_stream
                + usize::try_from(number)? * options.streams_a_client,
            streams: options.streams_a_client,
            already,
            first_event: number * events,
            events,
            payloads: payloads.clone(),
        });
    }
    let watch = Stopwatch::start();
    contender.clients(clients)?;
    Ok(watch.stop(events * options.clients))
}
