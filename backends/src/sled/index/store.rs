//! The index of one store: opening, adding, merging, resetting.

use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tidelog_core::{Direction, Error, StreamId};

use super::generation::{self, Generations};
use super::kv::{Kv, RowKv};
use super::manifest::{Manifest, RunEntry};
use super::memory_kv::MemoryKv;
use super::opening::{begin, believable, open_existing, remove_run};
use super::page::Pages;
use super::run::{Budget, Run};
use super::run_writer::RunWriter;
use super::view::{View, verify_run};
use super::{
    Covered, IndexError, IndexOptions, IndexStats, Posting, SegmentIndex, VisitPosting, merge,
    snapshots,
};

/// How long [`Index::close`] waits for readers that are still at work.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// What [`Index::open`] found.
pub(crate) struct Opened {
    pub index: Index,
    /// The segments that need not be added; `None`: all must be.
    pub covered: Option<Covered>,
}

/// The runs of one store.
///
/// All methods take `&self`. Readers never wait for writers; `merge_step` may run beside
/// `add_segment`. After `Damaged`, [`reset`](Self::reset) it and add all segments anew.
pub(crate) struct Index {
    root: PathBuf,
    options: IndexOptions,
    generations: Generations,
    budget: Arc<Budget>,
    /// `None` once closed.
    view: ArcSwapOption<View>,
    writer: Mutex<Writer>,
    /// As in the manifest; raised before a segment is added.
    newest_id: Mutex<Option<u128>>,
    /// Held during a merge: there is one at a time.
    merging: Mutex<()>,
    /// Counted up to end a merge under way.
    interruptions: AtomicU64,
    /// Held while a snapshot is replaced.
    snapshots: Mutex<()>,
}

struct Writer {
    manifest: Manifest,
    /// Runs no longer named, whose pages go when their last reader has gone.
    retired: Vec<Arc<Run>>,
}

impl Index {
    /// Opens the index of the store at `root`, whose lock is held; `sealed` are the numbers of the
    /// sealed segments in its log. What is not to be believed is begun anew, empty.
    ///
    /// # Errors
    /// `Failed` when the system refuses files, or sled does not even open an empty directory.
    pub(crate) fn open(
        root: &Path,
        options: IndexOptions,
        sealed: Option<RangeInclusive<u64>>,
    ) -> Result<Opened, IndexError> {
        let generations = Generations::new(root, &options)?;
        let budget = Arc::new(Budget::new(options.filter_bytes));
        let stored = Manifest::read(root)?;
        let (next_run, named) = match &stored {
            Some(Ok(manifest)) => (manifest.next_run, manifest.generation),
            _ => (1, 0),
        };
        let highest = generations.highest()?.max(named);
        let sealed = sealed.map(RangeInclusive::into_inner);
        let is_new = stored.is_none() && highest == 0 && sealed.is_none();
        let believed = match stored {
            None => Err("there is no manifest of it".into()),
            Some(Err(reason)) => Err(format!("its manifest is not whole: {reason}")),
            Some(Ok(mut manifest)) => believable(&manifest, &options, &generations, sealed)
                .and_then(|()| open_existing(&mut manifest, &options, &generations, &budget))
                .map(|view| (manifest, view)),
        };
        let (manifest, view) = match believed {
            Ok((manifest, view)) => (manifest, view),
            Err(reason) => {
                let rebuilt = (!is_new).then_some(reason);
                if let Some(reason) = &rebuilt {
                    tracing::warn!(%reason, "the stream index is rebuilt from the log");
                }
                let empty = Manifest {
                    identity: options.identity,
                    generation: highest.saturating_add(1),
                    next_run,
                    runs: Vec::new(),
                    newest_id: Some(0),
                };
                let view = begin(root, &empty, &options, &generations, rebuilt)?;
                (empty, view)
            }
        };
        generations.opened()?;
        generations.remove_others(manifest.generation);
        let covered = manifest.runs.last().map(covered_by);
        let index = Self {
            root: root.into(),
            options,
            generations,
            budget,
            view: ArcSwapOption::from_pointee(view),
            newest_id: Mutex::new(manifest.newest_id),
            writer: Mutex::new(Writer {
                manifest,
                retired: Vec::new(),
            }),
            merging: Mutex::new(()),
            interruptions: AtomicU64::new(0),
            snapshots: Mutex::new(()),
        };
        Ok(Opened { index, covered })
    }

    /// The index of a store that may only be read: it has no runs, and nothing on disk is looked at
    /// or changed.
    pub(crate) fn without_runs(root: &Path, options: IndexOptions) -> Self {
        let kv: Arc<dyn Kv> = Arc::new(MemoryKv::default());
        let view = View {
            generation: 0,
            dir: PathBuf::new(),
            sync_flag: true,
            rebuilt: None,
            kv: Arc::clone(&kv),
            pages: Arc::new(Pages::new(kv, options.cache_bytes)),
            runs: Vec::new(),
        };
        let manifest = Manifest {
            identity: options.identity,
            generation: 0,
            next_run: 1,
            runs: Vec::new(),
            newest_id: Some(0),
        };
        Self {
            root: root.into(),
            generations: Generations::at(root, &options),
            budget: Arc::new(Budget::new(options.filter_bytes)),
            options,
            newest_id: Mutex::new(manifest.newest_id),
            view: ArcSwapOption::from_pointee(view),
            writer: Mutex::new(Writer {
                manifest,
                retired: Vec::new(),
            }),
            merging: Mutex::new(()),
            interruptions: AtomicU64::new(0),
            snapshots: Mutex::new(()),
        }
    }

    /// Makes the run of the next sealed segment; `chain` is the chain hash at its end. It survives
    /// a power cut when this returns, where [`IndexStats::sync_flag`] is set.
    pub(crate) fn add_segment(
        &self,
        segment: &SegmentIndex,
        chain: [u8; 32],
    ) -> Result<(), IndexError> {
        let mut writer = self.writer.lock();
        let view = self.view()?;
        let number = segment.segment();
        if let Some(last) = writer.manifest.runs.last()
            && last.last_segment.checked_add(1) != Some(number)
        {
            let last = last.last_segment;
            return Err(IndexError::damaged(format!(
                "segment {number} was added after {last}"
            )));
        }
        let newest_id = {
            let mut known = self.newest_id.lock();
            *known = known.map(|known| known.max(segment.newest_id()));
            *known
        };
        writer.manifest.newest_id = newest_id;
        let id = writer.take_id();
        let mut run = RunWriter::new(&*view.kv, id, 0, (number, number));
        segment.visit_sorted(|hash, name, postings| {
            run.begin_stream(hash, name)?;
            postings
                .iter()
                .try_for_each(|(sequence, posting)| run.push(*sequence, posting))
        })?;
        let entry = run.finish(chain)?;
        self.publish(&mut writer, &view, entry, |_| false)
    }

    /// Merges once where enough runs of a level stand; `false` when there was nothing to do, or
    /// when [`reset`](Self::reset) or [`close`](Self::close) interrupted it.
    pub(crate) fn merge_step(&self) -> Result<bool, IndexError> {
        let _one_at_a_time = self.merging.lock();
        let interruptions = self.interruptions.load(Ordering::SeqCst);
        let stopped = || self.interruptions.load(Ordering::SeqCst) != interruptions;
        self.remove_retired()?;
        let (view, inputs, id) = {
            let mut writer = self.writer.lock();
            let view = self.view()?;
            let Some(inputs) = mergeable(&view.runs, self.options.merge_fan_in.max(2)) else {
                return Ok(false);
            };
            let inputs = inputs.to_vec();
            (view, inputs, writer.take_id())
        };
        let (Some(oldest), Some(newest)) = (inputs.first(), inputs.last()) else {
            return Ok(false);
        };
        let segments = (oldest.entry.first_segment, newest.entry.last_segment);
        let level = oldest.entry.level.saturating_add(1);
        fail::fail_point!("merge_begun");
        fail::fail_point!("merge", |_| Err(Error::Closed.into()));
        let mut run = RunWriter::new(&*view.kv, id, level, segments);
        if !merge::merge(&inputs, &mut run, &stopped)? {
            return Ok(false);
        }
        let entry = run.finish(newest.entry.chain)?;
        let events: u64 = inputs.iter().map(|input| input.entry.events).sum();
        if entry.events != events {
            return Err(IndexError::damaged(format!(
                "a merge lost events of {events}"
            )));
        }
        let mut writer = self.writer.lock();
        let now = self.view()?;
        if now.generation != view.generation {
            return Ok(false);
        }
        let merged: Vec<u64> = inputs.iter().map(|input| input.entry.id).collect();
        self.publish(&mut writer, &now, entry, |id| merged.contains(&id))?;
        drop((writer, view, now, inputs));
        self.remove_retired()?;
        Ok(true)
    }

    /// Names a run that is written, in place of those that `replaced` tells.
    fn publish(
        &self,
        writer: &mut Writer,
        view: &View,
        entry: RunEntry,
        replaced: impl Fn(u64) -> bool,
    ) -> Result<(), IndexError> {
        view.kv.flush()?;
        fail::fail_point!("index_before_manifest", |_| Err(Error::Closed.into()));
        let run = Run::open(
            entry.clone(),
            Arc::clone(&view.pages),
            Arc::clone(&self.budget),
        )?;
        let mut manifest = writer.manifest.clone();
        let mut runs = view.runs.clone();
        let at = runs
            .iter()
            .position(|run| replaced(run.entry.id))
            .unwrap_or(runs.len());
        manifest.runs.retain(|run| !replaced(run.id));
        runs.retain(|run| !replaced(run.entry.id));
        manifest.runs.insert(at.min(manifest.runs.len()), entry);
        runs.insert(at.min(runs.len()), Arc::new(run));
        manifest.write(&self.root)?;
        writer.manifest = manifest;
        let gone = view.runs.iter().filter(|run| replaced(run.entry.id));
        writer.retired.extend(gone.cloned());
        self.view.store(Some(Arc::new(view.with_runs(runs))));
        Ok(())
    }

    /// Removes the pages of retired runs that nobody reads any more.
    fn remove_retired(&self) -> Result<(), IndexError> {
        let unread: Vec<Arc<Run>> = {
            let mut writer = self.writer.lock();
            writer
                .retired
                .extract_if(.., |run| Arc::strong_count(run) == 1)
                .collect()
        };
        let Ok(view) = self.view() else { return Ok(()) };
        for run in unread {
            remove_run(&*view.kv, run.entry.id)?;
        }
        Ok(())
    }

    /// Ends a merge under way; the next one begins anew.
    pub(crate) fn interrupt(&self) {
        self.interruptions.fetch_add(1, Ordering::SeqCst);
    }

    /// The segments that the runs cover.
    pub(crate) fn covered(&self) -> Option<Covered> {
        self.writer.lock().manifest.runs.last().map(covered_by)
    }

    /// The newest event of `stream` in the covered segments; `hash` is the keyed hash of its name.
    pub(crate) fn head(
        &self,
        hash: u64,
        stream: &StreamId,
    ) -> Result<Option<(u64, Posting)>, IndexError> {
        self.read(|view| view.head(hash, stream))
    }

    /// Appends the postings of the sequences `from..=to`, at most `limit`, ordered by `direction`.
    #[allow(
        clippy::too_many_arguments,
        reason = "one question, asked in one place"
    )]
    pub(crate) fn postings(
        &self,
        hash: u64,
        stream: &StreamId,
        from: u64,
        to: u64,
        direction: Direction,
        limit: usize,
        out: &mut Vec<(u64, Posting)>,
    ) -> Result<(), IndexError> {
        let end = out.len().saturating_add(limit);
        if from > to || limit == 0 {
            return Ok(());
        }
        let mut take = |sequence, posting| {
            out.push((sequence, posting));
            if out.len() < end {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        self.read(|view| view.scan(hash, stream, (from, to), direction, &mut take))
    }

    /// Appends sequence and fingerprint of the newest `limit` events, newest first.
    pub(crate) fn fingerprints(
        &self,
        hash: u64,
        stream: &StreamId,
        limit: usize,
        out: &mut Vec<(u64, u32)>,
    ) -> Result<(), IndexError> {
        let end = out.len().saturating_add(limit);
        if limit == 0 {
            return Ok(());
        }
        let mut take = |sequence, posting: Posting| {
            out.push((sequence, posting.fingerprint));
            if out.len() < end {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let all = (0, u64::MAX);
        self.read(|view| view.scan(hash, stream, all, Direction::Backward, &mut take))
    }

    /// No id of version 7 in the runs is above this one; `None` where that is not known.
    pub(crate) fn newest_id(&self) -> Option<u128> {
        *self.newest_id.lock()
    }

    /// The bytes put last for `stream`; `None` when they are not there, or not whole.
    pub(crate) fn snapshot_get(&self, stream: &StreamId) -> Result<Option<Vec<u8>>, IndexError> {
        self.read(|view| snapshots::get(&*view.kv, stream.as_str()))
    }

    /// The name of the first snapshot behind that of `after`.
    pub(crate) fn next_snapshot(&self, after: Option<&str>) -> Result<Option<String>, IndexError> {
        self.read(|view| snapshots::next(&*view.kv, after))
    }

    /// The bytes put last under `name`.
    pub(crate) fn snapshot_named(&self, name: &str) -> Result<Option<Vec<u8>>, IndexError> {
        self.read(|view| snapshots::get(&*view.kv, name))
    }

    /// Keeps `bytes` for `stream`, in place of what was put before. Survives the process only
    /// after the next segment was added, or a close.
    pub(crate) fn snapshot_put(&self, stream: &StreamId, bytes: &[u8]) -> Result<(), IndexError> {
        let _in_order = self.snapshots.lock();
        self.read(|view| snapshots::put(&*view.kv, stream.as_str(), bytes))
    }

    /// Does `work` on what read models stand in, which goes with the generation named. Damage there
    /// is no damage of the index.
    pub(crate) fn rows<T>(
        &self,
        work: impl FnOnce(&dyn RowKv, u64) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let view = self.view()?;
        work(view.kv.rows(), view.generation)
    }

    /// Writes out all that was put before.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        self.view()?.kv.flush()
    }

    /// Begins a new, empty generation: nothing is covered any more, and snapshots are gone.
    pub(crate) fn reset(&self, reason: &str) -> Result<(), IndexError> {
        self.interruptions.fetch_add(1, Ordering::SeqCst);
        let mut writer = self.writer.lock();
        self.view()?;
        tracing::warn!(%reason, "the stream index is rebuilt from the log");
        let highest = self.generations.highest()?.max(writer.manifest.generation);
        let empty = Manifest {
            identity: self.options.identity,
            generation: highest.saturating_add(1),
            next_run: writer.manifest.next_run,
            runs: Vec::new(),
            newest_id: Some(0),
        };
        let rebuilt = Some(reason.to_owned());
        let view = begin(
            &self.root,
            &empty,
            &self.options,
            &self.generations,
            rebuilt,
        )?;
        self.generations.opened()?;
        let generation = empty.generation;
        *self.newest_id.lock() = empty.newest_id;
        writer.manifest = empty;
        writer.retired.clear();
        self.view.store(Some(Arc::new(view)));
        self.generations.remove_others(generation);
        Ok(())
    }

    /// Reads and checks every page of every run; hands each posting to `visit` as (hash, stream
    /// name, sequence, posting).
    pub(crate) fn verify(&self, visit: &mut VisitPosting<'_>) -> Result<(), IndexError> {
        let view = self.view()?;
        view.runs.iter().try_for_each(|run| verify_run(run, visit))
    }

    /// What stands on disk and in memory.
    pub(crate) fn stats(&self) -> Result<IndexStats, IndexError> {
        let view = self.view()?;
        let sum = |count: fn(&RunEntry) -> u64| view.runs.iter().map(|run| count(&run.entry)).sum();
        Ok(IndexStats {
            generation: view.generation,
            runs: view.runs.len(),
            events: sum(|run| run.events),
            streams: sum(|run| run.streams),
            blocks: sum(|run| u64::from(run.blocks)),
            disk_bytes: view.kv.size_on_disk(),
            filter_bytes: self.budget.used.load(Ordering::Relaxed),
            cached_bytes: view.pages.cached_bytes(),
            sync_flag: view.sync_flag,
            blobs_empty: generation::blobs_empty(&view.dir),
            rebuilt: view.rebuilt.clone(),
        })
    }

    /// Ends a merge under way, flushes, and waits for readers at work; later calls get
    /// [`Error::Closed`]. Closing again does nothing.
    pub(crate) fn close(&self) -> Result<(), IndexError> {
        self.interruptions.fetch_add(1, Ordering::SeqCst);
        let _merge_ended = self.merging.lock();
        let mut writer = self.writer.lock();
        writer.retired.clear();
        let Some(mut view) = self.view.swap(None) else {
            return Ok(());
        };
        let (flushed, sync_flag, dir) = (view.kv.flush(), view.sync_flag, view.dir.clone());
        let started = Instant::now();
        // The last one out drops sled, and with it the lock on its file.
        while let Err(shared) = Arc::try_unwrap(view) {
            if started.elapsed() > CLOSE_PATIENCE {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            view = shared;
        }
        flushed?;
        // After this a clean close can be believed also where sled's own writes cannot.
        if sync_flag {
            Ok(())
        } else {
            Ok(generation::sync_files(&dir)?)
        }
    }

    /// What stands below, for tests that damage it.
    #[cfg(test)]
    #[cfg(not(feature = "shuttle"))]
    pub(super) fn page_store(&self) -> Arc<dyn Kv> {
        Arc::clone(&self.view().unwrap().kv)
    }

    fn read<T>(
        &self,
        question: impl FnOnce(&View) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        match &*self.view.load() {
            Some(view) => question(view),
            None => Err(Error::Closed.into()),
        }
    }

    fn view(&self) -> Result<Arc<View>, IndexError> {
        self.view.load_full().ok_or_else(|| Error::Closed.into())
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

impl Writer {
    fn take_id(&mut self) -> u64 {
        let id = self.manifest.next_run;
        self.manifest.next_run += 1;
        id
    }
}

fn covered_by(run: &RunEntry) -> Covered {
    Covered {
        segment: run.last_segment,
        chain: run.chain,
    }
}

/// The oldest runs of the lowest level that has enough of them.
fn mergeable(runs: &[Arc<Run>], fan_in: usize) -> Option<&[Arc<Run>]> {
    // Levels fall from the oldest run to the newest, so each level is one slice.
    runs.chunk_by(|a, b| a.entry.level == b.entry.level)
        .rev()
        .find_map(|level| level.get(..fan_in))
}
