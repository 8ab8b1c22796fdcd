//! Small files that are replaced whole: `format`, `state`, `manifest`, `backup`, listeners' checkpoints.
//!
//! ```text
//!  0   8  magic
//!  8   4  length of the body
//! 12   4  CRC-32C of the body; of a listener's checkpoint, of its name and the body
//! 16   …  body
//! ```

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use tidelog_core::Error;

use crate::platform;

pub(crate) const FORMAT_MAGIC: [u8; 8] = *b"TIDEFMT1";
pub(crate) const STATE_MAGIC: [u8; 8] = *b"TIDESTA1";
pub(crate) const MANIFEST_MAGIC: [u8; 8] = *b"TIDEMAN1";
pub(crate) const BACKUP_MAGIC: [u8; 8] = *b"TIDEBAK1";
pub(crate) const REPAIR_MAGIC: [u8; 8] = *b"TIDEREP1";
pub(crate) const LISTENER_MAGIC: [u8; 8] = *b"TIDELSN1";

const HEADER: usize = 16;
const MAX_BODY: usize = 16 << 20;

/// `body` with its header.
pub(crate) fn seal(magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    seal_as("", magic, body)
}

/// The same where files of several names have one magic: under another name it is not whole.
pub(crate) fn seal_as(name: &str, magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&magic);
    // Bodies are built by this library and far below 16 MiB.
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&checksum(name, body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn checksum(name: &str, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(name.as_bytes()), body)
}

/// The body inside `bytes`, or what is wrong with them.
pub(crate) fn unseal(magic: [u8; 8], bytes: &[u8]) -> Result<&[u8], &'static str> {
    unseal_as("", magic, bytes)
}

/// The same for what [`seal_as`] made.
pub(crate) fn unseal_as<'a>(
    name: &str,
    magic: [u8; 8],
    bytes: &'a [u8],
) -> Result<&'a [u8], &'static str> {
    let Some((header, body)) = bytes.split_at_checked(HEADER) else {
        return Err("it is shorter than its header");
    };
    if header.get(..8) != Some(&magic[..]) {
        return Err("it does not begin with its magic bytes");
    }
    let field = |at: usize| {
        header
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_le_bytes)
    };
    if field(8).map(|len| len as usize) != Some(body.len()) {
        return Err("its length is not the one it states");
    }
    if field(12) != Some(checksum(name, body)) {
        return Err(if name.is_empty() {
            "its checksum does not match"
        } else {
            "its checksum does not match, or it was saved under another name"
        });
    }
    Ok(body)
}

/// Writes `dir/name` whole; it survives a power cut when this returns.
pub(crate) fn write(dir: &Path, name: &str, magic: [u8; 8], body: &[u8]) -> Result<(), Error> {
    replace(dir, name, &seal(magic, body))
}

/// The same for what [`unseal_as`] shall read.
pub(crate) fn write_as(dir: &Path, name: &str, magic: [u8; 8], body: &[u8]) -> Result<(), Error> {
    replace(dir, name, &seal_as(name, magic, body))
}

fn replace(dir: &Path, name: &str, sealed: &[u8]) -> Result<(), Error> {
    platform::replace_file(dir, name, sealed)
        .map_err(|error| Error::io("replace", dir.join(name), error))
}

/// The whole file, bounded; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        // Where a file stands for the directory, it is not there either.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(Error::io("open", path, error)),
    };
    let mut bytes = Vec::new();
    let limit = (HEADER + MAX_BODY) as u64 + 1;
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("read", path, error))?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_a_sealed_file() {
        let bytes = seal(*b"TIDETEST", b"body");
        assert_eq!(bytes, *b"TIDETEST\x04\0\0\0\x50\xc9\x3f\x26body".as_slice());
        assert_eq!(unseal(*b"TIDETEST", &bytes), Ok(&b"body"[..]));
    }

    #[test]
    fn what_is_sealed_under_a_name_is_whole_under_no_other() {
        let bytes = seal_as("mail", *b"TIDETEST", b"body");
        assert_eq!(unseal_as("mail", *b"TIDETEST", &bytes), Ok(&b"body"[..]));
        assert!(unseal_as("mall", *b"TIDETEST", &bytes).is_err());
        assert!(unseal(*b"TIDETEST", &bytes).is_err());
    }

    #[test]
    fn every_single_bit_flip_is_noticed() {
        let bytes = seal(*b"TIDETEST", b"body");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(*b"TIDETEST", &damaged).is_err(), "bit {bit}");
        }
    }
}
