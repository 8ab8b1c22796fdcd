//! What can be set for one listener.

use std::time::Duration;

use tidelog_core::{Poison, RetryPolicy};

/// How one listener is fed; every field has a default.
///
/// ```
/// use tidelog::{ListenerOptions, Poison, StartAt};
/// let options = ListenerOptions::default()
///     .start(StartAt::End)
///     .concurrency(4)
///     .poison(Poison::Stop);
/// assert_eq!(options.concurrency, 4);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerOptions {
    /// Where it begins when it has no checkpoint yet; at the beginning, unless set.
    pub start: StartAt,
    /// How many streams are handled at once; 16 unless set, at least 1.
    pub concurrency: usize,
    /// How often a failing event is tried again.
    pub retry: RetryPolicy,
    /// What follows when an event cannot be handled; its stream is parked, unless set.
    pub poison: Poison,
    /// How many streams are parked at most; the listener stops at one more. 10,000 unless set.
    pub max_parked: usize,
    /// Bytes of events that are taken and not handled, above which no more are taken; 4 MiB unless
    /// set. One read may exceed it.
    pub in_flight_bytes: usize,
    /// How often the checkpoint is saved at most: what was handled since comes again after a crash.
    /// 1 s unless set.
    pub save_every: Duration,
    /// How long stopping waits for running handlers before it drops them; their events come again.
    /// 10 s unless set. One that blocks its thread cannot be dropped, and is waited for.
    pub stop_within: Duration,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            start: StartAt::default(),
            concurrency: 16,
            retry: RetryPolicy::default(),
            poison: Poison::Park,
            max_parked: 10_000,
            in_flight_bytes: 4 << 20,
            save_every: Duration::from_secs(1),
            stop_within: Duration::from_secs(10),
        }
    }
}

macro_rules! setters {
    ($($name:ident: $type:ty),*) => {
        impl ListenerOptions {
            $(
                #[doc = concat!("The same with another [`", stringify!($name), "`](field@Self::", stringify!($name), ").")]
                pub fn $name(mut self, $name: $type) -> Self {
                    self.$name = $name;
                    self
                }
            )*
        }
    };
}

setters! {
    start: StartAt, concurrency: usize, retry: RetryPolicy, poison: Poison, max_parked: usize,
    in_flight_bytes: usize, save_every: Duration, stop_within: Duration
}

/// Where a listener without a checkpoint begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartAt {
    /// At the first event of the log.
    #[default]
    Beginning,
    /// With what is recorded from now on.
    End,
    /// After this position, which the log must have reached.
    After(u64),
}
