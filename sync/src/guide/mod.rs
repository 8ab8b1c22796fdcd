//! The guide: a bank account built up from its first event to its read models.
//!
//! Each chapter stands by itself and every piece of code in it runs as a test. The whole program is
//! the example `bank-account`.
//!
//! What a chapter does not define stands in two files of hidden code beside it: the account with its
//! commands in `sync/src/guide/bank.rs`, the transfer of chapter 10 in `transfer.rs`. Some code uses `thiserror`,
//! `pollster`, `tokio`, `tempfile` or `proptest` besides `serde`; none is needed to use the library.
//!
//! | chapter | what |
//! |---|---|
//! | [1 Events](events) | facts, their types and revisions, how they are recorded |
//! | [2 Aggregates](aggregates) | the state that events add up to |
//! | [3 Commands and handlers](commands) | what is decided, by hand and by a repository |
//! | [4 Snapshots](snapshots) | a state to begin from, taken by strategy |
//! | [5 Envelopes and metadata](envelopes_and_metadata) | what stands around an event, before and after |
//! | [6 Reading and queries](reading_and_queries) | rows, repositories, queries, events themselves |
//! | [7 Projections](projections) | read models that follow the log |
//! | [8 Changing events](changing_events) | upcasters, and what a program does not know |
//! | [9 Listeners](listeners) | what reacts outside the log: retries, parked streams, checkpoints |
//! | [10 Process managers](process_managers) | what crosses aggregates: steps, compensation, timers |
//! | [11 Testing](testing) | scenarios, properties, stores in memory |
//! | [12 Export and import](export_and_import) | a log as lines of JSON, and back without loss |

/// A chapter of the guide, in a file of its own.
macro_rules! chapter {
    ($name:ident, $file:literal) => {
        #[doc = include_str!($file)]
        pub mod $name {}
    };
}

chapter!(events, "01_events.md");
chapter!(aggregates, "02_aggregates.md");
chapter!(commands, "03_commands.md");
chapter!(snapshots, "04_snapshots.md");
chapter!(envelopes_and_metadata, "05_envelopes_and_metadata.md");
chapter!(reading_and_queries, "06_reading_and_queries.md");
chapter!(projections, "07_projections.md");
chapter!(changing_events, "08_changing_events.md");
chapter!(listeners, "09_listeners.md");
chapter!(process_managers, "10_process_managers.md");
chapter!(testing, "11_testing.md");
chapter!(export_and_import, "12_export_and_import.md");
