//! The store directly on the server.
//!
//! | file | subject |
//! |---|---|
//! | `direct` | what is asked, and what is made of the answers: over any wire, without a runtime |
//! | `append`, `recorded` | conditional batches; law 4 |
//! | `pages` | reading over buckets, page by page |
//! | `snapshots` | snapshots, large ones in parts |
//! | `known`, `turns` | what is known of streams; who works on one |
//! | `handle`, `gate` | the store that users have: the above on the driver's thread; its closing |

mod append;
mod direct;
#[cfg(feature = "scylla")]
mod gate;
#[cfg(feature = "scylla")]
mod handle;
mod known;
mod pages;
mod recorded;
mod snapshots;
mod turns;

pub use direct::{Direct, DirectSettings};
#[cfg(feature = "scylla")]
pub use handle::ScyllaStore;
pub use pages::Pages;
