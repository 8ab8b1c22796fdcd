//! Rule 6: what those who follow got.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_backends::fake::FakeServer;
use tidelog_backends::wire::OriginRow;
use tidelog_core::{EventEnvelope, EventId, RecordKind};
use uuid::Uuid;

use super::super::follow::Followed;
use super::super::lineage::Lineage;
use super::follower::Follower;
use super::oracle::{Oracle, Verdict, rule, state_of};
use super::world::Node;
use crate::scylla::state::SinkState;
use crate::sim::disk::Disk;

/// Where each event stands in what came, and of which epoch, by origin, position and id.
type Found = BTreeMap<(Uuid, u64, EventId), Vec<(usize, Uuid)>>;

impl Oracle {
    /// Something came to one who follows.
    pub(super) fn came(&mut self, item: &Followed, nodes: &[Node]) -> Verdict {
        let Followed::Event {
            origin, envelope, ..
        } = item
        else {
            return Ok(());
        };
        let id = envelope.event_id;
        rule!(
            self,
            "6 only what was accepted comes",
            self.has_lost || self.accepted.contains(&id),
            "{} {} of {origin}: {id}",
            envelope.stream,
            envelope.sequence
        );
        let mut recorded = nodes.iter().filter_map(|node| {
            let disk = node.log.disk.lock();
            let at = usize::try_from(envelope.position? - 1).ok()?;
            let record = disk.records().get(at)?;
            let is_it = disk.identity().origin == *origin && record.event_id == id;
            is_it.then(|| record.clone())
        });
        let first = recorded.next();
        let is_as_recorded = first.as_ref().is_none_or(|first| first == envelope)
            || recorded.any(|record| record == *envelope);
        rule!(
            self,
            "6 what comes was recorded",
            is_as_recorded,
            "{envelope:?}, recorded was {first:?}"
        );
        Ok(())
    }

    /// At rest, when nothing came for a while.
    pub(super) fn followed(
        &mut self,
        followers: &[Follower],
        server: &FakeServer,
        nodes: &[Node],
    ) -> Verdict {
        for follower in followers {
            let got = follower.got.lock();
            let items: Vec<Followed> = got.iter().map(|(item, _)| item.clone()).collect();
            drop(got);
            let found = self.each_once(&items, server)?;
            for node in nodes.iter().filter(|node| node.running.is_some()) {
                let disk = node.log.disk.lock();
                let identity = disk.identity();
                if !follower.wants(identity.origin) {
                    continue;
                }
                let rows = server.tables().origins.get(&identity.origin);
                let rows: Vec<_> = rows
                    .into_iter()
                    .flat_map(BTreeMap::values)
                    .cloned()
                    .collect();
                if !can_be_read(&rows, &disk, nodes) || self.is_taken_over(&rows, &disk) {
                    continue;
                }
                let Some(state) = state_of(&disk)? else {
                    continue;
                };
                self.has_all(&items, &found, &rows, &disk, &state)?;
                self.is_truthful(follower, &disk, &state)?;
            }
        }
        Ok(())
    }

    /// Nothing comes twice, unless a fork below it was said in between.
    fn each_once(&mut self, items: &[Followed], server: &FakeServer) -> Result<Found, String> {
        let mut found = Found::new();
        for (at, item) in items.iter().enumerate() {
            let Followed::Event {
                origin,
                epoch,
                envelope,
            } = item
            else {
                continue;
            };
            let position = envelope.position.unwrap_or_default();
            let before = found
                .entry((*origin, position, envelope.event_id))
                .or_default();
            // Of logs that share it, by what the server says of them.
            let rows = rows_of(server, *origin);
            let is_shared = |other: Uuid| {
                let others = Lineage::of(&rows, other).ok();
                let common = Lineage::of(&rows, *epoch).ok().zip(others);
                other == *epoch || common.is_some_and(|(one, other)| one.common(&other) >= position)
            };
            let is_new = before.iter().all(|(last, other)| {
                !is_shared(*other)
                    || items[*last..at].iter().any(|between| {
                        matches!(between, Followed::Forked { origin: of, at, .. }
                            if of == origin && *at < position)
                    })
            });
            rule!(
                self,
                "6 nothing comes twice",
                is_new,
                "{} {} at {position} of {origin}",
                envelope.stream,
                envelope.sequence
            );
            before.push((at, *epoch));
        }
        Ok(found)
    }

    /// What this log has accepted came, in order, and what gave way was said.
    fn has_all(
        &mut self,
        items: &[Followed],
        found: &Found,
        rows: &[OriginRow],
        disk: &Disk,
        state: &SinkState,
    ) -> Verdict {
        let origin = disk.identity().origin;
        let chain: BTreeSet<Uuid> = disk.epochs().iter().map(|epoch| epoch.id).collect();
        let mine = Lineage::of(rows, disk.identity().epoch).ok();
        let is_of_mine = |epoch: Uuid, position: u64| {
            let other = Lineage::of(rows, epoch).ok();
            let common = mine.as_ref().zip(other);
            common.map_or(chain.contains(&epoch), |(mine, other)| {
                mine.common(&other) >= position || mine == &other
            })
        };
        let mut newest = BTreeMap::new();
        for record in disk.records() {
            if record.kind == RecordKind::Control {
                continue;
            }
            let (stream, sequence) = (&record.stream, record.sequence);
            let position = record.position.unwrap_or_default();
            let at = found.get(&(origin, position, record.event_id));
            let of_mine = at.into_iter().flatten();
            let mut of_mine = of_mine.filter(|(_, epoch)| is_of_mine(*epoch, position));
            let last = of_mine.next_back();
            if disk.is_superseded(stream, sequence, position) {
                let is_said = last.is_none_or(|(last, epoch)| {
                    // Another copy may have had it accepted, after this one's log said that it gave way.
                    let before = items[..*last].iter().filter(|item| is_of(item, &chain));
                    is_said(items[*last..].iter(), origin, record)
                        || !chain.contains(epoch) && is_said(before, origin, record)
                });
                rule!(
                    self,
                    "6 what gave way is said",
                    is_said,
                    "{stream} {sequence} at {position} of {origin}"
                );
                continue;
            }
            let last = last.map(|(at, _)| *at);
            let mut entries = state.of(stream);
            let is_held = entries.any(|entry| !entry.accepted && entry.first_position <= position);
            let there = self
                .streams
                .get(stream)
                .and_then(|events| events.get(&sequence));
            if is_held || there != Some(&record.event_id) {
                continue;
            }
            // What came before a fork below it, comes again.
            let is_undone = last.is_some_and(|last| {
                items[last..].iter().any(|later| {
                    matches!(later, Followed::Forked { origin: of, new, at, .. }
                        if *of == origin && chain.contains(new) && *at < position)
                })
            });
            rule!(
                self,
                "6 all that was accepted comes",
                last.is_some() && !is_undone,
                "{stream} {sequence} at {position} of {origin}, which came at {at:?} (undone: {is_undone})"
            );
            let before = newest.insert(stream.clone(), last);
            rule!(
                self,
                "6 a stream comes in its order",
                before.is_none_or(|before| before < last),
                "{stream} {sequence} at {position} of {origin}: {before:?}, {last:?}"
            );
        }
        Ok(())
    }

    /// The vector says how far it is.
    fn is_truthful(&mut self, follower: &Follower, disk: &Disk, state: &SinkState) -> Verdict {
        let identity = disk.identity();
        let vector = follower.vector();
        let left_out: Vec<_> = vector.left_out().collect();
        let mut strange = left_out.iter().filter(|(origin, epoch, stream, _)| {
            (*origin, *epoch) == (identity.origin, identity.epoch)
                && !state.of(stream).any(|entry| !entry.accepted)
        });
        let strange = strange.next();
        rule!(
            self,
            "6 what is left out is parked",
            self.has_lost || strange.is_none(),
            "{strange:?}"
        );
        Ok(())
    }
}

impl Oracle {
    /// Whether the watermark of an epoch of this log stood, before the log left that epoch, at a place
    /// that is not of it: the server lost the mark, and another copy of the store, or its disk as it was
    /// before, took the epoch over. Who followed the one history is at a place in the other now.
    ///
    /// The known limit, as well: a vector has no hashes.
    fn is_taken_over(&self, rows: &[OriginRow], disk: &Disk) -> bool {
        let identity = disk.identity();
        let lineage = Lineage::of(rows, identity.epoch).ok();
        let mut stretches = lineage.iter().flat_map(Lineage::epochs);
        stretches.any(|stretch| {
            let marks = self.marks.get(&(identity.origin, stretch.epoch));
            let mut of_log = marks.into_iter().flatten();
            of_log.any(|(position, hash)| {
                let here = disk.commit_end(*position).map(|end| end.hash);
                (1..=stretch.to).contains(position) && here != Some(*hash)
            })
        })
    }
}

/// Whether a log is what the server says of it, to somebody who reads it from any place: it knows all
/// epochs of it, none of which was given up since; and no two copies wrote in one of them behind the
/// place where they went apart.
///
/// The last one is a known limit: a vector has no hashes.
pub(super) fn can_be_read(rows: &[OriginRow], disk: &Disk, nodes: &[Node]) -> bool {
    let identity = disk.identity();
    let mine = rows.iter().find(|row| row.epoch == identity.epoch);
    if mine.is_none_or(|row| row.successor.is_some()) || Lineage::of(rows, identity.epoch).is_err()
    {
        return false;
    }
    let chain: Vec<Uuid> = disk.epochs().iter().map(|epoch| epoch.id).collect();
    let partings = rows.iter().filter_map(|row| row.parent);
    let mut of_mine = partings.filter(|(parent, ..)| chain.contains(parent));
    of_mine.all(|(parent, position, hash)| {
        // The one in question is locked.
        let others = nodes.iter().filter(|node| !node.log.disk.is_locked());
        let mut all = vec![ends_to(disk, position)];
        for other in others {
            let other = other.log.disk.lock();
            let knows = other.epochs().iter().any(|epoch| epoch.id == parent);
            if other.identity().origin == identity.origin && knows {
                all.push(ends_to(&other, position));
            }
        }
        // The longest has what all others have.
        let longest = all.iter().max_by_key(|ends| ends.len()).cloned();
        let longest = longest.unwrap_or_default();
        let is_left_there = |ends: &[(u64, [u8; 32])]| {
            let last = ends.last();
            last.is_none_or(|(at, here)| *at < position || (*at, *here) == (position, hash))
        };
        all.iter()
            .all(|ends| longest.starts_with(ends) && is_left_there(ends))
    })
}

/// Where the commits of a log end, up to a position; and the one in whose middle that is.
fn ends_to(disk: &Disk, position: u64) -> Vec<(u64, [u8; 32])> {
    let commits = disk.commits().iter();
    let commits = commits.take_while(|commit| commit.first_position <= position);
    let ends = commits.map(|commit| commit.end());
    ends.map(|end| (end.position, end.hash)).collect()
}

pub(super) fn rows_of(server: &FakeServer, origin: Uuid) -> Vec<OriginRow> {
    let rows = server.tables().origins.get(&origin).into_iter();
    rows.flat_map(BTreeMap::values).cloned().collect()
}

/// Whether it is said of one of these epochs that events gave way.
fn is_of(item: &Followed, epochs: &BTreeSet<Uuid>) -> bool {
    matches!(item, Followed::Superseded { epoch, .. } if epochs.contains(epoch))
}

/// Whether it is said that the event gave way, or that its epoch was given up below it.
fn is_said<'a>(
    mut items: impl Iterator<Item = &'a Followed>,
    origin: Uuid,
    record: &EventEnvelope,
) -> bool {
    items.any(|item| match item {
        Followed::Superseded {
            origin: of,
            stream,
            from,
            ..
        } => *of == origin && *stream == record.stream && *from <= record.sequence,
        Followed::Forked { origin: of, at, .. } => *of == origin && Some(*at) < record.position,
        _ => false,
    })
}
