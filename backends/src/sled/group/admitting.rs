//! Whether an append is taken: its ids first, then the version that it expects.

use std::collections::HashSet;

use bytes::Bytes;
use tidelog_core::{AppendBatch, AppendReceipt, Error, NewEvent};

use super::super::hash::{StreamKey, in_time_order};
use super::super::record::{self, Names};
use super::super::request::Request;
use super::super::retry::{Found, Standing, answer_known, judge};
use super::super::shared::Shared;
use super::seen::{Seen, is_superseded, see, see_branched, see_head, suspect_implied};
use super::{Group, NONE, Pending, chain};

/// From here on, looking things up in a table is cheaper than comparing.
const MANY: usize = 64;
/// Why an id is refused that stands among events that gave way to others.
const SUPERSEDED: &str = "it was superseded by another origin's event";

impl Group {
    /// Checks one request against the log and the group; encodes it when it is new.
    pub(crate) fn admit(
        &mut self,
        shared: &Shared,
        request: &Request,
    ) -> Result<Vec<AppendReceipt>, Error> {
        self.slots.clear();
        self.fingerprints.clear();
        // Empty as long as every part is new.
        let mut standings = Vec::new();
        for (at, (part, key)) in request.parts.iter().zip(&request.keys).enumerate() {
            let standing = self.look(shared, part, *key)?;
            if standing != Standing::New || !standings.is_empty() {
                standings.resize_with(at, || Standing::New);
                standings.push(standing);
            }
        }
        if !standings.is_empty() {
            return answer_known(&request.parts, &standings);
        }
        for (part, slot) in request.parts.iter().zip(&self.slots) {
            if let Some(refusal) = shared.log.losses.refusal(&part.stream) {
                return Err(refusal);
            }
            let pending = self.streams.get(*slot as usize);
            let actual = pending.map_or(0, Pending::head);
            if !part.expected.holds(actual) || !self.is_behind(shared, part, pending)? {
                let (stream, expected) = (part.stream.clone(), part.expected);
                return Err(Error::WrongVersion {
                    stream,
                    expected,
                    actual,
                });
            }
        }
        Ok(self.encode(&request.parts))
    }

    /// Whether the stream's newest event is the one that the part is to follow. Only where events have
    /// given way to others, an equal sequence may mean another event.
    fn is_behind(
        &self,
        shared: &Shared,
        part: &AppendBatch,
        pending: Option<&Pending>,
    ) -> Result<bool, Error> {
        let (Some(after), Some(pending)) = (part.after, pending) else {
            return Ok(true);
        };
        if pending.name.is_none() {
            return Ok(true);
        }
        if let Some(newest) = self.records.get(pending.newest as usize) {
            let bytes = self.frame.get(newest.at..newest.at + newest.len);
            let parsed = record::parse(bytes.unwrap_or_default());
            return Ok(parsed.is_ok_and(|parsed| parsed.event_id == after));
        }
        let (hash, head) = (pending.key.hash, pending.published);
        let newest = shared.read_event(&part.stream, hash, head, u64::MAX)?;
        Ok(newest.is_some_and(|newest| newest.event_id == after))
    }

    /// Notes the part's stream and the fingerprints of its events; says whether it is a retry.
    pub(super) fn look(
        &mut self,
        shared: &Shared,
        part: &AppendBatch,
        key: StreamKey,
    ) -> Result<Standing, Error> {
        let lineage = shared.log.branches.of(&part.stream);
        let name = lineage.as_ref().and_then(|all| all.name_at(u64::MAX));
        // The request may be older than the branch.
        let key = name.as_ref().map_or(key, |name| shared.hash.key(name));
        let first_print = self.fingerprints.len();
        let of = |event: &NewEvent| shared.hash.fingerprint(&event.event_id);
        self.fingerprints.extend(part.events.iter().map(of));
        // An id of another version, `None`, is below all.
        let ids = part
            .events
            .iter()
            .map(|event| in_time_order(&event.event_id));
        let oldest_id = ids.min().flatten();
        let published = self.newest_published;
        let is_newest = oldest_id > published && published.is_some();
        let known_slot = self.find(&part.stream, &key);
        let prints = self.fingerprints.get(first_print..).unwrap_or_default();
        self.suspects.clear();
        let seen = match known_slot.and_then(|slot| self.streams.get(slot as usize)) {
            Some(pending) if pending.published == 0 && lineage.is_none() => Seen::default(),
            Some(pending) if is_newest => Seen::all(pending.published, pending.floor),
            None if is_newest => see_head(shared, part, &key)?,
            _ if lineage.is_some() => see_branched(shared, part, &key, prints, &mut self.suspects)?,
            _ => see(shared, part, &key, oldest_id, prints, &mut self.suspects)?,
        };
        let slot = match known_slot {
            Some(slot) => slot,
            None => self.insert(Pending {
                stream: part.stream.clone(),
                name: name.map(Box::new),
                key,
                by_ids: false,
                published: seen.head,
                floor: seen.floor,
                added: 0,
                newest: NONE,
            }),
        };
        self.slots.push(slot);
        let prints = self.fingerprints.get(first_print..).unwrap_or_default();
        if let Some(pending) = self.streams.get_mut(slot as usize) {
            // Ids of a stream with branches are looked for in the index alone.
            pending.by_ids |= !is_newest && lineage.is_none();
        }
        let Some(pending) = self.streams.get(slot as usize) else {
            return Ok(Standing::New);
        };
        let suspects = &mut self.suspects;
        let mut superseded = None;
        let implied = part.expected.implied_head();
        suspect_implied(shared, part, pending, &seen, prints, suspects)?;
        if let Some(lineage) = lineage.filter(|_| !is_newest) {
            let known = is_superseded(shared, part, &lineage, prints)?;
            if let Some(event_id) = known {
                superseded = Some(Standing::Conflict(event_id, SUPERSEDED));
            }
        }
        if suspects.is_empty() && pending.added == 0 {
            return Ok(superseded.unwrap_or(Standing::New));
        }
        let mut found: Vec<Option<Found>> = Vec::new();
        // An id may stand twice, once out of the window: the place that is implied counts first.
        let mut note = |at: usize, candidate: Found| {
            found.resize(part.events.len(), None);
            let is_implied = |found: &Found| {
                implied.is_some_and(|head| head.saturating_add(1 + at as u64) == found.sequence)
            };
            if let Some(slot) = found.get_mut(at)
                && !slot.as_ref().is_some_and(is_implied)
            {
                *slot = Some(candidate);
            }
        };
        suspects.sort_unstable();
        suspects.dedup();
        for (at, sequence) in suspects.iter().copied() {
            let Some(event) = part.events.get(at) else {
                continue;
            };
            if let Some(known) = shared.read_event(&part.stream, key.hash, sequence, u64::MAX)?
                && known.event_id == event.event_id
            {
                note(at, Found::new(&known, event));
            }
        }
        if self.knows_any(pending, prints) {
            for (at, (event, print)) in part.events.iter().zip(prints).enumerate() {
                let records = chain(&self.records, pending.newest);
                for record in records.filter(|record| record.fingerprint == *print) {
                    let bytes = self.frame.get(record.at..record.at + record.len);
                    let bytes = Bytes::copy_from_slice(bytes.unwrap_or_default());
                    let known = record::parse(&bytes)
                        .ok()
                        .and_then(|parsed| Names::new().envelope(parsed, &bytes));
                    if let Some(known) = known
                        && known.event_id == event.event_id
                    {
                        note(at, Found::new(&known, event));
                    }
                }
            }
        }
        Ok(match judge(&part.events, &found) {
            Standing::New => superseded.unwrap_or(Standing::New),
            known => known,
        })
    }

    /// Whether one of `prints` is among the stream's records in the frame. Many on both sides are not
    /// compared each with each.
    fn knows_any(&self, pending: &Pending, prints: &[u32]) -> bool {
        let mut records = chain(&self.records, pending.newest);
        if (pending.added as usize) < MANY || prints.len() < MANY {
            return records.any(|record| prints.contains(&record.fingerprint));
        }
        let known: HashSet<u32> = records.map(|record| record.fingerprint).collect();
        prints.iter().any(|print| known.contains(print))
    }
}
