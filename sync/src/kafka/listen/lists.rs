//! Places and offsets as librdkafka takes them.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::feed::Place;

pub(super) fn places(list: &TopicPartitionList) -> Vec<Place> {
    let elements = list.elements();
    let place = elements.iter().map(|element| Place {
        topic: element.topic().into(),
        partition: element.partition(),
    });
    place.collect()
}

pub(super) fn list<'a>(places: impl IntoIterator<Item = &'a Place>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for place in places {
        list.add_partition(&place.topic, place.partition);
    }
    list
}

/// What the group has put down of these. Of one whose offset stands in a transaction that is not over this is
/// an error, although librdkafka answers: taken for none, its place would begin anew, or at its end.
pub(super) fn put_down<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    places: TopicPartitionList,
    within: Duration,
) -> Result<TopicPartitionList, KafkaError> {
    let found = consumer.committed_offsets(places, within)?;
    for element in found.elements() {
        element.error()?;
    }
    Ok(found)
}

pub(super) fn with_offsets(offsets: &[(Place, i64)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (place, offset) in offsets {
        let mut element = list.add_partition(&place.topic, place.partition);
        // Offsets of records are never negative, which is all that it refuses.
        let _ = element.set_offset(Offset::Offset(*offset));
    }
    list
}
