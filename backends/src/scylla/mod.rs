//! ScyllaDB, or Cassandra: the store on it, and what replication asks it.
//!
//! | file | subject |
//! |---|---|
//! | `fake/` | the server's place taken by one in memory (feature `fakes`, needs no driver) |
//! | `request` | all that is ever asked of the server, and the trait it is asked by |

#[cfg(feature = "fakes")]
pub mod fake;
pub mod request;
