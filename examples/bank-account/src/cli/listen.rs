//! A bank that hears of other banks' accounts over Kafka, and keeps them.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use tidelog::{
    Error, EventListenerContainer, InOrder, KafkaListenerConfig, KafkaListenerStatus,
    ListenerOptions, ListenerPhase, Tidelog, TopicSpec,
};

use super::CliError;
use crate::import::Report;
use crate::mirror::Mirror;

/// How often it is looked whether there is enough.
const LOOK: Duration = Duration::from_millis(50);
/// Accounts that are kept side by side: what their appends wait for is one write for all.
const SIDE_BY_SIDE: usize = 64;

/// Where the bank listens.
#[derive(Clone, Debug, Args)]
pub struct Listening {
    /// This broker of Kafka.
    #[arg(value_name = "HOST:PORT")]
    pub broker: String,
    /// The topic of accounts there.
    #[arg(long, default_value = "bank.BankAccount")]
    pub topic: String,
    /// The group that it is a member of.
    #[arg(long, default_value = "bank")]
    pub group: String,
    /// Make the topics for what cannot be kept, where they are missing, with so many partitions.
    #[arg(long, value_name = "PARTITIONS")]
    pub dead_letters: Option<u32>,
    /// End when the bank has so many events; unless set, listen on until the process is ended.
    #[arg(long, value_name = "EVENTS")]
    pub until: Option<u64>,
    /// A setting of librdkafka.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Listening {
    /// Keeps in `bank` what it hears.
    pub(super) async fn run(
        self,
        bank: &Tidelog,
        store: &Path,
        out: &mut impl Write,
    ) -> Result<(), CliError> {
        let mut config = KafkaListenerConfig::new([self.broker], self.group).topics([self.topic]);
        for (name, value) in self.settings {
            config = config.set(name, value);
        }
        if let Some(partitions) = self.dead_letters {
            config.ensure_topics(TopicSpec::new(partitions, 1)).await?;
        }
        let is_enough = || {
            self.until
                .is_some_and(|until| bank.last_position() >= until)
        };
        if !is_enough() {
            listen(bank, config, is_enough, out).await?;
        }
        write!(out, "{}", Report::read(bank, store, None).await?)?;
        Ok(())
    }
}

async fn listen(
    bank: &Tidelog,
    config: KafkaListenerConfig,
    is_enough: impl Fn() -> bool,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let mirror = InOrder::new(Mirror::of(bank));
    let options = ListenerOptions::default().concurrency(SIDE_BY_SIDE);
    let container = EventListenerContainer::kafka(config).listener_with(mirror, options);
    let running = container.build()?.start()?;
    let control = running.control();
    while !is_enough() {
        tokio::time::sleep(LOOK).await;
        if let ListenerPhase::Stopped(error) = control.status().phase {
            return Err(error.into());
        }
    }
    let status = control.status();
    // It waits for handlers that run, which this thread must not hold up.
    let stopped = tokio::task::spawn_blocking(move || running.stop());
    stopped.await.unwrap_or(Err(Error::Closed))?;
    show(&status, out)?;
    for parked in control.parked() {
        writeln!(out, "parked       {}: {}", parked.stream, parked.reason)?;
    }
    Ok(())
}

fn show(status: &KafkaListenerStatus, out: &mut impl Write) -> Result<(), CliError> {
    writeln!(
        out,
        "heard        {} messages of {} partitions",
        status.handled,
        status.places.len()
    )?;
    if let Some(error) = &status.last_error {
        writeln!(out, "trouble      {error}")?;
    }
    Ok(())
}
