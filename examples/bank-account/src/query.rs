//! Questions about the bank as a whole, and the read model that answers them.
//!
//! The read model is fed from the log and can always be made anew from it.

use serde::{Deserialize, Serialize};
use tidelog::{
    Aggregate, EditableRepository, Error, EventEnvelope, LogQuery, MemoryRepository, QueryHandler,
    Repository, Tidelog,
};

use crate::aggregate::BankAccount;
use crate::event::BankAccountEvent;

/// Rows fetched from a repository at once.
const PAGE: usize = 1_000;

/// One account in the read model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    /// Whose it is.
    pub holder: String,
    /// What is in it, in cents.
    pub cents: u64,
    /// How many deposits it had.
    pub deposits: u64,
    /// What they add up to, in cents.
    pub deposited_cents: u64,
    /// CDs paid for by them.
    pub cds: u64,
    /// Whether it was closed.
    pub closed: bool,
}

/// Asks for the sums over all accounts.
#[derive(Clone, Copy, Debug)]
pub struct Totals;

/// The sums over all accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TotalsAnswer {
    /// Accounts ever opened.
    pub accounts: u64,
    /// Deposits.
    pub deposits: u64,
    /// What the deposits add up to, in cents.
    pub deposited_cents: u64,
    /// CDs paid for by them.
    pub cds: u64,
}

/// Asks for the accounts with the most money.
#[derive(Clone, Copy, Debug)]
pub struct LargestAccounts {
    /// How many.
    pub count: usize,
}

/// Asks for the deposits of each month, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct DepositsByMonth;

/// Answers questions about the bank from two repositories.
#[derive(Clone, Debug, Default)]
pub struct BankQueries<A, M> {
    /// Accounts by id.
    accounts: A,
    /// Cents deposited by month, `1997-01`.
    months: M,
    /// The last position taken in.
    position: u64,
}

/// [`BankQueries`] with its rows in memory.
pub type BankInMemory =
    BankQueries<MemoryRepository<String, AccountRow>, MemoryRepository<String, u64>>;

impl<A, M> BankQueries<A, M>
where
    A: EditableRepository<String, AccountRow>,
    M: EditableRepository<String, u64>,
{
    /// Takes in what the log has and the read model has not.
    ///
    /// # Errors
    /// What reading met, or an event that is none of a bank account.
    pub async fn catch_up(&mut self, bank: &Tidelog) -> Result<(), Error> {
        let mut pages = bank.read_all(LogQuery::from(self.position + 1));
        while let Some(page) = pages.next_page().await.transpose()? {
            for envelope in page {
                let position = envelope.position;
                if envelope.aggregate_type() == BankAccount::TYPE {
                    self.take_in(&envelope.decode()?).await?;
                }
                self.position = position.unwrap_or(self.position);
            }
        }
        Ok(())
    }

    async fn take_in(&self, envelope: &EventEnvelope<BankAccountEvent>) -> Result<(), Error> {
        let id = envelope.aggregate_id().to_owned();
        let mut row = self.accounts.get(&id).await?.unwrap_or_default();
        match &envelope.event {
            BankAccountEvent::Opened { holder } => row.holder.clone_from(holder),
            BankAccountEvent::Deposited { cents, cds } => {
                row.cents = row.cents.saturating_add(*cents);
                row.deposits += 1;
                row.deposited_cents = row.deposited_cents.saturating_add(*cents);
                row.cds = row.cds.saturating_add(*cds);
                let month = envelope
                    .event_time
                    .to_datetime()
                    .format("%Y-%m")
                    .to_string();
                let before = self.months.get(&month).await?.unwrap_or(0);
                self.months
                    .put(month, before.saturating_add(*cents))
                    .await?;
            }
            BankAccountEvent::Withdrawn { cents } => row.cents = row.cents.saturating_sub(*cents),
            BankAccountEvent::Closed => row.closed = true,
        }
        self.accounts.put(id, row).await
    }
}

impl<A, M> BankQueries<A, M>
where
    A: Repository<String, AccountRow>,
    M: Sync,
{
    /// Calls `see` with every account, in the order of their ids.
    async fn each_account(&self, mut see: impl FnMut(String, AccountRow)) -> Result<(), Error> {
        let mut from = String::new();
        loop {
            let rows = self.accounts.scan(from.clone().., PAGE).await?;
            let full = rows.len() == PAGE;
            for (id, row) in rows {
                // The smallest text above this id.
                from.clone_from(&id);
                from.push('\0');
                see(id, row);
            }
            if !full {
                return Ok(());
            }
        }
    }
}

impl<A, M> QueryHandler<Totals> for BankQueries<A, M>
where
    A: Repository<String, AccountRow>,
    M: Repository<String, u64>,
{
    type Answer = TotalsAnswer;
    type Error = Error;

    async fn handle(&self, _: Totals) -> Result<TotalsAnswer, Error> {
        let mut totals = TotalsAnswer::default();
        self.each_account(|_, row| {
            totals.accounts += 1;
            totals.deposits += row.deposits;
            totals.deposited_cents = totals.deposited_cents.saturating_add(row.deposited_cents);
            totals.cds = totals.cds.saturating_add(row.cds);
        })
        .await?;
        Ok(totals)
    }
}

impl<A, M> QueryHandler<LargestAccounts> for BankQueries<A, M>
where
    A: Repository<String, AccountRow>,
    M: Repository<String, u64>,
{
    type Answer = Vec<(String, AccountRow)>;
    type Error = Error;

    async fn handle(&self, query: LargestAccounts) -> Result<Self::Answer, Error> {
        let mut largest: Vec<(String, AccountRow)> = Vec::new();
        self.each_account(|id, row| {
            let place = largest.partition_point(|(_, other)| other.cents >= row.cents);
            if place < query.count {
                largest.insert(place, (id, row));
                largest.truncate(query.count);
            }
        })
        .await?;
        Ok(largest)
    }
}

impl<A, M> QueryHandler<DepositsByMonth> for BankQueries<A, M>
where
    A: Repository<String, AccountRow>,
    M: Repository<String, u64>,
{
    type Answer = Vec<(String, u64)>;
    type Error = Error;

    async fn handle(&self, _: DepositsByMonth) -> Result<Self::Answer, Error> {
        // A row a month: a thousand of them are more than eighty years.
        self.months.scan(.., PAGE).await
    }
}
