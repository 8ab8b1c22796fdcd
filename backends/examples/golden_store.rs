//! Made `tests/golden/v1`, which every later build must open: `golden_store DIR` writes such files
//! anew. A change of the format gets a golden store of its own beside it; this one stays.
//!
//! What is all zero is left out: the end of the newest segment, and the one made ahead. Of sled's
//! folder only the pages are kept, since sled's own files are sled's business.

#[path = "../tests/golden/history.rs"]
#[allow(dead_code, reason = "the test uses the rest")]
mod history;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use tidelog_backends::SledStore;
use tidelog_core::LogQuery;

fn main() -> Result<(), Box<dyn Error>> {
    let Some(to) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err("usage: golden_store DIR".into());
    };
    let work = tempfile::tempdir()?;
    history::make(work.path())?;
    let store = work.path().join("store");
    fs::create_dir_all(to.join("log"))?;
    for name in ["format", "state", "manifest"] {
        fs::copy(store.join(name), to.join(name))?;
    }
    fs::copy(work.path().join("backup/backup"), to.join("backup"))?;
    for entry in fs::read_dir(store.join("log"))? {
        let entry = entry?;
        let bytes = fs::read(entry.path())?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            fs::write(to.join("log").join(entry.file_name()), &bytes[..=last])?;
        }
    }
    for entry in fs::read_dir(store.join("index"))? {
        let entry = entry?;
        let pages = postcard::to_stdvec(&history::pages(&entry.path())?)?;
        fs::write(to.join(entry.file_name()).with_extension("pages"), pages)?;
    }
    describe(&store, &to)
}

/// What every later build must read.
fn describe(store: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let store = SledStore::open(store)?;
    let info = store.info()?;
    let mut text = format!(
        "{} {}\n",
        info.epoch,
        blake3::Hash::from_bytes(info.chain_hash)
    );
    for record in store.blocking().read_all(LogQuery::all()) {
        text += &history::describe(&record?);
        text += "\n";
    }
    fs::write(to.join("records.txt"), text)?;
    Ok(())
}
