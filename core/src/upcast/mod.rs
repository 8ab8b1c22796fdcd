//! Reading what was recorded by earlier programs as events of today.

mod chain;
mod decoded;
mod unknown;
mod upcasters;

pub use decoded::{Decoded, DecodedIter};
pub use unknown::{EventType, RawEvent, Unknown};
pub use upcasters::{Upcast, Upcasters};
