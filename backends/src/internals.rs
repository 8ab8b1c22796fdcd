//! What the micro-benchmarks call; behind the feature `internals`, and no part of the API.

pub use crate::sled::internals::{Decoder, Runs, Segment, encode};
