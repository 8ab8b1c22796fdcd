//! What the server lists as parked, and a state that is older than the log does not know.

use tidelog_backends::commits::CommitEnd;
use tidelog_backends::wire::ParkedRow;
use tidelog_core::Error;

use super::connect::Caller;
use super::parked_rows::{AcceptedParts, Recorded, entry};
use crate::scylla::state::Keeper;
use crate::scylla::state::SinkState;

/// Bytes of the log read at once.
const READ_BYTES: usize = 1 << 20;

impl Caller<'_> {
    /// Takes back what `rows` hold of this log and `keeper` does not know, after an old image of the
    /// disk was put back; and lets go of what gave way since. The log is settled up to `settled`, of
    /// which the state on the disk knew it up to `was_settled`. Answers the rows that hold nothing that
    /// this log has.
    pub(super) async fn take_back(
        &self,
        rows: &[ParkedRow],
        settled: CommitEnd,
        was_settled: u64,
        keeper: &mut Keeper,
    ) -> Result<Vec<ParkedRow>, Error> {
        let mut taken = Vec::new();
        let mut others = Vec::new();
        let mut over = Vec::new();
        for row in rows {
            let (stream, first) = (&row.key.stream, row.key.first_position);
            let key = (stream.clone(), first);
            let known = keeper.state().parked.get(&key);
            let gave_way = |until: u64| {
                until <= settled.position
                    && self.outbox.is_superseded(stream, row.first_sequence, first)
            };
            match (known, row.until_position) {
                (Some(entry), Some(until)) => {
                    if entry.holds() && entry.local_event == row.local_event && gave_way(until) {
                        over.push(key);
                    }
                }
                (Some(_), None) => {}
                // Resolved: it gave way here, too, or was tried again.
                (None, Some(until))
                    if until == first
                        || until <= settled.position
                        || self.outbox.is_superseded(stream, row.first_sequence, first) => {}
                // Open, or resolved by a commit that this log has lost.
                (None, _) => match self.recorded(row).await? {
                    Some(recorded) => taken.push(entry(row, recorded, self.outbox.last())),
                    None => others.push(row.clone()),
                },
            }
        }
        // What was accepted of a torn append is in no row: a state older than that does not know it.
        let is_as_known = taken.is_empty() && over.is_empty();
        if is_as_known && (was_settled >= settled.position || keeper.state().parked.is_empty()) {
            return Ok(others);
        }
        let known = if is_as_known { was_settled } else { 0 };
        let state = keeper.change_parked();
        for key in over {
            state.parked.remove(&key);
        }
        for entry in taken {
            let key = (entry.stream.clone(), entry.first_position);
            state.parked.insert(key, entry);
        }
        self.list_accepted(known, settled, state).await?;
        Ok(others)
    }

    /// Lists what was accepted of appends that are torn by what `state` holds, behind position `known`
    /// and up to `settled`. What is above is sent again, and listed then.
    pub(super) async fn list_accepted(
        &self,
        known: u64,
        settled: CommitEnd,
        state: &mut SinkState,
    ) -> Result<(), Error> {
        let mut parts = AcceptedParts::of(state);
        let Some(begins) = parts.begins() else {
            return Ok(());
        };
        let mut after = begins.saturating_sub(1).max(known);
        while after < settled.position {
            let commits = self.outbox.read(after, READ_BYTES).await?;
            let Some(last) = commits.last() else { break };
            after = last.last_position();
            for commit in &commits {
                if commit.last_position() <= settled.position {
                    parts.take(commit)?;
                }
            }
        }
        parts.note(state);
        Ok(())
    }

    /// The append that wrote what a row holds; `None` where this log has another event there: another
    /// copy of the store may have parked its own in the same epoch.
    pub(super) async fn recorded(&self, row: &ParkedRow) -> Result<Option<Recorded>, Error> {
        let position = row.key.first_position;
        let commits = self.outbox.read(position.saturating_sub(1), 1).await?;
        match commits.first() {
            Some(commit) => Recorded::of(commit, position, row.local_event),
            None => Ok(None),
        }
    }
}
