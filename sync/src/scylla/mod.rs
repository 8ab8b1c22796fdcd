//! The replica at ScyllaDB or Cassandra: the sink that makes it, and what reads it.
//!
//! | file | subject |
//! |---|---|
//! | `sink` | what the replicator asks of it |
//! | `link`, `sending` | what is under way on one connection, and what follows from each answer |
//! | `connect`, `handshake` | what the server knows of this store |
//! | `log_rows` | the log's rows: the first thing done with a commit |
//! | `lane`, `turns` | events of one stream: what is sent next, what came of it |
//! | `arbitrate`, `judge` | where the server decides who comes first |
//! | `park`, `parking`, `torn` | streams that are set aside |
//! | `retrying` | what is held, tried again |
//! | `state`, `parked`, `status` | what is kept between two runs, and what users are told |
//! | `watermark`, `probe` | how far the server knows this log, and whether it still does |
//! | `doubting` | a dead connection is waited for once |
//! | `timed` | how long each request takes, for metrics |
//! | `ask`, `patient` | answers as they are wanted; reads asked again for a while |
//! | `lineage`, `log_rows_window`, `log_reader` | an origin's log as the replica has it, proven by its chain |
//! | `restore`, `copy_target` | a store made anew from that |
//! | `fork` | an epoch of its own, where a person decided so |
//! | `others_rows` | what another copy of this store has listed as parked in the same epoch |
//! | `take_back`, `parked_rows` | what the server lists as parked, taken into a state that does not know it |
//! | `remote_stream`, `resolve`, `calls` | conflicts resolved; what users ask |
//! | `follow`, `follow_plan`, `vector`, `hidden` | other origins' events, from any place |
//! | `pull`, `peers` | the same, kept on this machine |
//! | `mend`, `own_thread` | a damaged segment made again |
//! | `worker` | where all that runs |

mod arbitrate;
mod ask;
mod calls;
mod connect;
pub(crate) mod copy_target;
mod doubting;
mod follow;
mod follow_plan;
mod fork;
mod handshake;
mod hidden;
pub(crate) mod judge;
mod lane;
mod lineage;
mod link;
mod log_reader;
mod log_rows;
mod log_rows_window;
mod mend;
mod others_rows;
mod own_thread;
pub(crate) mod park;
mod parked;
mod parked_of_log;
mod parked_rows;
mod parking;
mod patient;
pub(crate) mod peers;
mod probe;
pub(crate) mod pull;
mod remote_stream;
mod resolve;
mod restore;
mod retrying;
mod sending;
#[cfg(test)]
mod sim;
pub(crate) mod sink;
mod state;
pub(crate) mod status;
mod take_back;
#[cfg(test)]
mod test_log;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_connecting;
#[cfg(test)]
mod tests_others;
#[cfg(test)]
mod tests_parking;
#[cfg(test)]
#[cfg(feature = "kafka")]
mod tests_published;
#[cfg(test)]
mod tests_wake;
pub(crate) mod timed;
mod torn;
mod turns;
mod vector;
mod watermark;
pub(crate) mod worker;

pub use follow::{Follow, Followed};
pub use mend::{MendReport, mend, mend_blocking};
pub use parked::ReplicationParked;
pub use peers::{Peer, PeerLog};
pub use pull::Pull;
pub use resolve::{Conflict, Resolved};
pub use restore::{RestoreOptions, RestoreReport, restore, restore_blocking};
pub use status::{ReplicationState, ReplicationStatus};
pub use vector::Vector;
