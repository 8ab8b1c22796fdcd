//! The process that `tests/faults_injected.rs` lets hang or abort inside sled's open. Built with
//! `panic = "abort"`, where no panic can be caught.
//!
//! `crash_child DIR [POINT ACTION]` opens the store in DIR with a fault point set, and says what it
//! found.

use std::time::Duration;

use tidelog_backends::SledStore;
use tidelog_core::Error;

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().collect();
    let [_, dir, fault @ ..] = &args[..] else {
        eprintln!("usage: crash_child DIR [POINT ACTION]");
        std::process::exit(2);
    };
    if let [point, action] = fault
        && let Err(why) = fail::cfg(point.as_str(), action)
    {
        eprintln!("{why}");
        std::process::exit(2);
    }
    let store = SledStore::builder(dir)
        .index_open_timeout(Duration::from_secs(5))
        .open()?;
    let report = store.verify()?;
    let rebuilt = store.info()?.index_rebuilt.unwrap_or_default();
    println!("records {} rebuilt [{rebuilt}]", report.records);
    store.close_blocking()?;
    println!("closed");
    Ok(())
}
