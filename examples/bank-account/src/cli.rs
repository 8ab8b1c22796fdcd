//! The command line.

#[cfg(any(feature = "scylla", feature = "kafka"))]
mod destination;
#[cfg(feature = "kafka")]
mod listen;
#[cfg(feature = "kafka")]
mod publishing;
#[cfg(feature = "scylla")]
mod replication;
mod transfers;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tidelog::{Error, ExecuteError, StreamQuery, Tidelog, repair};

#[cfg(any(feature = "scylla", feature = "kafka"))]
pub use destination::{Destination, Wait};
#[cfg(feature = "kafka")]
pub use listen::Listening;
#[cfg(feature = "kafka")]
pub use publishing::PublishingAction;
#[cfg(all(feature = "serve", feature = "kafka"))]
pub(crate) use publishing::state_of as publishing_state;
#[cfg(feature = "scylla")]
pub use replication::ReplicationAction;
#[cfg(all(feature = "serve", feature = "scylla"))]
pub(crate) use replication::state_of as replication_state;

use crate::aggregate::BankAccount;
use crate::commands::{CloseAccount, Deposit, OpenAccount, Refusal, Withdraw};
use crate::event::{BankAccountEvent, CDS};
use crate::import::{Customers, ImportError, Report, Selection, import_of};
use crate::money;
use crate::read_models;
#[cfg(feature = "serve")]
use crate::serve::Serving;
use crate::transfer::{RequestTransfer, TransferRefusal, Transfers};

/// A bank whose accounts live in an embedded event store.
///
/// Exit codes: 0 done; 1 failed; 2 the command line is wrong; 3 refused by the bank's rules.
#[derive(Debug, Parser)]
#[command(name = "bank-account", version)]
pub struct Cli {
    /// Directory of the store.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "./.data/bank"
    )]
    pub store: PathBuf,
    /// Where its log goes.
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    #[command(flatten)]
    pub destination: Destination,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Import a purchase log: each customer an account, each purchase a deposit.
    Import {
        /// The CDNOW purchase log. Its name and line numbers tell what was imported before.
        file: PathBuf,
        /// Stop at the first bad line.
        #[arg(long)]
        strict: bool,
        /// Whose purchases: everybody's, or those of customers with odd or even numbers.
        #[arg(long, value_enum, default_value_t)]
        customers: Customers,
        /// Most purchases in a second.
        #[arg(long)]
        pace: Option<u32>,
    },
    /// Open an account.
    Open {
        /// Whose it is.
        holder: String,
        /// Its id; made if left out.
        #[arg(long)]
        id: Option<String>,
    },
    /// Put money into an account.
    Deposit {
        /// The account.
        id: String,
        /// How much, as 12.34.
        #[arg(value_parser = money::parse, allow_hyphen_values = true)]
        amount: u64,
    },
    /// Take money out of an account.
    Withdraw {
        /// The account.
        id: String,
        /// How much, as 12.34.
        #[arg(value_parser = money::parse, allow_hyphen_values = true)]
        amount: u64,
    },
    /// Move money from one account to another.
    Transfer {
        /// Out of this account.
        from: String,
        /// Into this one.
        to: String,
        /// How much, as 12.34.
        #[arg(value_parser = money::parse, allow_hyphen_values = true)]
        amount: u64,
        /// How soon it must have been taken out of the first account.
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        within: u64,
    },
    /// Show the transfers that cannot go on, and why. Transfers that were cut off go on first.
    Parked,
    /// Close an account.
    Close {
        /// The account.
        id: String,
    },
    /// Show an account.
    Show {
        /// The account.
        id: String,
    },
    /// Show all that happened to an account.
    History {
        /// The account.
        id: String,
    },
    /// Show the bank in numbers.
    Report {
        /// The sums alone, in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Serve the bank over HTTP, with a page at `/`.
    #[cfg(feature = "serve")]
    Serve(Serving),
    /// Check the whole store.
    Verify,
    /// Copy all that is whole of a damaged store to a new directory.
    Repair {
        /// Where to; empty or missing.
        to: PathBuf,
    },
    /// Go on without the events that a repair could not keep.
    AcceptLoss {
        /// The account; all of them if left out.
        id: Option<String>,
    },
    /// Show how far all of it is, here and elsewhere.
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    Status,
    /// Keep what other banks publish to Kafka: each event once, in order.
    #[cfg(feature = "kafka")]
    Listen(Listening),
    /// Look after what is published.
    #[cfg(feature = "kafka")]
    Publishing {
        /// What to do.
        #[command(subcommand)]
        action: PublishingAction,
    },
    /// Look after what is replicated.
    #[cfg(feature = "scylla")]
    Replication {
        /// What to do.
        #[command(subcommand)]
        action: ReplicationAction,
    },
}

/// Why nothing, or not all, was done.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The bank's rules say no.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The transfer is not one.
    #[error("refused: {0}")]
    NoTransfer(#[from] TransferRefusal),
    /// The transfer has ended, and the money is not where it was to go.
    #[error("transfer {id}: {what}")]
    NotMoved {
        /// The transfer.
        id: String,
        /// How it has ended.
        what: String,
    },
    /// The import stopped.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// Somebody else changed the account again and again.
    #[error("{0}")]
    Conflict(String),
    /// What was to be shown could not be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// What the process answers.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Refused(_) | Self::NoTransfer(_) | Self::NotMoved { .. } => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }
}

impl From<ExecuteError<Refusal>> for CliError {
    fn from(error: ExecuteError<Refusal>) -> Self {
        match error {
            ExecuteError::Rejected(refusal) => Self::Refused(refusal),
            ExecuteError::Store(error) => Self::Store(error),
            conflict @ ExecuteError::Conflict { .. } => Self::Conflict(conflict.to_string()),
        }
    }
}

impl From<ExecuteError<TransferRefusal>> for CliError {
    fn from(error: ExecuteError<TransferRefusal>) -> Self {
        match error {
            ExecuteError::Rejected(refusal) => Self::NoTransfer(refusal),
            ExecuteError::Store(error) => Self::Store(error),
            conflict @ ExecuteError::Conflict { .. } => Self::Conflict(conflict.to_string()),
        }
    }
}

/// Does what the command line asks for.
///
/// # Errors
/// See [`CliError`].
pub async fn run(cli: Cli) -> Result<(), CliError> {
    let store = cli.store;
    if !may_begin(&cli.action) && !store.exists() {
        let reason = "there is nothing; open an account or import a file first, or give --store";
        return Err(Error::NotAStore {
            path: store,
            reason: reason.into(),
        }
        .into());
    }
    if let Action::Repair { to } = &cli.action {
        return told(repair_into(&store, to, &mut io::stdout()));
    }
    let mut bank = read_models::bank(&store);
    if has_transfers(&cli.action) {
        bank = bank.process_manager(Transfers);
    }
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    let (bank, imports, asks) = (
        cli.destination.switch_on(bank)?,
        matches!(cli.action, Action::Import { .. }),
        asks(&cli.action),
    );
    let bank = bank.open()?;
    let done = act(&bank, &store, cli.action, &mut io::stdout()).await;
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    let done = match done {
        Ok(()) if !asks => {
            let (to, out) = (&cli.destination, &mut io::stdout());
            to.follow(&bank, imports, out).await
        }
        done => done,
    };
    // The first failure is the one to tell.
    let done = done.and(bank.close().await.map_err(CliError::from));
    told(done)
}

/// Whether transfers go on meanwhile.
fn has_transfers(action: &Action) -> bool {
    match action {
        Action::Transfer { .. } | Action::Parked => true,
        #[cfg(feature = "serve")]
        Action::Serve(_) => true,
        _ => false,
    }
}

/// Whether it ends without waiting for what is sent to servers.
#[cfg(any(feature = "scylla", feature = "kafka"))]
fn asks(action: &Action) -> bool {
    match action {
        Action::Status => true,
        #[cfg(feature = "serve")]
        Action::Serve(_) => true,
        _ => false,
    }
}

/// Whether it makes a store where there is none.
fn may_begin(action: &Action) -> bool {
    match action {
        Action::Import { .. } | Action::Open { .. } => true,
        #[cfg(feature = "serve")]
        Action::Serve(_) => true,
        #[cfg(feature = "kafka")]
        Action::Publishing { action } => matches!(action, PublishingAction::Topics { .. }),
        #[cfg(feature = "kafka")]
        Action::Listen(_) => true,
        _ => false,
    }
}

/// Whoever read along may have seen enough: `history ID | head`.
fn told(done: Result<(), CliError>) -> Result<(), CliError> {
    match done {
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

fn repair_into(store: &Path, to: &Path, out: &mut impl Write) -> Result<(), CliError> {
    let done = repair(store, to)?;
    writeln!(
        out,
        "repaired: {} events in {} commits kept in {}",
        money::group(done.records),
        money::group(done.commits),
        to.display(),
    )?;
    for lost in &done.lost {
        let (first, last) = (lost.positions.start(), lost.positions.end());
        writeln!(out, "lost: positions {first} to {last}")?;
    }
    for lost in &done.losses.streams {
        let each = lost.sequences.iter();
        let each = each.map(|range| format!("{} to {}", range.start(), range.end()));
        let each: Vec<_> = each.collect();
        let state = if lost.accepted { " (accepted)" } else { "" };
        writeln!(out, "lost: {} {}{state}", lost.stream, each.join(", "))?;
    }
    if done.losses.unnamed > 0 && !done.losses.accepted {
        let unnamed = money::group(done.losses.unnamed);
        writeln!(out, "lost: {unnamed} events whose accounts are not known")?;
    }
    if done.lost.is_empty() {
        writeln!(out, "nothing was lost")?;
    } else {
        writeln!(
            out,
            "accounts that lost events take none until `accept-loss`"
        )?;
    }
    Ok(())
}

async fn act(
    bank: &Tidelog,
    store: &Path,
    action: Action,
    out: &mut impl Write,
) -> Result<(), CliError> {
    match action {
        Action::Import {
            file,
            strict,
            customers,
            pace,
        } => {
            let progress = progress_bar();
            let selection = Selection {
                customers,
                strict,
                pace,
            };
            let imported = import_of(bank, &file, selection, &progress).await;
            progress.finish_and_clear();
            let report = Report::read(bank, store, Some(imported?)).await?;
            write!(out, "{report}")?;
        }
        Action::Open { holder, id } => {
            let command = OpenAccount {
                account_id: id,
                holder,
            };
            let opened = bank.execute(command).await?;
            writeln!(out, "opened {}", opened.aggregate_id)?;
        }
        Action::Deposit { id, amount } => {
            let (account_id, cents) = (id.clone(), amount);
            bank.execute(Deposit { account_id, cents }).await?;
            show(bank, &id, out).await?;
        }
        Action::Withdraw { id, amount } => {
            let (account_id, cents) = (id.clone(), amount);
            bank.execute(Withdraw { account_id, cents }).await?;
            show(bank, &id, out).await?;
        }
        Action::Transfer {
            from,
            to,
            amount,
            within,
        } => {
            let command = RequestTransfer {
                transfer_id: None,
                from,
                to,
                cents: amount,
                within: Duration::from_secs(within),
            };
            transfers::transfer(bank, command, out).await?;
        }
        Action::Parked => transfers::parked(bank, out).await?,
        Action::Close { id } => {
            let closed = bank.execute(CloseAccount { account_id: id }).await?;
            writeln!(out, "closed {}", closed.aggregate_id)?;
        }
        Action::Show { id } => show(bank, &id, out).await?,
        Action::History { id } => history(bank, &id, out).await?,
        Action::Report { json: true } => {
            let sums = Report::read(bank, store, None).await?.totals();
            writeln!(
                out,
                r#"{{"accounts":{},"deposits":{},"deposited_cents":{},"cds":{}}}"#,
                sums.accounts, sums.deposits, sums.deposited_cents, sums.cds
            )?;
        }
        Action::Report { json: false } => {
            write!(out, "{}", Report::read(bank, store, None).await?)?;
        }
        #[cfg(feature = "serve")]
        Action::Serve(serving) => serving.run(bank, out).await?,
        Action::Verify => {
            let found = bank.verify().await?;
            writeln!(
                out,
                "verified: {} events of {} accounts in {} commits, {} segments; no fault found",
                money::group(found.records),
                money::group(found.streams),
                money::group(found.commits),
                money::group(found.segments),
            )?;
        }
        // Done before the store was opened.
        Action::Repair { .. } => {}
        Action::AcceptLoss { id: Some(id) } => {
            let stream = bank.repository::<BankAccount>().stream_id(&id)?;
            bank.accept_loss(&stream).await?;
            writeln!(out, "accepted: {id} goes on without what is gone")?;
        }
        Action::AcceptLoss { id: None } => {
            bank.accept_all_losses().await?;
            writeln!(out, "accepted: the bank goes on without what is gone")?;
        }
        #[cfg(feature = "kafka")]
        Action::Listen(listening) => listening.run(bank, store, out).await?,
        #[cfg(feature = "kafka")]
        Action::Publishing { action } => publishing::act(bank, action, out).await?,
        #[cfg(any(feature = "scylla", feature = "kafka"))]
        Action::Status => destination::status(bank, out).await?,
        #[cfg(feature = "scylla")]
        Action::Replication { action } => replication::act(bank, action, out).await?,
    }
    Ok(())
}

async fn show(bank: &Tidelog, id: &str, out: &mut impl Write) -> Result<(), CliError> {
    let found = bank.load::<BankAccount>(id).await?;
    let found = found.ok_or_else(|| Refusal::NoAccount(id.to_owned()))?;
    let account = &found.state;
    writeln!(out, "account  {id}")?;
    writeln!(out, "holder   {}", account.holder)?;
    writeln!(
        out,
        "balance  {}{}",
        money::format(account.cents),
        if account.closed { " (closed)" } else { "" }
    )?;
    writeln!(out, "events   {}", found.sequence)?;
    Ok(())
}

async fn history(bank: &Tidelog, id: &str, out: &mut impl Write) -> Result<(), CliError> {
    let stream = bank.repository::<BankAccount>().stream_id(id)?;
    let mut events = bank.read_stream(StreamQuery::new(stream));
    let mut any = false;
    while let Some(envelope) = events.next().await.transpose()? {
        any = true;
        let (at, time) = (envelope.sequence, envelope.event_time);
        let notes = envelope.metadata.iter().filter(|(key, _)| *key != CDS);
        let notes: Vec<_> = notes.map(|(key, value)| format!("{key}={value}")).collect();
        for event in envelope.decode_all::<BankAccountEvent>()? {
            let line = format!("{at:>6}  {time}  {}  {}", describe(&event), notes.join(" "));
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    if any {
        Ok(())
    } else {
        Err(Refusal::NoAccount(id.to_owned()).into())
    }
}

fn describe(event: &BankAccountEvent) -> String {
    match event {
        BankAccountEvent::Opened { holder } => format!("opened by {holder}"),
        BankAccountEvent::Deposited { cents, cds: 0 } => {
            format!("deposited {}", money::format(*cents))
        }
        BankAccountEvent::Deposited { cents, cds } => {
            format!("deposited {} for {cds} CDs", money::format(*cents))
        }
        BankAccountEvent::Withdrawn { cents } => format!("withdrawn {}", money::format(*cents)),
        BankAccountEvent::Closed => "closed".to_owned(),
    }
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "{bar:30} {human_pos} of {human_len} lines  {per_sec}  {eta} left";
    // The template is constant; if it were wrong, the plain bar would do.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
