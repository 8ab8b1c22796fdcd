//! Transfers on the command line.

use std::io::Write;

use tidelog::Tidelog;

use super::CliError;
use crate::money;
use crate::transfer::{Phase, RequestTransfer, Transfer, TransferEvent, Transfers};

/// Requests a transfer and waits for its end.
pub(super) async fn transfer(
    bank: &Tidelog,
    command: RequestTransfer,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let (cents, from, to) = (
        money::format(command.cents),
        command.from.clone(),
        command.to.clone(),
    );
    let id = bank.execute(command).await?.aggregate_id;
    let manager = bank.process_manager::<Transfers>()?;
    let ended = loop {
        let last = bank.last_position();
        manager.wait_for(last).await?;
        let found = bank.load::<Transfer>(&id).await?;
        let phase = found.map(|found| found.state.phase);
        if phase.is_some_and(Phase::is_end) {
            break phase;
        }
        // Everything is settled, nothing was recorded, and it has not ended: it is set aside.
        if bank.last_position() == last {
            break None;
        }
    };
    let what = match ended {
        Some(Phase::Completed) => {
            writeln!(out, "transferred {cents} from {from} to {to}")?;
            return Ok(());
        }
        Some(_) => reason(bank, &id).await?,
        None => "it cannot go on; see `parked`".to_owned(),
    };
    Err(CliError::NotMoved { id, what })
}

/// Why a transfer ended as it did.
async fn reason(bank: &Tidelog, id: &str) -> Result<String, CliError> {
    let stream = bank.repository::<Transfer>().stream_id(id)?;
    let events = bank.read_events::<TransferEvent>(&stream).await?;
    let mut what = String::new();
    for envelope in events {
        match envelope.event {
            TransferEvent::Refused { reason } => what = reason,
            TransferEvent::CreditRefused { reason, .. } => {
                what = format!("given back, since {reason}");
            }
            TransferEvent::RefundFailed { cents, reason } => {
                let cents = money::format(cents);
                what = format!("{cents} are in neither account, since {reason}");
            }
            _ => {}
        }
    }
    Ok(what)
}

/// Shows the transfers that cannot go on.
pub(super) async fn parked(bank: &Tidelog, out: &mut impl Write) -> Result<(), CliError> {
    let manager = bank.process_manager::<Transfers>()?;
    manager.wait_for(bank.last_position()).await?;
    let parked = manager.parked();
    if parked.is_empty() {
        writeln!(out, "nothing is parked")?;
    }
    for one in parked {
        writeln!(
            out,
            "{}  since {}, {} attempts: {}",
            one.stream, one.since, one.attempts, one.reason
        )?;
    }
    Ok(())
}
