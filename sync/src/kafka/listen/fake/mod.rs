//! A group in memory, its members, and what must hold of them: schedules of rebalances, zombies, lost
//! commits, parked keys and crashes.
//!
//! | file | subject |
//! |---|---|
//! | `world` | topics, offsets, dead letters and the parked set as Kafka has them |
//! | `feed` | the world as one member sees it |
//! | `member` | a session, and the handler that it calls |
//! | `schedule` | what happens next, by a seed |
//! | `mutants` | what is wrong on purpose, to see that it is found |
//! | `oracle` | what must hold after each step, and at rest |
//! | `tests` | written cases, and the seeded ones |
//! | `figures` | what the `metrics` facade gets to hear |

mod feed;
mod figures;
mod member;
mod mutants;
mod oracle;
mod schedule;
mod tests;
mod world;

#[allow(dead_code, reason = "shared with the tests against servers")]
#[path = "../../../../tests/tools/recorder.rs"]
mod recorder;
