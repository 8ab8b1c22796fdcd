//! Publishing on the command line: its topics, how far it is, and what is set aside.

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;
use tidelog::{Aggregate, PublishingParked, PublishingState, PublishingStatus, Tidelog, TopicSpec};

use super::CliError;
use crate::aggregate::BankAccount;
use crate::money;
use crate::transfer::Transfer;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

/// What can be asked of publishing.
#[derive(Debug, Subcommand)]
pub enum PublishingAction {
    /// Make the topics of the bank, where they are missing.
    Topics {
        /// How many partitions each has; it never changes.
        #[arg(long, default_value_t = 12)]
        partitions: u32,
        /// How many copies.
        #[arg(long, default_value_t = 1)]
        replication: u32,
    },
    /// Show accounts that Kafka does not take, or that wait for the replica.
    Parked,
    /// Try such an account again, after what was in its way is gone.
    Retry {
        /// The account; all of them if left out.
        id: Option<String>,
    },
    /// Publish everything once more: for topics that were made again.
    Republish,
}

/// Does what is asked of publishing.
pub(super) async fn act(
    bank: &Tidelog,
    action: PublishingAction,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let publishing = bank.publishing();
    match action {
        PublishingAction::Topics {
            partitions,
            replication,
        } => {
            let types = [BankAccount::TYPE, Transfer::TYPE];
            let spec = TopicSpec::new(partitions, replication);
            let report = publishing.ensure_topics(&types, spec).await?;
            for topic in &report.created {
                writeln!(out, "made {topic}")?;
            }
            for differs in &report.differs {
                writeln!(out, "differs: {}: {}", differs.topic, differs.what)?;
            }
        }
        PublishingAction::Parked => {
            for parked in publishing.parked() {
                list(&parked, out)?;
            }
        }
        PublishingAction::Retry { id: Some(id) } => {
            let stream = bank.repository::<BankAccount>().stream_id(&id)?;
            publishing.retry_stream(&stream).await?;
            writeln!(out, "{id} is published again")?;
        }
        PublishingAction::Retry { id: None } => {
            publishing.retry_all().await?;
            writeln!(out, "all are tried again")?;
        }
        PublishingAction::Republish => {
            while publishing.status().state == PublishingState::Connecting {
                tokio::time::sleep(LOOK).await;
            }
            publishing.republish(..).await?.wait().await?;
            writeln!(out, "everything is published once more")?;
        }
    }
    Ok(())
}

pub(super) fn show(
    status: &PublishingStatus,
    durable: u64,
    out: &mut impl Write,
) -> Result<(), CliError> {
    writeln!(out, "publishing   {}", state_of(status))?;
    writeln!(
        out,
        "settled      {} of {} records",
        money::group(status.settled),
        money::group(durable)
    )?;
    writeln!(
        out,
        "delivered    {} events, {} of them again; {} messages refused",
        money::group(status.delivered),
        money::group(status.again),
        money::group(status.refused)
    )?;
    if status.parked + status.withheld > 0 {
        writeln!(
            out,
            "parked       {} accounts, and {} wait for the replica; see `publishing parked`",
            status.parked, status.withheld
        )?;
    }
    for topic in &status.missing_topics {
        writeln!(out, "missing      topic {topic}; see `publishing topics`")?;
    }
    for topic in &status.restarted_topics {
        writeln!(
            out,
            "made again   topic {topic}; see `publishing republish`"
        )?;
    }
    if let (Some(error), true) = (&status.last_error, status.lag_events > 0) {
        writeln!(out, "trouble      {error}")?;
    }
    Ok(())
}

pub(crate) fn state_of(status: &PublishingStatus) -> String {
    match &status.state {
        PublishingState::Off => "is off; give --kafka HOST:PORT or --config FILE".to_owned(),
        PublishingState::Halted(halt) => format!("stands still: {halt}"),
        PublishingState::Waiting { failures, next_in } => format!(
            "tries again in {:.1} s, after {failures} failures",
            next_in.as_secs_f64()
        ),
        PublishingState::Connecting => "connects".to_owned(),
        PublishingState::CatchingUp => format!(
            "is {} records behind, {:.1} s",
            money::group(status.lag_events),
            status.lag.as_secs_f64()
        ),
        PublishingState::Republishing { from, to, at } => format!(
            "publishes {} to {} again, and is at {}",
            money::group(*from),
            money::group(*to),
            money::group(*at)
        ),
        PublishingState::Live => "is level".to_owned(),
        _ => "is closed".to_owned(),
    }
}

fn list(parked: &PublishingParked, out: &mut impl Write) -> Result<(), CliError> {
    writeln!(
        out,
        "{}  from event {}: {}",
        parked.stream.aggregate_id(),
        parked.first_sequence,
        parked.reason
    )?;
    Ok(())
}
