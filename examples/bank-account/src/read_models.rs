//! What the bank shows as a whole: rows folded from the log, always as far as the log, and made anew
//! from it whenever that is needed.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tidelog::{EventEnvelope, HandlerError, Lookup, Projection, Rows, Tidelog, TidelogBuilder};

use crate::aggregate::BankAccount;
use crate::event::BankAccountEvent;

/// The bank in directory `store`, with its read models; what else it has is added before it is opened.
pub fn bank(store: &Path) -> TidelogBuilder {
    let bank = Tidelog::builder(store);
    bank.projection(Accounts).projection(Months)
}

/// One account as it is shown.
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

impl AccountRow {
    fn take_in(&mut self, fact: &BankAccountEvent) {
        match fact {
            BankAccountEvent::Opened { holder } => self.holder.clone_from(holder),
            BankAccountEvent::Deposited { cents, cds } => {
                self.cents = self.cents.saturating_add(*cents);
                self.deposits += 1;
                self.deposited_cents = self.deposited_cents.saturating_add(*cents);
                self.cds = self.cds.saturating_add(*cds);
            }
            BankAccountEvent::Withdrawn { cents } => self.cents = self.cents.saturating_sub(*cents),
            BankAccountEvent::Closed => self.closed = true,
        }
    }
}

/// Accounts by their id, found by whose they are.
#[derive(Clone, Copy, Debug)]
pub struct Accounts;

/// Most bytes of a name that accounts are found by; what is longer is found by its beginning.
const MAX_NAME_BYTES: usize = 256;
/// Most words that one account is found by.
const MAX_WORDS: usize = 12;

impl Accounts {
    /// The lookup by holder.
    pub const HOLDER: &'static str = "holder";
    /// The lookup by a word, for pages: with the account's id behind it.
    pub const WORD: &'static str = "word";

    /// How a holder stands in the lookup by holder.
    pub fn holder_key(holder: &str) -> String {
        beginning(holder, MAX_NAME_BYTES).to_owned()
    }

    /// The words that lead to an account: those of its id and of its holder.
    pub fn words_of(id: &str, row: &AccountRow) -> Vec<String> {
        let mut words = words(&row.holder);
        words.insert(0, beginning(&id.to_lowercase(), MAX_NAME_BYTES).to_owned());
        words.truncate(MAX_WORDS);
        words.sort_unstable();
        words.dedup();
        words
    }
}

/// The words of a text, in small letters: what stands between spaces.
pub fn words(text: &str) -> Vec<String> {
    let words = text.split_whitespace();
    let words = words.map(|word| beginning(&word.to_lowercase(), MAX_NAME_BYTES).to_owned());
    words.take(MAX_WORDS).collect()
}

/// The first characters of `text`, at most `bytes` of them.
fn beginning(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

impl Projection for Accounts {
    const NAME: &'static str = "accounts";
    type Key = String;
    type Row = AccountRow;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, AccountRow>,
    ) -> Result<(), HandlerError> {
        for fact in event.of::<BankAccount>()? {
            rows.update(event.aggregate_id().to_owned(), |row| row.take_in(&fact))?;
        }
        Ok(())
    }

    fn lookups() -> Vec<Lookup<String, AccountRow>> {
        let holder = |_: &String, row: &AccountRow| Some(Self::holder_key(&row.holder));
        let word = |id: &String, row: &AccountRow| {
            let words = Self::words_of(id, row).into_iter();
            let id = id.clone();
            words
                .map(move |word| (word, id.clone()))
                .collect::<Vec<_>>()
        };
        vec![
            Lookup::by(Self::HOLDER, holder),
            Lookup::by(Self::WORD, word),
        ]
    }
}

/// Cents deposited by month, `1997-01`.
#[derive(Clone, Copy, Debug)]
pub struct Months;

impl Projection for Months {
    const NAME: &'static str = "months";
    type Key = String;
    type Row = u64;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, u64>,
    ) -> Result<(), HandlerError> {
        for fact in event.of::<BankAccount>()? {
            if let BankAccountEvent::Deposited { cents, .. } = fact {
                let month = event.event_time.to_datetime().format("%Y-%m").to_string();
                rows.update(month, |sum: &mut u64| *sum = sum.saturating_add(cents))?;
            }
        }
        Ok(())
    }
}
