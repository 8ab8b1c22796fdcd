//! A frame whose records stand in another log already.

use tidelog_core::RecordKind;

use super::super::control;
use super::super::frame;
use super::super::frame_reader::for_each_record;
use super::super::hash::in_time_order;
use super::super::shared::Shared;
use super::{Group, NONE, NewRecord, Pending};

impl Group {
    /// Takes the records of another log's commit as they stand; says why when it cannot.
    pub(crate) fn copy(&mut self, shared: &Shared, body: &[u8]) -> Result<(), &'static str> {
        const UNORDERED: &str = "its sequences do not follow";
        self.frame.extend_from_slice(body);
        let mut wrong = None;
        let read = for_each_record(body, |at, len, parsed| {
            let at = frame::HEADER + at;
            let (sequence, id) = (parsed.sequence, parsed.event_id);
            let stream = match parsed.stream() {
                _ if parsed.kind == RecordKind::Control => None,
                None => {
                    wrong = Some("a record's stream can be none");
                    return Ok(());
                }
                stream => stream,
            };
            let Some(stream) = stream else {
                self.begins.extend(control::superseded_by(&parsed));
                self.records.push(NewRecord::control(at, len));
                return Ok(());
            };
            let begun = self.begins.iter().rfind(|begun| begun.stream == stream);
            let name = match begun {
                Some(begun) => Some(stream.branch(begun.at)),
                None => shared.log.branches.name_at(&stream, u64::MAX),
            };
            let key = shared.hash.key(name.as_ref().unwrap_or(&stream));
            let slot = match self.find(&stream, &key) {
                Some(slot) => slot,
                None => self.insert(Pending {
                    stream,
                    name: name.map(Box::new),
                    key,
                    by_ids: false,
                    published: sequence.saturating_sub(1),
                    floor: 0,
                    added: 0,
                    newest: NONE,
                }),
            };
            if let Some(id) = in_time_order(&id) {
                self.newest_id = self.newest_id.max(id);
            }
            let newest = u32::try_from(self.records.len()).unwrap_or(NONE);
            if let Some(pending) = self.streams.get_mut(slot as usize) {
                pending.added += 1;
                match sequence.checked_sub(u64::from(pending.added)) {
                    // Where sequences jump, the newest one counts.
                    Some(floor) if floor >= pending.floor => pending.floor = floor,
                    _ => wrong = Some(UNORDERED),
                }
                self.records.push(NewRecord {
                    slot,
                    previous: pending.newest,
                    sequence,
                    at,
                    len,
                    fingerprint: shared.hash.fingerprint(&id),
                });
                pending.newest = newest;
            }
            Ok(())
        });
        match read {
            Ok(Ok(_)) => wrong.map_or(Ok(()), Err),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(UNORDERED),
        }
    }
}
