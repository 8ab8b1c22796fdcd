//! What can be asked of a transfer. All but the first are the process manager's.

use std::time::Duration;

use tidelog::{Command, Context, Decide, Timestamp};

use super::aggregate::{Phase, Transfer};
use super::event::TransferEvent;

/// Moves money from one account to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTransfer {
    /// The transfer's id; `None` lets the library make one.
    pub transfer_id: Option<String>,
    /// Out of this account.
    pub from: String,
    /// Into this one.
    pub to: String,
    /// How much, in cents.
    pub cents: u64,
    /// How soon it must have been taken out of the first account.
    pub within: Duration,
}

/// Says whether the money was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordDebit {
    /// The transfer.
    pub transfer_id: String,
    /// Done, or why not.
    pub outcome: Result<(), String>,
}

/// Says whether the money has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordCredit {
    /// The transfer.
    pub transfer_id: String,
    /// Done, or why not.
    pub outcome: Result<(), String>,
}

/// Says whether the money went back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRefund {
    /// The transfer.
    pub transfer_id: String,
    /// Done, or why not.
    pub outcome: Result<(), String>,
}

/// The deadline has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpireTransfer {
    /// The transfer.
    pub transfer_id: String,
}

/// Why a transfer says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferRefusal {
    /// Nothing would move.
    #[error("an amount must be more than zero")]
    ZeroAmount,
    /// Nothing would move.
    #[error("both are account {0}; choose another one")]
    SameAccount(String),
    /// It is there already.
    #[error("transfer {0} was requested before; choose another id")]
    RequestedAlready(String),
    /// Its steps came in another order than they can.
    #[error("transfer {id} is {phase:?}: that cannot follow")]
    OutOfOrder {
        /// The transfer.
        id: String,
        /// How far it is; `None` when there is none.
        phase: Option<Phase>,
    },
}

impl Command for RequestTransfer {
    type Aggregate = Transfer;

    fn target_aggregate_identifier(&self) -> Option<&str> {
        self.transfer_id.as_deref()
    }
}

impl Command for RecordDebit {
    type Aggregate = Transfer;

    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some(&self.transfer_id)
    }
}

impl Command for RecordCredit {
    type Aggregate = Transfer;

    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some(&self.transfer_id)
    }
}

impl Command for RecordRefund {
    type Aggregate = Transfer;

    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some(&self.transfer_id)
    }
}

impl Command for ExpireTransfer {
    type Aggregate = Transfer;

    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some(&self.transfer_id)
    }
}

type Decision = Result<Vec<TransferEvent>, TransferRefusal>;

impl Decide<RequestTransfer> for Transfer {
    type Rejection = TransferRefusal;

    fn decide(transfer: Option<&Self>, command: &RequestTransfer, context: &Context) -> Decision {
        if transfer.is_some() {
            let id = context.aggregate_id().to_owned();
            return Err(TransferRefusal::RequestedAlready(id));
        }
        if command.cents == 0 {
            return Err(TransferRefusal::ZeroAmount);
        }
        if command.from == command.to {
            return Err(TransferRefusal::SameAccount(command.to.clone()));
        }
        let within = i64::try_from(command.within.as_micros()).unwrap_or(i64::MAX);
        let deadline = context.now().as_micros().saturating_add(within);
        Ok(vec![TransferEvent::Requested {
            from: command.from.clone(),
            to: command.to.clone(),
            cents: command.cents,
            deadline: Timestamp::from_micros(deadline),
        }])
    }
}

impl Decide<RecordDebit> for Transfer {
    type Rejection = TransferRefusal;

    fn decide(transfer: Option<&Self>, command: &RecordDebit, _: &Context) -> Decision {
        let outcome = &command.outcome;
        match (transfer, transfer.map(|transfer| transfer.phase)) {
            (Some(transfer), Some(Phase::Requested)) if outcome.is_ok() => {
                Ok(vec![TransferEvent::Debited {
                    from: transfer.from.clone(),
                    to: transfer.to.clone(),
                    cents: transfer.cents,
                }])
            }
            (Some(transfer), Some(Phase::Expired)) if outcome.is_ok() => {
                Ok(vec![TransferEvent::CreditRefused {
                    from: transfer.from.clone(),
                    cents: transfer.cents,
                    reason: "the deadline had passed".into(),
                }])
            }
            (Some(_), Some(Phase::Requested | Phase::Expired)) => {
                Ok(vec![TransferEvent::Refused {
                    reason: reason(outcome),
                }])
            }
            (_, phase) => Err(out_of_order(&command.transfer_id, phase)),
        }
    }
}

impl Decide<RecordCredit> for Transfer {
    type Rejection = TransferRefusal;

    fn decide(transfer: Option<&Self>, command: &RecordCredit, _: &Context) -> Decision {
        match (transfer, &command.outcome) {
            (Some(transfer), outcome) if transfer.phase == Phase::Debited => {
                Ok(vec![match outcome {
                    Ok(()) => TransferEvent::Completed,
                    Err(reason) => TransferEvent::CreditRefused {
                        from: transfer.from.clone(),
                        cents: transfer.cents,
                        reason: reason.clone(),
                    },
                }])
            }
            (transfer, _) => {
                let phase = transfer.map(|transfer| transfer.phase);
                Err(out_of_order(&command.transfer_id, phase))
            }
        }
    }
}

impl Decide<RecordRefund> for Transfer {
    type Rejection = TransferRefusal;

    fn decide(transfer: Option<&Self>, command: &RecordRefund, _: &Context) -> Decision {
        match (transfer, &command.outcome) {
            (Some(transfer), outcome) if transfer.phase == Phase::CreditRefused => {
                Ok(vec![match outcome {
                    Ok(()) => TransferEvent::Refunded,
                    Err(reason) => TransferEvent::RefundFailed {
                        cents: transfer.cents,
                        reason: reason.clone(),
                    },
                }])
            }
            (transfer, _) => {
                let phase = transfer.map(|transfer| transfer.phase);
                Err(out_of_order(&command.transfer_id, phase))
            }
        }
    }
}

impl Decide<ExpireTransfer> for Transfer {
    type Rejection = TransferRefusal;

    fn decide(transfer: Option<&Self>, _: &ExpireTransfer, _: &Context) -> Decision {
        match transfer.map(|transfer| transfer.phase) {
            Some(Phase::Requested) => Ok(vec![TransferEvent::Expired]),
            // The money was in time, or there was none to wait for.
            _ => Ok(vec![]),
        }
    }
}

fn reason(outcome: &Result<(), String>) -> String {
    outcome.clone().err().unwrap_or_default()
}

fn out_of_order(id: &str, phase: Option<Phase>) -> TransferRefusal {
    TransferRefusal::OutOfOrder {
        id: id.to_owned(),
        phase,
    }
}
