//! Replication on the command line: switched on by a flag, followed to its end, and its conflicts.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tidelog::{
    DistributedConfig, Error, KeyspaceReplication, Other, ReplicationParked, ReplicationState,
    ReplicationStatus, ScyllaConfig, Tidelog, TidelogBuilder,
};

use super::CliError;
use crate::money;

/// How often the bar moves.
const LOOK: Duration = Duration::from_millis(100);
/// A command that records one event does not wait longer for the server.
const SHORT: Duration = Duration::from_secs(10);

/// Where the bank is replicated to.
#[derive(Clone, Debug, Args)]
pub struct Replica {
    /// Replicate to this node of ScyllaDB or Cassandra.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub scylla: Option<String>,
    /// The keyspace there.
    #[arg(long, global = true, default_value = "bank")]
    pub keyspace: String,
    /// Make the keyspace, with one copy of everything, and its tables, if they are not there.
    #[arg(long, global = true)]
    pub migrate: bool,
}

/// What can be asked of replication.
#[derive(Debug, Subcommand)]
pub enum ReplicationAction {
    /// Show how far it is, and what keeps it.
    Status,
    /// Show accounts that another till has changed at the same time.
    Parked,
    /// Go on as a store of its own: a clone, or one that was put back from a backup.
    Fork {
        /// The other copy is in use.
        #[arg(long)]
        other_lives: bool,
    },
}

impl Replica {
    /// `bank`, replicating if that is wanted.
    pub(super) fn switch_on(&self, bank: TidelogBuilder) -> TidelogBuilder {
        let Some(node) = &self.scylla else {
            return bank;
        };
        let mut config = ScyllaConfig::new([node]).keyspace(&self.keyspace);
        if self.migrate {
            config = config
                .replication(KeyspaceReplication::Simple(1))
                .migrate_at_connect();
        }
        bank.distributed(DistributedConfig::new().scylla(config))
    }

    /// Follows replication until the server has all, or it stands still; what changes one account
    /// waits only for a moment, since what is left is sent next time.
    pub(super) async fn follow(
        &self,
        bank: &Tidelog,
        all: bool,
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        if self.scylla.is_none() {
            return Ok(());
        }
        let last = bank.last_position();
        let bar = bar();
        let follows = async {
            loop {
                let status = bank.replication().status();
                bar.set_length(last);
                bar.set_position(status.settled.min(last));
                bar.set_message(state_of(&status));
                match &status.state {
                    _ if status.settled >= last => return Ok(status),
                    ReplicationState::Halted(halt) => {
                        return Err(Error::Halted(Box::new(halt.clone())));
                    }
                    _ => tokio::time::sleep(LOOK).await,
                }
            }
        };
        let patience = if all { Duration::MAX } else { SHORT };
        let followed = tokio::time::timeout(patience, follows).await;
        bar.finish_and_clear();
        match followed {
            Ok(status) => show(&status?, out)?,
            Err(_) => writeln!(
                out,
                "not at the server yet; it is sent when the bank runs next with --scylla"
            )?,
        }
        Ok(())
    }
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

fn show(status: &ReplicationStatus, out: &mut impl Write) -> Result<(), CliError> {
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

fn state_of(status: &ReplicationStatus) -> String {
    match &status.state {
        ReplicationState::Off => "is off; give --scylla HOST:PORT".to_owned(),
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

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "{bar:30} {human_pos} of {human_len} records at the server  {per_sec}  {msg}";
    // The template is constant; if it were wrong, the plain bar would do.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
