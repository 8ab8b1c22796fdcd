//! An envelope as a line.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::BatchPlace;
use crate::clock::Timestamp;
use crate::content_type::ContentType;
use crate::envelope::{Birth, EventEnvelope};
use crate::metadata::TRACEPARENT;
use crate::store::LogIdentity;

/// The first microsecond of the year 1, and the last one of 9999.
pub(super) const YEARS: std::ops::RangeInclusive<i64> =
    -62_135_596_800_000_000..=253_402_300_799_999_999;

/// Appends the line of `envelope`, which was read from the log `log`, with its line break.
pub fn write_line(
    envelope: &EventEnvelope,
    log: &LogIdentity,
    batch: BatchPlace,
    out: &mut Vec<u8>,
) {
    let Birth {
        origin,
        epoch,
        position,
        recorded_time,
    } = birth(envelope, log);
    let mut line = Line { out };
    line.begin();
    line.text("id", &envelope.event_id.to_string());
    line.text("source", &format!("urn:uuid:{origin}"));
    line.text("type", &envelope.event_type);
    line.text("subject", envelope.stream.as_str());
    line.time("time", "eventmicros", envelope.event_time);
    line.text("datacontenttype", envelope.content_type.as_str());
    line.text("sequence", &envelope.sequence.to_string());
    line.text("position", &position.to_string());
    line.text("revision", &envelope.revision.to_string());
    line.text("epoch", &epoch.to_string());
    line.time("recordedtime", "recordedmicros", recorded_time);
    line.raw("batchindex", batch.index.to_string().as_bytes());
    line.raw("batchcount", batch.count.to_string().as_bytes());
    if !envelope.metadata.is_empty() {
        let map: BTreeMap<&str, &str> = envelope.metadata.iter().collect();
        line.text("metadata", &json(&map));
    }
    if !envelope.tags.as_slice().is_empty() {
        line.text("tags", &json(envelope.tags.as_slice()));
    }
    if let Some(traceparent) = envelope.metadata.get(TRACEPARENT) {
        line.text(TRACEPARENT, traceparent);
    }
    if stands_as_it_is(envelope) {
        line.raw("data", &envelope.event);
    } else {
        line.text("data_base64", &STANDARD.encode(&envelope.event));
    }
    line.end();
}

/// Where an event was recorded first.
pub(super) fn birth(envelope: &EventEnvelope, log: &LogIdentity) -> Birth {
    let here = || Birth {
        origin: log.origin,
        epoch: log.epoch,
        position: envelope.position.unwrap_or_default(),
        recorded_time: envelope.recorded_time,
    };
    envelope.birth.as_deref().copied().unwrap_or_else(here)
}

/// Whether the payload is read back byte for byte when it stands in the line as it is.
fn stands_as_it_is(envelope: &EventEnvelope) -> bool {
    let payload = &envelope.event;
    envelope.content_type == ContentType::Json
        && !payload.contains(&b'\n')
        && !payload.contains(&b'\r')
        // What stands around a value is none of it.
        && serde_json::from_slice::<&RawValue>(payload)
            .is_ok_and(|value| value.get().len() == payload.len())
}

/// JSON of texts, which always encode.
pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

struct Line<'a> {
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    fn begin(&mut self) {
        self.out.extend_from_slice(br#"{"specversion":"1.0""#);
    }

    fn raw(&mut self, name: &str, value: &[u8]) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out.extend_from_slice(value);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.raw(name, json(value).as_bytes());
    }

    fn time(&mut self, name: &str, micros: &str, time: Timestamp) {
        if YEARS.contains(&time.as_micros()) {
            let format = chrono::SecondsFormat::Micros;
            self.text(name, &time.to_datetime().to_rfc3339_opts(format, true));
        } else {
            self.text(micros, &time.as_micros().to_string());
        }
    }

    fn end(&mut self) {
        self.out.extend_from_slice(b"}\n");
    }
}
