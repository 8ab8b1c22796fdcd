//! Listeners: what reacts to events outside the log.

mod checkpoints;
mod settled;
mod state;

use std::future::Future;

use crate::envelope::EventEnvelope;
use crate::failure::HandlerError;

pub use checkpoints::{
    CheckpointClaim, CheckpointStore, MAX_CHECKPOINT_BYTES, check_listener_name,
};
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
}
