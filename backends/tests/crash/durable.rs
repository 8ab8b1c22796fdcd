//! What the calls before a cut have made durable: the model stands in `disk`.

use std::collections::{BTreeMap, HashMap};

use crate::recording::{Change, Node, Recording};
use crate::sweep::Random;

/// How metadata survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    OneJournal,
    EachDirectory,
}

/// What the calls before a cut have made durable.
pub struct Durable {
    /// Of each change of content, whether it is.
    pub writes: Vec<bool>,
    /// Of each change of metadata: all up to this one, in the whole journal or for each node.
    journal: Option<usize>,
    metadata: HashMap<Node, usize>,
}

impl Durable {
    pub fn before(recording: &Recording, cut: usize, names: Names) -> Self {
        let mut durable = Self {
            writes: vec![false; recording.changes.len()],
            journal: None,
            metadata: HashMap::new(),
        };
        let mut begun: HashMap<(Node, u32), (usize, bool)> = HashMap::new();
        // Of each file's syncs, when they began and whether they succeeded, in the order of their end.
        let mut synced: HashMap<Node, Vec<(usize, bool)>> = HashMap::new();
        // The newest change of each node's metadata, and of its length.
        let mut newest: HashMap<Node, Vec<(usize, bool)>> = HashMap::new();
        for (at, change) in recording.changes.iter().enumerate().take(cut) {
            for node in metadata_of(change, names) {
                let is_len = matches!(change, Change::Truncate { .. });
                newest.entry(node).or_default().push((at, is_len));
            }
            match change {
                Change::SyncBegin {
                    node,
                    thread,
                    data_only,
                } => drop(begun.insert((*node, *thread), (at, *data_only))),
                Change::SyncEnd { node, thread } => {
                    let Some((began, data_only)) = begun.remove(&(*node, *thread)) else {
                        continue;
                    };
                    synced.entry(*node).or_default().push((began, true));
                    durable.names(*node, newest.get(node), began, data_only);
                }
                Change::SyncFailed { node } => synced.entry(*node).or_default().push((at, false)),
                Change::Write {
                    node, sync: true, ..
                }
                | Change::Truncate {
                    node, sync: true, ..
                } => {
                    durable.writes[at] = true;
                    durable.names(*node, newest.get(node), at + 1, false);
                }
                _ => {}
            }
        }
        for (at, change) in recording.changes.iter().enumerate().take(cut) {
            if let Change::Write { node, .. } = change
                && let Some(syncs) = synced.get(node)
                && let Some((_, true)) = syncs.iter().find(|(began, _)| at < *began)
            {
                durable.writes[at] = true;
            }
        }
        durable
    }

    fn names(
        &mut self,
        node: Node,
        changes: Option<&Vec<(usize, bool)>>,
        before: usize,
        len_only: bool,
    ) {
        let mut newest = changes.into_iter().flatten().rev();
        let found = newest.find(|(at, is_len)| *at < before && (*is_len || !len_only));
        if let Some((at, _)) = found {
            self.journal = self.journal.max(Some(*at));
            let known = self.metadata.entry(node).or_insert(*at);
            *known = (*known).max(*at);
        }
    }

    /// Which changes of metadata survive: the durable ones, and of the others a beginning.
    pub fn choose(
        &self,
        recording: &Recording,
        cut: usize,
        names: Names,
        random: &mut Random,
    ) -> Vec<bool> {
        let mut kept = vec![false; recording.changes.len()];
        let end = (cut + 1).min(recording.changes.len());
        let changes = recording.changes[..end].iter().enumerate();
        let mut open: BTreeMap<Option<Node>, Vec<usize>> = BTreeMap::new();
        for (at, change) in changes {
            let of = metadata_of(change, names);
            let Some(first) = of.first() else { continue };
            let (owner, durable_to) = match names {
                Names::OneJournal => (None, self.journal),
                Names::EachDirectory => (Some(*first), self.metadata.get(first).copied()),
            };
            if durable_to.is_some_and(|to| at <= to) {
                kept[at] = true;
            } else {
                open.entry(owner).or_default().push(at);
            }
        }
        for left in open.into_values() {
            let survive = match random.below(4) {
                0 => 0,
                1 => left.len(),
                _ => random.below(left.len() + 1),
            };
            left[..survive].iter().for_each(|at| kept[*at] = true);
        }
        kept
    }
}

/// Whose metadata a change belongs to; the first is the one whose order it keeps. In a journal the
/// file's own sync covers its names as well.
fn metadata_of(change: &Change, names: Names) -> Vec<Node> {
    match change {
        Change::Link { dir, node, .. }
        | Change::Rename { dir, node, .. }
        | Change::Unlink { dir, node, .. } => match names {
            Names::OneJournal => vec![*dir, *node],
            Names::EachDirectory => vec![*dir],
        },
        Change::Truncate { node, .. } | Change::Chmod { node, .. } | Change::Flag { node } => {
            vec![*node]
        }
        _ => Vec::new(),
    }
}
