//! Replication on the command line: how far it is, and its conflicts.

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;
use tidelog::{
    Aggregate, Conflict, Error, HandlerError, NewEvent, Other, ReplicationParked, ReplicationState,
    ReplicationStatus, StreamId, StreamQuery, Tidelog,
};

use super::CliError;
use crate::aggregate::BankAccount;
use crate::event::BankAccountEvent;
use crate::money;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);
/// What is asked does not wait longer for the server.
const SHORT: Duration = Duration::from_secs(10);

/// What can be asked of replication.
#[derive(Debug, Subcommand)]
pub enum ReplicationAction {
    /// Show how far it is, and what keeps it.
    Status,
    /// Show accounts that another till has changed at the same time.
    Parked,
    /// Give up what happened here to such an account, for what happened there.
    TakeRemote {
        /// The account.
        id: String,
    },
    /// The same, and do again behind it what was done here, as far as the rules allow it now.
    Reissue {
        /// The account.
        id: String,
    },
    /// Go on as a store of its own: a clone, or one that was put back from a backup.
    Fork {
        /// The other copy is in use.
        #[arg(long)]
        other_lives: bool,
    },
}

/// Does what is asked of replication.
pub(super) async fn act(
    bank: &Tidelog,
    action: ReplicationAction,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let replication = bank.replication();
    match action {
        ReplicationAction::Status => {
            arrived(bank).await;
            show(&replication.status(), out)?;
        }
        ReplicationAction::Parked => {
            arrived(bank).await;
            for parked in replication.parked() {
                list(&parked, out)?;
            }
        }
        ReplicationAction::TakeRemote { id } => {
            arrived(bank).await;
            let stream = bank.repository::<BankAccount>().stream_id(&id)?;
            replication.take_remote(&stream).await?;
            writeln!(out, "{id} is what it is at the server")?;
        }
        ReplicationAction::Reissue { id } => {
            arrived(bank).await;
            let stream = bank.repository::<BankAccount>().stream_id(&id)?;
            let before = before(bank, &stream).await?;
            let again = move |conflict: &Conflict| again(before.clone(), conflict);
            replication.reissue(&stream, again).await?;
            writeln!(
                out,
                "{id} is what it is at the server, and what was done here is done again"
            )?;
        }
        ReplicationAction::Fork { other_lives } => {
            arrived(bank).await;
            let other = if other_lives {
                Other::Lives
            } else {
                Other::Gone
            };
            replication.fork(other).await?;
            writeln!(out, "the bank goes on as a store of its own")?;
        }
    }
    Ok(())
}

/// Waits until replication has found out how it stands; not for a server that is away.
async fn arrived(bank: &Tidelog) {
    let arrives = async {
        loop {
            let status = bank.replication().status();
            let stands = matches!(
                status.state,
                ReplicationState::Off | ReplicationState::Halted(_) | ReplicationState::Live
            );
            if stands {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    // What is known without the server is shown all the same.
    let _ = tokio::time::timeout(SHORT, arrives).await;
}

/// The account before the first event that is parked.
async fn before(bank: &Tidelog, stream: &StreamId) -> Result<Option<BankAccount>, CliError> {
    let parked = bank.replication().parked();
    let parked = parked.iter().find(|parked| parked.stream == *stream);
    let first = parked.map_or(1, |parked| parked.first_sequence);
    let mut account = None;
    let mut events = bank.read_stream(StreamQuery::new(stream.clone()));
    while let Some(envelope) = events.next().await.transpose()? {
        if envelope.sequence < first {
            for event in envelope.decode_all::<BankAccountEvent>()? {
                account = Some(applied(account, &event)?);
            }
        }
    }
    Ok(account)
}

/// What was done here, decided once more behind what was done there: what the rules refuse now is
/// left out.
fn again(
    mut account: Option<BankAccount>,
    conflict: &Conflict,
) -> Result<Vec<NewEvent>, HandlerError> {
    for envelope in &conflict.remote {
        for event in envelope.decode_all::<BankAccountEvent>()? {
            account = Some(applied(account, &event)?);
        }
    }
    let mut events = Vec::new();
    for envelope in &conflict.held {
        let facts = envelope.decode_all::<BankAccountEvent>()?;
        let after = facts.iter().try_fold(account.clone(), |account, fact| {
            BankAccount::apply(account, fact).map(Some)
        });
        let Ok(after) = after else { continue };
        account = after;
        let event = NewEvent::new(
            &*envelope.event_type,
            envelope.revision,
            envelope.content_type.clone(),
            envelope.event.clone(),
        );
        events.push(event.with_event_time(envelope.event_time));
    }
    Ok(events)
}

fn applied(account: Option<BankAccount>, event: &BankAccountEvent) -> Result<BankAccount, Error> {
    BankAccount::apply(account, event)
        .map_err(|error| Error::invalid("account", format!("{event:?}"), error.to_string()))
}

pub(super) fn show(status: &ReplicationStatus, out: &mut impl Write) -> Result<(), CliError> {
    writeln!(out, "replication  {}", state_of(status))?;
    writeln!(
        out,
        "settled      {} of {} records",
        money::group(status.settled),
        money::group(status.durable)
    )?;
    writeln!(
        out,
        "sent         {} accepted, {} there already, {} lost there and sent again",
        money::group(status.accepted),
        money::group(status.already),
        money::group(status.remote_lost)
    )?;
    if status.parked > 0 {
        writeln!(
            out,
            "parked       {} accounts; see `replication parked`",
            status.parked
        )?;
    }
    if let (Some(error), true) = (&status.last_error, status.lag_events > 0) {
        writeln!(out, "trouble      {error}")?;
    }
    Ok(())
}

pub(crate) fn state_of(status: &ReplicationStatus) -> String {
    match &status.state {
        ReplicationState::Off => "is off; give --scylla HOST:PORT or --config FILE".to_owned(),
        ReplicationState::Halted(halt) => format!("stands still: {halt}"),
        ReplicationState::Waiting { failures, next_in } => format!(
            "tries again in {:.1} s, after {failures} failures",
            next_in.as_secs_f64()
        ),
        ReplicationState::Connecting => "connects".to_owned(),
        ReplicationState::Rewinding => "sends everything again: the server lost some".to_owned(),
        ReplicationState::CatchingUp => format!(
            "is {} records behind, {:.1} s",
            money::group(status.lag_events),
            status.lag.as_secs_f64()
        ),
        ReplicationState::Live => "is level".to_owned(),
        _ => "is closed".to_owned(),
    }
}

fn list(parked: &ReplicationParked, out: &mut impl Write) -> Result<(), CliError> {
    let what = if parked.accepted { "beside" } else { "from" };
    writeln!(
        out,
        "{}  {what} event {}: {}",
        parked.stream.aggregate_id(),
        parked.first_sequence,
        parked.reason
    )?;
    Ok(())
}
