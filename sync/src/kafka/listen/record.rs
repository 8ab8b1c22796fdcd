//! A message of librdkafka's as a record.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Bytes, BytesMut};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers as _};

use crate::kafka::listen::feed::{Place, Record};

/// The header of a record whose own cannot be read, which says why.
pub(super) const UNREADABLE: &str = "tidelog-unreadable";

/// Copies a message; one whose headers cannot be read is a record without, and with a mark why.
pub(super) fn readable(message: &BorrowedMessage<'_>) -> Record {
    let (mut record, unreadable) = record(message);
    if let Some(reason) = unreadable {
        let reason = Some(reason.into());
        record.headers.push((UNREADABLE.into(), reason));
    }
    record
}

/// Copies a message. Where its headers cannot be read the record goes without, and why is answered, too.
pub(crate) fn record(message: &BorrowedMessage<'_>) -> (Record, Option<&'static str>) {
    let (headers, unreadable) = match headers(message) {
        Some(headers) => (headers, None),
        None => (Vec::new(), Some("the name of a header is not UTF-8")),
    };
    let place = Place {
        topic: message.topic().into(),
        partition: message.partition(),
    };
    let record = Record {
        place,
        offset: message.offset(),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers,
    };
    (record, unreadable)
}

fn headers(message: &BorrowedMessage<'_>) -> Option<Vec<(Box<str>, Option<Bytes>)>> {
    let Some(headers) = message.headers() else {
        return Some(Vec::new());
    };
    // rdkafka panics at a name that is not UTF-8, which anybody may have written; nothing of it or of
    // ours is left half done by that.
    let all = catch_unwind(AssertUnwindSafe(|| {
        let all = headers.iter();
        all.map(|header| (header.key, header.value))
            .collect::<Vec<_>>()
    }));
    let all = all.ok()?;
    // One buffer for all: with one for each they were nearly half of a record's allocations.
    let bytes = all.iter().filter_map(|(_, value)| *value).map(<[u8]>::len);
    let mut values = BytesMut::with_capacity(bytes.sum());
    for value in all.iter().filter_map(|(_, value)| *value) {
        values.extend_from_slice(value);
    }
    let mut values = values.freeze();
    let all = all.into_iter();
    let own = all.map(|(name, value)| {
        let value = value.map(|value| values.split_to(value.len()));
        (name.into(), value)
    });
    Some(own.collect())
}
