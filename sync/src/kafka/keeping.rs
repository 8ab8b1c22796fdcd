//! What follows for the state that is kept.

use super::broker::Broker;
use super::sink::KafkaSink;
use super::state::Keeper;

impl<B: Broker> KafkaSink<B> {
    /// Puts what is done into the state that is kept; with it where that stands, so that what is settled
    /// and lost is missed whenever it is.
    pub(super) fn keep_settled(&mut self, keeper: &mut Keeper) {
        let Some(link) = &mut self.link else {
            return;
        };
        for (place, offset) in self.topics.take_fresh() {
            if keeper.state().places.get(&place) != Some(&offset) {
                keeper.change().note_place(place, offset);
            }
        }
        let settled = link.settled();
        if keeper.state().settled != settled {
            keeper.change().settled = settled;
        }
        if let Some(pass) = &mut link.pass {
            let at = link.progress.settled().position.max(pass.at);
            if at != pass.at {
                pass.at = at;
                keeper.change().republish = Some(*pass);
            }
        }
        if !self.options.is_alone {
            self.options.published.set(keeper.state().published());
        }
    }

    /// What was settled since something was found lost is not sure to be there either.
    pub(super) fn keep_what_is_lost(&self, keeper: &mut Keeper) {
        if self.link.as_ref().is_some_and(|link| link.has_lost) {
            keeper.change().want_again(self.options.overlap);
        }
    }
}
