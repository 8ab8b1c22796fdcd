//! What came of a schedule.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What came of a schedule.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub steps: u64,
    /// Times that something was under way, at which it could be broken off.
    pub met: u64,
    pub failure: Option<String>,
    pub trace: Vec<String>,
    /// How often each rule was held against something.
    pub looked: BTreeMap<&'static str, u64>,
}

/// Runs a schedule, which may panic; answers what it failed by.
pub(crate) fn failure_of(run: impl FnOnce() -> Result<(), String>) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => done.err(),
        Err(panic) => Some(format!("panicked: {}", text_of(&*panic))),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "something".to_owned())
}
