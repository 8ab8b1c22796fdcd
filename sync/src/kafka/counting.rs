//! What users are told of it.

use std::sync::Arc;

use tidelog_core::Error;

use super::broker::Broker;
use super::sink::KafkaSink;
use super::state::Keeper;
use super::status::Trouble;
use super::topic_gates::Topic;
use crate::replicate::ParkedReason;

impl<B: Broker> KafkaSink<B> {
    /// Tells users of trouble that does not end the connection.
    pub(super) fn tell(&mut self, error: Error) {
        let text = error.to_string();
        let before = self.counts.trouble.as_ref();
        if before.is_none_or(|before| before.0.to_string() != text) {
            tracing::warn!(%error, "something waits to be published");
            self.counts.trouble = Some(Trouble(Arc::new(error)));
        }
    }

    pub(super) fn count(&mut self, keeper: &Keeper) {
        let Some(link) = &self.link else {
            return;
        };
        self.counts.in_flight = link.flying.count();
        self.counts.republish = link.pass;
        let state = keeper.state();
        if self.counted_parked != keeper.parked_version() {
            self.counted_parked = keeper.parked_version();
            let parked = state.parked.values();
            let withheld = parked.filter(|entry| entry.reason == ParkedReason::NotReplicated);
            self.counts.withheld = withheld.count();
        }
        if state.restarted.len() != self.counts.restarted.len() {
            self.counts.restarted = state.restarted.iter().cloned().collect();
        }
        let missing: Vec<&Topic> = self
            .topics
            .iter()
            .filter(|topic| topic.is_missing())
            .collect();
        let is_same = missing.len() == self.counts.missing.len()
            && missing
                .iter()
                .zip(&*self.counts.missing)
                .all(|(topic, told)| topic.name == *told);
        if !is_same {
            self.counts.missing = missing.iter().map(|topic| topic.name.clone()).collect();
        }
        let is_stalled = link.flying.count() == 0 && link.ready.is_empty();
        let stalls = missing
            .first()
            .filter(|_| is_stalled && !link.lanes.is_empty());
        self.counts.stalled_by = stalls.map(|topic| topic.name.clone());
    }
}
