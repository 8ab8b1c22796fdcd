//! Places and offsets as librdkafka takes them.

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

pub(super) fn with_offsets(offsets: &[(Place, i64)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (place, offset) in offsets {
        let mut element = list.add_partition(&place.topic, place.partition);
        // Offsets of records are never negative, which is all that it refuses.
        let _ = element.set_offset(Offset::Offset(*offset));
    }
    list
}
