//! What is read of letters and the parked set: to what was written so far, not to what a reader of
//! committed records takes for the end.
//!
//! A reader of committed records stops before a transaction that is open, as if nothing came behind it.
//! So the end is asked for without regard to transactions, and then it is waited for that all of them
//! before it are over: the broker ends those that nobody does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tidelog_core::Error;

use super::WITHIN;
use super::client::{Hears, Known};
use super::letters::{self, Found, LeftOut};
use super::parked_set::{Changed, ParkedSet};
use crate::kafka::listen::feed::{
    FeedError, Letter, LetterPlace, Letters, ParkedKey, Place, Record, RecordKey,
};
use crate::kafka::listen::record::record;
use crate::kafka::settings::Role;

/// Letters that are answered at once.
const PAGE: usize = 500;
const PAGE_BYTES: usize = 1 << 20;
/// How long a broker that answers may bring nothing, and how long others' transactions may take: each
/// ends after 10 s, at the latest when the broker looks the next time.
const PATIENCE: Duration = Duration::from_secs(45);
const PIECE: Duration = Duration::from_millis(50);

/// Reads; on a thread of its own.
pub(super) struct Reader {
    known: Arc<Known>,
    closed: Arc<AtomicBool>,
    /// Where the parked set is put, and taken from by who writes.
    set: Arc<Mutex<ParkedSet>>,
    /// Whether it was read once.
    is_read: bool,
    clients: Option<Clients>,
}

struct Clients {
    /// Asked for ends without regard to transactions.
    ends: BaseConsumer<Hears>,
    /// Reads from here to there.
    pages: BaseConsumer<Hears>,
    /// Goes on behind the parked set.
    follower: BaseConsumer<Hears>,
}

impl Reader {
    pub(super) fn new(
        known: Arc<Known>,
        closed: Arc<AtomicBool>,
        set: Arc<Mutex<ParkedSet>>,
    ) -> Self {
        Self {
            known,
            closed,
            set,
            is_read: false,
            clients: None,
        }
    }

    /// The parked set as it was when this was called, or later; from there on it is followed. What has
    /// changed since it was read before goes behind `changes`.
    pub(super) fn parked_set(
        &mut self,
        changes: &mut Vec<Changed>,
    ) -> Result<Vec<ParkedKey>, FeedError> {
        let clients = self.clients.take();
        let clients = clients.map_or_else(|| Clients::new(&self.known), Ok)?;
        let read = self.read_set(&clients);
        self.clients = Some(clients);
        let set = read?;
        let all = set.all();
        let mut before = self.set.lock();
        if self.is_read {
            changes.extend(set.since(&before));
        }
        self.is_read = true;
        *before = set;
        Ok(all)
    }

    fn read_set(&self, clients: &Clients) -> Result<ParkedSet, FeedError> {
        let topic = &*self.known.topics.parked;
        let hears = clients.pages.context();
        let count = hears.partitions(clients.pages.client(), topic)?;
        let mut ends = Vec::new();
        for partition in 0..count {
            let (low, high) = self.end(clients, topic, partition)?;
            ends.push((low, high.max(low)));
        }
        let mut set = ParkedSet::default();
        let mut next: Vec<_> = ends.iter().map(|(low, _)| *low).collect();
        let list = self.list(topic, (0..).zip(next.iter().copied()))?;
        let mut failed = None;
        self.read(clients, &list, |step| {
            match step {
                Step::Record(record) => {
                    let value = record.value.as_deref();
                    let taken = set.take(record.key.as_deref().unwrap_or_default(), value);
                    if let Err(error) = taken {
                        failed = failed.take().or(Some(error));
                    }
                    raise(&mut next, record.place.partition, record.offset + 1);
                }
                Step::End(partition) => {
                    let end = usize::try_from(partition).ok().and_then(|at| ends.get(at));
                    raise(&mut next, partition, end.map_or(0, |(_, high)| *high));
                }
            }
            let mut all = next.iter().zip(&ends);
            !all.all(|(next, (_, high))| next >= high)
        })?;
        if let Some(error) = failed {
            return Err(FeedError::Passing(error));
        }
        let list = self.list(topic, (0..).zip(next))?;
        let assigned = clients.follower.assign(&list);
        let hears = clients.follower.context();
        assigned.map_err(|error| hears.failure(&read_of(topic), topic, &error))?;
        Ok(set)
    }

    /// Takes what has come since of the parked set, without waiting.
    pub(super) fn follow(&mut self, changes: &mut Vec<Changed>) -> Result<(), FeedError> {
        let Some(clients) = &self.clients else {
            return Ok(());
        };
        let topic = &*self.known.topics.parked;
        loop {
            match clients.follower.poll(Duration::ZERO) {
                None => return Ok(()),
                Some(Ok(message)) => {
                    let (record, _) = record(&message);
                    let key = record.key.as_deref().unwrap_or_default();
                    let taken = self.set.lock().take(key, record.value.as_deref());
                    changes.extend(taken.map_err(FeedError::Passing)?);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => {
                    let hears = clients.follower.context();
                    return Err(hears.failure(&read_of(topic), topic, &error));
                }
            }
        }
    }

    /// Letters of `key` from `from` on.
    pub(super) fn letters(
        &mut self,
        key: &RecordKey,
        from: LetterPlace,
    ) -> Result<Letters, FeedError> {
        let clients = self.clients.take();
        let clients = clients.map_or_else(|| Clients::new(&self.known), Ok)?;
        let letters = self.page(&clients, key, from);
        let unassigned = clients.pages.unassign();
        self.clients = Some(clients);
        drop(unassigned);
        letters
    }

    fn page(
        &self,
        clients: &Clients,
        key: &RecordKey,
        from: LetterPlace,
    ) -> Result<Letters, FeedError> {
        let (topic, partition) = (&*self.known.topics.letters, from.partition);
        let hears = clients.pages.context();
        let count = hears.partitions(clients.pages.client(), topic)?;
        let place = |offset| LetterPlace { partition, offset };
        if partition >= count {
            let found = place(from.offset);
            return Err(FeedError::Gone { from, found });
        }
        let (low, high) = self.end(clients, topic, partition)?;
        if !(low..=high).contains(&from.offset) {
            let found = place(low);
            return Err(FeedError::Gone { from, found });
        }
        let (mut found, mut bytes, mut next) = (Vec::new(), 0, from.offset);
        if from.offset < high {
            let list = self.list(topic, [(partition, from.offset)])?;
            let read = self.read(clients, &list, |step| {
                match step {
                    Step::Record(record) => {
                        let at = record.offset;
                        next = at + 1;
                        let letter = letters::read(record, &self.known.group);
                        let letter = letter.filter(|found| is_of(key, &found.letter));
                        if let Some(letter) = letter {
                            bytes += letter.letter.record.bytes();
                            found.push((place(at), letter));
                        }
                    }
                    Step::End(_) => next = high,
                }
                next < high && found.len() < PAGE && bytes < PAGE_BYTES
            });
            if let Err(Stopped::Reset) = read {
                let found = place(self.end(clients, topic, partition)?.0);
                return Err(FeedError::Gone { from, found });
            }
            read?;
        }
        let mut letters = Vec::with_capacity(found.len());
        for (at, found) in found {
            match self.whole(clients, found)? {
                Some(letter) => letters.push((at, letter)),
                // Those before it are all there is.
                None if !letters.is_empty() => {
                    next = at.offset;
                    break;
                }
                None => {
                    let found = place(at.offset + 1);
                    return Err(FeedError::Gone { from: at, found });
                }
            }
        }
        let next = place(next);
        Ok(Letters { letters, next })
    }

    /// The letter with what was left out of it, which stands where the record was read; `None` when it
    /// does not any more.
    fn whole(&self, clients: &Clients, found: Found) -> Result<Option<Letter>, FeedError> {
        let Found {
            mut letter,
            left_out,
        } = found;
        if left_out < LeftOut::Value {
            return Ok(Some(letter));
        }
        let Place { topic, partition } = letter.record.place.clone();
        let offset = letter.record.offset;
        let list = self.list(&topic, [(partition, offset)])?;
        let mut whole = None;
        let read = self.read(clients, &list, |step| {
            if let Step::Record(record) = step {
                whole = Some(record).filter(|record| record.offset == offset);
            }
            false
        });
        match read {
            Ok(()) => {}
            Err(Stopped::Reset | Stopped::With(FeedError::NoTopic(_))) => return Ok(None),
            Err(stopped) => return Err(stopped.into()),
        }
        Ok(whole
            .filter(|whole| whole.key == letter.record.key)
            .map(|whole| {
                letter.record = whole;
                letter
            }))
    }

    /// First offset and end of a partition, once all that was written to it by now is committed or given
    /// up.
    fn end(&self, clients: &Clients, topic: &str, partition: i32) -> Result<(i64, i64), FeedError> {
        let ask = |client: &BaseConsumer<Hears>| {
            let marks = client.fetch_watermarks(topic, partition, WITHIN);
            marks.map_err(|error| {
                let action = format!("ask for the end of topic {topic}");
                client.context().failure(&action, topic, &error)
            })
        };
        let (low, high) = ask(&clients.ends)?;
        let begun = Instant::now();
        while ask(&clients.pages)?.1 < high {
            if self.closed.load(Ordering::Acquire) {
                return Err(FeedError::Passing(Error::Closed));
            }
            if begun.elapsed() > PATIENCE {
                return Err(self.slow(topic, "a transaction stays open"));
            }
            std::thread::sleep(PIECE);
        }
        Ok((low, high))
    }

    /// Reads from `list` on until `take` has enough.
    fn read(
        &self,
        clients: &Clients,
        list: &TopicPartitionList,
        mut take: impl FnMut(Step) -> bool,
    ) -> Result<(), Stopped> {
        let elements = list.elements();
        let topic = elements.first().map_or("", |first| first.topic());
        let failed = |error: &KafkaError| {
            let hears = clients.pages.context();
            Stopped::With(hears.failure(&read_of(topic), topic, error))
        };
        clients.pages.assign(list).map_err(|error| failed(&error))?;
        let mut heard = Instant::now();
        loop {
            let step = match clients.pages.poll(PIECE) {
                Some(Ok(message)) => Step::Record(record(&message).0),
                Some(Err(KafkaError::PartitionEOF(partition))) => Step::End(partition),
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(
                        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                    ) => {
                        return Err(Stopped::Reset);
                    }
                    // These pass: librdkafka tries on.
                    Some(
                        RDKafkaErrorCode::AllBrokersDown
                        | RDKafkaErrorCode::BrokerTransportFailure
                        | RDKafkaErrorCode::OperationTimedOut
                        | RDKafkaErrorCode::Resolve,
                    ) => continue,
                    _ => return Err(failed(&error)),
                },
                None if self.closed.load(Ordering::Acquire) => {
                    return Err(FeedError::Passing(Error::Closed).into());
                }
                None if heard.elapsed() > PATIENCE => {
                    return Err(self.slow(topic, "nothing comes").into());
                }
                None => continue,
            };
            heard = Instant::now();
            if !take(step) {
                return Ok(());
            }
        }
    }

    fn slow(&self, topic: &str, reason: &str) -> FeedError {
        FeedError::Passing(Error::Unreachable {
            server: self.known.connection.server(),
            action: read_of(topic).into(),
            reason: reason.into(),
        })
    }

    fn list(
        &self,
        topic: &str,
        from: impl IntoIterator<Item = (i32, i64)>,
    ) -> Result<TopicPartitionList, FeedError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in from {
            let added = list.add_partition_offset(topic, partition, Offset::Offset(offset));
            added.map_err(|error| self.slow(topic, &error.to_string()))?;
        }
        Ok(list)
    }
}

/// Whether the record at `offset` was committed. Everything before it in its partition is over.
pub(super) fn stands(known: &Arc<Known>, place: &Place, offset: i64) -> Result<bool, FeedError> {
    let reader = Reader::new(Arc::clone(known), Arc::default(), Arc::default());
    let clients = Clients::new(known)?;
    let (low, high) = reader.end(&clients, &place.topic, place.partition)?;
    if !(low..high).contains(&offset) {
        return Ok(false);
    }
    let list = reader.list(&place.topic, [(place.partition, offset)])?;
    let mut stands = false;
    reader.read(&clients, &list, |step| {
        stands = matches!(step, Step::Record(record) if record.offset == offset);
        false
    })?;
    Ok(stands)
}

enum Step {
    Record(Record),
    /// There is no more in this partition.
    End(i32),
}

enum Stopped {
    /// What is asked for is out of range.
    Reset,
    With(FeedError),
}

impl From<FeedError> for Stopped {
    fn from(error: FeedError) -> Self {
        Self::With(error)
    }
}

impl From<Stopped> for FeedError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::With(error) => error,
            Stopped::Reset => Self::Passing(Error::invalid(
                "offset",
                "",
                "what stands there has just been deleted: it is read again",
            )),
        }
    }
}

impl Clients {
    fn new(known: &Known) -> Result<Self, FeedError> {
        let client = |settings: &[(&str, &str)]| {
            let mut client = known.connection.client(Role::Reader)?;
            // Named alone: nothing is joined or committed by these.
            client.set("group.id", &*known.group);
            client.set("enable.partition.eof", "true");
            client.set("auto.offset.reset", "error");
            client.set("queued.max.messages.kbytes", "4096");
            for (name, value) in settings {
                client.set(*name, *value);
            }
            let made = client.create_with_context(Hears::new(known));
            made.map_err(|error| known.connection.refused(&error))
        };
        let clients = || {
            Ok(Self {
                ends: client(&[("isolation.level", "read_uncommitted")])?,
                // An end is told when a fetch has waited in vain.
                pages: client(&[("fetch.wait.max.ms", "20")])?,
                follower: client(&[])?,
            })
        };
        clients().map_err(FeedError::Passing)
    }
}

fn is_of(key: &RecordKey, letter: &Letter) -> bool {
    let record = &letter.record;
    record.place == key.place && record.key == key.key
}

fn raise(next: &mut [i64], partition: i32, to: i64) {
    let at = usize::try_from(partition).ok();
    if let Some(next) = at.and_then(|at| next.get_mut(at)) {
        *next = to.max(*next);
    }
}

fn read_of(topic: &str) -> String {
    format!("read topic {topic}")
}
