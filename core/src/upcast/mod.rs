//! Reading what was recorded by earlier programs as events of today.

mod decoded;

pub use decoded::{Decoded, DecodedIter};
