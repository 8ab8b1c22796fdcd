//! A damaged segment of a store, made again from what the replica has of its log.

use std::future::Future;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use tidelog_backends::ScyllaConfig;
use tidelog_backends::commits::SegmentMend;
use tidelog_backends::wire::{OriginRow, Wire};
use tidelog_core::Error;

use super::ask::{self, trouble};
use super::lineage::Lineage;
use super::log_reader::{LogReader, Next};
use super::own_thread::on_thread;
use super::restore::connect;
use crate::replication::{BlockingReplication, Replication};

/// A segment that was made again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MendReport {
    /// Its number.
    pub segment: u64,
    /// How many commits it has.
    pub commits: u64,
    /// The positions in it.
    pub positions: RangeInclusive<u64>,
}

/// Makes the sealed segment `segment` of the store in directory `path`, which nobody has open, again
/// from the replica in the keyspace of `config`: for a store that does not open because of that
/// segment. Of one that is open, [`Replication::mend`] does it.
///
/// Every commit is proven by the chain of hashes; the history is the same, and no new epoch begins.
/// The damaged file is replaced in one step at the end.
///
/// ```no_run
/// # async fn example() -> Result<(), tidelog::Error> {
/// let config = tidelog::ScyllaConfig::new(["db1:9042"]).keyspace("shop");
/// let report = tidelog::mend(config, "./events", 17).await?;
/// println!("{} commits are back", report.commits);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::InvalidInput`] when there is no such segment behind which another one has begun;
/// [`Error::Damaged`] when its neighbours do not say what belongs there, or the replica does not have
/// all of it; [`Error::NotAStore`], [`Error::Locked`], [`Error::Unreachable`],
/// [`Error::ServerRefused`], [`Error::Io`]. The damaged one stands there as before then.
pub fn mend(
    config: ScyllaConfig,
    path: impl AsRef<Path>,
    segment: u64,
) -> impl Future<Output = Result<MendReport, Error>> + Send + 'static {
    let path = path.as_ref().to_owned();
    on_thread("tidelog-mend", path.clone(), move || {
        closed(config, path, segment)
    })
}

/// [`mend`] for threads without a runtime.
///
/// # Errors
/// As there.
pub fn mend_blocking(
    config: ScyllaConfig,
    path: impl AsRef<Path>,
    segment: u64,
) -> Result<MendReport, Error> {
    pollster::block_on(closed(config, path.as_ref().to_owned(), segment))
}

async fn closed(config: ScyllaConfig, path: PathBuf, segment: u64) -> Result<MendReport, Error> {
    let wire = connect(config, "mend a segment").await?;
    let mending = SegmentMend::closed(&path, segment)?;
    fill(&wire, mending, segment).await
}

impl Replication {
    /// Makes a sealed segment that is damaged again from the replica, while the store goes on.
    /// [`Tidelog::verify`](crate::Tidelog::verify) names the file of one. Where replication stands
    /// still for it ([`Halt::LocalDamage`](crate::Halt)), call [`retry`](Self::retry) afterwards.
    ///
    /// The newest segment cannot be mended; a store that is damaged there is restored, or repaired.
    ///
    /// ```no_run
    /// # async fn example(log: tidelog::Tidelog) -> Result<(), tidelog::Error> {
    /// // `log/00000017.seg` is damaged.
    /// let report = log.replication().mend(17).await?;
    /// println!("positions {:?} are back", report.positions);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`mend`]; [`Error::InvalidInput`] when replication is off, [`Error::Closed`].
    pub async fn mend(&self, segment: u64) -> Result<MendReport, Error> {
        let wire = self.wire()?;
        let store = self.inner()?.store().clone();
        on_thread("tidelog-mend", PathBuf::from("log"), move || async move {
            let mending = store.mend(segment)?;
            fill(&*wire, mending, segment).await
        })
        .await
    }
}

impl BlockingReplication {
    /// See [`Replication::mend`].
    ///
    /// # Errors
    /// As there.
    pub fn mend(&self, segment: u64) -> Result<MendReport, Error> {
        pollster::block_on(self.0.mend(segment))
    }
}

/// Fetches what belongs into the segment, and puts it into its place.
async fn fill<W: Wire + ?Sized>(
    wire: &W,
    mut mending: SegmentMend,
    segment: u64,
) -> Result<MendReport, Error> {
    let asked = |error| trouble("mend a segment", &error);
    let meta = ask::meta(wire).await.map_err(asked)?;
    let chunk_records = meta.map_or(1, |meta| meta.chunk_records);
    let origin = mending.origin();
    let mut rows = ask::origins(wire, origin).await.map_err(asked)?;
    // The live one has the newest history; but it may have parted from this one.
    rows.sort_by_key(|row| row.successor.is_some());
    let (first, last) = (mending.next(), mending.last());
    for epoch in rows.iter().map(|row| row.epoch) {
        if let Ok(lineage) = Lineage::of(&rows, epoch) {
            fetch(wire, lineage, chunk_records, &mut mending).await?;
        }
        if mending.next() == last {
            break;
        }
    }
    if mending.next() != last {
        return Err(lacking(&rows, &mending));
    }
    mending.finish()?;
    Ok(MendReport {
        segment,
        commits: last.number - first.number,
        positions: first.position + 1..=last.position,
    })
}

/// Takes what the log of one epoch has, as far as it goes.
async fn fetch<W: Wire + ?Sized>(
    wire: &W,
    lineage: Lineage,
    chunk_records: u64,
    mending: &mut SegmentMend,
) -> Result<(), Error> {
    let last = mending.last();
    let mut reader = LogReader::new(lineage, chunk_records, mending.next(), last);
    while mending.next() != last {
        let next = reader.next(wire, last.position).await;
        match next.map_err(|error| trouble("mend a segment", &error))? {
            Next::Commit(commit) => mending.push(commit.number, &commit.body, commit.hash)?,
            Next::Missing if reader.widen() => {}
            Next::Missing | Next::Undecided | Next::Mismatch(_) => break,
        }
    }
    Ok(())
}

fn lacking(rows: &[OriginRow], mending: &SegmentMend) -> Error {
    let (origin, next) = (mending.origin(), mending.next().position + 1);
    let what = if rows.is_empty() {
        "it does not know this store".to_owned()
    } else {
        let last = mending.last().position;
        format!("of the segment's positions up to {last} it lacks those from {next} on")
    };
    let remedy = "restore the store from a backup, or `repair` it";
    Error::damaged(format!("the replica of {origin}"), what, remedy)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;

    use tidelog_backends::SledStore;
    use tidelog_backends::fake::{FakeServer, FakeWire, Fault};
    use tidelog_backends::wire::Request;
    use tidelog_core::{AppendBatch, ContentType, EventLog, ExpectedVersion, LogQuery, NewEvent};

    use super::super::tests::{Till, meta};
    use super::*;

    fn big(store: &SledStore) {
        let payload = vec![7; 90_000];
        let event = NewEvent::new("Big", 1, ContentType::Bytes, payload);
        let stream = "T/big".parse().unwrap();
        let batch = AppendBatch::new(stream, ExpectedVersion::Any, vec![event]);
        store.blocking().append(batch).unwrap();
    }

    fn till() -> Till {
        let mut till = Till::new(FakeWire::new(FakeServer::new(meta())));
        for at in 0..60 {
            till.append(&format!("T/{}", at % 5), 1 + at % 4);
            big(&till.store);
        }
        till.settle();
        till
    }

    /// Damages a sealed segment of the store, and answers its number.
    fn damage(dir: &Path) -> u64 {
        let log = dir.join("log");
        let mut files: Vec<_> = std::fs::read_dir(log)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        files.retain(|file| file.path().extension().is_some_and(|e| e == "seg"));
        files.sort_by_key(std::fs::DirEntry::file_name);
        let second = files[1].path();
        let mut permissions = std::fs::metadata(&second).unwrap().permissions();
        #[allow(clippy::permissions_set_readonly_false, reason = "a test's own file")]
        permissions.set_readonly(false);
        std::fs::set_permissions(&second, permissions).unwrap();
        let file = OpenOptions::new().write(true).open(&second).unwrap();
        file.write_all_at(b"damage", 40_000).unwrap();
        2
    }

    fn all(store: &SledStore) -> Result<Vec<tidelog_core::EventEnvelope>, Error> {
        store.blocking().read_all(LogQuery::all()).collect()
    }

    #[test]
    fn a_damaged_segment_is_made_again_from_the_replica() {
        let till = till();
        let before = all(&till.store).unwrap();
        let segment = damage(&till.store.info().unwrap().path);
        assert!(till.store.verify().is_err());
        let mending = till.store.mend(segment).unwrap();
        let report = pollster::block_on(fill(&till.wire, mending, segment)).unwrap();
        assert_eq!(report.segment, 2);
        till.store.verify().unwrap();
        assert_eq!(all(&till.store).unwrap(), before);
        let last = till.store.last_position();
        assert!(*report.positions.end() < last && report.commits > 1);
    }

    #[test]
    fn what_the_replica_lacks_is_named_and_nothing_is_changed() {
        let till = till();
        let segment = damage(&till.store.info().unwrap().path);
        till.wire.set_faults(|request| match request {
            Request::Log { .. } => Fault::LostReply,
            _ => Fault::None,
        });
        let mending = till.store.mend(segment).unwrap();
        let error = pollster::block_on(fill(&till.wire, mending, segment)).unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        till.wire.set_faults(|_| Fault::None);
        let table = tidelog_backends::fake::Table::Log;
        till.wire.with_server(|server| server.truncate(table));
        let mending = till.store.mend(segment).unwrap();
        let error = pollster::block_on(fill(&till.wire, mending, segment)).unwrap_err();
        assert!(error.to_string().contains("it lacks those from"), "{error}");
        assert!(till.store.verify().is_err());
    }
}
