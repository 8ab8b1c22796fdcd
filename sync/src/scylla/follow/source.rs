//! One epoch of an origin that is followed.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use tidelog_backends::commits::{Commit, CommitRecord};
use tidelog_backends::wire::{OriginRow, Wire, WireError};
use tidelog_core::{Error, EventId, RecordKind, StreamId};
use uuid::Uuid;

use super::super::ask::trouble;
use super::super::hidden::{Hidden, Sight};
use super::super::lineage::Lineage;
use super::super::log_reader::{LogReader, Next, declared_hole, locate};
use super::super::parked_of_log::{ParkedOfLog, Sizes};
use super::super::probe::has_event;
use super::super::restore::end_of;
use super::super::vector::LeftOut;
use super::{Followed, Left, Ready};

pub(super) struct Source {
    lineage: Lineage,
    row: OriginRow,
    /// `None` until it is found where the log is.
    reader: Option<LogReader>,
    /// Everything up to here was seen, or left out.
    after: u64,
    hidden: Hidden,
    parked: ParkedOfLog,
    /// What is hidden is known for this watermark.
    hidden_at: Option<u64>,
    /// It was read since it was looked how far the log is.
    is_fresh: bool,
    /// Reads again what was left out and may be seen now; nothing newer comes before that.
    makes_up: Option<LogReader>,
    /// Nothing follows for now: rows are missing that the watermark says are there.
    pub is_waiting: bool,
    /// It was looked for a declared hole at this watermark, behind this position.
    looked_at: Option<(u64, u64)>,
    /// Events that were left out, of which nothing is listed any more, and that stand in their stream.
    standing: BTreeSet<EventId>,
    /// They were looked for since it was looked how far the log is.
    has_looked: bool,
}

/// What a log says next.
pub(super) enum Came {
    Commit(Commit),
    Hole(RangeInclusive<u64>),
    /// A commit that was seen, with events that were left out.
    Again(Commit),
    /// Up to here nothing is left of these parked ranges.
    MadeUp(Vec<(StreamId, u64)>, u64),
}

/// What a reader came upon.
enum Read {
    Commit(Commit),
    Hole(RangeInclusive<u64>),
    End,
}

impl Source {
    pub(super) fn new(lineage: Lineage, row: OriginRow, after: u64) -> Self {
        Self {
            lineage,
            row,
            reader: None,
            after,
            hidden: Hidden::default(),
            parked: ParkedOfLog::default(),
            hidden_at: None,
            is_fresh: false,
            makes_up: None,
            is_waiting: false,
            looked_at: None,
            standing: BTreeSet::new(),
            has_looked: false,
        }
    }

    /// Everything up to here was seen, or left out.
    pub(super) fn after(&self) -> u64 {
        self.after
    }

    pub(super) fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    pub(super) fn goes_on(&mut self, lineage: Lineage, row: &OriginRow) {
        for reader in self.reader.iter_mut().chain(&mut self.makes_up) {
            reader.goes_on(lineage.clone(), end_of(&row.watermark));
            if self.is_waiting {
                reader.again();
            }
        }
        self.is_waiting = false;
        self.is_fresh = false;
        self.has_looked = false;
        self.lineage = lineage;
        self.row = row.clone();
    }

    /// What is settled and was not seen. `left_out` is what was passed over.
    pub(super) async fn step(
        &mut self,
        wire: &dyn Wire,
        sizes: Sizes,
        left_out: &LeftOut,
    ) -> Result<Option<Came>, Error> {
        let goal = end_of(&self.row.watermark);
        let chunk = sizes.chunk_records;
        if self.is_waiting || self.after >= goal.position && left_out.is_empty() {
            return Ok(None);
        }
        let asked = |error: WireError| trouble("follow another store", &error);
        // What is parked is resolved without a word in the log where it is accepted as it is.
        if self.hidden_at != Some(goal.position) || !left_out.is_empty() && !self.is_fresh {
            // After the watermark was read: what is settled is parked before.
            let read = self.parked.read(wire, &self.lineage, sizes, goal).await;
            self.hidden = Hidden::of(&read.map_err(asked)?);
            self.hidden_at = Some(goal.position);
            self.is_fresh = true;
            self.makes_up = None;
        }
        if let Some(came) = self.make_up(wire, sizes, left_out).await? {
            return Ok(Some(came));
        }
        if self.is_waiting || self.after >= goal.position {
            return Ok(None);
        }
        if self.reader.is_none() {
            let found = locate(wire, &self.lineage, chunk, self.after, goal).await;
            self.reader = found.map_err(asked)?;
        }
        loop {
            let read = match &mut self.reader {
                Some(reader) => read(wire, reader, &self.row, &mut self.looked_at).await,
                None => Ok(None),
            };
            match self.unless_damaged(read)? {
                Some(Read::Commit(commit)) if commit.last_position() <= self.after => {}
                Some(Read::Commit(commit)) => return Ok(Some(Came::Commit(commit))),
                Some(Read::Hole(positions)) => return Ok(Some(Came::Hole(positions))),
                Some(Read::End) => return Ok(None),
                None => {
                    self.is_waiting = true;
                    return Ok(None);
                }
            }
        }
    }

    /// What was left out and is decided by now.
    async fn make_up(
        &mut self,
        wire: &dyn Wire,
        sizes: Sizes,
        left_out: &LeftOut,
    ) -> Result<Option<Came>, Error> {
        let chunk = sizes.chunk_records;
        let resolved = left_out.iter().filter_map(|(key, range)| {
            if !self.hidden.knows(&key.0, key.1) {
                return (!self.has_looked).then_some((key, range, key.1));
            }
            let (until, _) = self.hidden.resolved(&key.0, key.1)?;
            Some((key, range, until))
        });
        let (mut first, mut last, mut gave_way) = (u64::MAX, 0, Vec::new());
        for (key, range, until) in resolved {
            if until > *range.end() {
                gave_way.push(key.clone());
            } else {
                first = first.min(*range.start());
                last = last.max(*range.end());
            }
        }
        if !gave_way.is_empty() {
            return Ok(Some(Came::MadeUp(gave_way, u64::MAX)));
        }
        let goal = end_of(&self.row.watermark);
        if first > last {
            return Ok(None);
        }
        if last > goal.position {
            // The server has lost its watermark; nothing newer comes before that is there again.
            self.is_waiting = true;
            return Ok(None);
        }
        let asked = |error: WireError| trouble("follow another store", &error);
        if self.makes_up.is_none() {
            let found = locate(wire, &self.lineage, chunk, first - 1, goal).await;
            self.makes_up = found.map_err(asked)?;
        }
        loop {
            let read = match &mut self.makes_up {
                Some(reader) if reader.end().position >= last => Ok(Some(Read::End)),
                Some(reader) => read(wire, reader, &self.row, &mut self.looked_at).await,
                None => Ok(None),
            };
            match self.unless_damaged(read)? {
                Some(Read::Commit(commit)) if commit.last_position() < first => {}
                Some(Read::Commit(commit)) => {
                    self.look_for(wire, sizes, &commit, left_out).await?;
                    return Ok(Some(Came::Again(commit)));
                }
                // It was told when it was come upon first.
                Some(Read::Hole(_)) => {}
                Some(Read::End) => {
                    self.makes_up = None;
                    self.has_looked = true;
                    let all = left_out.keys();
                    let resolved = all.filter(|key| self.hidden.resolved(&key.0, key.1).is_some());
                    return Ok(Some(Came::MadeUp(resolved.cloned().collect(), last)));
                }
                None => {
                    self.is_waiting = true;
                    return Ok(None);
                }
            }
        }
    }

    /// What was left out for a parked range of which nothing is listed any more is looked for in its
    /// stream: the server may have lost the list.
    async fn look_for(
        &mut self,
        wire: &dyn Wire,
        sizes: Sizes,
        commit: &Commit,
        left_out: &LeftOut,
    ) -> Result<(), Error> {
        self.standing.clear();
        for record in commit.each() {
            let record = record?;
            let is_of_unknown = left_out.iter().any(|(key, range)| {
                key.0 == record.stream
                    && range.contains(&record.position)
                    && !self.hidden.knows(&key.0, key.1)
            });
            if !is_of_unknown || record.kind == RecordKind::Control {
                continue;
            }
            let place = (record.sequence, record.event_id);
            let stands = has_event(wire, sizes.bucket_events, &record.stream, place).await;
            if stands.map_err(|error| trouble("follow another store", &error))? {
                self.standing.insert(record.event_id);
            }
        }
        Ok(())
    }

    /// Others go on where the rows of this one are not what they should be.
    fn unless_damaged(&mut self, read: Result<Option<Read>, Error>) -> Result<Option<Read>, Error> {
        self.is_waiting |= matches!(read, Err(Error::Damaged { .. }));
        read
    }

    /// What is delivered of it, and where somebody is who has that.
    pub(super) fn ready(
        &mut self,
        (origin, epoch): (Uuid, Uuid),
        came: Came,
        left_out: &LeftOut,
    ) -> Result<Vec<Ready>, Error> {
        let ready = |item, position, left| Ready {
            item,
            place: (origin, epoch, position),
            forgets: None,
            left,
        };
        let event = |record: &CommitRecord<'_>| {
            Ok::<_, Error>(Followed::Event {
                origin,
                epoch,
                envelope: record.envelope()?,
            })
        };
        let mut all = Vec::new();
        match came {
            Came::Hole(positions) => {
                self.after = *positions.end();
                let lost = Followed::Lost {
                    origin,
                    epoch,
                    positions,
                };
                all.push(ready(Some(lost), self.after, Vec::new()));
            }
            Came::Commit(commit) => {
                for record in commit.each() {
                    let record = record?;
                    let position = record.position;
                    if position <= self.after {
                        continue;
                    }
                    let mut left = Vec::new();
                    let item = if record.kind == RecordKind::Control {
                        record.superseded().map(|what| Followed::Superseded {
                            origin,
                            epoch,
                            stream: what.stream,
                            from: what.from,
                        })
                    } else {
                        match self.sight(&record) {
                            Sight::Seen => Some(event(&record)?),
                            Sight::Never => None,
                            Sight::Later(first) => {
                                left.push(Left::Out((record.stream, first), position));
                                None
                            }
                        }
                    };
                    all.push(ready(item, position, left));
                }
                self.after = commit.last_position();
            }
            Came::Again(commit) => {
                for record in commit.each() {
                    let record = record?;
                    let mut left = self.made_up_by(&record, left_out);
                    if left.is_empty() || record.kind == RecordKind::Control {
                        continue;
                    }
                    let item = match self.sight(&record) {
                        Sight::Seen => Some(event(&record)?),
                        Sight::Never => None,
                        Sight::Later(first) => {
                            left.push(Left::Out((record.stream, first), record.position));
                            None
                        }
                    };
                    all.push(ready(item, self.after, left));
                }
            }
            Came::MadeUp(keys, _) if keys.is_empty() => {}
            Came::MadeUp(keys, to) => {
                let left = keys.into_iter().map(|key| Left::MadeUp(key, to));
                all.push(ready(None, self.after, left.collect()));
            }
        }
        Ok(all)
    }

    fn sight(&self, record: &CommitRecord<'_>) -> Sight {
        self.hidden
            .sight(&record.stream, record.sequence, record.position)
    }

    /// The parked ranges that this event was left out for, as far as they are resolved.
    fn made_up_by(&self, record: &CommitRecord<'_>, left_out: &LeftOut) -> Vec<Left> {
        let of_stream = (record.stream.clone(), 0)..=(record.stream.clone(), u64::MAX);
        let ranges = left_out.range(of_stream);
        let here = ranges.filter(|(key, range)| {
            let resolved = self.hidden.resolved(&key.0, key.1);
            let is_resolved = match resolved {
                Some((_, first_sequence)) => record.sequence >= first_sequence,
                None => {
                    !self.hidden.knows(&key.0, key.1) && self.standing.contains(&record.event_id)
                }
            };
            range.contains(&record.position) && is_resolved
        });
        here.map(|(key, _)| Left::MadeUp(key.clone(), record.position))
            .collect()
    }
}

/// The next commit, or hole, that is settled; `None` when it has to be waited for.
async fn read(
    wire: &dyn Wire,
    reader: &mut LogReader,
    row: &OriginRow,
    looked_at: &mut Option<(u64, u64)>,
) -> Result<Option<Read>, Error> {
    let goal = end_of(&row.watermark).position;
    let asked = |error: WireError| trouble("follow another store", &error);
    loop {
        let next = reader.next(wire, goal).await.map_err(asked)?;
        let end = reader.end();
        match next {
            Next::Commit(commit) => return Ok(Some(Read::Commit(commit))),
            Next::Missing if end.position >= goal => return Ok(Some(Read::End)),
            Next::Missing if reader.widen() => {}
            Next::Missing => {
                if *looked_at != Some((goal, end.position)) {
                    let hole = declared_hole(wire, reader).await.map_err(asked)?;
                    *looked_at = Some((goal, end.position));
                    if let Some(hole) = hole {
                        reader.skip(&hole);
                        let positions = hole.first_position..=hole.last_position;
                        return Ok(Some(Read::Hole(positions)));
                    }
                }
                return Ok(None);
            }
            Next::Undecided => return Ok(None),
            Next::Mismatch(end) => {
                let what = format!(
                    "its rows up to position {} are not those that its watermark proves",
                    end.position
                );
                let remedy = "the store itself can send everything again: `resync` there";
                let place = format!("the replica of {}", row.origin);
                return Err(Error::damaged(place, what, remedy));
            }
        }
    }
}
