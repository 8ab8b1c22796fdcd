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

use crate::durable::{Durable, Names};
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
