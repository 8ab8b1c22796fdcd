//! Writes events of one stream where the server decides who comes first, and finds out what came of
//! it.

mod looking;

use std::sync::Arc;

use tidelog_backends::wire::{
    AppendRows, ErrorClass, EventRow, Expected, HeadRow, Request, Wire, WireError,
};
use tidelog_core::{Error, StreamId};
use uuid::Uuid;

use super::ask;
use super::judge::{Mine, Place, Verdict, judge};
use crate::replicate::outbox::Outbox;
use looking::Looked;

/// Looks at one stream before the connection is given up.
const MAX_ROUNDS: usize = 24;

/// What one lane sends in one turn.
pub(super) struct Turn {
    pub wire: Arc<dyn Wire>,
    pub outbox: Arc<dyn Outbox>,
    pub origin: Uuid,
    pub bucket_events: u64,
    pub stream: StreamId,
    /// The event before them here.
    pub before: Option<Place>,
    /// It is known that it ends its bucket.
    pub is_sealed: bool,
    /// The events, within one bucket.
    pub rows: Vec<EventRow>,
    /// They were settled before: it is looked for them before they are written.
    pub verify: bool,
    /// They are looked for, and not written.
    pub only_looks: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Done {
    /// How many of the events stand there now.
    pub standing: usize,
    /// The last event that stands there, and whether it is known to be its bucket's newest.
    pub tip: Option<Place>,
    pub is_sealed: bool,
    pub appended: u64,
    pub already: u64,
    pub refilled: u64,
    /// Index of the first event that had been there and was missing.
    pub first_lost: Option<usize>,
    pub end: End,
}

/// How a turn ended.
#[derive(Debug)]
pub(super) enum End {
    /// All of its events stand there.
    Whole,
    /// The stream ends before them: the server lost what was there.
    Lower,
    /// From this sequence on, another event stands there.
    Diverged { at: u64, remote: Option<Place> },
    /// The server refuses what was sent.
    Refused(Box<str>),
    /// The sequence jumps over more than a bucket.
    Gap,
    /// The next one does not stand there, and was not to be written.
    Absent,
    /// The server did not answer.
    Trouble(WireError),
    /// The local store did not.
    Local(Error),
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        match error.class {
            ErrorClass::Refused => Self::Refused(error.text),
            ErrorClass::NotSent | ErrorClass::Unclear | ErrorClass::Schema => Self::Trouble(error),
        }
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Local(error)
    }
}

/// What is to be done next.
enum Next {
    /// To write, under this condition.
    Write(Expected),
    Look,
}

impl Turn {
    /// Writes the events, as often and as far as it takes.
    pub(super) async fn run(self) -> Done {
        let mut work = Work {
            standing: 0,
            before: self.before,
            is_sealed: self.is_sealed,
            done: Done {
                standing: 0,
                tip: self.before,
                is_sealed: self.is_sealed,
                appended: 0,
                already: 0,
                refilled: 0,
                first_lost: None,
                end: End::Whole,
            },
            turn: &self,
        };
        let end = work.run().await;
        let mut done = work.done;
        done.end = end.unwrap_or_else(|end| end);
        done.standing = work.standing;
        done.tip = work.before;
        done.is_sealed = work.is_sealed;
        done
    }
}

struct Work<'a> {
    turn: &'a Turn,
    /// How many of the events stand there.
    standing: usize,
    /// What the next one is to stand behind.
    before: Option<Place>,
    is_sealed: bool,
    done: Done,
}

impl Work<'_> {
    async fn run(&mut self) -> Result<End, End> {
        if self.turn.only_looks {
            self.look_for().await?;
            let is_whole = self.left().is_empty();
            return Ok(if is_whole { End::Whole } else { End::Absent });
        }
        if self.turn.verify && self.stands_already().await? {
            return Ok(End::Whole);
        }
        let mut next = if self.turn.verify {
            Next::Look
        } else {
            self.first_condition().await?
        };
        for _ in 0..MAX_ROUNDS {
            if self.left().is_empty() {
                return Ok(End::Whole);
            }
            next = match next {
                Next::Write(expected) => {
                    if self.jumps_too_far() {
                        return Ok(End::Gap);
                    }
                    if self.write(expected).await? {
                        return Ok(End::Whole);
                    }
                    Next::Look
                }
                Next::Look => {
                    let looked = self.look().await?;
                    match self.judged(&looked).await? {
                        Ok(next) => next,
                        Err(end) => return Ok(end),
                    }
                }
            };
        }
        Ok(End::Trouble(WireError {
            class: ErrorClass::Unclear,
            text: format!(
                "{} is written to by others without an end",
                self.turn.stream
            )
            .into(),
        }))
    }

    fn left(&self) -> &[EventRow] {
        self.turn.rows.get(self.standing..).unwrap_or_default()
    }

    fn before_sequence(&self) -> u64 {
        self.before.map_or(0, |(sequence, _)| sequence)
    }

    /// The bucket that what is left goes into.
    fn bucket(&self) -> u64 {
        self.before_sequence() / self.turn.bucket_events
    }

    /// An event is looked for in the bucket of its sequence and in the one before.
    fn jumps_too_far(&self) -> bool {
        let first = self.left().first().map_or(0, |row| row.event.sequence);
        first / self.turn.bucket_events > self.bucket() + 1
    }

    fn stand(&mut self, count: usize) {
        self.standing += count;
        if let Some(row) = self
            .standing
            .checked_sub(1)
            .and_then(|at| self.turn.rows.get(at))
        {
            self.before = Some((row.event.sequence, row.event.event_id));
        }
    }

    /// Whether all of them stand there, by a read that need not see the newest; only then that counts.
    async fn stands_already(&mut self) -> Result<bool, End> {
        let standing = self.standing_of(false).await?;
        let is_all = standing == self.turn.rows.len();
        if is_all {
            self.stood(standing);
        }
        Ok(is_all)
    }

    /// As many of them as stand there, the first ones.
    async fn look_for(&mut self) -> Result<(), End> {
        let standing = self.standing_of(true).await?;
        self.stood(standing);
        Ok(())
    }

    fn stood(&mut self, count: usize) {
        self.done.already += count as u64;
        self.is_sealed = false;
        self.stand(count);
    }

    /// What the bucket's head must be, by what is known here.
    async fn first_condition(&mut self) -> Result<Next, End> {
        let Some((sequence, id)) = self.before else {
            return Ok(Next::Write(Expected::Nothing));
        };
        if sequence % self.turn.bucket_events > 0 {
            return Ok(Next::Write(Expected::Event(sequence, id)));
        }
        // It ends its bucket: nothing is there yet in the next one, which may be entered only then.
        if self.is_sealed {
            return Ok(Next::Write(Expected::Nothing));
        }
        let head = self.head(self.bucket().saturating_sub(1)).await?;
        let is_it = head.is_some_and(|head| (head.sequence, head.event_id) == (sequence, id));
        Ok(if is_it {
            Next::Write(Expected::Nothing)
        } else {
            Next::Look
        })
    }

    /// Writes what is left; whether that was applied.
    async fn write(&mut self, expected: Expected) -> Result<bool, End> {
        let rows = self.left().to_vec();
        let Some(last) = rows.last() else {
            return Ok(true);
        };
        let head = HeadRow {
            sequence: last.event.sequence,
            event_id: last.event.event_id,
            recorded: last.event.recorded_time,
        };
        let count = rows.len();
        let append = AppendRows {
            bucket: self.in_bucket(self.bucket()),
            expected,
            rows,
            head,
        };
        if !self.append(append).await? {
            return Ok(false);
        }
        self.done.appended += count as u64;
        if self.turn.verify {
            self.done.first_lost.get_or_insert(self.standing);
        }
        self.stand(count);
        self.is_sealed = true;
        Ok(true)
    }

    /// The same once more where it is not clear what came of it: what it did then stands there.
    async fn append(&self, append: AppendRows) -> Result<bool, End> {
        let again = append.clone();
        let wire = &*self.turn.wire;
        match ask::applied(wire, Request::Append(Box::new(append))).await {
            Err(error) if error.class == ErrorClass::Unclear => {
                Ok(ask::applied(wire, Request::Append(Box::new(again))).await?)
            }
            first => Ok(first?),
        }
    }

    async fn judged(&mut self, looked: &Looked) -> Result<Result<Next, End>, End> {
        let events: Vec<Place> = self
            .left()
            .iter()
            .map(|row| (row.event.sequence, row.event.event_id))
            .collect();
        let mine = Mine {
            origin: self.turn.origin,
            before: self.before,
            events: &events,
        };
        Ok(match judge(mine, &looked.found) {
            Verdict::AlreadyThere(upto) => {
                let count = events.iter().take_while(|(at, _)| *at <= upto).count();
                self.done.already += count as u64;
                self.stand(count);
                self.is_sealed = false;
                Ok(self.condition(looked))
            }
            Verdict::RemoteLower(Some(place)) if place.0 > self.before_sequence() => {
                self.before = Some(place);
                self.is_sealed = false;
                Ok(self.condition(looked))
            }
            Verdict::RemoteLower(_) => Err(End::Lower),
            Verdict::RowsGone(gone) => {
                self.refill(&gone, looked).await?;
                Ok(Next::Look)
            }
            Verdict::Unknown(gone) => match self.stranger_above(looked).await? {
                None => {
                    self.refill(&gone, looked).await?;
                    Ok(Next::Look)
                }
                remote => {
                    let at = gone.first().copied().unwrap_or_default();
                    Err(End::Diverged { at, remote })
                }
            },
            Verdict::Diverged { at, remote } => {
                let (at, remote) = if at <= self.before_sequence() {
                    self.first_difference(at, Some(remote)).await?
                } else {
                    (at, Some(remote))
                };
                Err(End::Diverged { at, remote })
            }
            Verdict::Contended => Ok(self.condition(looked)),
        })
    }

    /// What the bucket's head must be, by what was just read.
    fn condition(&self, looked: &Looked) -> Next {
        let bucket = self.bucket();
        match (looked.head, self.before) {
            (_, None) => Next::Write(Expected::Nothing),
            (Some((of, head)), Some(before)) if (head.sequence, head.event_id) == before => {
                Next::Write(if of == bucket {
                    Expected::Event(before.0, before.1)
                } else {
                    Expected::Nothing
                })
            }
            // The head is above; what is left is looked at anew.
            _ => Next::Look,
        }
    }

    /// Puts rows back below a head that stands.
    async fn refill(&mut self, gone: &[u64], looked: &Looked) -> Result<(), End> {
        let Some((bucket, head)) = looked.head else {
            return Ok(());
        };
        let left = self.left().iter();
        let rows: Vec<EventRow> = left
            .filter(|row| gone.contains(&row.event.sequence))
            .cloned()
            .collect();
        let count = rows.len();
        let append = AppendRows {
            bucket: self.in_bucket(bucket),
            expected: Expected::Event(head.sequence, head.event_id),
            rows,
            head,
        };
        let index = self
            .left()
            .iter()
            .position(|row| gone.contains(&row.event.sequence));
        if self.append(append).await? {
            self.done.refilled += count as u64;
            let first = self.standing + index.unwrap_or(0);
            self.done.first_lost.get_or_insert(first);
        }
        Ok(())
    }
}
