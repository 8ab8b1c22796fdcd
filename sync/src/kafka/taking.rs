//! What becomes of each record of the log.

use tidelog_backends::commits::{Commit, CommitRecord};
use tidelog_core::RecordKind;

use super::broker::Broker;
use super::lane::Item;
use super::sink::KafkaSink;
use super::state::Keeper;
use crate::replicate::ParkedReason;
use crate::replicate::outbox::{LocalEvent, Outbox, Pass};
use crate::replicate::sink::Stop;

impl<B: Broker> KafkaSink<B> {
    pub(super) fn take_commit(
        &mut self,
        commit: &Commit,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        link.read = commit.last_position();
        if link
            .pass
            .is_some_and(|pass| commit.first_position > pass.to)
        {
            return Ok(());
        }
        link.taken = link.taken.max(commit.last_position());
        link.progress.take(commit, commit.records as usize);
        for record in commit.each() {
            let record = record.map_err(Stop::local)?;
            let is_ours = record.kind == RecordKind::Control
                || record.stream.aggregate_type().starts_with('$');
            if !is_ours {
                self.take_event(&record, outbox, keeper)?;
                continue;
            }
            if let Some(what) = record.superseded() {
                self.supersede(&what, keeper);
            }
            if let Some(link) = &mut self.link {
                link.progress.done(record.position);
            }
        }
        Ok(())
    }

    fn take_event(
        &mut self,
        record: &CommitRecord<'_>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let (stream, position) = (&record.stream, record.position);
        let entry = keeper.state().parked.get(stream);
        if entry.is_some_and(|entry| position >= entry.first_position) {
            if let Some(hold) = link.holds.get_mut(stream) {
                hold.positions.push(position);
            } else {
                link.progress.done(position);
            }
            if let Some(reopening) = link.reopening.get_mut(stream) {
                reopening.miss();
            }
            return Ok(());
        }
        let local = LocalEvent {
            sequence: record.sequence,
            event_id: record.event_id,
            position,
            batch: record.batch,
        };
        let reason = match outbox.passes(stream, &local) {
            Pass::Superseded => {
                link.progress.done(position);
                return Ok(());
            }
            // Of another epoch nothing is known here: it is asked again on another connection.
            Pass::Held if outbox.identity().epoch != link.identity.epoch => {
                link.is_again_wanted = true;
                return Ok(());
            }
            Pass::Held => ParkedReason::NotReplicated,
            Pass::Yes => match self
                .topics
                .of_type(stream.aggregate_type(), &mut self.encoder)
            {
                Err(reason) => ParkedReason::Refused(reason),
                Ok(topic) => {
                    let id = link.lanes.of(stream, topic);
                    if let Some(lane) = link.lanes.get_mut(id) {
                        lane.push(Item::of_record(record));
                    }
                    link.queue(id, &mut self.topics);
                    return Ok(());
                }
            },
        };
        self.set_aside(stream, local, reason, vec![position], keeper)
    }
}
