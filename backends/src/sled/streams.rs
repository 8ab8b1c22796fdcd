//! Where the events of a stream stand: in memory for the newest segments, in sled for the others.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tidelog_core::{Direction, Error, StreamId};

use super::branches::Piece;
use super::frame::ChainHash;
use super::hash::NameHash;

use super::index::{Index, IndexError, Posting, SegmentIndex};
use super::log::Log;
use super::options::{Phase, Progress, ProgressCallback};
use super::panics::caught;
use super::recover;
use super::walk::read_segment;
use crate::primitives::{Mutex, RwLock};

/// How often one question may find the runs damaged before it gives up.
const MOST_REBUILDS: u32 = 3;

/// Where a sealed segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    pub offset: u64,
    /// Chain hash after its last commit.
    pub hash: ChainHash,
}

/// A segment that is not in the runs yet.
pub(crate) struct Tail {
    pub number: u64,
    pub index: RwLock<SegmentIndex>,
    /// Its end, once it is sealed.
    pub end: Mutex<Option<SegmentEnd>>,
}

impl Tail {
    pub(crate) fn new(index: SegmentIndex, end: Option<SegmentEnd>) -> Arc<Self> {
        let number = index.segment();
        Arc::new(Self {
            number,
            index: RwLock::new(index),
            end: Mutex::new(end),
        })
    }
}

/// What [`Streams::recent`] answers.
pub(crate) struct RecentEvents {
    pub head: u64,
    /// Sequence and fingerprint of the newest events, newest first.
    pub newest: Vec<(u64, u32)>,
    /// Whether all of the window's are there.
    pub whole: bool,
}

/// The stream index over the whole log.
pub(crate) struct Streams {
    tails: ArcSwap<Vec<Arc<Tail>>>,
    index: Index,
    /// Held shared by everything that asks the runs, alone while they are made anew: in between
    /// they know too little, and a head would read low.
    rebuilding: RwLock<Option<Error>>,
    log: Arc<Log>,
    hash: NameHash,
    progress: Option<ProgressCallback>,
}

impl Streams {
    pub(crate) fn new(
        index: Index,
        tails: Vec<Arc<Tail>>,
        log: Arc<Log>,
        hash: NameHash,
        progress: Option<ProgressCallback>,
    ) -> Self {
        Self {
            tails: ArcSwap::from_pointee(tails),
            index,
            rebuilding: RwLock::new(None),
            log,
            hash,
            progress,
        }
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    pub(crate) fn tails(&self) -> Arc<Vec<Arc<Tail>>> {
        self.tails.load_full()
    }

    /// The writer begins a segment.
    pub(crate) fn begin(&self, tail: &Arc<Tail>) {
        self.tails.rcu(|tails| {
            let mut tails = Vec::clone(tails);
            tails.push(Arc::clone(tail));
            tails
        });
    }

    /// The segment is in the runs now.
    fn forget(&self, number: u64) {
        self.tails.rcu(|tails| {
            tails
                .iter()
                .filter(|tail| tail.number != number)
                .cloned()
                .collect::<Vec<_>>()
        });
    }

    /// Newest sequence of `stream` and its place, in the branch that was its newest at position
    /// `pin`. `hash` is that of its name.
    pub(crate) fn head(
        &self,
        hash: u64,
        stream: &StreamId,
        pin: u64,
    ) -> Result<Option<(u64, Posting)>, Error> {
        if self.log.branches.of(stream).is_none() {
            return self.head_of(hash, stream);
        }
        let (all, backward) = ((1, u64::MAX), Direction::Backward);
        let newest = self.postings(hash, stream, all, backward, 1, pin)?;
        Ok(newest.into_iter().next())
    }

    fn head_of(&self, hash: u64, stream: &StreamId) -> Result<Option<(u64, Posting)>, Error> {
        // The tails are looked at first: what leaves them afterwards is in the runs already.
        for tail in self.tails.load().iter().rev() {
            if let Some(head) = tail.index.read().head(hash, stream) {
                return Ok(Some(head));
            }
        }
        self.ask(|index| index.head(hash, stream))
    }

    /// Places of the events with sequences `from..=to`, in the order of `direction`, in the branch
    /// that was the stream's newest at position `pin`. `hash` is that of its name.
    pub(crate) fn postings(
        &self,
        hash: u64,
        stream: &StreamId,
        range: (u64, u64),
        direction: Direction,
        limit: usize,
        pin: u64,
    ) -> Result<Vec<(u64, Posting)>, Error> {
        match self.log.branches.of(stream) {
            None => self.postings_of(hash, stream, range, direction, limit),
            Some(lineage) => self.postings_in(&lineage.pieces(range, pin), direction, limit),
        }
    }

    /// The same of pieces of streams, which ascend.
    pub(crate) fn postings_in(
        &self,
        pieces: &[Piece],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(u64, Posting)>, Error> {
        let mut out = Vec::new();
        let mut add = |Piece { name, from, to }: &Piece| {
            let left = limit.saturating_sub(out.len());
            if left > 0 {
                let hash = self.hash.stream(name);
                out.extend(self.postings_of(hash, name, (*from, *to), direction, left)?);
            }
            Ok(())
        };
        match direction {
            Direction::Forward => pieces.iter().try_for_each(&mut add)?,
            Direction::Backward => pieces.iter().rev().try_for_each(&mut add)?,
        }
        Ok(out)
    }

    fn postings_of(
        &self,
        hash: u64,
        stream: &StreamId,
        (from, to): (u64, u64),
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(u64, Posting)>, Error> {
        let mut out = Vec::new();
        let tails = self.tails.load();
        let mut first = Vec::new();
        for tail in tails.iter() {
            tail.index.read().postings(
                hash,
                stream,
                0,
                u64::MAX,
                Direction::Forward,
                1,
                &mut first,
            );
            if !first.is_empty() {
                break;
            }
        }
        // A segment may be in the runs and still in these tails: each sequence is asked for once.
        let runs_to = first
            .first()
            .map_or(to, |(sequence, _)| to.min(sequence.saturating_sub(1)));
        let runs = |out: &mut Vec<(u64, Posting)>| {
            let left = limit.saturating_sub(out.len());
            if left == 0 || from > runs_to {
                return Ok(());
            }
            let found = self.ask(|index| {
                let mut found = Vec::new();
                index.postings(hash, stream, from, runs_to, direction, left, &mut found)?;
                Ok(found)
            })?;
            out.extend(found);
            Ok(())
        };
        let in_tail = |tail: &Tail, out: &mut Vec<(u64, Posting)>| {
            let left = limit.saturating_sub(out.len());
            if left > 0 {
                tail.index
                    .read()
                    .postings(hash, stream, from, to, direction, left, out);
            }
        };
        match direction {
            Direction::Forward => {
                runs(&mut out)?;
                tails.iter().for_each(|tail| in_tail(tail, &mut out));
            }
            Direction::Backward => {
                tails.iter().rev().for_each(|tail| in_tail(tail, &mut out));
                runs(&mut out)?;
            }
        }
        Ok(out)
    }

    /// No id of version 7 in the log is above this one; `None` where that is not known.
    pub(crate) fn newest_id(&self) -> Option<u128> {
        // What leaves the tails is in the runs already.
        let tails = self.tails.load();
        let in_tails = tails.iter().map(|tail| tail.index.read().newest_id()).max();
        let in_runs = self.index.newest_id()?;
        Some(in_runs.max(in_tails.unwrap_or(0)))
    }

    /// Whether ids from `oldest_id` on, a number of [`in_time_order`](super::hash::in_time_order),
    /// are in no run, because all of the runs' are older.
    pub(crate) fn is_newer_than_runs(&self, oldest_id: Option<u128>) -> Result<bool, Error> {
        let Some(oldest_id) = oldest_id else {
            return Ok(false);
        };
        let newest = self.ask(|index| Ok(index.newest_id()))?;
        Ok(newest.is_some_and(|newest| newest < oldest_id))
    }

    /// The head sequence and the fingerprints of up to `window` newest events. Those in the runs are
    /// left out where ids from `oldest_id` on are asked for and cannot be among them.
    pub(crate) fn recent(
        &self,
        hash: u64,
        stream: &StreamId,
        window: usize,
        oldest_id: Option<u128>,
    ) -> Result<RecentEvents, Error> {
        if let Some(lineage) = self.log.branches.of(stream) {
            let pieces = lineage.pieces((1, u64::MAX), u64::MAX);
            let places = self.postings_in(&pieces, Direction::Backward, window)?;
            let newest = places.iter();
            let newest = newest.map(|(sequence, place)| (*sequence, place.fingerprint));
            return Ok(RecentEvents {
                head: places.first().map_or(0, |(sequence, _)| *sequence),
                newest: newest.collect(),
                whole: true,
            });
        }
        let mut newest: Vec<(u64, u32)> = Vec::new();
        for tail in self.tails.load().iter().rev() {
            let left = window.saturating_sub(newest.len());
            tail.index
                .read()
                .fingerprints(hash, stream, left, &mut newest);
        }
        let known = newest.len();
        let more = known < window && newest.last().is_none_or(|(sequence, _)| *sequence > 1);
        // After the tails were looked at: what has left them since is in the runs.
        if more && self.is_newer_than_runs(oldest_id)? {
            let head = match newest.first() {
                Some((sequence, _)) => *sequence,
                None => self
                    .head_of(hash, stream)?
                    .map_or(0, |(sequence, _)| sequence),
            };
            return Ok(RecentEvents {
                head,
                newest,
                whole: false,
            });
        }
        if more {
            let left = window - known;
            let found = self.ask(|index| {
                let mut found = Vec::new();
                // The runs may hold a segment that was still among the tails: ask for more, then
                // drop what is known.
                index.fingerprints(hash, stream, left + known, &mut found)?;
                Ok(found)
            })?;
            let oldest = newest.last().map_or(u64::MAX, |(sequence, _)| *sequence);
            newest.extend(
                found
                    .into_iter()
                    .filter(|(sequence, _)| *sequence < oldest)
                    .take(left),
            );
        }
        Ok(RecentEvents {
            head: newest.first().map_or(0, |(sequence, _)| *sequence),
            newest,
            whole: true,
        })
    }

    /// Asks the runs; makes them anew when they are damaged.
    pub(crate) fn ask<T>(
        &self,
        question: impl Fn(&Index) -> Result<T, IndexError>,
    ) -> Result<T, Error> {
        let mut attempts = 0;
        loop {
            let generation = {
                let broken = self.rebuilding.read();
                if let Some(error) = &*broken {
                    return Err(error.clone());
                }
                match question(&self.index) {
                    Ok(answer) => return Ok(answer),
                    Err(IndexError::Failed(error)) => return Err(error),
                    Err(IndexError::Damaged(what)) if attempts < MOST_REBUILDS => {
                        tracing::warn!(
                            what,
                            "the stream index is damaged; making it again from the log"
                        );
                    }
                    Err(IndexError::Damaged(what)) => {
                        let remedy =
                            "sled or its disk keeps losing data; move the store to another disk";
                        return Err(Error::damaged(
                            self.log.dir().with_file_name("index"),
                            what,
                            remedy,
                        ));
                    }
                }
                self.generation()?
            };
            attempts += 1;
            self.rebuild("a lookup met damage", Some(generation))?;
        }
    }

    /// Looks at the runs as they are, healing nothing; they are not made anew meanwhile.
    pub(crate) fn inspect<T>(
        &self,
        look: impl FnOnce(&Index) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let broken = self.rebuilding.read();
        match &*broken {
            Some(error) => Err(IndexError::Failed(error.clone())),
            None => look(&self.index),
        }
    }

    fn generation(&self) -> Result<u64, Error> {
        Ok(self.index.stats().map_err(super::index_failed)?.generation)
    }

    /// Puts a sealed segment into the runs; what it says is on the disk when this returns.
    pub(crate) fn fold(&self, tail: &Tail) -> Result<(), Error> {
        let Some(end) = *tail.end.lock() else {
            return Ok(());
        };
        // The tail is forgotten under the lock as well: making the runs anew in between would leave
        // the segment in neither place. Only the writer changes a tail, and it is done with this one.
        self.ask(|index| {
            if index
                .covered()
                .is_none_or(|covered| covered.segment < tail.number)
            {
                index.add_segment(&tail.index.read(), end.hash)?;
            }
            fail::fail_point!("fold_forget");
            self.forget(tail.number);
            Ok(())
        })
    }

    /// Merges runs as long as there is something to merge. Not under the lock: a merge is long, and
    /// making the runs anew interrupts it.
    pub(crate) fn merge(&self, stop: impl Fn() -> bool) -> Result<(), Error> {
        let mut damages = 0;
        while !stop() {
            let generation = self.generation()?;
            match self.index.merge_step() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(IndexError::Damaged(what)) if damages < MOST_REBUILDS => {
                    tracing::warn!(what, "a merge met damage; making the stream index again");
                    damages += 1;
                    self.rebuild("a merge met damage", Some(generation))?;
                }
                // Its directory went away under it: the runs were made anew meanwhile.
                Err(_) if self.generation()? != generation => {}
                Err(error) => return Err(super::index_failed(error)),
            }
        }
        Ok(())
    }

    /// Makes the runs again from the log, unless somebody else did since `seen`.
    pub(crate) fn rebuild(&self, reason: &str, seen: Option<u64>) -> Result<(), Error> {
        let mut broken = self.rebuilding.write();
        if let Some(error) = &*broken {
            return Err(error.clone());
        }
        if seen.is_some_and(|seen| Ok(seen) != self.generation().map_err(drop)) {
            return Ok(());
        }
        let Some(last) = self.tails.load().first().map(|tail| tail.number - 1) else {
            return Ok(());
        };
        // The progress callback is foreign code.
        let rebuilt = caught("the index", "be made again", || {
            self.rebuild_to(last, reason)
        });
        if let Err(error) = rebuilt {
            // Half an index would answer wrongly: nothing is answered until the store is reopened.
            *broken = Some(error.clone());
            return Err(error);
        }
        Ok(())
    }

    fn rebuild_to(&self, last: u64, reason: &str) -> Result<(), Error> {
        let failed = |error| match error {
            IndexError::Failed(error) => error,
            IndexError::Damaged(what) => Error::damaged(
                self.log.dir().with_file_name("index"),
                what,
                "reopen the store",
            ),
        };
        self.index.reset(reason).map_err(failed)?;
        let segments = self.log.segments();
        for info in segments.iter().filter(|info| info.number <= last) {
            let progress = Progress {
                phase: Phase::Rebuild,
                done: info.number - 1,
                total: last,
            };
            recover::report(self.progress.as_ref(), progress)?;
            let (index, end) = read_segment(&self.log, info.number, &self.hash)?;
            self.index.add_segment(&index, end).map_err(failed)?;
            while self.index.merge_step().map_err(failed)? {}
        }
        Ok(())
    }
}
