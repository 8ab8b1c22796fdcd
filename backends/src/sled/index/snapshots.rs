//! Snapshots: bytes by stream name. Only a cache: what is not whole reads as `None`.
//!
//! ```text
//! head key: 's', name length u16, name, 0
//! value:    0  4  CRC of all that follows
//!           4  8  version: one above the one replaced
//!          12  8  length of the snapshot
//!          20  4  CRC of the snapshot
//!          24  …  the snapshot, when it fits here
//! part key: 's', name length u16, name, 1, version u64, part u32 (big-endian)
//! ```

use super::IndexError;
use super::kv::Kv;
use crate::sled::varint::Reader;

const PART: usize = 4096;
const HEAD: usize = 24;

struct Head {
    version: u64,
    len: u64,
    crc: u32,
    inline: Vec<u8>,
}

/// The newest snapshot put under `name`, when it is whole.
pub(super) fn get(kv: &dyn Kv, name: &str) -> Result<Option<Vec<u8>>, IndexError> {
    // A snapshot being replaced may lose its parts between the two reads: its successor is there.
    for _ in 0..3 {
        let Some(head) = read_head(kv, name)? else {
            return Ok(None);
        };
        if let Some(bytes) = read_parts(kv, name, &head)? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// The name of the first snapshot behind that of `after`, in the order of their keys.
pub(super) fn next(kv: &dyn Kv, after: Option<&str>) -> Result<Option<String>, IndexError> {
    let mut from = match after {
        None => vec![b's'],
        Some(name) => {
            // Behind its parts.
            let mut key = head_key(name);
            key.pop();
            key.push(2);
            key
        }
    };
    while let Some(key) = kv.next_key(&from)? {
        let mut reader = Reader(&key);
        let mut name = || {
            let [letter, high, low]: [u8; 3] = reader.array()?;
            let len = usize::from(u16::from_be_bytes([high, low]));
            let name = (letter == b's').then(|| reader.0.get(..len))??;
            Some(std::str::from_utf8(name).ok()?.to_owned())
        };
        match name() {
            Some(name) => return Ok(Some(name)),
            None if key.first() == Some(&b's') => from = [key.as_slice(), &[0]].concat(),
            None => break,
        }
    }
    Ok(None)
}

/// Replaces the snapshot under `name`. Calls must not overlap.
pub(super) fn put(kv: &dyn Kv, name: &str, bytes: &[u8]) -> Result<(), IndexError> {
    let before = read_head(kv, name)?;
    let version = before
        .as_ref()
        .map_or(1, |head| head.version.wrapping_add(1));
    let inline = HEAD + bytes.len() <= PART;
    if !inline {
        for (part, number) in bytes.chunks(PART).zip(0..) {
            kv.put(&part_key(name, version, number), part)?;
        }
    }
    let mut value = vec![0; 4];
    value.extend_from_slice(&version.to_le_bytes());
    value.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    value.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    if inline {
        value.extend_from_slice(bytes);
    }
    let crc = crc32c::crc32c(&value[4..]);
    value[..4].copy_from_slice(&crc.to_le_bytes());
    kv.put(&head_key(name), &value)?;
    if inline && before.is_none_or(|head| head.len == head.inline.len() as u64) {
        return Ok(());
    }
    remove_other_versions(kv, name, if inline { None } else { Some(version) })
}

fn read_head(kv: &dyn Kv, name: &str) -> Result<Option<Head>, IndexError> {
    let Some(value) = kv.get(&head_key(name))? else {
        return Ok(None);
    };
    let mut reader = Reader(&value);
    let mut head = || {
        let crc = u32::from_le_bytes(reader.array()?);
        if crc != crc32c::crc32c(reader.0) {
            return None;
        }
        Some(Head {
            version: u64::from_le_bytes(reader.array()?),
            len: u64::from_le_bytes(reader.array()?),
            crc: u32::from_le_bytes(reader.array()?),
            inline: reader.0.to_vec(),
        })
    };
    Ok(head())
}

fn read_parts(kv: &dyn Kv, name: &str, head: &Head) -> Result<Option<Vec<u8>>, IndexError> {
    let mut bytes = head.inline.clone();
    let mut number = 0;
    while (bytes.len() as u64) < head.len {
        let Some(part) = kv.get(&part_key(name, head.version, number))? else {
            return Ok(None);
        };
        if part.is_empty() {
            return Ok(None);
        }
        bytes.extend_from_slice(&part);
        number += 1;
    }
    let whole = bytes.len() as u64 == head.len && crc32c::crc32c(&bytes) == head.crc;
    Ok(whole.then_some(bytes))
}

/// Removes what earlier snapshots, or puts that never ended, left behind.
fn remove_other_versions(kv: &dyn Kv, name: &str, keep: Option<u64>) -> Result<(), IndexError> {
    let mut prefix = head_key(name);
    prefix.pop();
    prefix.push(1);
    let kept = keep.map(|version| [prefix.as_slice(), &version.to_be_bytes()].concat());
    let mut from = prefix.clone();
    while let Some(key) = kv.next_key(&from)? {
        if !key.starts_with(&prefix) {
            break;
        }
        match &kept {
            // Behind the last part number there can be.
            Some(kept) if key.starts_with(kept) => from = [kept.as_slice(), &[0xff; 5]].concat(),
            _ => {
                kv.remove(&key)?;
                from = [key.as_slice(), &[0]].concat();
            }
        }
    }
    Ok(())
}

fn head_key(name: &str) -> Vec<u8> {
    // Names have at most 321 bytes.
    let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
    let mut key = vec![b's'];
    key.extend_from_slice(&len.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key
}

fn part_key(name: &str, version: u64, number: u32) -> Vec<u8> {
    let mut key = head_key(name);
    key.pop();
    key.push(1);
    key.extend_from_slice(&version.to_be_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key
}
