//! Kits for testing a domain, without a disk.
//!
//! | to | see |
//! |---|---|
//! | test decisions, rows and processes by example | [`scenario`] |
//! | try an aggregate on generated commands | [`aggregate_check`], feature `proptest` |
//! | hold a store of your own to the laws | [`Harness`] |

#[cfg(feature = "proptest")]
use std::fmt::Debug;

#[cfg(feature = "proptest")]
use proptest::strategy::Strategy;
#[cfg(feature = "proptest")]
use tidelog_backends::MemoryStore;
#[cfg(feature = "proptest")]
use tidelog_core::{Aggregate, Command, Decide};

pub use tidelog_core::testing::*;

/// A check of the aggregate of `commands` on stores in memory; see
/// [`AggregateCheck`](properties::AggregateCheck) for what it holds.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use tidelog::{Aggregate, Command, Context, Decide, Event};
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
/// # struct Raised { by: u32 }
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// # struct Counter { value: u64 }
/// # impl Aggregate for Counter {
/// #     const TYPE: &'static str = "Counter";
/// #     type Event = Raised;
/// #     type Error = std::convert::Infallible;
/// #     fn apply(state: Option<Self>, event: &Raised) -> Result<Self, Self::Error> {
/// #         Ok(Self { value: state.map_or(0, |counter| counter.value) + u64::from(event.by) })
/// #     }
/// # }
/// # #[derive(Clone, Debug)] struct Raise { id: String, by: u32 }
/// # impl Command for Raise {
/// #     type Aggregate = Counter;
/// #     fn target_aggregate_identifier(&self) -> Option<&str> { Some(&self.id) }
/// # }
/// # impl Decide<Raise> for Counter {
/// #     type Rejection = std::convert::Infallible;
/// #     fn decide(_: Option<&Self>, raise: &Raise, _: &Context) -> Result<Vec<Raised>, Self::Rejection> {
/// #         Ok(vec![Raised { by: raise.by }])
/// #     }
/// # }
/// use proptest::prelude::*;
/// use tidelog::testing::aggregate_check;
///
/// let raise = ("[ab]", 1..100_u32).prop_map(|(id, by)| Raise { id, by });
/// aggregate_check(raise)
///     .conserved("what was raised", |event| event.by.into(), |counter| counter.value.into())
///     .cases(20)
///     .run();
/// ```
#[cfg(feature = "proptest")]
#[must_use = "nothing is tried before `run`"]
pub fn aggregate_check<A, C>(
    commands: impl Strategy<Value = C> + 'static,
) -> properties::AggregateCheck<A, C, MemoryStore>
where
    A: Decide<C> + Debug + PartialEq + Aggregate<Event: Debug + PartialEq>,
    C: Command<Aggregate = A> + Clone + Debug + 'static,
{
    properties::AggregateCheck::new(commands, MemoryStore::new)
}
