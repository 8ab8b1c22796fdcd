//! ScyllaDB, or Cassandra: the store on it, and what replication asks it.
//!
//! | file | subject |
//! |---|---|
//! | `request` | all that is ever asked of the server, and the trait it is asked by |

pub mod request;
