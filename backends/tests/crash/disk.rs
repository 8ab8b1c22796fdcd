//! What a power cut leaves on the disk.
//!
//! # The model
//! The calls before the cut have returned; the one at the cut is under way. What survives:
//!
//! **Content** stands in the page cache first. Each sector of 512 bytes reaches the disk whole, at
//! any time, in any order: a sector holds what the cache held at some moment since the last sync of
//! the file, so writes are lost whole, torn, or overtaken by later ones. A sync that ended makes
//! durable what was written before it began; what is written meanwhile is as good as not synced.
//! `sync_file_range` makes nothing durable. A sync that failed makes nothing durable either, and what
//! it was to write counts as written from then on, as Linux has it: no later sync writes that, unless
//! it is written again.
//!
//! **Length.** Growth survives together with a write or without it (zeros then stand there); a file
//! synced has its length. A cut to less is metadata.
//!
//! **The inode flag** (`FS_SYNC_FL`, `chattr +S`) on a file: each write is on the disk when it
//! returns, its bytes and the length. It is torn like any other when the cut falls into it. It covers
//! these bytes, not what was written without it before; and of a directory no names: ext4 would sync
//! them as well, XFS does not. Where the flag is refused, nothing is durable but by syncs.
//!
//! **Metadata** (names, removals, cuts to a length, modes, the flag) survives in one of two ways:
//! - *one journal*, as on ext4 and XFS: of all changes, in order, a beginning survives. It reaches at
//!   least to the last change of whatever was synced.
//! - *each directory by itself*, which promises less, as POSIX does: of the changes in one directory a
//!   beginning survives, whatever survives in others. Only a sync of the directory makes names
//!   durable, a sync of a file its own length and mode only.
//!
//! A rename is done or not, never half. Stale content of other files never appears.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::recording::{Change, Node, ROOT, Recording};
use crate::sweep::Random;

const SECTOR: usize = 512;

/// What becomes of what is not durable.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Lost,
    Kept,
    /// Each write reaches the disk with this chance, in percent.
    Writes(usize),
    /// Each sector does.
    Sectors(usize),
    /// Everything before this change does, and of the one there some sectors.
    Until(usize),
}

/// How metadata survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    OneJournal,
    EachDirectory,
}

/// What a cut leaves.
pub struct Image {
    /// By path, directories before what is in them.
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    mode: u32,
    flagged: bool,
    /// `None` for a directory.
    content: Option<Vec<u8>>,
}

impl Image {
    /// Everything that was ever done is there.
    pub fn whole(recording: &Recording) -> Self {
        let all = recording.changes.len();
        let kept = vec![true; all];
        replay(
            recording,
            all,
            &kept,
            &vec![false; all],
            |_| Fate::Kept,
            &mut Random(0),
        )
    }

    /// A cut before the change `cut` has returned. A disk that is not `honest` forgets syncs.
    pub fn after_cut(
        recording: &Recording,
        cut: usize,
        names: Names,
        honest: bool,
        random: &mut Random,
    ) -> Self {
        let synced_to = if honest { cut } else { 0 };
        let durable = Durable::before(recording, synced_to, names);
        let kept = durable.choose(recording, cut, names, random);
        let mixed = random.one_in(3);
        let whole = fate(cut, random);
        let mut fates: HashMap<Node, Fate> = HashMap::new();
        let mut choices = random.clone();
        let of = |node| {
            if mixed {
                *fates.entry(node).or_insert_with(|| fate(cut, &mut choices))
            } else {
                whole
            }
        };
        replay(recording, cut, &kept, &durable.writes, of, random)
    }

    /// Makes the files below `folder`, which is empty.
    pub fn write_to(&self, folder: &Path) {
        for (path, entry) in &self.entries {
            let path = folder.join(path);
            match &entry.content {
                None => fs::create_dir(&path).unwrap(),
                Some(content) => fs::write(&path, content).unwrap(),
            }
            if entry.content.is_none() || entry.mode != 0o600 {
                fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode)).unwrap();
            }
        }
    }

    /// Paths of what has the inode flag.
    pub fn flagged(&self) -> Vec<String> {
        let flagged = self.entries.iter().filter(|(_, entry)| entry.flagged);
        flagged.map(|(path, _)| path.clone()).collect()
    }

    /// Paths whose content or mode is not the one below `folder`.
    pub fn differences(&self, folder: &Path) -> Vec<String> {
        let there = crate::tools::tree(folder);
        let mut paths: Vec<String> = self.entries.keys().cloned().collect();
        paths.extend(there.keys().map(|path| path.to_str().unwrap().to_owned()));
        paths.sort();
        paths.dedup();
        paths.retain(|path| {
            let ours = self.entries.get(path).map(|entry| match &entry.content {
                None => crate::tools::Entry::Dir(entry.mode),
                Some(content) => crate::tools::Entry::File(entry.mode, content.clone()),
            });
            ours.as_ref() != there.get(Path::new(path))
        });
        paths
    }
}

fn fate(cut: usize, random: &mut Random) -> Fate {
    match random.below(10) {
        0 => Fate::Lost,
        1 => Fate::Kept,
        2..5 => Fate::Writes(*random.pick(&[10, 50, 90])),
        5..8 => Fate::Sectors(*random.pick(&[10, 50, 90, 98])),
        // Not long ago: what is older is durable for the most part.
        _ => Fate::Until(cut.saturating_sub(random.below(40))),
    }
}

/// What the calls before a cut have made durable.
struct Durable {
    /// Of each change of content, whether it is.
    writes: Vec<bool>,
    /// Of each change of metadata: all up to this one, in the whole journal or for each node.
    journal: Option<usize>,
    metadata: HashMap<Node, usize>,
}

impl Durable {
    fn before(recording: &Recording, cut: usize, names: Names) -> Self {
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
    fn choose(
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

struct File {
    cache: Vec<u8>,
    disk: Vec<u8>,
    mode: u32,
    flagged: bool,
}

/// Goes through the changes up to the cut: the cache gets all of them, the disk what survives.
fn replay(
    recording: &Recording,
    cut: usize,
    kept: &[bool],
    durable: &[bool],
    mut fate: impl FnMut(Node) -> Fate,
    random: &mut Random,
) -> Image {
    let mut files: Vec<File> = recording
        .nodes
        .iter()
        .map(|start| File {
            cache: start.content.clone(),
            disk: start.content.clone(),
            mode: start.mode,
            flagged: start.flagged,
        })
        .collect();
    let mut dirs: Vec<BTreeMap<String, Node>> = recording
        .nodes
        .iter()
        .map(|start| start.entries.clone())
        .collect();
    let end = (cut + 1).min(recording.changes.len());
    for (at, change) in recording.changes[..end].iter().enumerate() {
        let kept = kept[at];
        match change {
            Change::Link { dir, name, node } if kept => {
                dirs[*dir].insert(name.clone(), *node);
            }
            Change::Rename {
                dir,
                from,
                to,
                node,
            } if kept => {
                dirs[*dir].remove(from);
                dirs[*dir].insert(to.clone(), *node);
            }
            Change::Unlink { dir, name, .. } if kept => {
                dirs[*dir].remove(name);
            }
            Change::Chmod { node, mode } if kept => files[*node].mode = *mode,
            Change::Flag { node } if kept => files[*node].flagged = true,
            Change::Truncate { node, len, .. } => {
                let file = &mut files[*node];
                file.cache.resize(*len, 0);
                if kept {
                    file.disk.resize(*len, 0);
                }
            }
            Change::Write {
                node, offset, data, ..
            } => {
                let fate = if durable[at] { Fate::Kept } else { fate(*node) };
                files[*node].write(at, *offset, data, fate, random);
            }
            _ => {}
        }
    }
    let mut image = Image {
        entries: BTreeMap::new(),
    };
    collect(recording, &dirs, &mut files, ROOT, "", &mut image);
    image
}

impl File {
    fn write(&mut self, at: usize, offset: usize, data: &[u8], fate: Fate, random: &mut Random) {
        let end = offset + data.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(data);
        let percent = match fate {
            Fate::Kept => 100,
            Fate::Writes(percent) => 100 * usize::from(random.below(100) < percent),
            Fate::Sectors(percent) => percent,
            Fate::Until(last) if at < last => 100,
            Fate::Until(last) if at == last => 50,
            Fate::Lost | Fate::Until(_) => 0,
        };
        if self.disk.len() < self.cache.len() && random.below(100) < percent {
            self.disk.resize(self.cache.len(), 0);
        }
        if percent == 0 {
            return;
        }
        let mut sector = offset - offset % SECTOR;
        while sector < end {
            let to = (sector + SECTOR).min(self.cache.len()).min(self.disk.len());
            if sector < to && random.below(100) < percent {
                self.disk[sector..to].copy_from_slice(&self.cache[sector..to]);
            }
            sector += SECTOR;
        }
    }
}

fn collect(
    recording: &Recording,
    dirs: &[BTreeMap<String, Node>],
    files: &mut [File],
    dir: Node,
    inside: &str,
    image: &mut Image,
) {
    for (name, node) in &dirs[dir] {
        let path = format!("{inside}{name}");
        let is_dir = recording.nodes[*node].is_dir;
        let content = (!is_dir).then(|| std::mem::take(&mut files[*node].disk));
        let entry = Entry {
            mode: files[*node].mode,
            flagged: files[*node].flagged,
            content,
        };
        image.entries.insert(path.clone(), entry);
        if is_dir {
            collect(recording, dirs, files, *node, &format!("{path}/"), image);
        }
    }
}
