//! The mark: which commit was synced last, kept at the end of the segment being written.
//!
//! Each frame says which commit was known synced when it was written, so every synced commit is
//! vouched for by the next frame; the last one has none after it. The mark stands in for that frame:
//! a frame header without records, in the last 4 KiB of the segment, which no frame uses. The writer's
//! thread writes it when no commit came for a moment, and does not sync it: it is on the disk
//! with the next sync, or when the operating system writes its pages. Until then a power cut may take
//! it, and what it would have vouched for is as before. It is one sector, so it is never torn.
//! Sealing a segment cuts it off, since the next segment's header vouches for all before it.

use std::fs::File;
use std::io;

use super::frame::{self, FrameHeader};
use super::frame_reader::Expect;
use crate::platform;

/// At most so far from the end of the segment the mark's sector begins, whatever its capacity.
const FROM_END: u64 = 4096;
const SECTOR: u64 = 512;

/// Where the mark of a segment of this capacity stands, behind frames that end at `frames_end`;
/// `None` when they reach into its room, as those of earlier versions may. Room for a header is left
/// before it: whoever looks for a frame behind the last one must find zeros, and not the beginning of
/// the mark.
pub(crate) fn place(capacity: u64, frames_end: u64) -> Option<u64> {
    sector(capacity).filter(|place| frames_end + frame::HEADER as u64 <= *place)
}

/// The least capacity of a segment whose frames may end at `frames_end`.
pub(crate) fn capacity_for(frames_end: u64) -> u64 {
    (frames_end + frame::HEADER as u64).next_multiple_of(SECTOR) + FROM_END
}

fn sector(capacity: u64) -> Option<u64> {
    Some(capacity.checked_sub(FROM_END)? / SECTOR * SECTOR)
}

/// Notes at `place` that the commit before `next` is synced.
pub(crate) fn write(file: &File, place: u64, next: &Expect) -> io::Result<()> {
    let synced = next.commit - 1;
    let mark = FrameHeader {
        body_len: 0,
        salt: next.salt,
        commit: synced,
        known_synced: synced,
        previous: next.previous,
        first_position: next.position,
        records: 0,
        trailer_len: 0,
        body_crc: 0,
    };
    platform::write_all_at(file, &mark.encode(), place)
}

/// The commit that the mark at the end of a segment of this capacity says is synced.
pub(crate) fn read(file: &File, capacity: u64, salt: u64) -> io::Result<Option<u64>> {
    let Some(place) = sector(capacity) else {
        return Ok(None);
    };
    let mut bytes = [0; frame::HEADER];
    match platform::read_exact_at(file, &mut bytes, place) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mark = FrameHeader::decode(&bytes).filter(|header| header.salt == salt && is_mark(header));
    Ok(mark.map(|mark| mark.known_synced))
}

/// Whether a header is a mark and begins no commit.
pub(crate) fn is_mark(header: &FrameHeader) -> bool {
    header.records == 0 && header.body_len == 0 && header.known_synced == header.commit
}

#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn golden_bytes_of_a_mark() {
        let dir = tempfile::tempdir().unwrap();
        let file = platform::create_file(&dir.path().join("segment")).unwrap();
        let next = Expect {
            salt: 0x0102_0304_0506_0708,
            commit: 301,
            position: 70_000,
            previous: [9; 32],
        };
        assert_eq!(read(&file, 12288, next.salt).unwrap(), None);
        write(&file, place(12288, 8104).unwrap(), &next).unwrap();
        let bytes = std::fs::read(dir.path().join("segment")).unwrap();
        let hex = bytes[8192..].iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let nines = "09".repeat(32);
        let golden = [
            "544c4631",
            "00000000",
            "0807060504030201",
            "2c01000000000000",
            "2c01000000000000",
            &nines,
            "7011010000000000",
            "00000000",
            "0000",
            "0000",
            "00000000",
            "eae2052e",
        ];
        assert_eq!(hex, golden.concat());
        assert_eq!(read(&file, 12288, next.salt).unwrap(), Some(300));
        assert_eq!(read(&file, 12288, next.salt + 1).unwrap(), None);
        assert_eq!(place(12288, 8105), None, "frames reach into its room");
    }

    #[test]
    fn a_mark_is_in_one_sector_whatever_the_segment_holds() {
        for end in (4096 + 96..4096 + 3000).step_by(8) {
            let least = capacity_for(end);
            let at = place(least, end).unwrap();
            assert_eq!((at % 512, place(least - 1, end)), (0, None), "{end}");
        }
        assert_eq!(place(100_001, 4096), Some(95_744));
    }
}
