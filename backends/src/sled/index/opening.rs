//! Opening an index: whether what stands on disk is to be believed, and an empty one in its place.

use std::path::Path;
use std::sync::Arc;

use tidelog_core::Error;

use super::generation::{self, Generations};
use super::kv::Kv;
use super::manifest::Manifest;
use super::page::{self, Pages};
use super::run::Budget;
use super::view::View;
use super::{IndexError, IndexOptions};
use crate::platform;
use crate::sled::varint::MAX_NUMBER;

/// The newest segment that the manifest of the store at `root` says is sealed and indexed; `None`
/// when there is no such manifest of this identity. Changes nothing.
pub(crate) fn promised(root: &Path, identity: &[u8; 16]) -> Result<Option<u64>, IndexError> {
    match Manifest::read(root)? {
        Some(Ok(manifest)) if manifest.identity == *identity => {
            Ok(manifest.runs.last().map(|run| run.last_segment))
        }
        _ => Ok(None),
    }
}

/// Whether an index can be what the manifest says, before sled is asked.
pub(super) fn believable(
    manifest: &Manifest,
    options: &IndexOptions,
    generations: &Generations,
    sealed: Option<(u64, u64)>,
) -> Result<(), String> {
    if manifest.identity != options.identity {
        return Err("it belongs to another store".into());
    }
    manifest.agrees_with(sealed)?;
    if generations.marker_found() {
        return Err("opening it before never ended".into());
    }
    let dir = generations.dir(manifest.generation);
    if !dir.is_dir() || generation::is_link(&dir) {
        return Err(format!("its directory {} is gone", dir.display()));
    }
    if !options.clean_stop && !platform::set_sync_flag(&dir) {
        return Err(
            "the store was not closed cleanly, and this filesystem cannot write sled's \
                    files through"
                .into(),
        );
    }
    Ok(())
}

pub(super) fn open_existing(
    manifest: &mut Manifest,
    options: &IndexOptions,
    generations: &Generations,
    budget: &Arc<Budget>,
) -> Result<View, String> {
    let mut open = || -> Result<View, IndexError> {
        let opened = generations.open(manifest.generation, false)?;
        let pages = Arc::new(Pages::new(Arc::clone(&opened.kv), options.cache_bytes));
        let runs = View::open_runs(manifest, &pages, budget)?;
        let stray = remove_strays(&*opened.kv, manifest)?;
        if stray > MAX_NUMBER {
            return Err(IndexError::damaged(format!(
                "it has pages of a run {stray}"
            )));
        }
        manifest.next_run = manifest.next_run.max(stray + 1);
        Ok(View {
            generation: manifest.generation,
            dir: opened.dir,
            sync_flag: opened.sync_flag,
            rebuilt: None,
            kv: opened.kv,
            pages,
            runs,
        })
    };
    open().map_err(|error| error.to_string())
}

/// Makes an empty generation and names it in the manifest.
pub(super) fn begin(
    root: &Path,
    empty: &Manifest,
    options: &IndexOptions,
    generations: &Generations,
    rebuilt: Option<String>,
) -> Result<View, IndexError> {
    let opened = generations
        .open(empty.generation, true)
        .map_err(|error| match error {
            IndexError::Damaged(what) => IndexError::Failed(Error::Engine {
                engine: "sled",
                action: "open an empty directory",
                source: Arc::new(std::io::Error::other(what)),
            }),
            failed @ IndexError::Failed(_) => failed,
        })?;
    empty.write(root)?;
    let pages = Arc::new(Pages::new(Arc::clone(&opened.kv), options.cache_bytes));
    Ok(View {
        generation: empty.generation,
        dir: opened.dir,
        sync_flag: opened.sync_flag,
        rebuilt,
        kv: opened.kv,
        pages,
        runs: Vec::new(),
    })
}

/// Removes the pages of runs that never got into the manifest, or are no longer in it; returns the
/// highest run id met.
fn remove_strays(kv: &dyn Kv, manifest: &Manifest) -> Result<u64, IndexError> {
    let mut run = 0;
    let mut highest = 0;
    while let Some(key) = kv.next_key(&page::first_key(run))? {
        let Some(found) = page::run_of_key(&key) else {
            break;
        };
        highest = found;
        if !manifest.runs.iter().any(|run| run.id == found) {
            remove_run(kv, found)?;
        }
        match found.checked_add(1) {
            Some(next) => run = next,
            None => break,
        }
    }
    Ok(highest)
}

pub(super) fn remove_run(kv: &dyn Kv, run: u64) -> Result<(), IndexError> {
    kv.remove_all(&page::first_key(run))
}
