//! Projections: folds of the log into rows that can be asked.

mod entries;
mod feed;
mod key;
mod lookup;
mod prepared;
mod row_store;
mod rows;
mod table;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::envelope::EventEnvelope;
use crate::error::Error;
use crate::failure::HandlerError;
use crate::superseded::Superseded;

pub use feed::{Feed, parked_streams};
pub use key::RowKey;
pub use lookup::Lookup;
pub use prepared::Prepared;
pub use row_store::{
    Change, Checkpoint, Entry, ModelSlots, RowStore, RowsError, Slot, Space, check_model_name,
};
pub use rows::{FeedError, Rows};
pub use table::RowTable;

/// A read model's fold: what it is called, which rows it has, and what an event does to them.
///
/// `apply` must follow from the event and the rows alone: it is run again whenever rows are made
/// anew. It runs on a thread of the library and must not execute commands or wait for anything.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use tidelog_core::{Aggregate, Event};
/// # #[derive(Clone, Serialize, Deserialize)]
/// # enum BankAccountEvent { Opened { holder: String }, Deposited { cents: u64 } }
/// # impl Event for BankAccountEvent {
/// #     fn event_type(&self) -> &'static str {
/// #         match self { Self::Opened { .. } => "Opened", Self::Deposited { .. } => "Deposited" }
/// #     }
/// # }
/// # #[derive(Clone, Serialize, Deserialize)]
/// # struct BankAccount;
/// # impl Aggregate for BankAccount {
/// #     const TYPE: &'static str = "BankAccount";
/// #     type Event = BankAccountEvent;
/// #     type Error = std::convert::Infallible;
/// #     fn apply(_: Option<Self>, _: &BankAccountEvent) -> Result<Self, Self::Error> { Ok(Self) }
/// # }
/// use tidelog_core::{EventEnvelope, HandlerError, Lookup, Projection, Rows};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct AccountRow { holder: String, cents: u64 }
///
/// struct Accounts;
/// impl Projection for Accounts {
///     const NAME: &'static str = "accounts";
///     type Key = String;
///     type Row = AccountRow;
///
///     fn apply(
///         &self,
///         event: &EventEnvelope,
///         rows: &mut Rows<'_, String, AccountRow>,
///     ) -> Result<(), HandlerError> {
///         for fact in event.of::<BankAccount>()? {
///             rows.update(event.aggregate_id().to_owned(), |row| match &fact {
///                 BankAccountEvent::Opened { holder } => row.holder.clone_from(holder),
///                 BankAccountEvent::Deposited { cents } => row.cents += cents,
///             })?;
///         }
///         Ok(())
///     }
///
///     fn lookups() -> Vec<Lookup<String, AccountRow>> {
///         vec![Lookup::by("holder", |_, row: &AccountRow| Some(row.holder.clone()))]
///     }
/// }
/// ```
pub trait Projection: Send + Sync + 'static {
    /// Names it for ever: 1 to 64 of `a-z 0-9 - . _`, beginning with a letter.
    const NAME: &'static str;

    /// Raise it when `apply`, `Key`, `Row` or `lookups` change: the rows are then made anew.
    const VERSION: u32 = 1;

    /// The oldest version whose rows `Key`, `Row` and `lookups` of today still read. Set it below
    /// `VERSION` to let the old rows serve while new ones are made; otherwise questions are
    /// answered by [`Error::Rebuilding`] meanwhile.
    const ROWS_SINCE: u32 = Self::VERSION;

    /// What a row is found under.
    type Key: RowKey;

    /// A row. It is kept as postcard, at most 1 MiB of it; see [`Event`](crate::Event) for what
    /// postcard can hold.
    type Row: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;

    /// Takes one event in. Control records never come; all others do, in the order of the log.
    ///
    /// # Errors
    /// What keeps it from being taken in now, or for ever ([`HandlerError::permanent`]); nothing
    /// that it did to `rows` counts then. A panic is a permanent failure.
    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, Self::Key, Self::Row>,
    ) -> Result<(), HandlerError>;

    /// Events that it has taken in gave way to another origin's: all of `what.stream` from `what.from`
    /// on. What took their place comes next, by [`apply`](Projection::apply).
    ///
    /// Unless it says that it has undone them in `rows`, the rows are made anew, from the log without
    /// what gave way; the old ones serve meanwhile. That is right for every projection and costs a
    /// rebuild, which such resolutions are rare enough for.
    ///
    /// # Errors
    /// An error, or a panic, means [`Redo::Rebuild`].
    fn superseded(
        &self,
        what: &Superseded,
        rows: &mut Rows<'_, Self::Key, Self::Row>,
    ) -> Result<Redo, HandlerError> {
        let _ = (what, rows);
        Ok(Redo::Rebuild)
    }

    /// What rows can be found by beside their key; at most 64.
    fn lookups() -> Vec<Lookup<Self::Key, Self::Row>> {
        Vec::new()
    }
}

/// What becomes of rows that hold events which gave way to another origin's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redo {
    /// They are made anew.
    Rebuild,
    /// The projection has undone the events in them.
    Done,
}

/// A row with its key.
pub type KeyedRow<P> = (<P as Projection>::Key, <P as Projection>::Row);

/// A row with its key and the key of the lookup that it was found by.
pub type FoundRow<P, L> = (L, <P as Projection>::Key, <P as Projection>::Row);

/// Refuses a projection whose name or lookups cannot be.
pub(crate) fn check<P: Projection>() -> Result<(), Error> {
    check_name(P::NAME)?;
    if P::VERSION == 0 || P::ROWS_SINCE > P::VERSION {
        let reason = "versions count from 1, and ROWS_SINCE is at most VERSION";
        return Err(Error::invalid("projection", P::NAME, reason));
    }
    lookup::check_lookups(&P::lookups())
}

fn check_name(name: &str) -> Result<(), Error> {
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
    if begins && name.len() <= 64 && name.chars().all(plain) {
        return Ok(());
    }
    let reason = "a name has 1 to 64 of a-z 0-9 - . _ and begins with a letter";
    Err(Error::invalid("projection", name, reason))
}
