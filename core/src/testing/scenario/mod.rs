//! Given, when, then: the domain tested without a store.
//!
//! | of | kit |
//! |---|---|
//! | an aggregate: what it decides | [`Scenario`] |
//! | a projection: which rows it makes | [`ProjectionScenario`] |
//! | a process manager: which commands it issues | [`ProcessScenario`] |
//!
//! Events go through the codec on their way, and upcasters with them, as if they had been recorded.
//! What is not as expected panics with all that was given and asked, and with a diff.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a test hands over what it has just written"
)]

mod aggregate;
mod history;
mod process;
mod projection;
mod story;

pub use aggregate::{Decided, Scenario};
pub use process::ProcessScenario;
pub use projection::ProjectionScenario;

#[cfg(feature = "proptest")]
pub(super) use history::Fixed;
