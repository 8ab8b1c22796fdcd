//! Process managers over a store.

mod folded_timers;
mod process_listener;
mod running;
mod timer_loop;

pub use folded_timers::FoldedTimers;
pub use process_listener::ProcessListener;
pub(crate) use running::{Bus, Manager, Processes, manager};
pub use timer_loop::{DueTimer, DueTimers, TimerLoop};
