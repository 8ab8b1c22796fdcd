//! What repairs have lost, as the log declares it, and which of it was accepted.
//!
//! The holes in positions stand in segment headers; which events of which streams are gone stands in
//! control records at the front of flagged segments, so that opening finds both without a scan.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::sync::OnceLock;

use tidelog_core::{Error, StreamId};

use super::control::{Declared, HoleFields};
use super::store::SledStore;
use crate::primitives::RwLock;

/// A stretch of the log that a repair could not keep. Where it is the end that is gone, it reaches as
/// far as there may have been something: none of its numbers is given again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostRange {
    /// Numbers of the commits.
    pub commits: RangeInclusive<u64>,
    /// Positions of their records.
    pub positions: RangeInclusive<u64>,
}

impl LostRange {
    pub(crate) fn new(commits: (u64, u64), positions: (u64, u64)) -> Self {
        Self {
            commits: commits.0..=commits.1,
            positions: positions.0..=positions.1,
        }
    }
}

/// A stream that is known to have lost events.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostEvents {
    /// The stream.
    pub stream: StreamId,
    /// Sequences that are gone, ascending.
    pub sequences: Vec<RangeInclusive<u64>>,
    /// Whether that was accepted: until then the stream takes no events.
    pub accepted: bool,
}

/// What is gone from a store; see [`SledStore::losses`](super::SledStore::losses).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Losses {
    /// Stretches of the log, ascending.
    pub ranges: Vec<LostRange>,
    /// Streams that lost events, by name.
    pub streams: Vec<LostEvents>,
    /// At most so many records are gone that may have been of any stream. Above 0 the store takes no
    /// events until all of the loss is accepted.
    pub unnamed: u64,
    /// Whether all of it was accepted.
    pub accepted: bool,
}

/// What is known of one stream's lost events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamLoss {
    /// First and last sequence of each stretch, ascending.
    pub lost: Vec<(u64, u64)>,
    pub accepted: bool,
}

/// What the newest statement of a repair says, with what was accepted since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub holes: Vec<HoleFields>,
    pub streams: HashMap<StreamId, StreamLoss>,
    /// Records that are gone and may have been of any stream.
    pub unnamed: u64,
    /// How many sequences are left out above the head that a stream had when it was repaired, because
    /// they may have been given.
    pub skip: u64,
    pub accepted: bool,
    /// The segment that the statement stands in: heads in earlier ones are of before.
    pub segment: u64,
}

impl Known {
    /// Takes what one record of segment `segment` declares.
    pub(crate) fn apply(&mut self, segment: u64, declared: Declared) {
        match declared {
            Declared::Gap(gap) => {
                *self = Self {
                    holes: gap.holes,
                    streams: HashMap::new(),
                    unnamed: gap.unnamed,
                    skip: gap.skip,
                    accepted: gap.accepted,
                    segment,
                };
            }
            Declared::Loss(streams) => self.streams.extend(streams),
            Declared::Accepted(None) => {
                self.accepted = true;
                self.streams
                    .values_mut()
                    .for_each(|loss| loss.accepted = true);
            }
            Declared::Accepted(Some(stream)) => {
                if let Some(loss) = self.streams.get_mut(&stream) {
                    loss.accepted = true;
                }
            }
        }
    }

    fn refusal(&self, stream: &StreamId) -> Option<Error> {
        let (lost, remedy) = match self.streams.get(stream) {
            _ if self.accepted => return None,
            _ if self.unnamed > 0 => (
                format!("{} events of streams that cannot be named", self.unnamed),
                "accept_all_losses()",
            ),
            Some(loss) if !loss.accepted => (named(&loss.lost), "accept_loss(stream)"),
            _ => return None,
        };
        Some(Error::LostEvents {
            stream: stream.clone(),
            lost: lost.into(),
            remedy,
        })
    }

    /// The last sequence that is known to be gone.
    fn last_lost(&self, stream: &StreamId) -> u64 {
        let loss = self.streams.get(stream);
        loss.and_then(|loss| loss.lost.last())
            .map_or(0, |(_, last)| *last)
    }

    /// The highest sequence that the stream may have given, when its newest event is of before.
    pub(crate) fn floor(&self, stream: &StreamId, head: u64) -> u64 {
        head.max(self.last_lost(stream)).saturating_add(self.skip)
    }
}

/// `sequences 4 to 6, 9`
fn named(lost: &[(u64, u64)]) -> String {
    let mut text = String::from("sequences ");
    for (at, (first, last)) in lost.iter().enumerate().take(20) {
        let comma = if at == 0 { "" } else { ", " };
        let _ = if first == last {
            write!(text, "{comma}{first}")
        } else {
            write!(text, "{comma}{first} to {last}")
        };
    }
    if lost.len() > 20 {
        text.push_str(" and more");
    }
    text
}

/// What an open store knows of its losses; nothing at all unless it was repaired.
#[derive(Default)]
pub(crate) struct Lossy {
    known: OnceLock<RwLock<Known>>,
}

impl Lossy {
    pub(crate) fn new(known: Option<Known>) -> Self {
        let lossy = Self::default();
        if let Some(known) = known {
            let _ = lossy.known.set(RwLock::new(known));
        }
        lossy
    }

    /// Takes what a record of segment `segment` declares, as a copy meets it.
    pub(crate) fn learn(&self, segment: u64, declared: Declared) {
        let known = self.known.get_or_init(|| RwLock::new(Known::default()));
        known.write().apply(segment, declared);
    }

    /// Why `stream` takes no events, when it does not.
    pub(crate) fn refusal(&self, stream: &StreamId) -> Option<Error> {
        self.known.get()?.read().refusal(stream)
    }

    /// The highest sequence that `stream` may have given. `head` is that of its newest event, and
    /// `segment` where that stands; 0 when there is none.
    pub(crate) fn floor(&self, stream: &StreamId, head: u64, segment: u64) -> u64 {
        let Some(known) = self.known.get() else {
            return head;
        };
        let known = known.read();
        if segment >= known.segment {
            return head;
        }
        known.floor(stream, head)
    }

    /// Whether there is anything to ask.
    pub(crate) fn is_none(&self) -> bool {
        self.known.get().is_none()
    }

    /// Whether sequence `next` may follow `head` in a stream, read in segment `segment`.
    pub(crate) fn explains(&self, stream: &StreamId, head: u64, next: u64, segment: u64) -> bool {
        let Some(known) = self.known.get() else {
            return false;
        };
        let known = known.read();
        let lost = known.streams.get(stream).map(|loss| &loss.lost);
        let declared = lost.is_some_and(|lost| {
            let holds = |(first, last): &(u64, u64)| *first <= head + 1 && next - 1 <= *last;
            lost.iter().any(holds)
        });
        declared || (segment >= known.segment && next == known.floor(stream, head) + 1)
    }

    /// The last sequence of `stream` that is known to be gone; 0 when none is.
    pub(crate) fn last_lost(&self, stream: &StreamId) -> u64 {
        self.known
            .get()
            .map_or(0, |known| known.read().last_lost(stream))
    }

    /// The stretches that `stream` has lost, unless that was accepted.
    pub(crate) fn unaccepted(&self, stream: &StreamId) -> Option<Vec<(u64, u64)>> {
        let known = self.known.get()?.read();
        let loss = known.streams.get(stream)?;
        (!loss.accepted && !known.accepted).then(|| loss.lost.clone())
    }

    /// Whether reads of the whole log may go over its holes.
    pub(crate) fn accepted(&self) -> bool {
        self.known.get().is_none_or(|known| known.read().accepted)
    }

    /// Whether events are gone of streams that cannot be named.
    pub(crate) fn hides_streams(&self) -> bool {
        self.known
            .get()
            .is_some_and(|known| known.read().unnamed > 0)
    }

    /// Notes what is in the log now.
    pub(crate) fn accept(&self, stream: Option<&StreamId>) {
        if let Some(known) = self.known.get() {
            known.write().apply(0, Declared::Accepted(stream.cloned()));
        }
    }

    /// Everything, for people.
    pub(crate) fn report(&self) -> Losses {
        self.known
            .get()
            .map_or_else(Losses::default, |known| report(&known.read()))
    }
}

/// What `known` says, for people.
pub(crate) fn report(known: &Known) -> Losses {
    let mut streams: Vec<_> = known
        .streams
        .iter()
        .map(|(stream, loss)| LostEvents {
            stream: stream.clone(),
            sequences: loss
                .lost
                .iter()
                .map(|(first, last)| *first..=*last)
                .collect(),
            accepted: loss.accepted || known.accepted,
        })
        .collect();
    streams.sort_unstable_by(|a, b| a.stream.cmp(&b.stream));
    Losses {
        ranges: known.holes.iter().map(HoleFields::range).collect(),
        streams,
        unnamed: known.unnamed,
        accepted: known.accepted,
    }
}

impl SledStore {
    /// What [`repair`](super::repair()) could not keep of this store's history, and what of that was
    /// accepted.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn losses(&self) -> Result<Losses, Error> {
        self.ensure_open()?;
        Ok(self.shared().log.losses.report())
    }

    /// Goes on with `stream` without the events that [`losses`](Self::losses) says are gone: it takes
    /// events again, and reads go over what is missing. Recorded in the log, and durable when this
    /// returns. The next event gets a sequence above every one that was given before.
    ///
    /// Accepting what is not lost, or again, does nothing. Blocks for file I/O.
    ///
    /// # Errors
    /// [`Error::LostEvents`] while streams that lost events cannot be named:
    /// [`accept_all_losses`](Self::accept_all_losses) then. [`Error::Refused`], [`Error::Closed`],
    /// [`Error::Io`].
    pub fn accept_loss(&self, stream: &StreamId) -> Result<(), Error> {
        self.ensure_open()?;
        let losses = &self.shared().log.losses;
        match losses.refusal(stream) {
            None => Ok(()),
            Some(refusal) if losses.hides_streams() => Err(refusal),
            Some(_) => self.accept(Some(stream)),
        }
    }

    /// Goes on without all that [`losses`](Self::losses) says is gone, whatever streams it was of: all
    /// of them take events again, and reads go over what is missing. Recorded in the log, and durable
    /// when this returns.
    ///
    /// Blocks for file I/O.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Closed`], [`Error::Io`].
    pub fn accept_all_losses(&self) -> Result<(), Error> {
        self.ensure_open()?;
        if self.shared().log.losses.accepted() {
            return Ok(());
        }
        self.accept(None)
    }

    fn accept(&self, stream: Option<&StreamId>) -> Result<(), Error> {
        self.shared().ensure_own()?;
        let accepted = {
            let mut committer = self.handle().lock();
            let accepted = committer.accept_loss(stream);
            accepted.and_then(|()| committer.leave_mark())
        };
        // Wakers are foreign code: not under the lock.
        self.shared().live.notify();
        accepted
    }
}
