//! The records of what was taken.

use tidelog_core::{
    AppendBatch, AppendOutcome, AppendReceipt, Batch, ContentType, EventId, Metadata, RecordKind,
    StreamId, Tags,
};

use super::super::hash::in_time_order;
use super::super::record::Record;
use super::{Group, NONE, NewRecord};

impl Group {
    /// Adds the records of the parts that were looked at to the frame.
    pub(super) fn encode(&mut self, parts: &[AppendBatch]) -> Vec<AppendReceipt> {
        let first = self.first_position + self.records.len() as u64;
        let count: usize = parts.iter().map(|part| part.events.len()).sum();
        // `check_append` keeps a batch at 1,000,000 events or fewer.
        let batch = Batch {
            first,
            count: u32::try_from(count).unwrap_or(u32::MAX),
        };
        let recorded_time = self.recorded;
        let mut position = first;
        let mut prints = self.fingerprints.iter();
        let mut receipts = Vec::with_capacity(parts.len());
        for (part, slot) in parts.iter().zip(&self.slots) {
            let Some(pending) = self.streams.get_mut(*slot as usize) else {
                continue;
            };
            let (first_sequence, first_position) = (pending.next(), position);
            for (event, fingerprint) in part.events.iter().zip(prints.by_ref()) {
                let sequence = pending.next();
                if let Some(id) = in_time_order(&event.event_id) {
                    self.newest_id = self.newest_id.max(id);
                }
                let at = self.frame.len();
                let len = Record {
                    kind: match event.birth {
                        None => RecordKind::Event,
                        Some(_) => RecordKind::Adopted,
                    },
                    event_id: event.event_id,
                    recorded_time,
                    event_time: event.event_time.unwrap_or(recorded_time),
                    position,
                    sequence,
                    revision: event.revision,
                    batch,
                    stream: &part.stream,
                    event_type: &event.event_type,
                    content_type: &event.content_type,
                    metadata: &event.metadata,
                    tags: &event.tags,
                    birth: event.birth.as_deref(),
                    payload: &event.payload,
                }
                .encode(&mut self.frame);
                self.records.push(NewRecord {
                    slot: *slot,
                    previous: pending.newest,
                    sequence,
                    at,
                    len,
                    fingerprint: *fingerprint,
                });
                // A frame holds fewer records than a u32 counts.
                pending.newest = u32::try_from(self.records.len() - 1).unwrap_or(NONE);
                pending.added += 1;
                position += 1;
            }
            receipts.push(AppendReceipt {
                stream: part.stream.clone(),
                first_sequence,
                last_sequence: pending.head(),
                first_position: Some(first_position),
                last_position: Some(position - 1),
                recorded_time,
                outcome: AppendOutcome::Appended,
            });
        }
        receipts
    }

    /// Adds a record of the library itself.
    pub(crate) fn encode_control(
        &mut self,
        stream: &StreamId,
        id: EventId,
        event_type: &str,
        payload: &[u8],
    ) {
        let position = self.first_position + self.records.len() as u64;
        let at = self.frame.len();
        let len = Record {
            kind: RecordKind::Control,
            event_id: id,
            recorded_time: self.recorded,
            event_time: self.recorded,
            position,
            sequence: 0,
            revision: 1,
            batch: Batch {
                first: position,
                count: 1,
            },
            stream,
            event_type,
            content_type: &ContentType::Postcard,
            metadata: &Metadata::new(),
            tags: &Tags::none(),
            birth: None,
            payload,
        }
        .encode(&mut self.frame);
        self.records.push(NewRecord::control(at, len));
    }
}
