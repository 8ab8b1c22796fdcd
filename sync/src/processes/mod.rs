//! Process managers over a store.

mod process_listener;
mod timer_loop;

pub use process_listener::ProcessListener;
pub use timer_loop::{DueTimer, DueTimers, TimerLoop};
