//! Segment files: their names, their headers, and how they come to be.

use std::fs::File;
use std::path::{Path, PathBuf};

use tidelog_core::Error;
use uuid::Uuid;

use super::frame::ChainHash;
use super::varint::{MAX_NUMBER, Reader};
use crate::platform;

/// Where the first frame of a segment stands.
pub(crate) const DATA: u64 = 4096;
/// What every header has, and with what a declared gap adds.
const PLAIN: usize = 180;
pub(crate) const FIELDS: usize = PLAIN + 52;
/// Places in a segment are 32 bits: no file of the log is longer.
pub(crate) const MAX_LEN: u64 = u32::MAX as u64;
const MAGIC: [u8; 8] = *b"TIDESEG1";
/// Flags: records are missing before this segment, and the header says which; its first frames are
/// about losses; they begin branches of streams.
const GAP: u32 = 1;
const LOSSES: u32 = 2;
const BRANCHES: u32 = 4;

/// What the first frames of a segment are about, so that opening need not look for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// What repairs lost, and which losses were accepted.
    pub losses: bool,
    /// Events that gave way to others: each of these frames begins with such a record.
    pub branches: bool,
}

impl About {
    /// What any other segment begins with.
    pub(crate) const EVENTS: Self = Self {
        losses: false,
        branches: false,
    };
    pub(crate) const LOSSES: Self = Self {
        losses: true,
        branches: false,
    };
    pub(crate) const BRANCHES: Self = Self {
        losses: false,
        branches: true,
    };
}

/// A random id of a stretch of history, and where it left the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub id: Uuid,
    pub parent: Uuid,
    pub parent_position: u64,
    pub parent_hash: ChainHash,
}

/// What the first bytes of a segment say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub origin: Uuid,
    pub salt: u64,
    pub number: u64,
    pub first_commit: u64,
    pub first_position: u64,
    pub previous: ChainHash,
    pub epoch: Epoch,
    pub capacity: u64,
    /// Where the segment before it ends, when a repair left out what stood between.
    pub gap: Option<End>,
    /// What its first frames are about.
    pub about: About,
}

/// Where a stretch of the log ends: what its next commit would have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub commit: u64,
    pub position: u64,
    pub previous: ChainHash,
}

impl SegmentHeader {
    /// The header's fields; zero follows up to the first frame.
    pub(crate) fn encode(&self) -> [u8; FIELDS] {
        let mut bytes = [0; FIELDS];
        let (plain, more) = bytes.split_at_mut(PLAIN);
        let (fields, crc) = plain.split_at_mut(PLAIN - 4);
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        let flags = flag(self.gap.is_some(), GAP)
            | flag(self.about.losses, LOSSES)
            | flag(self.about.branches, BRANCHES);
        #[allow(clippy::cast_possible_truncation, reason = "4096")]
        let parts: [&[u8]; 14] = [
            &MAGIC,
            &(DATA as u32).to_le_bytes(),
            &flags.to_le_bytes(),
            self.origin.as_bytes(),
            &self.salt.to_le_bytes(),
            &self.number.to_le_bytes(),
            &self.first_commit.to_le_bytes(),
            &self.first_position.to_le_bytes(),
            &self.previous,
            self.epoch.id.as_bytes(),
            self.epoch.parent.as_bytes(),
            &self.epoch.parent_position.to_le_bytes(),
            &self.epoch.parent_hash,
            &self.capacity.to_le_bytes(),
        ];
        fill(fields, &parts);
        crc.copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
        if let Some(end) = &self.gap {
            let (fields, crc) = more.split_at_mut(FIELDS - PLAIN - 4);
            let (commit, position) = (end.commit.to_le_bytes(), end.position.to_le_bytes());
            fill(fields, &[&commit, &position, &end.previous]);
            crc.copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
        }
        bytes
    }

    /// The header in `bytes` if magic, flags and CRCs are right.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (bytes, _) = bytes.split_first_chunk::<FIELDS>()?;
        let (plain, more) = bytes.split_at_checked(PLAIN)?;
        let (fields, crc) = plain.split_at_checked(PLAIN - 4)?;
        if !fields.starts_with(&MAGIC) || crc32c::crc32c(fields).to_le_bytes() != crc {
            return None;
        }
        let mut r = Reader(fields.get(8..)?);
        if u64::from(u32::from_le_bytes(r.array()?)) != DATA {
            return None;
        }
        let flags = u32::from_le_bytes(r.array()?);
        if flags & !(GAP | LOSSES | BRANCHES) != 0 {
            return None;
        }
        let gap = decode_gap(more, flags & GAP != 0)?;
        let origin = Uuid::from_bytes(r.array()?);
        let header = Self {
            origin,
            salt: u64::from_le_bytes(r.array()?),
            number: u64::from_le_bytes(r.array()?),
            first_commit: u64::from_le_bytes(r.array()?),
            first_position: u64::from_le_bytes(r.array()?),
            previous: r.array()?,
            epoch: Epoch {
                id: Uuid::from_bytes(r.array()?),
                parent: Uuid::from_bytes(r.array()?),
                parent_position: u64::from_le_bytes(r.array()?),
                parent_hash: r.array()?,
            },
            capacity: u64::from_le_bytes(r.array()?),
            gap,
            about: About {
                losses: flags & LOSSES != 0,
                branches: flags & BRANCHES != 0,
            },
        };
        let highest = header.first_commit.max(header.first_position);
        let end = header.end_before();
        let forward = gap.is_none()
            || (end.commit < header.first_commit && end.position < header.first_position);
        (highest <= MAX_NUMBER && header.capacity <= MAX_LEN && forward).then_some(header)
    }

    /// Where the segment before it must end.
    pub(crate) fn end_before(&self) -> End {
        self.gap.unwrap_or(End {
            commit: self.first_commit,
            position: self.first_position,
            previous: self.previous,
        })
    }
}

fn fill(bytes: &mut [u8], parts: &[&[u8]]) {
    let mut rest = bytes;
    for part in parts {
        let (here, after) = rest.split_at_mut(part.len());
        here.copy_from_slice(part);
        rest = after;
    }
}

/// `None` when it is not what the flag says.
#[allow(clippy::option_option, reason = "no gap is a right answer as well")]
fn decode_gap(bytes: &[u8], declared: bool) -> Option<Option<End>> {
    if !declared {
        return bytes.iter().all(|byte| *byte == 0).then_some(None);
    }
    let (fields, crc) = bytes.split_at_checked(FIELDS - PLAIN - 4)?;
    if crc32c::crc32c(fields).to_le_bytes() != crc {
        return None;
    }
    let mut r = Reader(fields);
    Some(Some(End {
        commit: u64::from_le_bytes(r.array()?),
        position: u64::from_le_bytes(r.array()?),
        previous: r.array()?,
    }))
}

/// `log/00000001.seg`
pub(crate) fn path(log_dir: &Path, number: u64) -> PathBuf {
    log_dir.join(format!("{number:08}.seg"))
}

/// The number in a segment's file name.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let well_formed = digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits
        .parse()
        .ok()
        .filter(|number| *number > 0 && well_formed)?;
    (path(Path::new(""), number).as_os_str() == name).then_some(number)
}

/// What a segment holds before anything is written to it; reads as zeros either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filling {
    /// Written and synced, so that syncing a commit has no room to find.
    Zeros,
    /// Nothing.
    Holes,
}

impl Filling {
    /// Makes `file` longer: from `offset` to `end`.
    pub(crate) fn fill(self, file: &File, offset: u64, end: u64) -> std::io::Result<()> {
        match self {
            Self::Zeros => platform::zero_fill(file, offset, end),
            Self::Holes => file.set_len(end),
        }
    }
}

/// A segment made ahead: zero-filled, synced, its name synced, not begun.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub number: u64,
    pub file: File,
    pub capacity: u64,
}

/// Zeros written before they are synced. A commit that is synced meanwhile waits for so many, not for
/// a whole segment of them.
const FILL_STEP: u64 = 2 << 20;

/// Makes segment `number` with room for `capacity` bytes, header included.
pub(crate) fn prepare(
    log_dir: &Path,
    number: u64,
    capacity: u64,
    filling: Filling,
) -> Result<Prepared, Error> {
    let path = path(log_dir, number);
    let fresh = path.with_extension("seg.new");
    let file = platform::create_file(&fresh).map_err(|error| Error::io("create", &fresh, error))?;
    let mut filled = 0;
    while filled < capacity {
        let end = capacity.min(filled + FILL_STEP);
        filling
            .fill(&file, filled, end)
            .and_then(|()| file.sync_data())
            .map_err(|error| Error::io("fill", &fresh, error))?;
        filled = end;
    }
    file.sync_all()
        .map_err(|error| Error::io("sync", &fresh, error))?;
    platform::rename(&fresh, &path).map_err(|error| Error::io("rename", &fresh, error))?;
    platform::sync_dir(log_dir).map_err(|error| Error::io("sync", log_dir, error))?;
    Ok(Prepared {
        number,
        file,
        capacity,
    })
}

/// Opens a segment for writing even if it was already made read-only.
pub(crate) fn open_for_writing(path: &Path) -> Result<File, Error> {
    let open = || File::options().read(true).write(true).open(path);
    match open() {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            platform::make_writable(path)
                .map_err(|error| Error::io("make writable", path, error))?;
            open()
        }
        result => result,
    }
    .map_err(|error| Error::io("open", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentHeader {
        SegmentHeader {
            origin: Uuid::from_bytes([1; 16]),
            salt: 2,
            number: 3,
            first_commit: 4,
            first_position: 5,
            previous: [6; 32],
            epoch: Epoch {
                id: Uuid::from_bytes([7; 16]),
                parent: Uuid::from_bytes([8; 16]),
                parent_position: 9,
                parent_hash: [10; 32],
            },
            capacity: 1 << 20,
            gap: None,
            about: About::EVENTS,
        }
    }

    fn with_gap() -> SegmentHeader {
        SegmentHeader {
            gap: Some(End {
                commit: 2,
                position: 1,
                previous: [11; 32],
            }),
            about: About::LOSSES,
            ..sample()
        }
    }

    #[test]
    fn golden_bytes_of_a_segment_header() {
        let hex: String = sample()
            .encode()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(
            hex,
            [
                "5449444553454731",
                "00100000",
                "00000000",
                &"01".repeat(16),
                "0200000000000000",
                "0300000000000000",
                "0400000000000000",
                "0500000000000000",
                &"06".repeat(32),
                &"07".repeat(16),
                &"08".repeat(16),
                "0900000000000000",
                &"0a".repeat(32),
                "0000100000000000",
                "2cccdc52",
                &"00".repeat(52),
            ]
            .concat()
        );
        assert_eq!(SegmentHeader::decode(&sample().encode()), Some(sample()));
    }

    #[test]
    fn golden_bytes_of_a_declared_gap() {
        let bytes = with_gap().encode();
        assert_eq!(bytes[12..16], [3, 0, 0, 0]);
        let hex: String = bytes[176..].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            [
                "2e11d404",
                "0200000000000000",
                "0100000000000000",
                &"0b".repeat(32),
                "3d2f9716",
            ]
            .concat()
        );
        assert_eq!(SegmentHeader::decode(&bytes), Some(with_gap()));
    }

    #[test]
    fn every_single_bit_flip_is_noticed() {
        for bytes in [sample().encode(), with_gap().encode()] {
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes;
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(SegmentHeader::decode(&damaged), None, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_gap_that_does_not_lead_forward_is_not_believed() {
        let mut header = with_gap();
        header.first_commit = 2;
        assert_eq!(SegmentHeader::decode(&header.encode()), None);
        let mut header = with_gap();
        header.first_position = 1;
        assert_eq!(SegmentHeader::decode(&header.encode()), None);
    }

    #[test]
    fn only_names_this_library_gives_are_segments() {
        assert_eq!(number_of("00000012.seg"), Some(12));
        assert_eq!(number_of("123456789.seg"), Some(123_456_789));
        for other in [
            "12.seg",
            "00000000.seg",
            "0000001x.seg",
            "00000001.seg.new",
            "000000001.seg",
        ] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
