//! R3: loads of aggregates of 1,000 events, with a snapshot and 10 newer events against without.

use std::path::{Path, PathBuf};

use bank_account::aggregate::BankAccount;
use bank_account::commands::Refusal;
use bank_account::event::BankAccountEvent;
use tidelog::{Command, Context, Decide, SnapshotStore, SnapshotStrategy, StreamId, Tidelog};

use super::{Figures, figures};
use crate::Outcome;
use crate::load::mix;
use crate::options::Options;
use crate::works::Stopwatch;

/// Events behind the snapshot, and after it.
const BEFORE: u64 = 990;
const AFTER: u64 = 10;

/// Deposits many times at once; opens the account first.
struct Fill {
    account: String,
    events: u64,
}

impl Command for Fill {
    type Aggregate = BankAccount;

    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some(&self.account)
    }
}

impl Decide<Fill> for BankAccount {
    type Rejection = Refusal;

    fn decide(
        account: Option<&Self>,
        command: &Fill,
        _: &Context,
    ) -> Result<Vec<BankAccountEvent>, Refusal> {
        let opened = account.is_none().then(|| BankAccountEvent::Opened {
            holder: command.account.clone(),
        });
        let deposits = std::iter::repeat(BankAccountEvent::Deposited { cents: 1, cds: 0 });
        let events = opened.into_iter().chain(deposits);
        Ok(events
            .take(usize::try_from(command.events).unwrap_or_default())
            .collect())
    }
}

fn dir(options: &Options, with: bool) -> PathBuf {
    options.dir.join(if with { "with" } else { "without" })
}

fn open(dir: &Path, with: bool) -> Outcome<Tidelog> {
    let strategy = if with {
        SnapshotStrategy::EveryEvents(BEFORE)
    } else {
        SnapshotStrategy::Never
    };
    let builder = Tidelog::builder(dir).snapshots(strategy);
    Ok(builder.aggregate_cache(0).open()?)
}

fn name(number: u64) -> String {
    format!("long-{number:06}")
}

/// Writes both stores.
pub fn fill(options: &Options) -> Outcome<Figures> {
    for with in [true, false] {
        let log = open(&dir(options, with), with)?.blocking();
        for events in [BEFORE, AFTER] {
            for number in 0..options.r3_aggregates.unwrap_or_default() {
                let account = name(number);
                log.execute(Fill { account, events })?;
            }
        }
        log.inner().store().drain()?;
        for number in 0..options.r3_aggregates.unwrap_or_default() {
            let stream = StreamId::new("BankAccount", &name(number))?;
            let read = SnapshotStore::read(log.inner().store(), &stream);
            let sequence = tokio::runtime::Runtime::new()?
                .block_on(read)?
                .map(|snapshot| snapshot.sequence);
            if sequence != with.then_some(BEFORE) {
                return Err(format!("{stream} has its snapshot at {sequence:?}").into());
            }
        }
        log.close()?;
    }
    Ok(Figures::new())
}

/// Microseconds a load.
pub fn load(options: &Options, with: bool) -> Outcome<Figures> {
    let log = open(&dir(options, with), with)?.blocking();
    let count = options.r3_aggregates.unwrap_or_default();
    let mut order: Vec<_> = (0..count).collect();
    order.sort_unstable_by_key(|number| mix(options.seed ^ number));
    let names: Vec<_> = order.into_iter().map(name).collect();
    let watch = Stopwatch::start();
    for name in &names {
        let loaded = log.load::<BankAccount>(name)?.ok_or("an account is gone")?;
        let found = (loaded.sequence, loaded.state.cents);
        if found != (BEFORE + AFTER, BEFORE + AFTER - 1) {
            return Err(format!("{name} is at {found:?}").into());
        }
    }
    let micros = watch.seconds() * 1e6 / count as f64;
    log.close()?;
    Ok(figures([("micros", micros)]))
}
