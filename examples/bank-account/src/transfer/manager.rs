//! What follows from the events of a transfer.

use tidelog::{
    CommandBus, CommandResponse, EventEnvelope, HandlerError, ProcessManager, Steps, StreamId,
    TimerChange, Timestamp,
};

use super::aggregate::Transfer;
use super::commands::{ExpireTransfer, RecordCredit, RecordDebit, RecordRefund};
use super::event::TransferEvent;
use crate::commands::{Deposit, Refusal, Withdraw};

/// Moves the money of all transfers: takes it, brings it, gives it back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transfers;

impl ProcessManager for Transfers {
    const NAME: &'static str = "transfers";

    fn on(
        &self,
        event: &EventEnvelope,
        then: &mut Steps<impl CommandBus>,
    ) -> Result<(), HandlerError> {
        let transfer_id = event.aggregate_id().to_owned();
        for fact in event.of::<Transfer>()? {
            let transfer_id = transfer_id.clone();
            match fact {
                TransferEvent::Requested { from, cents, .. } => {
                    let account_id = from;
                    let record = move |outcome| RecordDebit {
                        transfer_id,
                        outcome: said(outcome),
                    };
                    then.step(Withdraw { account_id, cents }, record);
                }
                TransferEvent::Debited { to, cents, .. } => {
                    let account_id = to;
                    let record = move |outcome| RecordCredit {
                        transfer_id,
                        outcome: said(outcome),
                    };
                    then.step(Deposit { account_id, cents }, record);
                }
                TransferEvent::CreditRefused { from, cents, .. } => {
                    let account_id = from;
                    let record = move |outcome| RecordRefund {
                        transfer_id,
                        outcome: said(outcome),
                    };
                    then.step(Deposit { account_id, cents }, record);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn timer(&self, event: &EventEnvelope) -> Result<TimerChange, HandlerError> {
        let mut change = TimerChange::Keep;
        for fact in event.of::<Transfer>()? {
            change = match fact {
                TransferEvent::Requested { deadline, .. } => TimerChange::Set(deadline),
                _ => TimerChange::Clear,
            };
        }
        Ok(change)
    }

    fn on_timer(
        &self,
        stream: &StreamId,
        _due: Timestamp,
        then: &mut Steps<impl CommandBus>,
    ) -> Result<(), HandlerError> {
        let transfer_id = stream.aggregate_id().to_owned();
        then.execute(ExpireTransfer { transfer_id });
        Ok(())
    }
}

fn said(outcome: Result<CommandResponse, Refusal>) -> Result<(), String> {
    outcome.map(|_| ()).map_err(|refusal| refusal.to_string())
}
