//! Connecting: what is asked before anything is sent, in order, and what is saved before what.

use std::sync::Arc;

use tidelog_backends::commits::CommitEnd;
use tidelog_core::{Error, Halt};

use super::broker::{Broker, Place};
use super::link::Link;
use super::sink::KafkaSink;
use super::state::Keeper;
use crate::listeners::StartAt;
use crate::replicate::outbox::{Identity, Outbox};
use crate::replicate::sink::{Begin, Stop};

impl<B: Broker> KafkaSink<B> {
    pub(super) async fn connect_to(
        &mut self,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<Begin, Stop> {
        if !self.has_generation {
            self.begin_generation()?;
        }
        let identity = outbox.identity();
        let cluster = self.broker.cluster(Vec::new()).await;
        let cluster = cluster.map_err(|error| self.stop(error, "connect"))?;
        let known = &keeper.state().cluster;
        if known.is_empty() {
            let settled = keeper.state().settled;
            // A store that was restored goes on where it is told to.
            let start = if settled.position > 0 {
                settled
            } else {
                self.start(&**outbox, settled)?
            };
            let state = keeper.change();
            (state.cluster, state.settled) = (cluster.id, start);
        } else if *known != cluster.id {
            return Err(Halt::OtherCluster {
                expected: known.clone(),
                found: cluster.id,
            }
            .into());
        }
        let marked = if self.options.is_alone {
            self.shake_hands(identity, outbox, keeper).await?
        } else {
            follow_log(identity, &**outbox, keeper)?;
            keeper.state().settled
        };
        self.look_back(keeper).await?;
        let state = keeper.state();
        if (!state.parked.is_empty() || state.republish.is_some()) && keeper.is_dirty() {
            // What is set aside settles what is read now, and what is sent now covers up what was lost.
            keeper.save(outbox).await.map_err(Stop::local)?;
        }
        let (floor, pass) = (keeper.state().settled, keeper.state().republish);
        self.waiting.begins(pass);
        let epochs = outbox.epochs().map_err(Stop::local)?;
        self.encoder.set_epochs(&epochs);
        let mut link = Link::new(identity, floor, pass, marked);
        let after = pass.map_or(floor.position, |pass| pass.at);
        link.is_note_wanted = true;
        self.link = Some(Box::new(link));
        self.count(keeper);
        for (stream, goes_alone) in std::mem::take(&mut self.wishes) {
            self.reopen(&stream, goes_alone, keeper);
        }
        Ok(Begin {
            after,
            settled: floor,
            rewinds_to: 0,
        })
    }

    /// Where a log begins that was never published.
    fn start(&self, outbox: &dyn Outbox, genesis: CommitEnd) -> Result<CommitEnd, Stop> {
        // Also of what may not be published yet.
        let (last, _) = outbox.reaches();
        let position = match self.options.start {
            StartAt::Beginning => return Ok(genesis),
            StartAt::End => last,
            StartAt::After(position) if position > last => {
                return Err(Halt::Refused {
                    action: format!("begin after position {position}").into(),
                    reason: format!("the log ends at {last}").into(),
                }
                .into());
            }
            StartAt::After(position) => position,
        };
        last_end(outbox, position, genesis).map_err(Stop::local)
    }

    /// Looks whether topics have what they had when this log was published last. What does not answer is
    /// looked at again while the others go on.
    async fn look_back(&mut self, keeper: &mut Keeper) -> Result<(), Stop> {
        for (place, offset) in &keeper.state().places {
            self.topics.remember(&place.topic, place.partition, *offset);
        }
        let places = self.places();
        if places.is_empty() {
            return Ok(());
        }
        let asked: Vec<Place> = places.iter().map(|(place, _)| place.clone()).collect();
        let offsets = self.broker.offsets(asked).await;
        let offsets = offsets.map_err(|error| self.stop(error, "look at topics"))?;
        self.compare(&places, &offsets, keeper);
        Ok(())
    }
}

/// The last end of a commit up to `position`.
pub(super) fn last_end(
    outbox: &dyn Outbox,
    position: u64,
    genesis: CommitEnd,
) -> Result<CommitEnd, Error> {
    let mut position = position.min(outbox.reaches().0);
    while position > 0 {
        if let Some(end) = outbox.commit_end(position)? {
            return Ok(end);
        }
        position -= 1;
    }
    Ok(genesis)
}

/// With a replica: its handshake has decided; the state follows the log.
fn follow_log(identity: Identity, outbox: &dyn Outbox, keeper: &mut Keeper) -> Result<(), Stop> {
    let state = keeper.state();
    if state.epoch != identity.epoch {
        let settled = state.settled;
        let is_here = outbox.commit_end(settled.position).map_err(Stop::local)?;
        let at = match is_here.filter(|end| end.hash == settled.hash) {
            Some(end) => end,
            // A repair lost its end.
            None => last_end(outbox, settled.position, identity.genesis()).map_err(Stop::local)?,
        };
        let state = keeper.change();
        (state.epoch, state.settled) = (identity.epoch, at);
    }
    Ok(())
}
