//! What is kept of publishing between two runs, and what of it is asked.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidelog_backends::commits::CommitEnd;
use tidelog_core::Error;
use uuid::Uuid;

use super::broker::Place;
use crate::replicate::keeper::KeptState;
use crate::replicate::outbox::Identity;
pub(crate) use crate::sinks::publishing::{KafkaState, NAME, Pass};

pub(super) type Keeper = crate::replicate::keeper::Keeper<KafkaState>;

/// Most topics kept that began again, and most places.
const MAX_RESTARTED: usize = 100;
const MAX_PLACES: usize = 1_000;

/// The state of a store that was restored, of which everything up to `settled` is published.
#[cfg(feature = "scylla")]
pub(crate) fn restored(origin: Uuid, epoch: Uuid, settled: CommitEnd) -> Result<Bytes, Error> {
    let identity = Identity {
        origin,
        first_epoch: epoch,
        epoch,
    };
    let state = KafkaState {
        settled,
        ..KafkaState::new(&identity)
    };
    state.encode()
}

impl KafkaState {
    /// Nothing is known yet.
    pub(crate) fn new(identity: &Identity) -> Self {
        Self {
            cluster: "".into(),
            origin: identity.origin,
            epoch: identity.epoch,
            session: Uuid::nil(),
            next_session: Uuid::nil(),
            settled: identity.genesis(),
            republish: None,
            restarted: BTreeSet::new(),
            places: BTreeMap::new(),
            parked: BTreeMap::new(),
        }
    }

    /// Whether this session was claimed by us.
    pub(crate) fn is_ours(&self, session: Uuid) -> bool {
        !session.is_nil() && (self.session == session || self.next_session == session)
    }

    /// Everything up to here is published, and nothing of it set aside: where another machine may go
    /// on that does not know what is.
    pub(crate) fn published(&self) -> u64 {
        let held = self.parked.values().map(|entry| entry.first_position);
        let before = held.min().map_or(u64::MAX, |first| first.saturating_sub(1));
        self.settled.position.min(before)
    }

    /// What was published last is to be published again: the last `overlap` records of what is settled,
    /// and of what is being published once more.
    pub(super) fn want_again(&mut self, overlap: u64) {
        let to = self.settled.position;
        let from = to.saturating_sub(overlap) + 1;
        if from > to {
            return;
        }
        self.republish = Some(match self.republish {
            None => Pass {
                from,
                to,
                at: from - 1,
            },
            Some(now) => {
                let back = now.at.saturating_sub(overlap).max(now.from - 1);
                Pass {
                    from: now.from.min(from),
                    to: now.to.max(to),
                    at: back.min(from - 1),
                }
            }
        });
    }

    /// Notes that a topic began again.
    pub(super) fn note_restarted(&mut self, topic: &str) {
        if self.restarted.len() < MAX_RESTARTED {
            self.restarted.insert(topic.into());
        }
    }

    /// Notes the newest offset of a place.
    pub(super) fn note_place(&mut self, place: Place, offset: i64) {
        if self.places.len() < MAX_PLACES || self.places.contains_key(&place) {
            self.places.insert(place, offset);
        }
    }

    /// Nothing but whose it is: without that, what the cluster knows of this store would be another's.
    fn nameless(&self, identity: &Identity) -> Option<Self> {
        let is_known = !(self.session.is_nil() && self.next_session.is_nil());
        is_known.then(|| Self {
            session: self.session,
            next_session: self.next_session,
            ..Self::new(identity)
        })
    }
}

impl KeptState for KafkaState {
    fn unknown(identity: &Identity) -> Self {
        Self::new(identity)
    }

    fn origin(&self) -> Uuid {
        self.origin
    }

    fn epoch(&self) -> Uuid {
        self.epoch
    }

    fn session(&self) -> Uuid {
        self.session
    }

    fn settled(&self) -> CommitEnd {
        self.settled
    }

    fn set_settled(&mut self, settled: CommitEnd) {
        self.settled = settled;
    }

    fn left_when_forgotten(&self, identity: &Identity) -> Option<Self> {
        self.nameless(identity)
    }

    fn encode(&self) -> Result<Bytes, Error> {
        Self::encode(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        Self::decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::publishing::tests::state;

    #[test]
    fn what_others_are_told_ends_before_the_first_event_that_is_set_aside() {
        let mut state = state();
        assert_eq!(state.published(), 299);
        state.parked.clear();
        assert_eq!(state.published(), 301);
    }

    #[test]
    fn what_was_lost_is_wanted_again_from_before_whatever_is_being_published_once_more() {
        let mut state = state();
        let wanted = |state: &KafkaState| state.republish.map(|pass| (pass.from, pass.to, pass.at));
        state.want_again(10);
        assert_eq!(wanted(&state), Some((1, 301, 7)));
        state.republish = None;
        state.want_again(10);
        assert_eq!(wanted(&state), Some((292, 301, 291)));
        state.republish = Some(Pass {
            from: 300,
            to: 300,
            at: 299,
        });
        state.want_again(0);
        assert_eq!(wanted(&state), Some((300, 300, 299)));
        state.want_again(1_000);
        assert_eq!(wanted(&state), Some((1, 301, 0)));
        state.republish = None;
        state.settled.position = 0;
        state.want_again(1_000);
        assert_eq!(wanted(&state), None);
    }

    #[test]
    fn what_is_forgotten_is_all_but_whose_it_is() {
        let state = state();
        let identity = Identity {
            origin: state.origin,
            first_epoch: state.epoch,
            epoch: state.epoch,
        };
        let left = KeptState::left_when_forgotten(&state, &identity).unwrap();
        assert!(left.is_ours(state.session) && left.is_ours(state.next_session));
        let nobodys = KafkaState {
            session: Uuid::nil(),
            next_session: Uuid::nil(),
            ..left
        };
        assert_eq!(nobodys, KafkaState::new(&identity));
        assert_eq!(KeptState::left_when_forgotten(&nobodys, &identity), None);
    }
}
