//! Where a place of a new group begins that is to begin at the end.

use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use super::events::Member;
use super::feed::Place;
use super::lists::{self, list, with_offsets};

/// How long one question to the cluster waits.
const ASK: Duration = Duration::from_secs(10);

/// Whether a place may be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Begins,
    /// Another member is to put the ends down.
    Waits,
}

/// A group that has offsets in this topic is not new: what it has none for came later, and is read
/// from its beginning. Otherwise the ends of all places are put down at once, also of those of others:
/// by whoever has the first one, since several would put down several ends, and what came between them
/// could be skipped after a crash. The group refuses whoever had it before.
pub(super) fn start_at_end(consumer: &Member, place: &Place) -> Result<Start, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(&place.topic), ASK)?;
    let topic = metadata.topics().iter().find(|t| *t.name() == *place.topic);
    let partitions = topic.map_or(&[][..], |topic| topic.partitions());
    let places: Vec<Place> = partitions
        .iter()
        .map(|partition| Place {
            topic: place.topic.clone(),
            partition: partition.id(),
        })
        .collect();
    let committed = lists::put_down(consumer, list(&places), ASK)?;
    let known = |element: &Offset| matches!(element, Offset::Offset(_));
    if committed.elements().iter().any(|e| known(&e.offset())) {
        let own = committed.find_partition(&place.topic, place.partition);
        // Put down a moment ago, by this member or another: librdkafka may have looked before.
        if let Some(offset @ Offset::Offset(_)) = own.map(|own| own.offset()) {
            consumer.seek(&place.topic, place.partition, offset, ASK)?;
        }
        return Ok(Start::Begins);
    }
    let first = places.iter().map(|place| place.partition).min();
    let mine = consumer.assignment()?;
    let has_first = first.is_some_and(|first| mine.find_partition(&place.topic, first).is_some());
    if !has_first {
        return Ok(Start::Waits);
    }
    let mut ends = Vec::with_capacity(places.len());
    for other in places {
        let (_, end) = consumer.fetch_watermarks(&other.topic, other.partition, ASK)?;
        ends.push((other, end));
    }
    consumer.commit(&with_offsets(&ends), CommitMode::Sync)?;
    if let Some((_, end)) = ends.iter().find(|(other, _)| other == place) {
        let end = Offset::Offset(*end);
        consumer.seek(&place.topic, place.partition, end, ASK)?;
    }
    Ok(Start::Begins)
}
