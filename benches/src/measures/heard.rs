//! How fast a listener hears a topic, beside a bare consumer of librdkafka that reads the same messages and
//! does nothing with them, and one that makes the same envelopes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use tidelog::cloudevents::from_message;
use tidelog::{
    Batch, EventEnvelope, EventListener, EventListenerContainer, HandlerError, KafkaListenerConfig,
    RecordKind, TopicSpec,
};
use tokio::runtime::Runtime;

use super::publish::{
    PARTITIONS, PATIENCE, ROUNDS, bare_rate, config, consumer, delete, made, median, names,
};
use super::published::BROKER;
use super::{Figures, figures};
use crate::Outcome;
use crate::options::Options;

/// Keys of the messages.
const STREAMS: u64 = 10_000;

/// Counts what it hears.
struct Counting(Arc<AtomicU64>);

impl EventListener for Counting {
    async fn on(&self, _: &EventEnvelope) -> Result<(), HandlerError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Events a second, by turns.
pub fn run(options: &Options) -> Outcome<Figures> {
    let broker = std::env::var(BROKER)?;
    let events = options.published_events.unwrap_or_default();
    let ensured = config(&broker, "heard");
    let ensured = ensured.ensure_topics(&["BankAccount"], TopicSpec::new(PARTITIONS, 1));
    let mut topics = Runtime::new()?.block_on(ensured)?.created;
    let topic = topics.first().ok_or("no topic was made")?.clone();
    {
        let names = names(STREAMS.min(events))?;
        let made = made(&names, &options.payloads(), events)?;
        bare_rate(&broker, &topic, &names, &made)?;
    }
    let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut decoding, mut decoding_ratios) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let group = format!("{topic}-{round}");
        let listener = KafkaListenerConfig::new([&broker], group.as_str()).topics([&*topic]);
        let ensured = listener.ensure_topics(TopicSpec::new(1, 1));
        topics.extend(Runtime::new()?.block_on(ensured)?.created);
        let heard = heard(listener, events)?;
        let plain = polled(&consumer(&broker, &topic)?, events, |_| Ok(()))?;
        let decoded = polled(&consumer(&broker, &topic)?, events, |message| {
            std::hint::black_box(decoded(message)?);
            Ok(())
        })?;
        decoding.push(decoded);
        decoding_ratios.push(heard / decoded);
        ours.push(heard);
        bare.push(plain);
        ratios.push(heard / plain);
    }
    delete(&broker, &topics)?;
    Ok(figures([
        ("rate", median(ours)),
        ("bare", median(bare)),
        ("ratio", median(ratios)),
        ("decoding", median(decoding)),
        ("decoding-ratio", median(decoding_ratios)),
    ]))
}

/// From the first that is handled to the last: what joining a group takes is not counted.
fn heard(config: KafkaListenerConfig, events: u64) -> Outcome<f64> {
    let count = Arc::<AtomicU64>::default();
    let container = EventListenerContainer::kafka(config).listener(Counting(Arc::clone(&count)));
    let running = container.build()?.start()?;
    let started = Instant::now();
    let mut first = None;
    loop {
        let heard = count.load(Ordering::Relaxed);
        let (before, begun) = match first {
            None if heard == 0 => (0, started),
            None => *first.insert((heard, Instant::now())),
            Some(first) => first,
        };
        if heard == events {
            let rate = (events - before) as f64 / begun.elapsed().as_secs_f64();
            running.stop()?;
            return Ok(rate);
        }
        if started.elapsed() > PATIENCE {
            return Err(format!("{heard} of {events} events were heard").into());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn polled(
    consumer: &BaseConsumer,
    events: u64,
    with: impl Fn(&BorrowedMessage<'_>) -> Outcome<()>,
) -> Outcome<f64> {
    let mut begun = Instant::now();
    for number in 0..events {
        let came = consumer.poll(PATIENCE).ok_or("no message comes")??;
        with(&came)?;
        if number == 0 {
            begun = Instant::now();
        }
    }
    Ok((events - 1) as f64 / begun.elapsed().as_secs_f64())
}

/// The envelope that a listener makes of it.
fn decoded(message: &BorrowedMessage<'_>) -> Outcome<EventEnvelope> {
    let headers = message.headers().into_iter().flat_map(|all| all.iter());
    let headers = headers.map(|header| (header.key, header.value));
    let payload = message.payload().map(Bytes::copy_from_slice);
    let read = from_message(headers, payload.as_ref())?;
    let event = read.event;
    let birth = event.birth.ok_or("an event without a birth")?;
    Ok(EventEnvelope {
        event_id: event.event_id,
        stream: read.stream.ok_or("an event without a stream")?,
        sequence: read.sequence.ok_or("an event without a sequence")?,
        position: None,
        kind: RecordKind::Event,
        event_type: event.event_type,
        revision: event.revision,
        content_type: event.content_type,
        event_time: event.event_time.ok_or("an event without a time")?,
        recorded_time: birth.recorded_time,
        batch: Batch {
            first: birth.position - u64::from(read.batch.index),
            count: read.batch.count,
        },
        birth: Some(birth),
        metadata: event.metadata,
        tags: event.tags,
        event: event.payload,
    })
}
