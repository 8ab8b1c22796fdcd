//! Faults of the publisher, made on purpose where its messages leave, its reports come in and its state
//! is saved: for each rule of the oracle one that breaks it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tidelog_core::{BoxFuture, Error};
use uuid::Uuid;

use crate::kafka::broker::{
    Broker, BrokerError, Cluster, Fatal, Message, NotSent, Offsets, OriginRecord, Outcome, Place,
    Report, Tag,
};
use crate::kafka::fake::FakeBroker;
use crate::kafka::state::KafkaState;
use crate::kafka::status::StatusCell;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// Some messages count as delivered when they are sent: the next of the stream goes out beside them.
    TwoInFlight,
    /// So do all, and nothing but what stands in Kafka is looked at.
    Pipelined,
    /// What is sent is settled, whatever comes of it.
    SettleOnSend,
    /// All that was refused together is parked.
    ParkTheBatch,
    /// Who was refused twice is parked.
    NoHalvingEnd,
    /// A state is kept without what is set aside.
    ParkedForgotten,
    /// What a generation had in flight counts as delivered in the next.
    OldGenerationCounts,
    /// Nobody looks whether reports stand still.
    NoWatchdog,
    /// After the fence nobody looks who is there.
    NoSecondLook,
    /// What is set aside counts as published for others.
    TellSettled,
    /// What the replica holds is read before how far it is.
    ListAfterSettled,
    /// A record that says nothing new is not written.
    MarksNewsOnly,
    /// A state is kept without what is to be published once more.
    LossForgotten,
}

impl Mutant {
    /// Each with the rule that it breaks.
    pub(super) const ALL: [(Self, &str); 13] = [
        (Self::TwoInFlight, "5 "),
        (Self::Pipelined, "1 "),
        (Self::SettleOnSend, ""),
        (Self::ParkTheBatch, "6 "),
        (Self::NoHalvingEnd, "6 "),
        (Self::ParkedForgotten, "3 "),
        (Self::OldGenerationCounts, ""),
        (Self::NoWatchdog, "11"),
        (Self::NoSecondLook, "8 "),
        (Self::TellSettled, "3 a record"),
        (Self::ListAfterSettled, "7 "),
        (Self::MarksNewsOnly, "8 beside"),
        (Self::LossForgotten, "4 "),
    ];

    /// What it makes of a state that is saved.
    pub(super) fn save(self, state: &[u8]) -> Option<bytes::Bytes> {
        let mut state = KafkaState::decode(state).ok()?;
        match self {
            Self::ParkedForgotten => state.parked.clear(),
            Self::LossForgotten => state.republish = None,
            _ => return None,
        }
        state.encode().ok()
    }
}

/// A client, with something wrong or nothing.
pub(super) struct MutantBroker {
    of: FakeBroker,
    mutant: Option<Mutant>,
    generation: u32,
    /// Reports that are made up.
    made_up: Vec<Report>,
    /// Lanes whose true reports are not to be heard.
    deaf: BTreeSet<Tag>,
    in_flight: BTreeMap<Tag, Vec<u8>>,
    refused: BTreeMap<Vec<u8>, u32>,
    sent: u64,
    first_look: Arc<Mutex<Vec<Option<OriginRecord>>>>,
    marked: Arc<Mutex<Option<OriginRecord>>>,
    status: Arc<StatusCell>,
}

impl PartialOrd for Tag {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Tag {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.generation, self.lane).cmp(&(other.generation, other.lane))
    }
}

impl MutantBroker {
    pub(super) fn new(of: FakeBroker, mutant: Option<Mutant>, status: Arc<StatusCell>) -> Self {
        Self {
            of,
            mutant,
            generation: 0,
            made_up: Vec::new(),
            deaf: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            refused: BTreeMap::new(),
            sent: 0,
            first_look: Arc::default(),
            marked: Arc::default(),
            status,
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn makes_up(&self) -> bool {
        match self.mutant {
            Some(Mutant::Pipelined | Mutant::SettleOnSend) => true,
            Some(Mutant::TwoInFlight) => self.sent.is_multiple_of(3),
            _ => false,
        }
    }
}

impl Broker for MutantBroker {
    fn renew(&mut self, generation: u32) -> Result<(), Error> {
        self.generation = generation;
        self.deaf.clear();
        let in_flight = std::mem::take(&mut self.in_flight);
        if self.is(Mutant::OldGenerationCounts) {
            self.made_up.extend(in_flight.into_keys().map(|tag| Report {
                tag: Tag { generation, ..tag },
                outcome: Outcome::Delivered {
                    partition: 0,
                    offset: -1,
                },
            }));
        }
        self.of.renew(generation)
    }

    fn cluster(&self, names: Vec<Box<str>>) -> BoxFuture<'static, Result<Cluster, BrokerError>> {
        if self.is(Mutant::NoWatchdog) && names.is_empty() && !self.in_flight.is_empty() {
            return Box::pin(async {
                Err(BrokerError::Passing(Error::Unreachable {
                    server: "memory".into(),
                    action: "ask".into(),
                    reason: "nobody asks".into(),
                }))
            });
        }
        self.of.cluster(names)
    }

    fn send(&mut self, message: &Message<'_>, tag: Tag) -> Result<(), NotSent> {
        let times = self.refused.get(message.value).copied().unwrap_or(0);
        let is_over = match self.mutant {
            Some(Mutant::ParkTheBatch) => times >= 1,
            Some(Mutant::NoHalvingEnd) => times >= 2,
            _ => false,
        };
        if is_over {
            return Err(NotSent::TooLarge);
        }
        self.of.send(message, tag)?;
        self.sent += 1;
        self.in_flight.insert(tag, message.value.to_vec());
        if self.makes_up() {
            self.deaf.insert(tag);
            self.made_up.push(Report {
                tag,
                outcome: Outcome::Delivered {
                    partition: 0,
                    offset: -1,
                },
            });
        }
        Ok(())
    }

    fn poll_reports(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Report>,
    ) -> Poll<Result<(), Fatal>> {
        let mut came = Vec::new();
        let polled = self.of.poll_reports(cx, &mut came);
        for report in &came {
            if let Some(value) = self.in_flight.remove(&report.tag)
                && matches!(report.outcome, Outcome::Refused(_))
            {
                *self.refused.entry(value).or_default() += 1;
            }
        }
        came.retain(|report| !self.deaf.contains(&report.tag));
        into.append(&mut came);
        if !self.made_up.is_empty() {
            into.append(&mut self.made_up);
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        polled
    }

    fn offsets(&self, places: Vec<Place>) -> BoxFuture<'static, Result<Vec<Offsets>, BrokerError>> {
        self.of.offsets(places)
    }

    fn record(
        &self,
        origin: Uuid,
    ) -> BoxFuture<'static, Result<Option<OriginRecord>, BrokerError>> {
        let record = self.of.record(origin);
        if !self.is(Mutant::NoSecondLook) {
            return record;
        }
        let known = Arc::clone(&self.first_look);
        Box::pin(async move {
            let found = record.await?;
            let before = known.lock().pop();
            if let Some(before) = before {
                return Ok(before);
            }
            known.lock().push(found.clone());
            Ok(found)
        })
    }

    fn fence(&self, origin: Uuid) -> BoxFuture<'static, Result<(), BrokerError>> {
        self.of.fence(origin)
    }

    fn mark(&self, mut record: OriginRecord) -> BoxFuture<'static, Result<(), BrokerError>> {
        if self.is(Mutant::TellSettled) {
            record.position = record.position.max(self.status.status().settled);
        }
        if !self.is(Mutant::MarksNewsOnly) {
            return self.of.mark(record);
        }
        if self.marked.lock().as_ref() == Some(&record) {
            // An answer takes its time even so.
            let asked = self.of.cluster(Vec::new());
            return Box::pin(async move { asked.await.map(drop) });
        }
        let (marking, marked) = (self.of.mark(record.clone()), Arc::clone(&self.marked));
        Box::pin(async move {
            marking.await?;
            *marked.lock() = Some(record);
            Ok(())
        })
    }

    fn end(&mut self) {
        self.of.end();
    }
}
