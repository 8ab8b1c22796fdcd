//! A group in memory, its members, and what must hold of them: schedules of rebalances, zombies, lost
//! commits, parked keys and crashes.
//!
//! | file | subject |
//! |---|---|
//! | `world` | topics, offsets, dead letters and the parked set as Kafka has them |
//! | `feed` | the world as one member sees it |
//! | `member` | a session, and the handler that it calls |
//! | `schedule` | what happens next, by a seed |
//! | `oracle` | what must hold after each step, and at rest |
//! | `tests` | written cases, and the seeded ones |

mod feed;
mod member;
mod oracle;
mod schedule;
mod tests;
mod world;
