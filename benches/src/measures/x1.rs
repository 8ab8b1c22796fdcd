//! X1: deposits at many accounts by many clients at once, each a command executed from a task.
//!
//! An account is opened, and with it cached as far as the default cache goes, before the time is
//! taken. Each client has accounts of its own, so that no command is decided twice. The event is
//! smaller than W2's; loading, deciding, encoding and applying it come on top of W2's append.

use bank_account::commands::{Deposit, OpenAccount};
use tidelog::Tidelog;
use tokio::runtime::Runtime;

use super::{Figures, figures};
use crate::Outcome;
use crate::options::Options;
use crate::works::Stopwatch;

/// Commands a second.
pub fn run(options: &Options) -> Outcome<Figures> {
    let runtime = Runtime::new()?;
    let log = options.tuning().unwrap_or_default();
    let log = log.builder(&options.dir).open()?;
    let (accounts, clients) = (options.accounts.unwrap_or_default(), options.clients);
    let each = options.x1_commands.unwrap_or_default() / clients;
    runtime.block_on(all(&log, clients, move |log, client| async move {
        for account in (client..accounts).step_by(usize::try_from(clients)?) {
            let command = OpenAccount {
                account_id: Some(name(account)),
                holder: name(account),
            };
            log.execute(command).await?;
        }
        Ok(())
    }))?;
    log.store().drain()?;
    let watch = Stopwatch::start();
    runtime.block_on(all(&log, clients, move |log, client| async move {
        let own = (client..accounts).step_by(usize::try_from(clients)?);
        for account in own.cycle().take(usize::try_from(each)?) {
            let command = Deposit {
                account_id: name(account),
                cents: 100,
            };
            log.execute(command).await?;
        }
        Ok(())
    }))?;
    let timing = watch.stop(each * clients);
    let rate = timing.count as f64 / timing.seconds;
    let micros = timing.cpu_seconds * 1e6 / timing.count as f64;
    runtime.block_on(log.close())?;
    Ok(figures([("rate", rate), ("cpu", micros)]))
}

fn name(account: u64) -> String {
    format!("acc-{account:06}")
}

/// Runs all clients at once; the first failure counts.
async fn all<F>(log: &Tidelog, clients: u64, serve: impl Fn(Tidelog, u64) -> F) -> Outcome<()>
where
    F: Future<Output = Outcome<()>> + Send + 'static,
{
    let tasks: Vec<_> = (0..clients)
        .map(|client| tokio::spawn(serve(log.clone(), client)))
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}
