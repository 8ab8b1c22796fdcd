//! Letters of parked keys, and which keys are parked: shared by the group, and whole whatever happens
//! to its members.
//!
//! | file | subject |
//! |---|---|
//! | `topics` | where they stand |
//! | `letters` | a record that was set aside |
//! | `parked_set` | which keys are, and what is asked of them |
//! | `transaction`, `filling` | letters, parked set and offsets written as one; what is in it |
//! | `reading` | both read to the end |
//! | `resume` | asking for a key, and waiting for the answer |
//! | `client` | librdkafka's clients, and what their errors mean |

mod client;
mod filling;
#[cfg(feature = "fuzzing")]
#[allow(clippy::expect_used, reason = "what does not hold here is a finding")]
pub(super) mod fuzzing;
mod letters;
mod parked_set;
mod reading;
mod resume;
#[cfg(test)]
mod tests;
mod topics;
mod transaction;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::consumer::ConsumerGroupMetadata;
use tidelog_core::{BoxFuture, Error};
use uuid::Uuid;

use self::client::Known;
pub(crate) use self::client::plain;
pub(crate) use self::parked_set::Changed;
use self::parked_set::ParkedSet;
use self::reading::Reader;
use self::resume::Waiting;
pub(crate) use self::topics::DeadTopics;
use self::transaction::{Change, Writer};
use crate::kafka::connection::Connection;
use crate::kafka::listen::feed::{
    Asked, FeedError, LetterPlace, Letters, ParkedKey, Parking, RecordKey,
};

/// What one call waits for the broker.
const WITHIN: Duration = Duration::from_secs(10);
/// How often what was asked for is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Dead letters and parked set of a group, for one member of it or for somebody who asks for a key. Its
/// two threads end when it is dropped, after what they are doing.
pub(crate) struct DeadLetters {
    writes: Sender<Write>,
    reads: Sender<Read>,
    group: Box<str>,
    closed: Arc<AtomicBool>,
}

/// What comes without being asked for.
pub(crate) enum Heard {
    /// Something was written to the parked set, by any member.
    Changed(Changed),
    /// It is tried again by itself.
    Trouble(Error),
}

struct Write {
    change: Change,
    answer: oneshot::Sender<Result<Vec<LetterPlace>, FeedError>>,
}

enum Read {
    Set(oneshot::Sender<Result<Vec<ParkedKey>, FeedError>>),
    Letters {
        key: RecordKey,
        from: LetterPlace,
        answer: oneshot::Sender<Result<Letters, FeedError>>,
    },
    Wait(Waiting),
}

impl DeadLetters {
    /// Nothing is asked of the cluster yet. `member` is this member's own, new in each run.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a configuration that cannot be, [`Error::Io`] when there are no
    /// threads.
    pub(crate) fn new(
        connection: Connection,
        group: &str,
        topics: DeadTopics,
        member: Uuid,
        hear: impl Fn(Heard) + Send + 'static,
    ) -> Result<Self, Error> {
        topics.check()?;
        let known = Arc::new(Known {
            connection,
            topics,
            group: group.into(),
        });
        let closed = Arc::<AtomicBool>::default();
        let set = Arc::<Mutex<ParkedSet>>::default();
        let (writes, written) = channel();
        let (reads, read) = channel();
        let mut writer = Writer::new(
            Arc::clone(&known),
            member,
            Arc::clone(&set),
            Arc::clone(&closed),
        );
        spawn("tidelog-kafka-park", move || write(&mut writer, &written))?;
        let reader = Reader::new(known, Arc::clone(&closed), Arc::clone(&set));
        spawn("tidelog-kafka-dead", move || {
            Following {
                reader,
                set,
                hear,
                waiting: Vec::new(),
            }
            .run(&read);
        })?;
        Ok(Self {
            writes,
            reads,
            group: group.into(),
            closed,
        })
    }

    /// Writes letters, changes of the parked set and offsets: all of it or nothing, whatever happens to
    /// the future. `member` is what the consumer says of itself at this moment: whoever is not the
    /// owner any more is refused by it. So `change` has an offset of each place that it is about.
    ///
    /// A parked key without a letter gets the first of its letters among these.
    pub(crate) fn park(
        &self,
        change: Parking,
        member: ConsumerGroupMetadata,
    ) -> BoxFuture<'static, Result<Vec<LetterPlace>, FeedError>> {
        self.write(Change::Park(change, member))
    }

    /// What is parked, by the whole group, up to now; what happens to it from then on is heard.
    pub(crate) fn parked_set(&self) -> BoxFuture<'static, Result<Vec<ParkedKey>, FeedError>> {
        self.read(Read::Set)
    }

    /// Letters of one key from a place in the dead-letter topic on.
    pub(crate) fn letters(
        &self,
        key: RecordKey,
        from: LetterPlace,
    ) -> BoxFuture<'static, Result<Letters, FeedError>> {
        self.read(|answer| Read::Letters { key, from, answer })
    }

    /// Asks whoever has the place of `key` to take it in again: kept until an entry of it is written of
    /// which nothing is asked, or it is resumed.
    pub(crate) fn ask(
        &self,
        key: RecordKey,
        asked: Asked,
    ) -> BoxFuture<'static, Result<(), FeedError>> {
        let written = self.write(Change::Ask(key, asked));
        Box::pin(async move { written.await.map(drop) })
    }

    /// The same from outside of the group, and waits until it is done, for at most `within`. What was
    /// asked stays asked when the future is dropped.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when nothing of it is parked; [`Error::Parked`] when it failed again, or
    /// nobody has answered in time; whatever keeps the cluster from being asked.
    pub(crate) fn resume(
        &self,
        key: RecordKey,
        asked: Asked,
        within: Duration,
    ) -> BoxFuture<'static, Result<(), Error>> {
        let set = self.parked_set();
        let (reads, writes) = (self.reads.clone(), self.writes.clone());
        let group = self.group.clone();
        Box::pin(async move {
            let set = set.await.map_err(plain)?;
            let parked = set.into_iter().find(|parked| parked.key == key);
            let parked = parked.ok_or_else(|| resume::not_parked(&key))?;
            let until = Instant::now().checked_add(within);
            let (answer, answered) = oneshot::channel();
            let waiting = Waiting::new(&group, parked, until, answer);
            let wait = Read::Wait(waiting);
            reads.send(wait).map_err(|_| Error::Closed)?;
            let ask = to_writer(&writes, Change::Ask(key.clone(), asked));
            ask.await.map_err(plain)?;
            let answered = answered.await.map_err(|_| Error::Closed)?;
            if answered.is_ok() {
                // Done before it was asked for, perhaps: it is not to be asked for when it parks again.
                let forgotten = to_writer(&writes, Change::Forget(key));
                forgotten.await.map_err(plain)?;
            }
            answered
        })
    }

    fn write(&self, change: Change) -> BoxFuture<'static, Result<Vec<LetterPlace>, FeedError>> {
        to_writer(&self.writes, change)
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(oneshot::Sender<Result<T, FeedError>>) -> Read,
    ) -> BoxFuture<'static, Result<T, FeedError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.reads.send(read(answer));
        Box::pin(async move {
            sent.map_err(|_| closed())?;
            answered.await.unwrap_or_else(|_| Err(closed()))
        })
    }
}

impl Drop for DeadLetters {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
    }
}

fn to_writer(
    writes: &Sender<Write>,
    change: Change,
) -> BoxFuture<'static, Result<Vec<LetterPlace>, FeedError>> {
    let (answer, answered) = oneshot::channel();
    let sent = writes.send(Write { change, answer });
    Box::pin(async move {
        sent.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    })
}

fn write(writer: &mut Writer, writes: &Receiver<Write>) {
    while let Ok(Write { change, answer }) = writes.recv() {
        // Nobody may be there any more; it is written all the same.
        let _ = answer.send(writer.write(&change));
    }
}

/// The reading thread: answers, and listens to the parked set meanwhile.
struct Following<H> {
    reader: Reader,
    set: Arc<Mutex<ParkedSet>>,
    hear: H,
    waiting: Vec<Waiting>,
}

impl<H: Fn(Heard)> Following<H> {
    fn run(mut self, reads: &Receiver<Read>) {
        loop {
            let mut changes = Vec::new();
            match reads.recv_timeout(LOOK) {
                Ok(Read::Set(answer)) => {
                    let set = self.reader.parked_set(&mut changes);
                    self.tell(&mut changes);
                    // Nobody may be there any more.
                    let _ = answer.send(set);
                }
                Ok(Read::Letters { key, from, answer }) => {
                    let _ = answer.send(self.reader.letters(&key, from));
                }
                Ok(Read::Wait(waiting)) => self.waiting.push(waiting),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Err(error) = self.reader.follow(&mut changes) {
                (self.hear)(Heard::Trouble(plain(error)));
            }
            self.tell(&mut changes);
            self.look();
        }
    }

    fn tell(&self, changes: &mut Vec<Changed>) {
        for changed in changes.drain(..) {
            (self.hear)(Heard::Changed(changed));
        }
    }

    /// Answers those whose keys have changed, or who have waited long enough.
    fn look(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let (set, now) = (self.set.lock(), Instant::now());
        let waiting = std::mem::take(&mut self.waiting);
        let waiting = waiting.into_iter();
        self.waiting = waiting.filter_map(|one| one.look(&set, now)).collect();
    }
}

fn closed() -> FeedError {
    FeedError::Passing(Error::Closed)
}

fn spawn(name: &'static str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let spawned = thread::Builder::new().name(name.into()).spawn(run);
    spawned.map(drop).map_err(|error| {
        let none = std::path::Path::new("");
        Error::io("start a thread for dead letters of", none, error)
    })
}
