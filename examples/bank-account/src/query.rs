//! Questions about the bank as a whole, answered from its read models.

use tidelog::{Error, QueryHandler, ReadModel, Repository, Tidelog};

use crate::read_models::{AccountRow, Accounts, Months};

/// Rows fetched from a repository at once.
const PAGE: usize = 1_000;

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

/// Asks for the accounts of one holder.
#[derive(Clone, Debug)]
pub struct AccountsOf {
    /// Whose they are.
    pub holder: String,
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
}

/// [`BankQueries`] over the read models of the store.
pub type Bank = BankQueries<ReadModel<Accounts>, ReadModel<Months>>;

impl Bank {
    /// Queries over `bank`, which was opened with its [read models](crate::read_models::bank), once these
    /// hold all that is recorded now.
    ///
    /// # Errors
    /// [`Error::Stopped`] when a read model stands still.
    pub async fn of(bank: &Tidelog) -> Result<Self, Error> {
        let (accounts, months) = (bank.projection()?, bank.projection()?);
        let queries = Self { accounts, months };
        let now = bank.last_position();
        queries.accounts.wait_for(now).await?;
        queries.months.wait_for(now).await?;
        Ok(queries)
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

impl QueryHandler<AccountsOf> for Bank {
    type Answer = Vec<(String, AccountRow)>;
    type Error = Error;

    async fn handle(&self, query: AccountsOf) -> Result<Self::Answer, Error> {
        let accounts = &self.accounts;
        let holder = Accounts::holder_key(&query.holder);
        let mut found = accounts.find(Accounts::HOLDER, &holder, PAGE).await?;
        found.retain(|(_, row)| row.holder == query.holder);
        Ok(found)
    }
}
