//! Decoders as the fuzz targets reach them.

use bytes::Bytes;

use super::frame::FrameHeader;
use super::record::{self, Names, Record};

pub(crate) fn frame_header(bytes: &[u8]) {
    if let Some(header) = FrameHeader::decode(bytes) {
        assert!(
            bytes.starts_with(&header.encode()),
            "a frame header has one form"
        );
    }
}

/// `body` behind the length and checksum that make it worth reading.
pub(crate) fn with_prefix(body: &[u8]) -> Bytes {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&len[..], &crc32c::crc32c(body).to_le_bytes(), body]
        .concat()
        .into()
}

pub(crate) fn record(page: &Bytes) {
    let Ok(parsed) = record::parse(page) else {
        return;
    };
    let simple = parsed.has_no_reserved_fields();
    let Some(envelope) = Names::new().envelope(parsed, page) else {
        return;
    };
    if !simple {
        return;
    }
    let mut again = Vec::new();
    Record {
        kind: envelope.kind,
        event_id: envelope.event_id,
        recorded_time: envelope.recorded_time,
        event_time: envelope.event_time,
        position: envelope.position.unwrap_or_default(),
        sequence: envelope.sequence,
        revision: envelope.revision,
        batch: envelope.batch,
        stream: &envelope.stream,
        event_type: &envelope.event_type,
        content_type: &envelope.content_type,
        metadata: &envelope.metadata,
        tags: &envelope.tags,
        payload: &envelope.event,
    }
    .encode(&mut again);
    assert!(again == page.as_ref(), "a record has one form");
}
