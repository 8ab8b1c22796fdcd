//! Properties of an aggregate, tried on generated commands.
//!
//! [`AggregateCheck`] holds what every aggregate promises, and what yours promises beside it;
//! [`strategies`] make events, envelopes and histories for properties of your own.

mod check;
mod failure;
mod racing;
mod sequential;
pub mod strategies;
mod yielding;

pub use check::AggregateCheck;
