//! ScyllaDB, or Cassandra: the store on it, and what replication asks it.
//!
//! | file | subject |
//! |---|---|
//! | `config`, `tls` | how the server is reached |
//! | `request` | all that is ever asked of the server, and the trait it is asked by |
//! | `oversized` | what a server says when it is given more than it takes |
//! | `schema` | the tables: their text, their version, how they are made and checked |
//! | `statements`, `value`, `rows` | statements of CQL, what goes into them and what comes out |
//! | `cql`, `worker` | the wire by the driver, and the thread that it works on |
//! | `failure` | what an error of the driver means for what was asked |
//! | `bucket` | which partition holds what of a stream |
//! | `store/` | the store directly on the server |
//! | `fake/` | the server's place taken by one in memory (feature `fakes`, needs no driver) |

pub mod bucket;
#[cfg(feature = "fakes")]
pub mod fake;
pub mod oversized;
pub mod request;
pub mod store;

#[cfg(feature = "scylla")]
mod config;
#[cfg(feature = "scylla")]
mod cql;
#[cfg(feature = "scylla")]
mod failure;
#[cfg(feature = "scylla")]
mod rows;
#[cfg(feature = "scylla")]
mod schema;
#[cfg(feature = "scylla")]
#[cfg(feature = "scylla")]
mod statements;
#[cfg(feature = "scylla")]
mod tls;
#[cfg(feature = "scylla")]
mod value;
#[cfg(feature = "scylla")]
mod worker;

#[cfg(feature = "scylla")]
pub use {
    config::{Consistency, KeyspaceReplication, ScyllaConfig},
    cql::Cql,
    schema::{MigrateReport, SCHEMA_VERSION},
    store::ScyllaStore,
    tls::Tls,
};
