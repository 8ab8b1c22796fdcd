//! Where the bank's log goes: switched on by flags or a file, and followed.

use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tidelog::{DistributedConfig, Error, Halt, Stage, Tidelog, TidelogBuilder};
#[cfg(feature = "kafka")]
use tidelog::{KafkaConfig, PublishingState};
#[cfg(feature = "scylla")]
use tidelog::{KeyspaceReplication, ReplicationState, ScyllaConfig};

use super::CliError;
#[cfg(feature = "kafka")]
use super::publishing;
#[cfg(feature = "scylla")]
use super::replication;
use crate::money;

/// How often the bar moves.
const LOOK: Duration = Duration::from_millis(100);
/// A command that records one event does not wait longer for the servers.
const SHORT: Duration = Duration::from_secs(10);

/// Where the bank's log goes.
#[derive(Clone, Debug, Args)]
pub struct Destination {
    /// What a file of TOML says of it; variables `TIDELOG_…` have the last word.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Replicate to this node of ScyllaDB or Cassandra.
    #[cfg(feature = "scylla")]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub scylla: Option<String>,
    /// The keyspace there.
    #[cfg(feature = "scylla")]
    #[arg(long, global = true, default_value = "bank")]
    pub keyspace: String,
    /// Make the keyspace, with one copy of everything, and its tables, if they are not there.
    #[cfg(feature = "scylla")]
    #[arg(long, global = true)]
    pub migrate: bool,
    /// Publish to this broker of Kafka.
    #[cfg(feature = "kafka")]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// What the names of topics begin with there.
    #[cfg(feature = "kafka")]
    #[arg(long, global = true, default_value = "bank.")]
    pub topic_prefix: String,
    /// End when all that is recorded has come so far, however long that takes.
    #[arg(long, global = true, value_enum, value_name = "STAGE")]
    pub wait: Option<Wait>,
}

/// How far an event can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    /// It is recorded here.
    Committed,
    /// It is at the replica.
    #[cfg(feature = "scylla")]
    Replicated,
    /// It is in Kafka.
    #[cfg(feature = "kafka")]
    Published,
}

impl From<Wait> for Stage {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Committed => Self::Committed,
            #[cfg(feature = "scylla")]
            Wait::Replicated => Self::Replicated,
            #[cfg(feature = "kafka")]
            Wait::Published => Self::Published,
        }
    }
}

/// How far one of the servers is.
#[derive(Clone)]
struct Far {
    settled: u64,
    /// It is level, or stands still.
    stands: bool,
    halt: Option<Halt>,
    says: String,
}

impl Destination {
    /// `bank`, sending its log to wherever that is wanted.
    pub(super) fn switch_on(&self, bank: TidelogBuilder) -> Result<TidelogBuilder, Error> {
        let mut distributed = match &self.config {
            Some(file) => DistributedConfig::from_toml_file(file)?.overridden_by_env()?,
            None => DistributedConfig::new(),
        };
        #[cfg(feature = "scylla")]
        if let Some(node) = &self.scylla {
            let mut config = ScyllaConfig::new([node]).keyspace(&self.keyspace);
            if self.migrate {
                config = config
                    .replication(KeyspaceReplication::Simple(1))
                    .migrate_at_connect();
            }
            distributed = distributed.scylla(config);
        }
        #[cfg(feature = "kafka")]
        if let Some(broker) = &self.kafka {
            let config = KafkaConfig::new([broker]).topic_prefix(&self.topic_prefix);
            distributed = distributed.kafka(config);
        }
        Ok(bank.distributed(distributed))
    }

    /// Follows what is sent until all servers have all, or one stands still; what changes one account
    /// waits only for a moment, since what is left is sent next time.
    pub(super) async fn follow(
        &self,
        bank: &Tidelog,
        all: bool,
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        if far(bank).is_empty() {
            return Ok(());
        }
        let last = bank.last_position();
        let bar = bar();
        bar.set_length(last);
        let patience = if all || self.wait.is_some() {
            Duration::MAX
        } else {
            SHORT
        };
        let begun = Instant::now();
        let mut comes = pin!(self.comes(bank, last));
        let came = loop {
            if let Ok(came) = tokio::time::timeout(LOOK, &mut comes).await {
                break Some(came);
            }
            let far = far(bank);
            let settled = far.iter().map(|far| far.settled).min().unwrap_or(last);
            bar.set_position(settled.min(last));
            let says: Vec<_> = far.iter().map(|far| &*far.says).collect();
            bar.set_message(says.join("; "));
            if begun.elapsed() > patience {
                break None;
            }
        };
        bar.finish_and_clear();
        match came {
            Some(came) => {
                came?;
                show(bank, out)?;
            }
            None => writeln!(
                out,
                "not at the servers yet; it is sent when the bank runs next with them"
            )?,
        }
        Ok(())
    }

    /// Returns once everything up to `last` is where it is waited for: settled by all servers, unless
    /// that is said.
    async fn comes(&self, bank: &Tidelog, last: u64) -> Result<(), Error> {
        if let Some(stage) = self.wait {
            return bank.wait_for(last, stage.into()).await;
        }
        loop {
            let mut far = far(bank).into_iter();
            if far.clone().all(|far| far.settled >= last) {
                return Ok(());
            }
            if let Some(halt) = far.find_map(|far| far.halt) {
                return Err(Error::Halted(Box::new(halt)));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// How far each server is that the log goes to.
fn far(bank: &Tidelog) -> Vec<Far> {
    let mut all = Vec::new();
    #[cfg(feature = "scylla")]
    {
        let status = bank.replication().status();
        let stands = matches!(
            status.state,
            ReplicationState::Live | ReplicationState::Halted(_)
        );
        if status.state != ReplicationState::Off {
            all.push(Far {
                settled: status.settled,
                stands,
                halt: bank.replication().halt(),
                says: replication::state_of(&status),
            });
        }
    }
    #[cfg(feature = "kafka")]
    {
        let status = bank.publishing().status();
        let stands = matches!(
            status.state,
            PublishingState::Live | PublishingState::Halted(_)
        );
        if status.state != PublishingState::Off {
            all.push(Far {
                settled: status.settled,
                stands,
                halt: bank.publishing().halt(),
                says: publishing::state_of(&status),
            });
        }
    }
    all
}

/// Shows how far all of it is, once that is known, or a moment has passed.
pub(super) async fn status(bank: &Tidelog, out: &mut impl Write) -> Result<(), CliError> {
    let begun = Instant::now();
    while begun.elapsed() < SHORT && far(bank).iter().any(|far| !far.stands) {
        tokio::time::sleep(LOOK).await;
    }
    let status = bank.status();
    writeln!(
        out,
        "log          {} records, {} of them safe from a power cut",
        money::group(status.committed),
        money::group(status.durable)
    )?;
    show(bank, out)
}

/// Shows how far each server is.
fn show(bank: &Tidelog, out: &mut impl Write) -> Result<(), CliError> {
    let status = bank.status();
    #[cfg(feature = "scylla")]
    if let Some(replicated) = &status.replicated {
        replication::show(replicated, out)?;
    }
    #[cfg(feature = "kafka")]
    if let Some(published) = &status.published {
        publishing::show(published, status.durable, out)?;
    }
    Ok(())
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "{bar:30} {human_pos} of {human_len} records sent  {per_sec}  {msg}";
    // The template is constant; if it were wrong, the plain bar would do.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
