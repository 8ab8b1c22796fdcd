//! The `format` file: who the store is and which version of the format it has.
//!
//! ```text
//!  0   4  format version
//!  4   4  compatible flags          unknown bits are ignored
//!  8   4  read-only compatible      unknown bits: may be read, not written
//! 12   4  incompatible              unknown bits: not opened
//! 16  16  origin
//! 32   8  salt
//! 40  16  key of name hashes and fingerprints
//! 56   8  created, microseconds since 1970
//! ```

use std::path::Path;

use tidelog_core::{Error, Timestamp};
use uuid::Uuid;

use super::sealed_file;

pub(crate) const FILE: &str = "format";
pub(crate) const VERSION: u32 = 1;

const LEN: usize = 64;
/// Bits this version knows, by class.
const KNOWN_READ_ONLY: u32 = 0;
const KNOWN_INCOMPATIBLE: u32 = GAPS | COPY | BRANCHES;
/// Incompatible: a repair left records out, and segment headers declare where.
pub(crate) const GAPS: u32 = 1;
/// Incompatible: another log's commits are taken as they stand; nothing is appended.
pub(crate) const COPY: u32 = 2;
/// Incompatible: events of a stream may have given way to others.
pub(crate) const BRANCHES: u32 = 4;

/// What stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub version: u32,
    pub compatible: u32,
    pub read_only: u32,
    pub incompatible: u32,
    pub origin: Uuid,
    pub salt: u64,
    pub name_key: [u8; 16],
    pub created: Timestamp,
}

impl Format {
    /// Whether the log may have declared gaps.
    pub(crate) fn has_gaps(&self) -> bool {
        self.incompatible & GAPS != 0
    }

    /// Whether it is a copy of another log, and takes no appends.
    pub(crate) fn is_copy(&self) -> bool {
        self.incompatible & COPY != 0
    }

    /// Whether streams may have branches.
    pub(crate) fn has_branches(&self) -> bool {
        self.incompatible & BRANCHES != 0
    }

    pub(crate) fn encode(&self) -> [u8; LEN] {
        let mut body = [0; LEN];
        let fields: [&[u8]; 8] = [
            &self.version.to_le_bytes(),
            &self.compatible.to_le_bytes(),
            &self.read_only.to_le_bytes(),
            &self.incompatible.to_le_bytes(),
            self.origin.as_bytes(),
            &self.salt.to_le_bytes(),
            &self.name_key,
            &self.created.as_micros().to_le_bytes(),
        ];
        let mut rest = &mut body[..];
        for field in fields {
            let (here, after) = rest.split_at_mut(field.len());
            here.copy_from_slice(field);
            rest = after;
        }
        body
    }

    fn decode(body: &[u8]) -> Option<Self> {
        // Later versions may append fields, never move these.
        let (fixed, _) = body.split_first_chunk::<LEN>()?;
        let word = |at: usize| {
            fixed
                .get(at..at + 4)
                .and_then(|b| b.try_into().ok())
                .map(u32::from_le_bytes)
        };
        let long = |at: usize| fixed.get(at..at + 8).and_then(|b| b.try_into().ok());
        Some(Self {
            version: word(0)?,
            compatible: word(4)?,
            read_only: word(8)?,
            incompatible: word(12)?,
            origin: Uuid::from_slice(fixed.get(16..32)?).ok()?,
            salt: u64::from_le_bytes(long(32)?),
            name_key: fixed.get(40..56)?.try_into().ok()?,
            created: Timestamp::from_micros(i64::from_le_bytes(long(56)?)),
        })
    }

    /// Reads the file in `dir` and refuses what this version may not open.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        let Some(bytes) = sealed_file::read(&path)? else {
            return Ok(None);
        };
        let damaged = |what: &str| {
            Error::damaged(
                &path,
                what,
                "put it back from a backup; nothing else can replace it",
            )
        };
        let body = sealed_file::unseal(sealed_file::FORMAT_MAGIC, &bytes).map_err(damaged)?;
        let format = Self::decode(body).ok_or_else(|| damaged("it is too short"))?;
        let unknown = format.incompatible & !KNOWN_INCOMPATIBLE;
        if unknown != 0 || format.version == 0 {
            return Err(Error::UnsupportedFormat {
                path,
                version: format.version,
                class: "incompatible",
                flags: unknown,
                remedy: "open it with the version of tidelog that wrote it, or newer",
            });
        }
        Ok(Some(format))
    }

    /// Why this version may read what stands in `dir`, and must not write it.
    pub(crate) fn read_only(&self, dir: &Path) -> Option<Error> {
        let flags = self.read_only & !KNOWN_READ_ONLY;
        (flags != 0).then(|| Error::UnsupportedFormat {
            path: dir.join(FILE),
            version: self.version,
            class: "read-only compatible",
            flags,
            remedy: "this version reads it and cannot write it; to write, use the version that wrote it, or newer",
        })
    }

    /// The same as an error.
    pub(crate) fn ensure_writable(&self, dir: &Path) -> Result<(), Error> {
        self.read_only(dir).map_or(Ok(()), Err)
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        sealed_file::write(dir, FILE, sealed_file::FORMAT_MAGIC, &self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Format {
        Format {
            version: 1,
            compatible: 0,
            read_only: 0,
            incompatible: 0,
            origin: Uuid::from_bytes([1; 16]),
            salt: 2,
            name_key: [3; 16],
            created: Timestamp::from_micros(4),
        }
    }

    #[test]
    fn golden_bytes_of_the_format_body() {
        let hex: String = sample()
            .encode()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let zeros = "00000000".repeat(3);
        let golden = [
            "01000000",
            &zeros,
            &"01".repeat(16),
            "0200000000000000",
            &"03".repeat(16),
        ];
        assert_eq!(hex, [&golden.concat()[..], "0400000000000000"].concat());
    }

    #[test]
    fn each_class_of_unknown_flags_is_treated_as_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let with = |format: Format| {
            format.write(dir.path()).unwrap();
            Format::read(dir.path())
        };
        let newer = Format {
            version: 2,
            compatible: 1 << 31,
            ..sample()
        };
        assert_eq!(with(newer).unwrap(), Some(newer));
        let read_only = Format {
            read_only: 4,
            ..sample()
        };
        let found = with(read_only).unwrap().unwrap();
        let unknown = |error| match error {
            Some(Error::UnsupportedFormat { class, flags, .. }) => (class, flags),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            unknown(found.read_only(dir.path())),
            ("read-only compatible", 4)
        );
        assert!(newer.ensure_writable(dir.path()).is_ok());
        let incompatible = Format {
            incompatible: 8,
            ..sample()
        };
        assert_eq!(unknown(with(incompatible).err()), ("incompatible", 8));
    }
}
