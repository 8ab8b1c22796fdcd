//! The engine below the index: keys in order, values up to 4 KiB, nothing else.

use std::ops::{Bound, ControlFlow};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidelog_core::{Direction, Error};

use super::IndexError;
use crate::platform;

/// What the index asks of an engine. It need not be right: whatever it answers is checked.
pub(super) trait Kv: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), IndexError>;
    /// Many keys that are new, with their values.
    fn put_new(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), IndexError>;
    fn remove(&self, key: &[u8]) -> Result<(), IndexError>;
    /// Removes every key that begins with `prefix`.
    fn remove_all(&self, prefix: &[u8]) -> Result<(), IndexError>;
    /// The lowest key at or above `from`.
    fn next_key(&self, from: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;
    /// Returns when all that was put before is with the operating system.
    fn flush(&self) -> Result<(), IndexError>;
    fn size_on_disk(&self) -> u64;
    /// The part that read models stand in, apart from the index.
    fn rows(&self) -> &dyn RowKv;
}

/// One key with what is to stand under it; `None` removes it.
pub(crate) type RowChange = (Vec<u8>, Option<Vec<u8>>);

/// Takes key and value of what a scan meets.
pub(crate) type VisitRow<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// What read models ask of an engine. It need not be right either: a digest over it is checked.
pub(crate) trait RowKv: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;
    /// Up or down through a range, until `visit` breaks off.
    fn scan(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        visit: &mut VisitRow<'_>,
    ) -> Result<(), IndexError>;
    /// Waits while something is under way that [`apply`](Self::apply) would wait for.
    fn await_turn(&self);
    /// All changes or none, as reads see it and after a crash; the last one of a key counts.
    fn apply(&self, changes: Vec<RowChange>) -> Result<(), IndexError>;
    /// Removes keys that nobody reads, one by one.
    fn remove(&self, keys: &[Vec<u8>]) -> Result<(), IndexError>;
}

/// Empty entries behind each page. A leaf of sled's holds 8 or 9 entries, whatever their size; it is
/// read and kept whole, and each value in it is a read of its own. So a page costs what stands beside
/// it, and empty entries cost next to nothing: with three a leaf has two or three pages. They are
/// there for their place alone, and never read.
const PADS: u8 = 3;
/// Pages in a leaf, at most.
const PAGES_A_LEAF: usize = 3;
/// Entries removed in one go.
const REMOVED_AT_ONCE: usize = 256;
/// Entries of a leaf of read models, about.
const ROWS_A_LEAF: usize = 8;
/// The tree that read models stand in.
const MODELS: &str = "models";
/// The part of sled's cache that may be filled between two rounds of [`SledKv::tick`].
const TICK_PART: u64 = 48;
/// Extra accesses a round.
const TICK_GETS: u64 = 45;
/// Entries of the tree they go to: enough leaves for each of sled's 256 cache shards.
const TICK_KEYS: u64 = 4096;

/// Held by a flush and by each batch. sled has one lock for all databases of the process, which a
/// flush holds shared while it waits for the disk, and a batch alone: a batch that waited there would
/// keep out every read that comes after it.
static TURN: Mutex<()> = Mutex::new(());

/// sled 0.34.
pub(super) struct SledKv {
    /// `None` only while it is dropped.
    trees: Option<Trees>,
    /// Bytes moved between two rounds of ticks.
    tick_bytes: u64,
    moved: AtomicU64,
    ticked: AtomicU64,
}

/// Fields drop in this order; the trees keep the database alive.
struct Trees {
    main: ::sled::Tree,
    /// Made with the first read model.
    models: OnceLock<::sled::Tree>,
    ticks: ::sled::Tree,
    db: ::sled::Db,
}

impl SledKv {
    /// Opens or creates what stands in `dir`. May panic, hang or abort: see `generation`.
    pub(super) fn open(dir: &Path, cache_bytes: u64, patience: Duration) -> ::sled::Result<Self> {
        let config = ::sled::Config::new()
            .path(dir)
            .mode(::sled::Mode::HighThroughput)
            .flush_every_ms(None)
            .cache_capacity(cache_bytes.max(1 << 20));
        let started = Instant::now();
        let (db, ticks) = loop {
            // sled starts a pool of threads that stays as long as the process, each of which wakes
            // once a second to find nothing to do.
            match platform::with_lazy_threads(|| open_with_ticks(&config)) {
                // Threads of a database dropped a moment ago may still hold its lock.
                Err(error) if is_locked(&error) && started.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                opened => break opened?,
            }
        };
        let main = db.open_tree("index")?;
        let models = OnceLock::new();
        if db
            .tree_names()
            .iter()
            .any(|name| *name == *MODELS.as_bytes())
        {
            // Set a moment ago, and here alone.
            let _ = models.set(db.open_tree(MODELS)?);
        }
        Ok(Self {
            trees: Some(Trees {
                main,
                models,
                ticks,
                db,
            }),
            tick_bytes: (cache_bytes / TICK_PART).max(1),
            moved: AtomicU64::new(0),
            ticked: AtomicU64::new(0),
        })
    }

    fn trees(&self) -> ::sled::Result<&Trees> {
        let closed = || ::sled::Error::Unsupported("sled is closed".into());
        self.trees.as_ref().ok_or_else(closed)
    }

    /// The tree of the read models, when there is one.
    fn models(&self) -> ::sled::Result<Option<&::sled::Tree>> {
        Ok(self.trees()?.models.get())
    }

    fn models_or_new(&self) -> ::sled::Result<&::sled::Tree> {
        let trees = self.trees()?;
        if let Some(models) = trees.models.get() {
            return Ok(models);
        }
        // Opened twice it is the same tree.
        let made = trees.db.open_tree(MODELS)?;
        Ok(trees.models.get_or_init(|| made))
    }

    /// Keeps sled's cache within its bound: each of its 256 shards evicts only after 64 accesses,
    /// so pages of 64 KiB would pile up long before; a tiny tree gets the accesses instead.
    fn tick(&self, bytes: usize) -> ::sled::Result<()> {
        let bytes = bytes as u64;
        let before = self.moved.fetch_add(bytes, Ordering::Relaxed);
        if before / self.tick_bytes == (before + bytes) / self.tick_bytes {
            return Ok(());
        }
        let first = self.ticked.fetch_add(TICK_GETS, Ordering::Relaxed);
        let ticks = &self.trees()?.ticks;
        for tick in first..first + TICK_GETS {
            // Steps of a leaf's size, so that each access meets another leaf.
            ticks.get(tick_key(tick.wrapping_mul(9) % TICK_KEYS))?;
        }
        Ok(())
    }
}

impl Kv for SledKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        guarded("read a page", || {
            let value = self.trees()?.main.get(key)?.map(|value| value.to_vec());
            // Its leaf may have been read for it.
            self.tick(value.as_ref().map_or(0, Vec::len) * PAGES_A_LEAF)?;
            Ok(value)
        })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        guarded("write a page", || {
            self.trees()?.main.insert(key, value)?;
            self.tick(value.len())
        })
    }

    fn put_new(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), IndexError> {
        // sled splits leaves by their number of entries and writes both halves again: splitting them
        // while they are empty halves the file (47 instead of 88 MB for 40) and is four times faster.
        guarded("write pages", || {
            let main = &self.trees()?.main;
            let mut pad_key = Vec::new();
            for (key, _) in pairs {
                main.insert(key, &[])?;
                for pad in 0..PADS {
                    pad_key.clear();
                    pad_key.extend_from_slice(key);
                    pad_key.push(pad);
                    main.insert(&pad_key, &[])?;
                }
            }
            for (key, value) in pairs {
                main.insert(key, value.as_slice())?;
                self.tick(value.len())?;
            }
            Ok(())
        })
    }

    fn remove(&self, key: &[u8]) -> Result<(), IndexError> {
        guarded("remove a page", || {
            let before = self.trees()?.main.remove(key)?;
            self.tick(before.map_or(0, |value| value.len()))
        })
    }

    fn remove_all(&self, prefix: &[u8]) -> Result<(), IndexError> {
        guarded("remove pages", || {
            let main = &self.trees()?.main;
            let mut from = prefix.to_vec();
            loop {
                let some = main.range(from.as_slice()..).take(REMOVED_AT_ONCE);
                let mut some: Vec<_> = some.collect::<::sled::Result<_>>()?;
                some.retain(|(key, _)| key.starts_with(prefix));
                // Onwards from the last one: a key that sled does not let go of holds up nobody.
                match some.last() {
                    Some((last, _)) => from = [last.as_ref(), &[0]].concat(),
                    None => return Ok(()),
                }
                // After some ten changes sled writes a leaf again, with all values still in it.
                let (pads, pages): (Vec<_>, Vec<_>) =
                    some.into_iter().partition(|(_, value)| value.is_empty());
                for (key, value) in pages.into_iter().chain(pads) {
                    main.remove(key)?;
                    self.tick(value.len())?;
                }
            }
        })
    }

    fn next_key(&self, from: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        guarded("seek a page", || {
            let key = self.trees()?.main.range(from..).keys().next().transpose()?;
            Ok(key.map(|key| key.to_vec()))
        })
    }

    fn flush(&self) -> Result<(), IndexError> {
        let _turn = TURN.lock();
        guarded("flush", || self.trees()?.db.flush().map(drop))
    }

    fn size_on_disk(&self) -> u64 {
        guarded("measure its file", || self.trees()?.db.size_on_disk()).unwrap_or(0)
    }

    fn rows(&self) -> &dyn RowKv {
        self
    }
}

impl RowKv for SledKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        guarded("read a row", || {
            let Some(models) = self.models()? else {
                return Ok(None);
            };
            let value = models.get(key)?.map(|value| value.to_vec());
            self.tick(value.as_ref().map_or(0, Vec::len) * ROWS_A_LEAF)?;
            Ok(value)
        })
    }

    fn scan(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        visit: &mut VisitRow<'_>,
    ) -> Result<(), IndexError> {
        guarded("read rows", || {
            let Some(models) = self.models()? else {
                return Ok(());
            };
            let mut range = models.range::<&[u8], _>(range);
            let mut bytes = 0;
            loop {
                let next = match direction {
                    Direction::Forward => range.next(),
                    Direction::Backward => range.next_back(),
                };
                let Some((key, value)) = next.transpose()? else {
                    break;
                };
                bytes += key.len() + value.len();
                if visit(&key, &value).is_break() {
                    break;
                }
            }
            self.tick(bytes)
        })
    }

    fn await_turn(&self) {
        drop(TURN.lock());
    }

    fn apply(&self, changes: Vec<RowChange>) -> Result<(), IndexError> {
        guarded("write rows", || {
            let models = self.models_or_new()?;
            let mut batch = ::sled::Batch::default();
            let mut bytes = 0;
            for (key, value) in changes {
                match value {
                    Some(value) => {
                        bytes += value.len();
                        batch.insert(key, value);
                    }
                    None => batch.remove(key),
                }
            }
            {
                let _turn = TURN.lock();
                models.apply_batch(batch)?;
            }
            self.tick(bytes * ROWS_A_LEAF)
        })
    }

    fn remove(&self, keys: &[Vec<u8>]) -> Result<(), IndexError> {
        guarded("remove rows", || {
            let Some(models) = self.models()? else {
                return Ok(());
            };
            for key in keys {
                let before = models.remove(key)?;
                self.tick(before.map_or(0, |value| value.len()))?;
            }
            Ok(())
        })
    }
}

impl SledKv {
    /// Closes it; whether all it has written is synced.
    pub(super) fn close(&mut self) -> bool {
        let trees = self.trees.take();
        // sled syncs its file when it is dropped, and panics when that fails.
        let dropped = guarded("close", || {
            drop(trees);
            Ok(())
        });
        dropped.is_ok()
    }
}

impl Drop for SledKv {
    fn drop(&mut self) {
        // What it was asked to keep was flushed before.
        if !self.close() {
            tracing::warn!("sled panicked while it was closed: its last sync failed");
        }
    }
}

/// Opens or creates a database with its tree of ticks.
fn open_with_ticks(config: &::sled::Config) -> ::sled::Result<(::sled::Db, ::sled::Tree)> {
    let db = config.open()?;
    let ticks = db.open_tree("ticks")?;
    if ticks.is_empty() {
        for key in 0..TICK_KEYS {
            ticks.insert(tick_key(key), &[])?;
        }
        // A new database needs its threads only now.
        db.flush()?;
    }
    Ok((db, ticks))
}

fn tick_key(key: u64) -> [u8; 4] {
    #[allow(clippy::cast_possible_truncation, reason = "below TICK_KEYS")]
    (key as u32).to_be_bytes()
}

fn is_locked(error: &::sled::Error) -> bool {
    matches!(error, ::sled::Error::Io(io) if io.to_string().contains("acquire lock"))
}

/// Runs one call of sled; what it asserts about a damaged file must not end the caller's thread.
fn guarded<T>(
    action: &'static str,
    call: impl FnOnce() -> ::sled::Result<T>,
) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(engine_error(action, error)),
        Err(_) => Err(IndexError::damaged(format!(
            "sled panicked when asked to {action}"
        ))),
    }
}

fn engine_error(action: &'static str, error: ::sled::Error) -> IndexError {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match &error {
        // What sled says when its file is shorter or other than it expects.
        ::sled::Error::Io(io)
            if !matches!(io.kind(), InvalidData | InvalidInput | UnexpectedEof) =>
        {
            Error::Engine {
                engine: "sled",
                action,
                source: Arc::new(error),
            }
            .into()
        }
        _ => IndexError::damaged(format!("sled failed to {action}: {error}")),
    }
}
