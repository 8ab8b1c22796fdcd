//! Topics, offsets, dead letters and the parked set as Kafka has them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use super::super::feed::{
    Asked, Fed, FeedError, Letter, LetterPlace, Letters, ParkedKey, Parking, Place, Record,
    RecordKey,
};
use super::mutants::Mutant;

pub(super) type Shared = Arc<Mutex<World>>;
pub(super) type MemberId = usize;
type Answer<T> = oneshot::Sender<Result<T, FeedError>>;

/// How much of one key is asked for at once.
const PAGE: usize = 2;

#[derive(Default)]
pub(super) struct World {
    pub(super) logs: BTreeMap<Place, Vec<Record>>,
    /// Who has a place by the group's account.
    pub(super) owners: BTreeMap<Place, MemberId>,
    /// How often a place was given to somebody: the group's generation, as far as it is about the place.
    pub(super) generations: BTreeMap<Place, u64>,
    pub(super) committed: BTreeMap<Place, i64>,
    pub(super) letters: Vec<Letter>,
    /// Letters below are gone: somebody has set a retention.
    pub(super) letters_from: i64,
    pub(super) parked: BTreeMap<RecordKey, ParkedKey>,
    pub(super) asked: BTreeMap<RecordKey, Asked>,
    /// How often a parked key was asked for, and did not fail again since.
    pub(super) asks: BTreeMap<RecordKey, usize>,
    pub(super) members: BTreeMap<MemberId, Member>,
    /// Each with the generations that its member knew.
    pub(super) operations: Vec<(MemberId, BTreeMap<Place, u64>, Operation)>,
    /// Transactions that passed the fence and are neither committed nor aborted.
    pub(super) open: Vec<(MemberId, Parking, Answer<Vec<LetterPlace>>)>,
    /// Handlers that run.
    pub(super) handlers: Vec<Running>,
    /// Every record that was handled, in the order in which that ended.
    pub(super) handled: Vec<Handled>,
    /// What is wrong on purpose.
    pub(super) mutant: Option<Mutant>,
    pub(super) wrong: Vec<String>,
    /// What happened, when one seed is looked at.
    pub(super) story: Option<Vec<String>>,
    /// How much of what was handled and set aside was in order when it was looked at.
    pub(super) checked: (usize, usize),
}

/// A member as the group, and as it sees itself.
#[derive(Default)]
pub(super) struct Member {
    pub(super) queue: VecDeque<Fed>,
    pub(super) waker: Option<Waker>,
    /// Places that it believes to have.
    pub(super) believes: BTreeSet<Place>,
    /// Where it reads on, of places that it fetches.
    pub(super) positions: BTreeMap<Place, i64>,
    /// Places that it wants to fetch, when their offsets are stable; and how often it had heard by then
    /// that they came or were lost.
    pub(super) beginning: BTreeMap<Place, u64>,
    /// How often it was told so of each place.
    pub(super) said: BTreeMap<Place, u64>,
    pub(super) is_paused: bool,
    pub(super) held: BTreeSet<Place>,
    /// Places that it is to give up, until it says so.
    pub(super) giving_up: Vec<(Vec<Place>, oneshot::Receiver<()>)>,
    pub(super) is_leaving: bool,
}

/// What a member waits for.
#[derive(Debug)]
pub(super) enum Operation {
    Commit(Vec<(Place, i64)>, Answer<()>),
    Park(Parking, Answer<Vec<LetterPlace>>),
    Set(Answer<Vec<ParkedKey>>),
    Letters(RecordKey, LetterPlace, Answer<Letters>),
    Ask(RecordKey, Asked, Answer<()>),
}

pub(super) struct Running {
    pub(super) member: MemberId,
    pub(super) key: RecordKey,
    pub(super) offset: i64,
    pub(super) sequence: u64,
    pub(super) answer: oneshot::Sender<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Handled,
    Passing,
    Permanent,
    Gap { expected: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handled {
    pub(super) member: MemberId,
    pub(super) key: RecordKey,
    pub(super) offset: i64,
    pub(super) sequence: u64,
}

impl Member {
    /// Whether it has heard each time that a place came or was lost. One that is to be given up is its
    /// own until it says so.
    pub(super) fn is_up_to_date(&self, place: &Place) -> bool {
        !self.queue.iter().any(|fed| match fed {
            Fed::Assigned(places)
            | Fed::Revoked {
                places, lost: true, ..
            } => places.contains(place),
            _ => false,
        })
    }

    /// What it is told to fetch.
    pub(super) fn begins(&mut self, place: Place) {
        let said = self.said.get(&place).copied().unwrap_or(0);
        let heard = if self.is_up_to_date(&place) { said } else { 0 };
        self.beginning.insert(place, heard);
    }
}

impl World {
    pub(super) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The generations that a member speaks of: none of a place of which it has not heard all.
    pub(super) fn known_to(&self, member: MemberId) -> BTreeMap<Place, u64> {
        let mut known = self.generations.clone();
        let member = self.members.get(&member);
        let is_lax = self.is(Mutant::FenceOfNow);
        known.retain(|place, _| is_lax || member.is_some_and(|member| member.is_up_to_date(place)));
        known
    }

    /// Notes what happens.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(what());
        }
    }

    pub(super) fn feed(&mut self, member: MemberId, fed: Fed) {
        self.note(|| format!("to {member}: {}", name_of(&fed)));
        if let Some(member) = self.members.get_mut(&member) {
            if let Fed::Assigned(places)
            | Fed::Revoked {
                places, lost: true, ..
            } = &fed
            {
                for place in places {
                    *member.said.entry(place.clone()).or_default() += 1;
                }
            }
            member.queue.push_back(fed);
            if let Some(waker) = &member.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Tells every member what changed in the parked set.
    fn tell(&mut self, fed: impl Fn() -> Fed) {
        let members: Vec<MemberId> = self.members.keys().copied().collect();
        for member in members {
            self.feed(member, fed());
        }
    }

    fn is_owner(&self, member: MemberId, knows: &BTreeMap<Place, u64>, place: &Place) -> bool {
        let is_of_now = knows.get(place) == self.generations.get(place);
        self.is(Mutant::NoFence) || self.owners.get(place) == Some(&member) && is_of_now
    }

    /// Does the operation at `at`. `fails`: it is not done, and the member is told to try again;
    /// `is_lost`: a commit that is done is told to have failed.
    pub(super) fn operate(&mut self, at: usize, fails: bool, is_lost: bool) {
        let (member, knows, operation) = self.operations.remove(at);
        self.note(|| {
            let fate = if fails { ", fails" } else { "" };
            format!("{member} does{fate}: {operation:?}")
        });
        let passing = || FeedError::Passing(tidelog_core::Error::Cancelled { what: "a test" });
        match operation {
            Operation::Commit(offsets, answer) => {
                let owned = offsets
                    .iter()
                    .all(|(place, _)| self.is_owner(member, &knows, place));
                let done = match (owned, fails) {
                    (false, _) => Err(FeedError::Lost),
                    (true, true) => Err(passing()),
                    (true, false) if self.is(Mutant::CommitForgotten) => Ok(()),
                    (true, false) => {
                        for (place, offset) in offsets {
                            self.commit(place, offset);
                        }
                        if is_lost { Err(passing()) } else { Ok(()) }
                    }
                };
                let _ = answer.send(done);
            }
            Operation::Park(change, answer) => {
                let mut places: BTreeSet<&Place> = change.offsets.iter().map(|(p, _)| p).collect();
                places.extend(change.letters.iter().map(|letter| &letter.record.place));
                places.extend(change.parked.iter().map(|parked| &parked.key.place));
                places.extend(change.resumed.iter().map(|key| &key.place));
                if !places
                    .iter()
                    .all(|place| self.is_owner(member, &knows, place))
                {
                    let _ = answer.send(Err(FeedError::Lost));
                } else if self.is(Mutant::TopicGone) {
                    let _ = answer.send(Err(FeedError::NoTopic("letters".into())));
                } else if fails {
                    let _ = answer.send(Err(passing()));
                } else {
                    self.open.push((member, change, answer));
                }
            }
            Operation::Set(answer) => {
                let _ = answer.send(if fails {
                    Err(passing())
                } else {
                    Ok(self.parked_set())
                });
            }
            Operation::Letters(key, from, answer) => {
                let found = LetterPlace {
                    offset: self.letters_from,
                    ..from
                };
                let _ = answer.send(if fails {
                    Err(passing())
                } else if from < found {
                    Err(FeedError::Gone { from, found })
                } else {
                    Ok(self.letters_of(&key, from))
                });
            }
            Operation::Ask(key, asked, answer) => {
                if fails {
                    let _ = answer.send(Err(passing()));
                } else if self.is(Mutant::AskForgotten) {
                    let _ = answer.send(Ok(()));
                } else {
                    self.asked.insert(key.clone(), asked);
                    *self.asks.entry(key.clone()).or_default() += 1;
                    self.tell(|| Fed::Asked(key.clone(), asked));
                    let _ = answer.send(Ok(()));
                }
            }
        }
    }

    /// Whether the operation can be done now: what is read to its end waits for open transactions.
    pub(super) fn can_operate(&self, at: usize) -> bool {
        match &self.operations[at].2 {
            Operation::Set(_) => self.open.is_empty() || self.is(Mutant::EndIsLastStable),
            Operation::Letters(..) => self.open.is_empty(),
            _ => true,
        }
    }

    /// Ends an open transaction.
    pub(super) fn close(&mut self, at: usize, commits: bool) {
        let (member, mut change, answer) = self.open.remove(at);
        self.note(|| {
            let fate = if commits { "committed" } else { "aborted" };
            format!("transaction of {member} is {fate}: {change:?}")
        });
        if !commits {
            let aborted = tidelog_core::Error::Cancelled { what: "a test" };
            let _ = answer.send(Err(FeedError::Passing(aborted)));
            return;
        }
        if let Some(mutant) = self.mutant {
            mutant.change(&mut change);
        }
        let mut written = Vec::new();
        for letter in change.letters.clone() {
            let offset = i64::try_from(self.letters.len()).unwrap();
            written.push(LetterPlace {
                partition: 0,
                offset,
            });
            self.letters.push(letter);
        }
        for mut parked in change.parked {
            let mut letters = change.letters.iter().zip(&written);
            let own = letters.find(|(letter, _)| key_of(&letter.record) == parked.key);
            parked.letter = parked.letter.or(own.map(|(_, place)| *place));
            if parked.letter.is_none() {
                self.wrong
                    .push(format!("{:?} is parked without a letter", parked.key));
            }
            if parked.asked.is_none() {
                self.asked.remove(&parked.key);
                // One that was asked for while it was being parked is taken in all the same.
                if self.parked.contains_key(&parked.key)
                    && let Some(asks) = self.asks.get_mut(&parked.key)
                {
                    *asks -= 1.min(*asks);
                }
            }
            self.parked.insert(parked.key.clone(), parked.clone());
            self.tell(|| Fed::Parked(parked.clone()));
        }
        for key in change.resumed {
            self.parked.remove(&key);
            self.asked.remove(&key);
            self.asks.remove(&key);
            self.tell(|| Fed::Resumed(key.clone()));
        }
        for (place, offset) in change.offsets {
            self.commit(place, offset);
        }
        let _ = answer.send(Ok(written));
    }

    fn commit(&mut self, place: Place, offset: i64) {
        self.check_commit(&place, offset);
        self.committed.insert(place, offset);
    }

    fn parked_set(&self) -> Vec<ParkedKey> {
        let entry = |parked: &ParkedKey| ParkedKey {
            asked: self.asked.get(&parked.key).copied(),
            ..parked.clone()
        };
        self.parked.values().map(entry).collect()
    }

    fn letters_of(&self, key: &RecordKey, from: LetterPlace) -> Letters {
        let mut letters = Letters {
            letters: Vec::new(),
            next: from,
        };
        let begin = usize::try_from(from.offset).unwrap();
        for (at, letter) in self.letters.iter().enumerate().skip(begin) {
            if letters.letters.len() == PAGE {
                break;
            }
            letters.next.offset = i64::try_from(at).unwrap() + 1;
            let is_skipped = self.is(Mutant::LetterSkipped) && at % 3 == 1;
            if key_of(&letter.record) == *key && !is_skipped {
                let place = LetterPlace {
                    partition: 0,
                    offset: i64::try_from(at).unwrap(),
                };
                letters.letters.push((place, letter.clone()));
            }
        }
        letters
    }

    /// Lets a member fetch places whose offsets are stable.
    pub(super) fn begin(&mut self, member: MemberId, place: &Place) {
        let is_pending = self
            .open
            .iter()
            .any(|(_, change, _)| change.offsets.iter().any(|(of, _)| of == place));
        let next = self.committed.get(place).copied().unwrap_or(0);
        let is_lax = self.is(Mutant::StaleBegin);
        if let Some(member) = self.members.get_mut(&member)
            && !is_pending
            && let Some(heard) = member.beginning.remove(place)
            && member.believes.contains(place)
            && (is_lax || member.said.get(place) == Some(&heard))
        {
            // One that is fetched goes on where it is.
            member.positions.entry(place.clone()).or_insert(next);
        }
    }

    /// Hands over some records.
    pub(super) fn fetch(&mut self, id: MemberId, place: &Place, most: usize) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Some(position) = member.positions.get_mut(place) else {
            return;
        };
        let begin = usize::try_from(*position).unwrap();
        let mut records: Vec<Record> = self.logs[place]
            .iter()
            .skip(begin)
            .take(most)
            .cloned()
            .collect();
        *position += i64::try_from(records.len()).unwrap();
        if let Some(mutant) = self.mutant {
            mutant.fetched(&mut records);
        }
        if !records.is_empty() {
            self.feed(id, Fed::Records(records));
        }
    }

    /// Gives a place to a member; `lost`: whoever had it learns that later.
    pub(super) fn assign(&mut self, place: &Place, to: MemberId) {
        self.owners.insert(place.clone(), to);
        *self.generations.entry(place.clone()).or_default() += 1;
        if let Some(member) = self.members.get_mut(&to) {
            member.believes.insert(place.clone());
            // An answer to what was asked of it before is about another assignment.
            for (places, _) in &mut member.giving_up {
                places.retain(|of| of != place);
            }
            member.positions.remove(place);
            member.held.remove(place);
        }
        self.feed(to, Fed::Assigned(vec![place.clone()]));
    }

    /// Asks a member to give places up, or tells it that they are lost.
    pub(super) fn revoke(&mut self, id: MemberId, places: Vec<Place>, lost: bool) {
        let (done, is_done) = oneshot::channel();
        if let Some(member) = self.members.get_mut(&id) {
            for place in &places {
                member.positions.remove(place);
                if lost {
                    member.believes.remove(place);
                }
            }
            if !lost {
                member.giving_up.push((places.clone(), is_done));
            }
        }
        self.feed(id, Fed::Revoked { places, lost, done });
    }
}

fn name_of(fed: &Fed) -> String {
    match fed {
        Fed::Records(records) => {
            let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
            let place = records.first().map(|record| record.place.partition);
            format!("records {offsets:?} of {place:?}")
        }
        Fed::Assigned(places) => format!("assigned {places:?}"),
        Fed::Revoked { places, lost, .. } => format!("revoked {places:?}, lost {lost}"),
        Fed::Asked(key, asked) => format!("asked {key:?} {asked:?}"),
        Fed::Parked(parked) => format!("parked {parked:?}"),
        Fed::Resumed(key) => format!("resumed {key:?}"),
        Fed::Ends(_) | Fed::Trouble(_) | Fed::Ended(_) => "something else".into(),
    }
}

pub(super) fn key_of(record: &Record) -> RecordKey {
    RecordKey {
        place: record.place.clone(),
        key: record.key.clone(),
    }
}
