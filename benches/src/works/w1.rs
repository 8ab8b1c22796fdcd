//! W1: one client, one event an append, expected version checked.

use super::{Stopwatch, Timing};
use crate::Outcome;
use crate::contenders::Contender;
use crate::load::Client;
use crate::options::Options;

/// Runs it.
pub fn run(contender: &mut dyn Contender, options: &Options) -> Outcome<Timing> {
    let client = Client {
        first_stream: options.first_stream,
        streams: options.streams_a_client,
        already: options.already,
        first_event: 0,
        events: options.w1_events.unwrap_or_default(),
        payloads: options.payloads(),
    };
    let count = client.events;
    let watch = Stopwatch::start();
    contender.clients(vec![client])?;
    Ok(watch.stop(count))
}
