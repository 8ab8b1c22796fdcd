//! A trace with its names resolved: what each call did to which file or directory.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::trace::{Op, Record};
use crate::workload::NOTES;

/// A file or a directory, whatever names it has.
pub type Node = usize;
pub const ROOT: Node = 0;

/// What a file or directory was when recording began, or is when it is made.
#[derive(Clone, Debug)]
pub struct Start {
    pub is_dir: bool,
    pub mode: u32,
    pub flagged: bool,
    pub content: Vec<u8>,
    pub entries: BTreeMap<String, Node>,
}

impl Start {
    fn new(is_dir: bool, mode: u32, flagged: bool) -> Self {
        Self {
            is_dir,
            mode,
            flagged,
            content: Vec::new(),
            entries: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Change {
    /// A new name of a new file or directory.
    Link {
        dir: Node,
        name: String,
        node: Node,
    },
    Rename {
        dir: Node,
        from: String,
        to: String,
        node: Node,
    },
    Unlink {
        dir: Node,
        name: String,
        node: Node,
    },
    Write {
        node: Node,
        offset: usize,
        data: Vec<u8>,
        /// Durable when it returned.
        sync: bool,
    },
    Truncate {
        node: Node,
        len: usize,
        sync: bool,
    },
    Chmod {
        node: Node,
        mode: u32,
    },
    /// It has the inode flag from here on.
    Flag {
        node: Node,
    },
    SyncBegin {
        node: Node,
        thread: u32,
        /// `fdatasync`: of the metadata, the length only.
        data_only: bool,
    },
    SyncEnd {
        node: Node,
        thread: u32,
    },
    /// What was not durable yet counts as clean from here on: no later sync writes it.
    SyncFailed {
        node: Node,
    },
    /// The workload wrote down what it was promised.
    Note(String),
    /// A file that was there was opened.
    Open,
}

/// All changes of one run, in order.
pub struct Recording {
    pub nodes: Vec<Start>,
    pub changes: Vec<Change>,
}

impl Recording {
    /// `before` is the folder as it was when recording began; `flagged` tells what had the inode
    /// flag then, by its path.
    pub fn new(before: Option<(&Path, &[String])>, records: Vec<Record>) -> Self {
        let mut names = Names {
            nodes: vec![Start::new(true, 0o700, false)],
            entries: vec![BTreeMap::new()],
            by_inode: HashMap::new(),
        };
        if let Some((folder, flagged)) = before {
            names.load(folder, ROOT, "", flagged);
        }
        let changes = records.into_iter().map(|record| names.resolve(record));
        let changes = changes.collect();
        Self {
            nodes: names.nodes,
            changes,
        }
    }
}

/// The names as the running system saw them.
struct Names {
    nodes: Vec<Start>,
    entries: Vec<BTreeMap<String, Node>>,
    by_inode: HashMap<u64, Node>,
}

impl Names {
    fn load(&mut self, folder: &Path, dir: Node, inside: &str, flagged: &[String]) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let inside = format!("{inside}{name}");
            let metadata = fs::metadata(&path).unwrap();
            let mode = metadata.permissions().mode() & 0o777;
            let is_flagged = flagged.contains(&inside);
            let node = self.add(Start::new(metadata.is_dir(), mode, is_flagged));
            if metadata.is_dir() {
                self.load(&path, node, &format!("{inside}/"), flagged);
            } else {
                self.nodes[node].content = fs::read(&path).unwrap();
            }
            self.entries[dir].insert(name.clone(), node);
            self.nodes[dir].entries.insert(name, node);
        }
    }

    fn add(&mut self, start: Start) -> Node {
        self.nodes.push(start);
        self.entries.push(BTreeMap::new());
        self.nodes.len() - 1
    }

    fn resolve(&mut self, record: Record) -> Change {
        let Record {
            op,
            thread,
            inode,
            number,
            sync,
            path,
            data,
        } = record;
        if path == NOTES {
            return match op {
                Op::Write => Change::Note(String::from_utf8(data).unwrap().trim().to_owned()),
                _ => Change::Open,
            };
        }
        match op {
            Op::Create | Op::MakeDir => {
                let (dir, name) = self.place(&path);
                let node = self.add(Start::new(op == Op::MakeDir, number as u32, sync));
                self.by_inode.insert(inode, node);
                self.entries[dir].insert(name.clone(), node);
                Change::Link { dir, name, node }
            }
            Op::Rename => {
                let (dir, from) = self.place(&path);
                let (to_dir, to) = self.place(&String::from_utf8(data).unwrap());
                assert_eq!(dir, to_dir, "renames across directories are not modelled");
                let node = self.entries[dir].remove(&from).unwrap();
                self.entries[dir].insert(to.clone(), node);
                Change::Rename {
                    dir,
                    from,
                    to,
                    node,
                }
            }
            Op::Unlink => {
                let (dir, name) = self.place(&path);
                let node = self.entries[dir].remove(&name).unwrap();
                Change::Unlink { dir, name, node }
            }
            Op::Write => Change::Write {
                node: self.node(inode, &path),
                offset: number as usize,
                data,
                sync,
            },
            Op::Truncate => Change::Truncate {
                node: self.node(inode, &path),
                len: number as usize,
                sync,
            },
            Op::Chmod => Change::Chmod {
                node: self.node(inode, &path),
                mode: number as u32,
            },
            Op::Flag => Change::Flag {
                node: self.node(inode, &path),
            },
            Op::SyncBegin => Change::SyncBegin {
                node: self.node(inode, &path),
                thread,
                data_only: number == 1,
            },
            Op::SyncEnd => Change::SyncEnd {
                node: self.node(inode, &path),
                thread,
            },
            Op::SyncFailed => Change::SyncFailed {
                node: self.node(inode, &path),
            },
            Op::Open => {
                self.node(inode, &path);
                Change::Open
            }
        }
    }

    /// The file of this inode; one from before the recording is known by its path first.
    fn node(&mut self, inode: u64, path: &str) -> Node {
        if let Some(node) = self.by_inode.get(&inode) {
            return *node;
        }
        let node = if path.is_empty() {
            ROOT
        } else {
            let (dir, name) = self.place(path);
            let found = self.entries[dir].get(&name);
            *found.unwrap_or_else(|| panic!("{path} was never made"))
        };
        self.by_inode.insert(inode, node);
        node
    }

    fn place(&self, path: &str) -> (Node, String) {
        let mut parts: Vec<&str> = path.split('/').collect();
        let name = parts.pop().unwrap().to_owned();
        let dir = parts.iter().fold(ROOT, |dir, part| {
            let found = self.entries[dir].get(*part);
            *found.unwrap_or_else(|| panic!("the directory of {path} was never made"))
        });
        (dir, name)
    }
}
