//! Files written by somebody who knows the format: lengths, counts and numbers of their choice under
//! checksums that are right.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::image::{FRAME_HEADER, frames_of, newest};
use crate::tools::{make_writable, segment};

/// Changes the body of a sealed file.
pub fn sealed(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let bytes = fs::read(path).unwrap();
    let (header, body) = bytes.split_at(16);
    let mut body = body.to_vec();
    change(&mut body);
    let (len, crc) = (body.len() as u32, crc32c::crc32c(&body));
    let parts = [&header[..8], &len.to_le_bytes(), &crc.to_le_bytes(), &body];
    fs::write(path, parts.concat()).unwrap();
}

/// Sets a field in the header of segment `number`.
pub fn segment_field(dir: &Path, number: u64, at: usize, value: &[u8]) {
    let path = segment(dir, number);
    make_writable(&path);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at..at + value.len()].copy_from_slice(value);
    let crc = crc32c::crc32c(&bytes[..176]);
    bytes[176..180].copy_from_slice(&crc.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

/// A commit that would follow the last one.
pub struct Commit {
    path: PathBuf,
    log: Vec<u8>,
    at: usize,
    header: Vec<u8>,
    pub position: u64,
}

impl Commit {
    pub fn after_the_last(dir: &Path) -> Self {
        let number = newest(dir);
        let path = segment(dir, number);
        let log = fs::read(&path).unwrap();
        let last = frames_of(dir, number).pop().unwrap();
        let (at, body) = (
            last.used.start,
            &log[last.used.start + FRAME_HEADER..last.used.end],
        );
        let mut header = log[at..at + FRAME_HEADER].to_vec();
        let chain = blake3::hash(&[&header[32..64], body].concat());
        let commit = u64::from_le_bytes(header[16..24].try_into().unwrap()) + 1;
        header[16..24].copy_from_slice(&commit.to_le_bytes());
        header[32..64].copy_from_slice(chain.as_bytes());
        let position = last.last_position + 1;
        header[64..72].copy_from_slice(&position.to_le_bytes());
        header[72..76].copy_from_slice(&1_u32.to_le_bytes());
        Self {
            path,
            log,
            at: last.range.end,
            header,
            position,
        }
    }

    /// Writes it with this body; `change` may set fields of its header.
    pub fn write(mut self, body: &[u8], change: impl FnOnce(&mut [u8])) {
        self.header[4..8].copy_from_slice(&(body.len() as u32).to_le_bytes());
        self.header[80..84].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        change(&mut self.header);
        let crc = crc32c::crc32c(&self.header[..84]);
        self.header[84..88].copy_from_slice(&crc.to_le_bytes());
        let frame = [&self.header, body].concat();
        self.log[self.at..self.at + frame.len()].copy_from_slice(&frame);
        fs::write(self.path, self.log).unwrap();
    }
}

/// The varints of a record, in their order on disk.
#[derive(Clone, Copy)]
pub struct Numbers {
    pub event_time: u64,
    pub position: u64,
    pub sequence: u64,
    pub revision: u64,
    pub batch_offset: u64,
    pub batch_count: u64,
}

/// A record of the stream `Test/{id}` with these numbers, and `rest` after its event type.
pub fn record(numbers: Numbers, fields: u8, id: &str, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![1, fields, 0, 3];
    body.extend_from_slice(&[0xEE; 16]);
    body.extend_from_slice(&i64::MAX.to_le_bytes());
    let Numbers {
        event_time,
        position,
        sequence,
        revision,
        batch_offset,
        batch_count,
    } = numbers;
    for number in [
        event_time,
        position,
        sequence,
        revision,
        batch_offset,
        batch_count,
    ] {
        varint(&mut body, number);
    }
    for text in ["Test", id, "Noted"] {
        varint(&mut body, text.len() as u64);
        body.extend_from_slice(text.as_bytes());
    }
    body.extend_from_slice(rest);
    let len = (body.len() as u32).to_le_bytes();
    [&len[..], &crc32c::crc32c(&body).to_le_bytes(), &body].concat()
}

pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The `manifest` as ARCHITECTURE and `manifest.rs` have it.
#[derive(Serialize, Deserialize)]
pub struct Manifest {
    pub identity: [u8; 16],
    pub generation: u64,
    pub next_run: u64,
    pub runs: Vec<RunEntry>,
}

#[derive(Serialize, Deserialize)]
pub struct RunEntry {
    pub id: u64,
    pub level: u8,
    pub first_segment: u64,
    pub last_segment: u64,
    pub blocks: u32,
    pub streams: u64,
    pub events: u64,
    pub chain: [u8; 32],
    pub root_len: u32,
    pub root_hash: [u8; 32],
}

pub fn manifest(dir: &Path, change: impl FnOnce(&mut Manifest)) {
    sealed(&dir.join("manifest"), |body| {
        let mut manifest: Manifest = postcard::from_bytes(body).unwrap();
        change(&mut manifest);
        *body = postcard::to_stdvec(&manifest).unwrap();
    });
}

/// The root of a run.
#[derive(Serialize, Deserialize)]
pub struct Root {
    pub run: u64,
    pub level: u8,
    pub segments: (u64, u64),
    pub blocks: u32,
    pub streams: u64,
    pub events: u64,
    pub collisions: bool,
    pub digest: [u8; 32],
    pub fences: Vec<Fence>,
    pub filters: Vec<Filter>,
}

#[derive(Serialize, Deserialize)]
pub struct Fence {
    pub hash: u64,
    pub sequence: u64,
    pub crc: u32,
}

#[derive(Serialize, Deserialize)]
pub struct Filter {
    pub first_hash: u64,
    pub first_page: u32,
    pub len: u32,
    pub crc: u32,
}

const PAGE_HEADER: usize = 17;
const BLOCK: u8 = 1;
const FENCES: u8 = 2;
const ROOT: u8 = 4;

fn key(run: u64, kind: u8) -> Vec<u8> {
    [b"r", &run.to_be_bytes()[..], &[kind], &[0; 4]].concat()
}

/// Changes the body of a page; answers its new checksum.
fn page(tree: &sled::Tree, run: u64, kind: u8, change: impl FnOnce(&mut Vec<u8>)) -> u32 {
    let page = tree.get(key(run, kind)).unwrap().unwrap();
    let (header, body) = page.split_at(PAGE_HEADER);
    let mut body = body.to_vec();
    change(&mut body);
    let covered = [&header[4..], &body].concat();
    let crc = crc32c::crc32c(&covered);
    tree.insert(key(run, kind), [&crc.to_le_bytes()[..], &covered].concat())
        .unwrap();
    crc
}

/// Another test may just have forked: until its child has become another program, that one holds what
/// was locked here a moment ago.
fn open_sled(generation: &Path) -> sled::Db {
    for _ in 0..1_000 {
        match sled::open(generation) {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays locked", generation.display());
}

/// Changes the root of the newest run, and the manifest so that it vouches for it.
pub fn root(dir: &Path, change: impl FnOnce(&sled::Tree, &mut Root)) {
    manifest(dir, |manifest| {
        let generation = dir.join(format!("index/{:08}", manifest.generation));
        let entry = manifest.runs.last_mut().unwrap();
        let db = open_sled(&generation);
        let tree = db.open_tree("index").unwrap();
        page(&tree, entry.id, ROOT, |body| {
            let mut root: Root = postcard::from_bytes(body).unwrap();
            change(&tree, &mut root);
            *body = postcard::to_stdvec(&root).unwrap();
            entry.root_len = body.len() as u32;
            entry.root_hash = *blake3::hash(body).as_bytes();
        });
        db.flush().unwrap();
    });
}

/// Puts a chunk of one posting in place of the first block of the newest run, vouched for by all
/// that is above it.
pub fn first_block(dir: &Path, chunk: &[u8]) {
    root(dir, |tree, root| {
        let block = page(tree, root.run, BLOCK, |body| *body = chunk.to_vec());
        let fences = page(tree, root.run, FENCES, |body| {
            body[16..20].copy_from_slice(&block.to_le_bytes());
            let crcs: Vec<u8> = body
                .chunks(20)
                .flat_map(|fence| fence[16..20].to_vec())
                .collect();
            root.digest = *blake3::hash(&crcs).as_bytes();
        });
        root.fences[0].crc = fences;
    });
}

/// The newest run's first chunk: hash, name, and first sequence.
pub fn first_chunk(dir: &Path) -> (Vec<u8>, Vec<u8>, u64) {
    let mut found = None;
    root(dir, |tree, root| {
        page(tree, root.run, BLOCK, |body| {
            let end = 9 + usize::from(body[8]);
            let bytes = body[end..].iter().take_while(|byte| **byte >= 0x80).count();
            let sequence = (0..=bytes).rev().fold(0, |number, at| {
                number << 7 | u64::from(body[end + at] & 0x7f)
            });
            found = Some((body[..8].to_vec(), body[9..end].to_vec(), sequence));
        });
    });
    found.unwrap()
}

/// The `backup` file: commit, position, chain hash, and number, used bytes, length and hash of each
/// segment.
type Backup = (u64, u64, [u8; 32], Vec<([u64; 3], [u8; 32])>);

/// Changes number, used bytes and length of one segment in a backup's mark.
pub fn backup(dir: &Path, number: u64, change: impl FnOnce(&mut [u64; 3])) {
    sealed(&dir.join("backup"), |body| {
        let mut mark: Backup = postcard::from_bytes(body).unwrap();
        change(&mut mark.3[number as usize - 1].0);
        *body = postcard::to_stdvec(&mark).unwrap();
    });
}
