//! What can happen next, and what can go wrong.

use super::State;
use super::producer::At;
use crate::kafka::broker::{Fatal, Place, Report};

/// Something that happens by itself, sooner or later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// A producer looks at a topic.
    Look(u64, Box<str>),
    /// At most so many messages that wait become a batch.
    Cut(u64, Place, usize),
    /// A batch reaches the broker.
    Meet(u64, usize),
    /// What the broker said of it is heard.
    Land(u64, usize),
    /// A batch is sent again.
    Again(u64, usize),
    /// At most so many reports of a place are heard.
    Tell(u64, Place, usize),
    /// A batch of a producer that is over reaches the broker.
    Late(usize),
    /// A question is answered.
    Ask(u64),
    /// The answer arrives.
    Answer(u64),
}

/// Something that need not happen at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection to a place's broker breaks with a batch under way, which is taken or not.
    Break(u64, usize, bool),
    /// A report is never heard.
    LoseReport(u64, Place),
    /// A producer gives up.
    GiveUp(u64),
    /// So many messages find no room.
    Full(u64, usize),
    /// A batch of a producer that is over never arrives.
    LoseLate(usize),
    /// A question fails; whether what was asked is done nobody says.
    Fail(u64, bool),
}

impl State {
    /// All that can happen next; batches and reports are counted in whole.
    pub(crate) fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        let is_up = self.cluster.is_up;
        for (id, producer) in &self.producers {
            if is_up && producer.fatal.is_none() {
                let topics = producer.wonders().into_iter();
                moves.extend(topics.map(|topic| Move::Look(*id, topic)));
                for (place, waiting) in &producer.waiting {
                    if producer.may_cut(place) {
                        moves.push(Move::Cut(*id, place.clone(), waiting.len()));
                    }
                }
                let arriving = producer.arriving().into_iter();
                moves.extend(arriving.map(|at| Move::Meet(*id, at)));
                let landing = producer.landing().into_iter();
                moves.extend(landing.map(|at| Move::Land(*id, at)));
                let again = producer.going_again().into_iter();
                moves.extend(again.map(|at| Move::Again(*id, at)));
            }
            for (place, reports) in &producer.reports {
                moves.push(Move::Tell(*id, place.clone(), reports.len()));
            }
        }
        if is_up {
            moves.extend((0..self.late.len()).map(Move::Late));
        }
        moves.extend(self.asked().into_iter().map(Move::Ask));
        moves.extend(self.answered().into_iter().map(Move::Answer));
        moves
    }

    pub(crate) fn make(&mut self, what: Move) {
        match what {
            Move::Look(id, topic) => {
                let found = self.cluster.topics.get(&topic).map(|t| t.parts.len());
                if let Some(producer) = self.producers.get_mut(&id) {
                    producer.learn(&topic, found);
                    producer.bump();
                }
            }
            Move::Cut(id, place, most) => {
                if let Some(producer) = self.producers.get_mut(&id) {
                    producer.cut(&place, most);
                }
            }
            Move::Meet(id, at) => {
                if let Some(producer) = self.producers.get_mut(&id) {
                    producer.meet(at, &mut self.cluster);
                }
            }
            Move::Land(id, at) => {
                if let Some(producer) = self.producers.get_mut(&id) {
                    producer.land(at);
                }
                self.leave_flights(id);
            }
            Move::Again(id, at) => {
                let producer = self.producers.get_mut(&id);
                if let Some(flight) = producer.and_then(|p| p.flights.get_mut(at)) {
                    flight.at = At::Sent;
                }
            }
            Move::Tell(id, place, count) => {
                if let Some(producer) = self.producers.get_mut(&id) {
                    producer.tell(&place, count);
                }
            }
            Move::Late(at) => {
                if at < self.late.len() {
                    let flight = self.late.remove(at);
                    let messages = flight.messages();
                    let (place, first) = (&flight.place, flight.first);
                    self.cluster.take(place, flight.producer, first, &messages);
                }
            }
            Move::Ask(key) => self.answer(key, true, true),
            Move::Answer(key) => self.bring(key),
        }
    }

    /// Makes something go wrong; answers the report that is lost by it, if one is.
    pub(crate) fn spoil(&mut self, what: &Fault) -> Option<Report> {
        match what {
            Fault::Break(id, at, is_taken) => {
                let producer = self.producers.get_mut(id)?;
                if *is_taken {
                    producer.meet(*at, &mut self.cluster)?;
                }
                producer.hang_up(*at)?;
                producer.bump();
            }
            Fault::LoseReport(id, place) => {
                return self.producers.get_mut(id)?.lose_report(place);
            }
            Fault::GiveUp(id) => {
                self.producers.get_mut(id)?.give_up_all(Fatal {
                    reason: "it gives up".into(),
                    lost_data: false,
                });
                self.leave_flights(*id);
            }
            Fault::Full(id, count) => self.producers.get_mut(id)?.full = *count,
            Fault::LoseLate(at) => {
                if *at < self.late.len() {
                    self.late.remove(*at);
                }
            }
            Fault::Fail(key, is_done) => self.answer(*key, *is_done, false),
        }
        None
    }

    /// What a producer that gave up had on its way is on its way still.
    fn leave_flights(&mut self, id: u64) {
        if let Some(producer) = self.producers.get_mut(&id)
            && producer.fatal.is_some()
        {
            let flights = std::mem::take(&mut producer.flights).into_iter();
            self.late.extend(flights.filter(|f| f.at == At::Sent));
        }
    }

    /// Batches of producers that are over.
    pub(crate) fn late(&self) -> usize {
        self.late.len()
    }
}
