//! Listeners: what reacts to events outside the log.

mod checkpoints;
mod in_order;
mod settled;
mod state;

use std::future::Future;

use crate::envelope::EventEnvelope;
use crate::failure::HandlerError;
use crate::superseded::Superseded;

pub use checkpoints::{
    CheckpointClaim, CheckpointStore, MAX_CHECKPOINT_BYTES, check_listener_name,
};
pub use in_order::{Applied, InOrder, Ledger};
pub use settled::{Mark, Settled};
pub use state::ListenerState;

/// Reacts to events outside the log: sends, calls, writes elsewhere.
///
/// Delivery is at least once: after a crash, what was handled within the last second may come
/// again, with the same event id, stream and sequence. Events of one stream come in order and one
/// at a time; different streams are handled side by side.
///
/// A listener sees recorded envelopes and decodes what it wants; it knows neither the log nor where
/// its events come from.
pub trait EventListener: Send + Sync + 'static {
    /// Handles one event. `Ok` settles it.
    ///
    /// # Errors
    /// What keeps it from being handled now, or for ever ([`HandlerError::permanent`]).
    fn on(&self, event: &EventEnvelope) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// Whether it wants this event; what it does not want is settled unseen.
    fn wants(&self, event: &EventEnvelope) -> bool {
        let _ = event;
        true
    }

    /// Events of a stream, some of which it may have handled, gave way to another origin's: all of
    /// `what.stream` from `what.from` on. It comes where the log says so, in the order of the stream's
    /// events: behind those that gave way, before those that took their place. What did so while it
    /// was behind never comes.
    ///
    /// What it has done for them outside is its own to undo. What took their place comes by
    /// [`on`](Self::on); of kind [`Adopted`](crate::RecordKind::Adopted) is what another origin
    /// recorded, which [`wants`](Self::wants) may refuse.
    ///
    /// # Errors
    /// It is tried again as an event is. Given up, the listener stands still: a stream is not parked
    /// for it.
    fn superseded(
        &self,
        what: &Superseded,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        let _ = what;
        async { Ok(()) }
    }
}
