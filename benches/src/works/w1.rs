//! W1: one client, one event an append, expected version checked.

use std::time::Instant;

use super::{STREAMS_A_CLIENT, Timing};
use crate::Outcome;
use crate::contenders::Contender;
use crate::load::{Client, Payloads};
use crate::options::Options;

/// Runs it.
pub fn run(contender: &mut dyn Contender, options: &Options) -> Outcome<Timing> {
    let client = Client {
        first_stream: 0,
        streams: STREAMS_A_CLIENT,
        first_event: 0,
        events: options.w1_events.unwrap_or_default(),
        payloads: Payloads::new(options.seed, options.payload),
    };
    let count = client.events;
    let start = Instant::now();
    contender.clients(vec![client])?;
    Ok(Timing {
        count,
        seconds: start.elapsed().as_secs_f64(),
        drained_seconds: None,
    })
}
