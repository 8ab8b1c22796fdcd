//! Aggregates: the state that a stream of events adds up to.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::Event;

/// A cluster of objects that changes as one, rebuilt from its own events.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidelog_core::{Aggregate, Event};
/// # #[derive(Clone, Serialize, Deserialize)]
/// # enum BankAccountEvent { Opened { owner: String }, Deposited { cents: u64 } }
/// # impl Event for BankAccountEvent {
/// #     fn event_type(&self) -> &'static str { "Opened" }
/// # }
/// #[derive(Clone, Serialize, Deserialize)]
/// struct BankAccount { owner: String, cents: u64 }
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("the account's history is impossible")]
/// struct Impossible;
///
/// impl Aggregate for BankAccount {
///     const TYPE: &'static str = "BankAccount";
///     type Event = BankAccountEvent;
///     type Error = Impossible;
///
///     fn apply(state: Option<Self>, event: &BankAccountEvent) -> Result<Self, Impossible> {
///         match (state, event) {
///             (None, BankAccountEvent::Opened { owner }) => {
///                 Ok(Self { owner: owner.clone(), cents: 0 })
///             }
///             (Some(account), BankAccountEvent::Deposited { cents }) => {
///                 Ok(Self { cents: account.cents + cents, ..account })
///             }
///             _ => Err(Impossible),
///         }
///     }
/// }
///
/// let opened = BankAccountEvent::Opened { owner: "Ada".into() };
/// let deposited = BankAccountEvent::Deposited { cents: 500 };
/// let account = BankAccount::apply_all(None, [&opened, &deposited])?.expect("two events");
/// assert_eq!(account.cents, 500);
/// # Ok::<(), Impossible>(())
/// ```
pub trait Aggregate: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The aggregate type, the first half of its [`StreamId`](crate::StreamId).
    const TYPE: &'static str;

    /// Revision of the encoded state in snapshots. Raise it when fields change: older snapshots
    /// are then ignored.
    const SNAPSHOT_REVISION: u32 = 1;

    /// Its events.
    type Event: Event;

    /// Why an event cannot be applied: code and history disagree.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The state after `event`. `None` is the state before the first event.
    ///
    /// # Errors
    /// When this event cannot follow this state.
    fn apply(state: Option<Self>, event: &Self::Event) -> Result<Self, Self::Error>;

    /// The state after all `events` in order; `None` when there was none and no event came.
    ///
    /// # Errors
    /// The first that [`apply`](Aggregate::apply) returns.
    fn apply_all<'a>(
        state: Option<Self>,
        events: impl IntoIterator<Item = &'a Self::Event>,
    ) -> Result<Option<Self>, Self::Error> {
        events
            .into_iter()
            .try_fold(state, |state, event| Self::apply(state, event).map(Some))
    }

    /// Roughly how many bytes of memory the state takes, heap included: what a repository's cache
    /// is bounded by. The default counts the value itself only.
    fn size_hint(&self) -> usize {
        size_of::<Self>()
    }
}
