//! A frame whose records stand in another log already.

use tidelog_core::{Error, RecordKind, StreamId, Superseded};

use super::super::branches::Lineage;
use super::super::control;
use super::super::frame;
use super::super::frame_reader::for_each_record;
use super::super::hash::{StreamKey, in_time_order};
use super::super::shared::Shared;
use super::{Group, NONE, NewRecord, Pending};
use crate::sled::commits::Commit;

impl Group {
    /// Takes the records of another log's commit as they stand.
    ///
    /// # Errors
    /// `InvalidInput` when they are none; `Damaged` when events of a stream stand behind others that had
    /// given way: the repair of the log that lost the record of that says so at the log's end, when
    /// they are in the index already.
    pub(crate) fn copy(&mut self, shared: &Shared, commit: &Commit) -> Result<(), Error> {
        let not = |why: &str| Error::invalid("commit", commit.number, why);
        self.frame.extend_from_slice(&commit.body);
        let read = for_each_record(&commit.body, |at, len, parsed| {
            let at = frame::HEADER + at;
            let (sequence, id) = (parsed.sequence, parsed.event_id);
            if parsed.kind == RecordKind::Control {
                if let Some(begun) = control::superseded_by(&parsed) {
                    if begun.at < parsed.position {
                        refuse_late(shared, &begun)?;
                    }
                    self.begins.push(begun);
                }
                self.records.push(NewRecord::control(at, len));
                return Ok(());
            }
            let stream = parsed.stream();
            let stream = stream.ok_or_else(|| not("a record's stream can be none"))?;
            let slot = self.copied_stream(shared, &stream)?;
            if let Some(id) = in_time_order(&id) {
                self.newest_id = self.newest_id.max(id);
            }
            let newest = u32::try_from(self.records.len()).unwrap_or(NONE);
            if let Some(pending) = self.streams.get_mut(slot as usize) {
                let head = pending.head();
                if sequence <= head {
                    return Err(began_unsaid(shared, &stream, sequence));
                }
                pending.added += 1;
                // Where sequences jump, the newest one counts.
                pending.floor = sequence - u64::from(pending.added);
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
        })?;
        read.map(|_| ()).map_err(not)
    }

    /// The place of a stream, in the branch that is its newest behind what was copied so far.
    fn copied_stream(&mut self, shared: &Shared, stream: &StreamId) -> Result<u32, Error> {
        let begun = self.begins.iter().rfind(|begun| begun.stream == *stream);
        let lineage = shared.log.branches.of(stream);
        let newest = lineage.as_ref().and_then(Lineage::newest);
        let branch = begun.map(|begun| (begun.at, begun.from));
        let branch = branch.or(newest.map(|newest| (newest.at, newest.from)));
        let name = branch.map(|(at, _)| stream.branch(at));
        let key = shared.hash.key(name.as_ref().unwrap_or(stream));
        if let Some(slot) = self.find(stream, &key) {
            return Ok(slot);
        }
        let head = match copied_head(shared, name.as_ref().unwrap_or(stream), &key)? {
            0 => branch.map_or(0, |(_, from)| from - 1),
            head => head,
        };
        Ok(self.insert(Pending {
            stream: stream.clone(),
            name: name.map(Box::new),
            key,
            by_ids: false,
            published: head,
            floor: head,
            added: 0,
            newest: NONE,
        }))
    }
}

/// The newest sequence that stands under a name in the index; 0 for none.
fn copied_head(shared: &Shared, name: &StreamId, key: &StreamKey) -> Result<u64, Error> {
    if let Some(head) = shared.heads.get(key) {
        return Ok(head);
    }
    let newest = shared.streams.head(key.hash, name, u64::MAX)?;
    let head = newest.map_or(0, |(sequence, _)| sequence);
    if head > 0 {
        shared.heads.insert(key, head);
    }
    Ok(head)
}

/// Refuses what a repair found out of a branch whose events stand among those before it.
fn refuse_late(shared: &Shared, begun: &Superseded) -> Result<(), Error> {
    let stream = &begun.stream;
    let lineage = shared.log.branches.of(stream);
    if lineage.is_some_and(|all| all.has(begun.at)) {
        return Ok(());
    }
    let hash = shared.hash.stream(stream);
    let Some((head, _)) = shared.streams.head(hash, stream, u64::MAX)? else {
        return Ok(());
    };
    let newest = shared.read_event(stream, hash, head, u64::MAX)?;
    match newest.and_then(|newest| newest.position) {
        Some(position) if position >= begun.at => Err(began_unsaid(shared, stream, begun.from)),
        _ => Ok(()),
    }
}

fn began_unsaid(shared: &Shared, stream: &StreamId, sequence: u64) -> Error {
    let what = format!(
        "events of {stream} from {sequence} on took the place of others, and a repair lost the record \
         of it: such a log cannot be copied"
    );
    let remedy = "take a backup of the repaired store, or read its streams from the replica";
    Error::damaged(&shared.dir, what, remedy)
}
