//! Keeps other origins' logs on this machine, as far as they are settled.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::select;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tidelog_backends::SledStore;
use tidelog_backends::commits::LogCopy;
use tidelog_backends::wire::{OriginRow, ParkedKey, ParkedRow, Wire, WireError};
use tidelog_core::{CheckpointStore, Error, EventId, EventLog, Sleeper, StreamId};
use tracing::Instrument;
use uuid::Uuid;

use super::ask::{self, trouble};
use super::hidden::Hidden;
use super::lineage::Lineage;
use super::log_reader::{LogReader, Next, declared_hole};
use super::parked_of_log::{ParkedOfLog, Sizes};
use super::peers::{Kept, Known, Peers};
use super::restore::end_of;

const FOLDER: &str = "peers";
/// The name, in a peer's own folder, that what its origin says of it is saved under.
const STATE: &str = "peer";
const FORMAT: u32 = 1;
const EVERY: Duration = Duration::from_secs(1);
/// Commits that are taken of one peer before it is the next one's turn.
const TURN: usize = 64;

/// Which other stores' events are kept on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pull {
    /// None.
    #[default]
    Off,
    /// Those of all that replicate to the keyspace.
    All,
    /// Those of these origins.
    Origins(Vec<Uuid>),
}

impl Pull {
    fn wants(&self, origin: Uuid) -> bool {
        match self {
            Self::Off => false,
            Self::All => true,
            Self::Origins(origins) => origins.contains(&origin),
        }
    }
}

/// Fetches what is settled and not kept yet.
pub(crate) struct Puller {
    wire: Arc<dyn Wire>,
    sleeper: Arc<dyn Sleeper>,
    pull: Pull,
    own: Uuid,
    folder: PathBuf,
    peers: Peers,
    readers: BTreeMap<(Uuid, Uuid), LogReader>,
    parked: BTreeMap<(Uuid, Uuid), ParkedOfLog>,
}

impl Puller {
    /// Opens what is kept in the folder of the store in `dir`.
    pub(crate) fn open(
        dir: &Path,
        own: Uuid,
        pull: Pull,
        wire: Arc<dyn Wire>,
        sleeper: Arc<dyn Sleeper>,
    ) -> Result<Self, Error> {
        let puller = Self {
            wire,
            sleeper,
            pull,
            own,
            folder: dir.join(FOLDER),
            peers: Peers::default(),
            readers: BTreeMap::new(),
            parked: BTreeMap::new(),
        };
        let entries = match fs::read_dir(&puller.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(puller),
            Err(error) => return Err(Error::io("read", &puller.folder, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| Error::io("read", &puller.folder, error))?;
            let name = entry.file_name();
            let Some((origin, epoch, first)) = name.to_str().and_then(parse) else {
                continue;
            };
            if puller.pull.wants(origin) {
                puller.kept(origin, epoch, first)?;
            }
        }
        Ok(puller)
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Fetches until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            match self.turn().await {
                Ok(true) => {}
                Ok(false) => self.sleeper.sleep(EVERY).await,
                Err(error) => {
                    tracing::info!(%error, "other stores' events are not fetched for now");
                    self.sleeper.sleep(EVERY).await;
                }
            }
        }
    }

    /// Fetches some of what each origin has more; whether there was anything. May be dropped at every
    /// await.
    pub(super) async fn turn(&mut self) -> Result<bool, Error> {
        let asked = |error: WireError| trouble("fetch other stores' events", &error);
        let wire = Arc::clone(&self.wire);
        let meta = ask::meta(&*wire).await.map_err(asked)?;
        let Some(meta) = meta else { return Ok(false) };
        let rows = ask::all_origins(&*wire).await.map_err(asked)?;
        let mut of: BTreeMap<Uuid, Vec<OriginRow>> = BTreeMap::new();
        for row in rows {
            if row.origin != self.own && self.pull.wants(row.origin) {
                of.entry(row.origin).or_default().push(row);
            }
        }
        let mut came = false;
        let mut first_error = None;
        for rows in of.into_values() {
            for row in &rows {
                let fetched = if row.successor.is_some() {
                    self.retire(&rows, row);
                    Ok(false)
                } else {
                    let (origin, epoch) = (row.origin, row.epoch);
                    let span = tracing::debug_span!("pull", %origin, %epoch);
                    let sizes = Sizes {
                        chunk_records: meta.chunk_records,
                        bucket_events: meta.bucket_events.max(1),
                    };
                    let fetch = self.fetch(&rows, row, sizes);
                    fetch.instrument(span).await
                };
                match fetched {
                    Ok(some) => came |= some,
                    // The others go on.
                    Err(error) => first_error = first_error.or(Some(error)),
                }
            }
        }
        first_error.map_or(Ok(came), Err)
    }

    /// An epoch that was given up stays to be read if it has what its successor has not.
    fn retire(&self, rows: &[OriginRow], row: &OriginRow) {
        let Some(kept) = self.peers.get(row.origin, row.epoch) else {
            return;
        };
        let next = row.successor;
        let lineage = |epoch| Lineage::of(rows, epoch).ok();
        let common = next.and_then(lineage).zip(lineage(row.epoch));
        let common = common.map_or(0, |(new, old)| new.common(&old));
        let has_all = next
            .and_then(|next| self.peers.get(row.origin, next))
            .is_some_and(|new| new.store.last_position() >= kept.store.last_position());
        if kept.store.last_position() <= common && has_all {
            self.peers.forget(row.origin, row.epoch);
            let path = self
                .folder
                .join(name(row.origin, row.epoch, row.first_epoch));
            let closed = kept.store.close_blocking();
            if let Err(error) = closed.and_then(|()| {
                fs::remove_dir_all(&path).map_err(|error| Error::io("remove", &path, error))
            }) {
                tracing::warn!(%error, "what another store gave up is not removed");
            }
            return;
        }
        kept.known.write().is_retired = true;
    }

    async fn fetch(
        &mut self,
        rows: &[OriginRow],
        row: &OriginRow,
        sizes: Sizes,
    ) -> Result<bool, Error> {
        let chunk_records = sizes.chunk_records;
        let Ok(lineage) = Lineage::of(rows, row.epoch) else {
            return Ok(false);
        };
        let key = (row.origin, row.epoch);
        let kept = match self.peers.get(row.origin, row.epoch) {
            Some(kept) => kept,
            None => self.kept(row.origin, row.epoch, row.first_epoch)?,
        };
        let goal = end_of(&row.watermark);
        let is_level = kept.copy.lock().next().position >= goal.position;
        // What is parked is resolved without a word in the log where it is accepted as it is.
        if is_level && !kept.known.read().hidden.has_open() {
            return Ok(false);
        }
        let asked = |error: WireError| trouble("fetch another store's events", &error);
        // What is held back is known, and saved, before anything that it may be about.
        let parked = self.parked.entry(key).or_default();
        let parked = parked.read(&*self.wire, &lineage, sizes, goal).await;
        let parked = parked.map_err(asked)?;
        save(&kept, &row.name, &parked).await?;
        if is_level {
            return Ok(false);
        }
        let end = kept.copy.lock().next();
        let reader = self
            .readers
            .entry(key)
            .or_insert_with(|| LogReader::new(lineage.clone(), chunk_records, end, goal));
        if reader.end() != end {
            *reader = LogReader::new(lineage.clone(), chunk_records, end, goal);
        }
        reader.goes_on(lineage, goal);
        let mut came = false;
        for _ in 0..TURN {
            match reader
                .next(&*self.wire, goal.position)
                .await
                .map_err(asked)?
            {
                Next::Commit(commit) => {
                    let mut copy = kept.copy.lock();
                    copy.push(commit.number, &commit.body, commit.hash)?;
                    came = true;
                }
                Next::Missing if reader.end().position >= goal.position => break,
                Next::Missing if reader.widen() => {}
                Next::Missing => {
                    let hole = declared_hole(&*self.wire, reader).await.map_err(asked)?;
                    let Some(hole) = hole else {
                        // It is waited for.
                        reader.again();
                        break;
                    };
                    kept.copy.lock().skip(&hole)?;
                    reader.skip(&hole);
                }
                Next::Undecided => break,
                Next::Mismatch(end) => {
                    let position = end.position;
                    let what = format!("its rows up to {position} are another history's");
                    let remedy = "the store itself can send everything again: `resync` there";
                    let place = format!("the replica of {}", row.origin);
                    return Err(Error::damaged(place, what, remedy));
                }
            }
        }
        if came {
            kept.copy.lock().sync()?;
            let position = kept.copy.lock().next().position;
            #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
            metrics::gauge!("tidelog_pull_position", "origin" => row.origin.to_string())
                .set(position as f64);
        }
        Ok(came)
    }

    /// Opens what is kept of an epoch, or begins to keep it.
    fn kept(&self, origin: Uuid, epoch: Uuid, first_epoch: Uuid) -> Result<Arc<Kept>, Error> {
        fs::create_dir_all(&self.folder)
            .map_err(|error| Error::io("create", &self.folder, error))?;
        let dir = self.folder.join(name(origin, epoch, first_epoch));
        let copy = LogCopy::open(&dir, origin, first_epoch, &SledStore::builder(&dir))?;
        let store = copy.store().clone();
        let saved = pollster::block_on(store.load(STATE))?;
        let known = saved.map_or_else(|| Ok(Known::default()), |saved| known(&dir, &saved))?;
        Ok(self.peers.put(Kept {
            origin,
            epoch,
            store,
            copy: Mutex::new(copy),
            known: RwLock::new(known),
        }))
    }
}

/// `<origin>-<epoch>`, and the first epoch where that is another one.
fn name(origin: Uuid, epoch: Uuid, first_epoch: Uuid) -> String {
    let (origin, own) = (origin.simple(), epoch.simple());
    if epoch == first_epoch {
        format!("{origin}-{own}")
    } else {
        format!("{origin}-{own}-{}", first_epoch.simple())
    }
}

fn parse(name: &str) -> Option<(Uuid, Uuid, Uuid)> {
    let mut parts = name.split('-').map(Uuid::try_parse);
    let (origin, epoch) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let first = match parts.next() {
        Some(first) => first.ok()?,
        None => epoch,
    };
    parts.next().is_none().then_some((origin, epoch, first))
}

/// What is saved of a peer beside its log.
#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    name: Box<str>,
    parked: Vec<SavedParked>,
}

/// Type, id, first position, until, first sequence, last position of the epoch.
type SavedParked = (Box<str>, Box<str>, u64, Option<u64>, u64, u64);

async fn save(kept: &Kept, name: &str, parked: &[(ParkedRow, u64)]) -> Result<(), Error> {
    let hidden = Hidden::of(parked);
    {
        let known = kept.known.read();
        if *known.hidden == hidden && *known.name == *name {
            return Ok(());
        }
    }
    let rows = parked.iter().map(|(row, last)| {
        let stream = &row.key.stream;
        (
            stream.aggregate_type().into(),
            stream.aggregate_id().into(),
            row.key.first_position,
            row.until_position,
            row.first_sequence,
            *last,
        )
    });
    let saved = Saved {
        format: FORMAT,
        name: name.into(),
        parked: rows.collect(),
    };
    let bytes = postcard::to_stdvec(&saved).map_err(|error| Error::Codec {
        what: "encoding the state",
        type_name: "Peer".into(),
        revision: FORMAT,
        recorded: None,
        reason: error.to_string().into(),
    })?;
    kept.store.save(STATE, 0, bytes.into()).await?;
    let mut known = kept.known.write();
    known.name = name.into();
    known.hidden = Arc::new(hidden);
    Ok(())
}

fn known(dir: &Path, bytes: &[u8]) -> Result<Known, Error> {
    let remedy = "remove the folder: it is fetched again";
    let damaged = |what: String| Error::damaged(dir, what, remedy);
    let saved: Saved = postcard::from_bytes(bytes).map_err(|error| damaged(error.to_string()))?;
    if saved.format != FORMAT {
        return Err(damaged(format!("its state has format {}", saved.format)));
    }
    let mut hidden = Hidden::default();
    for (aggregate_type, aggregate_id, first_position, until_position, first_sequence, last) in
        saved.parked
    {
        let stream = StreamId::new(&aggregate_type, &aggregate_id)?;
        let row = ParkedRow {
            key: ParkedKey {
                origin: Uuid::nil(),
                epoch: Uuid::nil(),
                stream,
                first_position,
            },
            first_sequence,
            until_position,
            reason: "".into(),
            local_event: EventId::from_uuid(Uuid::nil()),
            remote: None,
        };
        hidden.add(&row, last);
    }
    Ok(Known {
        name: saved.name,
        hidden: Arc::new(hidden),
        is_retired: false,
    })
}

/// A puller at work beside an open store.
pub(crate) struct Pulling {
    peers: Peers,
    stop: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Pulling {
    /// Opens what is kept, and starts to fetch what comes, on a thread of its own.
    pub(crate) fn start(puller: Puller) -> Result<Self, Error> {
        let peers = puller.peers().clone();
        let (stop, stopped) = oneshot::async_channel();
        let thread = thread::Builder::new().name("tidelog-pull".into());
        let folder = puller.folder.clone();
        let work = move || {
            let work = Box::pin(puller.run());
            drop(pollster::block_on(select(work, stopped)));
        };
        let thread = thread
            .spawn(work)
            .map_err(|error| Error::io("start a thread for", folder, error))?;
        Ok(Self {
            peers,
            stop: Mutex::new(Some((stop, thread))),
        })
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Ends it, and closes what is kept. Doing so again does nothing.
    pub(crate) fn stop(&self) {
        let Some((stop, thread)) = self.stop.lock().take() else {
            return;
        };
        let _ = stop.send(());
        if thread.thread().id() != thread::current().id() {
            // A panic was told of where it happened.
            let _ = thread.join();
        }
        self.peers.close();
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
