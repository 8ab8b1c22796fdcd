//! Lines and messages that a tidelog has written.

use uuid::Uuid;

use super::attributes::{Attributes, Data};
use super::{BatchPlace, LineEvent, refused};
use crate::content_type::ContentType;
use crate::envelope::{Birth, NewEvent};
use crate::error::Error;
use crate::id::EventId;
use crate::metadata::{CAUSATION_ID, CORRELATION_ID, TRACE_ID, TRACEPARENT};

/// Attributes that say again what stands in the metadata, for others; the first one in lines, all of
/// them in headers.
pub(super) const FOR_OTHERS: [(&str, &str); 4] = [
    (TRACEPARENT, TRACEPARENT),
    ("traceid", TRACE_ID),
    ("correlationid", CORRELATION_ID),
    ("causationid", CAUSATION_ID),
];

pub(super) fn read(origin: Uuid, mut line: Attributes<'_>) -> Result<LineEvent, Error> {
    let event_id = EventId::from_uuid(line.uuid("id")?);
    let event_type = line.text("type")?;
    let stream = line.subject()?;
    let missing = |name| refused(name, "", "it is missing");
    let event_time = line.time("time", "eventmicros")?;
    let event_time = event_time.ok_or_else(|| missing("time"))?;
    let content_type = ContentType::parse(&line.text("datacontenttype")?)?;
    let sequence = line.number::<u64>("sequence")?;
    if sequence == 0 {
        return Err(refused("sequence", "0", "sequences begin at 1"));
    }
    let position = line.number("position")?;
    let revision = line.number("revision")?;
    let epoch = line.uuid("epoch")?;
    let recorded_time = line.time("recordedtime", "recordedmicros")?;
    let recorded_time = recorded_time.ok_or_else(|| missing("recordedtime"))?;
    let batch = batch(&mut line)?;
    let metadata = line.metadata()?;
    let tags = line.tags()?;
    let known = if line.is_of_headers() { 4 } else { 1 };
    for (name, key) in FOR_OTHERS.into_iter().take(known) {
        let said = line.optional_text(name)?;
        if let Some(other) = said.filter(|text| metadata.get(key) != Some(text)) {
            let reason = "the metadata has another one";
            return Err(refused(name, &other, reason));
        }
    }
    let payload = match line.data()?.ok_or_else(|| missing("data"))? {
        Data::Json(_) if content_type != ContentType::Json => {
            let reason = "only JSON stands as it is; others are data_base64";
            return Err(refused("data", content_type.as_str(), reason));
        }
        Data::Json(json) => json.get().as_bytes().to_vec().into(),
        Data::Bytes(bytes) => bytes,
    };
    if let Some((name, value)) = line.rest().next() {
        let reason = "it is none of a tidelog, and would be lost";
        return Err(refused(&name, value.get(), reason));
    }
    let birth = Birth {
        origin,
        epoch,
        position,
        recorded_time,
    };
    let event = NewEvent::new(event_type.as_ref(), revision, content_type, payload)
        .with_id(event_id)
        .with_event_time(event_time)
        .with_metadata(metadata)
        .with_tags(tags)
        .with_birth(birth);
    Ok(LineEvent {
        stream,
        sequence: Some(sequence),
        batch,
        event,
    })
}

fn batch(line: &mut Attributes<'_>) -> Result<BatchPlace, Error> {
    let missing = |name| refused(name, "", "it is missing");
    let index = line.count("batchindex")?;
    let index = index.ok_or_else(|| missing("batchindex"))?;
    let count = line.count("batchcount")?;
    let count = count.ok_or_else(|| missing("batchcount"))?;
    if index >= count {
        let value = format!("{index} of {count}");
        return Err(refused("batchindex", &value, "it must be below batchcount"));
    }
    Ok(BatchPlace { index, count })
}
