//! A part of the log published once more: the place where it is read goes back, and from there on all is
//! as ever. Nothing new goes out before that is done, so that no key shows a gap.

use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_core::Error;

use super::broker::Broker;
use super::sink::KafkaSink;
use super::state::{Keeper, Pass};
use crate::replicate::outbox::Outbox;
use crate::replicate::sink::After;
use crate::signal::{Listener, Signal};

/// What became of a pass, for whoever waits for it.
#[derive(Default)]
pub(crate) struct Over {
    answer: Mutex<Option<Result<(), Error>>>,
    news: Signal,
}

impl Over {
    pub(crate) fn listen(&self) -> Listener<'_> {
        self.news.listen()
    }

    pub(crate) fn answer(&self) -> Option<Result<(), Error>> {
        self.answer.lock().clone()
    }

    fn tell(&self, answer: Result<(), Error>) {
        *self.answer.lock() = Some(answer);
        self.news.notify();
    }
}

/// Who waits for the pass under way.
#[derive(Default)]
pub(super) struct Waiting {
    all: Vec<Arc<Over>>,
    /// It is over, which is told once the status says so.
    is_over: bool,
}

impl Waiting {
    /// Tells `over` when there is no pass any more.
    pub(super) fn add(&mut self, over: Arc<Over>, keeper: &Keeper) {
        if keeper.state().republish.is_some() {
            self.all.push(over);
        } else {
            over.tell(Ok(()));
        }
    }

    /// The connection in which the pass ended is over, if it has.
    pub(super) fn tell_if_over(&mut self) {
        if std::mem::take(&mut self.is_over) {
            for over in self.all.drain(..) {
                over.tell(Ok(()));
            }
        }
    }

    /// A connection begins; of a state that was forgotten there is nothing to wait for.
    pub(super) fn begins(&mut self, pass: Option<Pass>) {
        if pass.is_none() {
            for over in self.all.drain(..) {
                let reason = "what was kept about publishing was forgotten before it was done";
                over.tell(Err(Error::invalid("republish", "", reason)));
            }
        }
    }
}

impl<B: Broker> KafkaSink<B> {
    /// Whether the pass is over: what is new goes on where it stood.
    pub(super) fn ends_pass(&mut self, outbox: &dyn Outbox, keeper: &mut Keeper) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        let Some(pass) = link.pass else {
            return false;
        };
        // What may not be published now will be some time: only the log's own end is one.
        let is_read = link.read > pass.to || link.read >= outbox.reaches().0;
        let is_done = link.progress.settled().position >= pass.to;
        let is_over = is_done || is_read && link.progress.records() == 0;
        if !is_over || !link.lanes.is_empty() || !link.holds.is_empty() {
            return false;
        }
        tracing::info!(from = pass.from, to = pass.to, "published once more");
        let state = keeper.change();
        state.republish = None;
        if pass.from == 1 {
            state.restarted.clear();
        }
        link.pass = None;
        self.waiting.is_over = true;
        self.count(keeper);
        true
    }
}

/// Begins a pass over these positions, or makes the one under way wider.
pub(super) fn republish(
    from: u64,
    to: u64,
    outbox: &dyn Outbox,
    keeper: &mut Keeper,
) -> Result<After, Error> {
    let state = keeper.state();
    // What is above comes anyway.
    let to = to.min(state.settled.position);
    let from = from.max(1);
    if from > to {
        let reason = format!("nothing of it is published of {}", outbox.last());
        return Err(Error::invalid("range", from, reason));
    }
    let pass = match state.republish {
        None => Pass {
            from,
            to,
            at: from - 1,
        },
        Some(now) => Pass {
            from: now.from.min(from),
            to: now.to.max(to),
            // Behind what is done there is something left if the new range begins there.
            at: now.at.min(from - 1),
        },
    };
    tracing::info!(from = pass.from, to = pass.to, "publishing once more");
    keeper.change().republish = Some(pass);
    keeper.want();
    Ok(After::Again)
}
