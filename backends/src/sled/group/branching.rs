//! A frame in which events of a stream give way to others.

use tidelog_core::{
    AppendBatch, AppendOutcome, AppendReceipt, Error, ExpectedVersion, NewEvent, Superseded,
    Supersession,
};

use super::super::control;
use super::super::retry::Standing;
use super::super::shared::Shared;
use super::{Group, NONE, Pending};

impl Group {
    /// Refuses a branch whose own events have ids that the stream knows.
    pub(crate) fn refuse_known(
        &mut self,
        shared: &Shared,
        what: &Supersession,
    ) -> Result<(), Error> {
        if what.reissued.is_empty() {
            return Ok(());
        }
        self.slots.clear();
        self.fingerprints.clear();
        let (stream, events) = (what.stream.clone(), what.reissued.clone());
        let part = AppendBatch::new(stream, ExpectedVersion::Any, events);
        let key = shared.hash.key(&what.stream);
        let event_id = match (self.look(shared, &part, key)?, what.reissued.first()) {
            (Standing::Conflict(event_id, _), _) => event_id,
            (Standing::Already { .. }, Some(first)) => first.event_id,
            _ => return Ok(()),
        };
        Err(Error::IdConflict {
            stream: part.stream,
            event_id,
            reason: "it stands there already, and gives way now or has before",
        })
    }

    /// Adds the record of a branch and its first events, after the caller has looked whether they may
    /// begin it.
    pub(crate) fn begin_branch(
        &mut self,
        shared: &Shared,
        what: &Supersession,
    ) -> Result<AppendReceipt, Error> {
        let at = self.first_position + self.records.len() as u64;
        let begun = Superseded::new(what, at);
        let (id, payload) = (begun.record_id()?, begun.encode()?);
        self.encode_control(&shared.control, id, control::SUPERSEDE, &payload);
        let events = what.events();
        let name = what.stream.branch(at);
        let key = shared.hash.key(&name);
        self.fingerprints.clear();
        let print = |event: &NewEvent| shared.hash.fingerprint(&event.event_id);
        self.fingerprints.extend(events.iter().map(print));
        let slot = self.insert(Pending {
            stream: what.stream.clone(),
            name: Some(Box::new(name)),
            key,
            by_ids: false,
            published: what.from - 1,
            floor: what.from - 1,
            added: 0,
            newest: NONE,
        });
        self.slots = vec![slot];
        self.begins.push(begun);
        let is_empty = events.is_empty();
        let part = AppendBatch::new(what.stream.clone(), ExpectedVersion::Any, events);
        let nothing = AppendReceipt {
            stream: what.stream.clone(),
            first_sequence: what.from,
            last_sequence: what.from - 1,
            first_position: Some(at),
            last_position: Some(at),
            recorded_time: self.recorded,
            outcome: AppendOutcome::Appended,
        };
        let mut receipts = if is_empty {
            Vec::new()
        } else {
            self.encode(&[part])
        };
        Ok(receipts.pop().unwrap_or(nothing))
    }
}
