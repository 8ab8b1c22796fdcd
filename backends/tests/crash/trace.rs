//! What the shim wrote down: `faults.h` has the layout.

use std::fs;
use std::path::Path;

/// One call that changed something, in the order in which they took effect.
#[derive(Clone, Debug)]
pub struct Record {
    pub op: Op,
    pub thread: u32,
    pub inode: u64,
    pub number: u64,
    /// Durable when it returned.
    pub sync: bool,
    /// Relative to the recorded folder.
    pub path: String,
    pub data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Create,
    Write,
    Truncate,
    SyncBegin,
    SyncEnd,
    SyncFailed,
    Rename,
    Unlink,
    MakeDir,
    Chmod,
    Flag,
    Open,
}

const OPS: [Op; 12] = [
    Op::Create,
    Op::Write,
    Op::Truncate,
    Op::SyncBegin,
    Op::SyncEnd,
    Op::SyncFailed,
    Op::Rename,
    Op::Unlink,
    Op::MakeDir,
    Op::Chmod,
    Op::Flag,
    Op::Open,
];

pub fn read(trace: &Path) -> Vec<Record> {
    let bytes = fs::read(trace).unwrap();
    let mut rest = &bytes[..];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let op = OPS[u32_of(take(&mut rest, 4)) as usize - 1];
        let thread = u32_of(take(&mut rest, 4));
        let inode = u64_of(take(&mut rest, 8));
        let number = u64_of(take(&mut rest, 8));
        let sync = u32_of(take(&mut rest, 4)) != 0;
        let path_len = u32_of(take(&mut rest, 4)) as usize;
        let data_len = u64_of(take(&mut rest, 8)) as usize;
        let path = String::from_utf8(take(&mut rest, path_len).to_vec()).unwrap();
        let data = take(&mut rest, data_len).to_vec();
        records.push(Record {
            op,
            thread,
            inode,
            number,
            sync,
            path,
            data,
        });
    }
    records
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(len);
    *rest = left;
    taken
}

fn u32_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap())
}

fn u64_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}
