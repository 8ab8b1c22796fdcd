//! The transfer: the state that its events add up to.

use serde::{Deserialize, Serialize};
use tidelog::Aggregate;

use super::event::TransferEvent;

/// A transfer as it stands after its events so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Out of this account.
    pub from: String,
    /// Into this one.
    pub to: String,
    /// How much, in cents.
    pub cents: u64,
    /// How far it is.
    pub phase: Phase,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Wanted; whether the money was taken is not known.
    Requested,
    /// The money was taken.
    Debited,
    /// It cannot arrive.
    CreditRefused,
    /// The deadline passed; whether the money was taken is not known.
    Expired,
    /// Ended: the money has arrived.
    Completed,
    /// Ended: nothing was taken.
    Refused,
    /// Ended: the money is where it was.
    Refunded,
    /// Ended: the money is in neither account.
    RefundFailed,
}

impl Phase {
    /// Whether nothing follows any more.
    pub fn is_end(self) -> bool {
        match self {
            Self::Completed | Self::Refused | Self::Refunded | Self::RefundFailed => true,
            Self::Requested | Self::Debited | Self::CreditRefused | Self::Expired => false,
        }
    }
}

/// A history that the rules never let happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot follow {after:?}")]
pub struct ImpossibleTransfer {
    /// How far it was; `None` at the beginning.
    pub after: Option<Phase>,
    /// What happened then.
    pub event: &'static str,
}

impl Aggregate for Transfer {
    const TYPE: &'static str = "Transfer";
    type Event = TransferEvent;
    type Error = ImpossibleTransfer;

    fn apply(state: Option<Self>, event: &TransferEvent) -> Result<Self, ImpossibleTransfer> {
        use TransferEvent as Event;
        let after = state.as_ref().map(|transfer| transfer.phase);
        let phase = match (after, event) {
            (None, Event::Requested { .. }) => Phase::Requested,
            (Some(Phase::Requested), Event::Debited { .. }) => Phase::Debited,
            (Some(Phase::Requested | Phase::Expired), Event::Refused { .. }) => Phase::Refused,
            (Some(Phase::Requested), Event::Expired) => Phase::Expired,
            (Some(Phase::Debited), Event::Completed) => Phase::Completed,
            (Some(Phase::Debited | Phase::Expired), Event::CreditRefused { .. }) => {
                Phase::CreditRefused
            }
            (Some(Phase::CreditRefused), Event::Refunded) => Phase::Refunded,
            (Some(Phase::CreditRefused), Event::RefundFailed { .. }) => Phase::RefundFailed,
            _ => {
                let event = tidelog::Event::event_type(event);
                return Err(ImpossibleTransfer { after, event });
            }
        };
        match (state, event) {
            (Some(transfer), _) => Ok(Self { phase, ..transfer }),
            (
                None,
                Event::Requested {
                    from, to, cents, ..
                },
            ) => Ok(Self {
                from: from.clone(),
                to: to.clone(),
                cents: *cents,
                phase,
            }),
            (None, _) => Err(ImpossibleTransfer {
                after,
                event: tidelog::Event::event_type(event),
            }),
        }
    }

    fn size_hint(&self) -> usize {
        size_of::<Self>() + self.from.len() + self.to.len()
    }
}
