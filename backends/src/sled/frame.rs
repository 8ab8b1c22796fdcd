//! One commit on disk: a header that ties it to its predecessor, then its records.
//!
//! ```text
//!  0   4  magic "TLF1"
//!  4   4  body length
//!  8   8  salt of the store
//! 16   8  commit number
//! 24   8  newest commit known synced
//! 32  32  chain hash of the commit before
//! 64   8  position of the first record
//! 72   4  number of records
//! 76   2  flags, 0
//! 78   2  trailer length, 0 (reserved for a signature)
//! 80   4  CRC-32C of the body
//! 84   4  CRC-32C of bytes 0..84
//! 88   …  body, trailer, zero up to a multiple of 8
//! ```

use super::varint::{MAX_NUMBER, Reader};

pub(crate) const HEADER: usize = 88;
pub(crate) const ALIGN: usize = 8;
pub(crate) const MAGIC: [u8; 4] = *b"TLF1";

/// BLAKE3 over the chain hash before it and a commit's body.
pub(crate) type ChainHash = [u8; 32];

/// The chain hash before the first commit of a store.
pub(crate) fn genesis(origin: &uuid::Uuid, first_epoch: &uuid::Uuid) -> ChainHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"tidelog genesis v1");
    hasher.update(origin.as_bytes());
    hasher.update(first_epoch.as_bytes());
    *hasher.finalize().as_bytes()
}

/// The header of one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub body_len: u32,
    pub salt: u64,
    pub commit: u64,
    pub known_synced: u64,
    pub previous: ChainHash,
    pub first_position: u64,
    pub records: u32,
    pub trailer_len: u16,
    pub body_crc: u32,
}

impl FrameHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let (fields, crc) = bytes.split_at_mut(HEADER - 4);
        let parts: [&[u8]; 10] = [
            &MAGIC,
            &self.body_len.to_le_bytes(),
            &self.salt.to_le_bytes(),
            &self.commit.to_le_bytes(),
            &self.known_synced.to_le_bytes(),
            &self.previous,
            &self.first_position.to_le_bytes(),
            &self.records.to_le_bytes(),
            &[0, 0],
            &self.trailer_len.to_le_bytes(),
        ];
        let mut rest = &mut *fields;
        for part in parts {
            let (here, after) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        }
        rest.copy_from_slice(&self.body_crc.to_le_bytes());
        crc.copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
        bytes
    }

    /// The header at the front of `bytes` if its own CRC, magic and flags are right.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (bytes, _) = bytes.split_first_chunk::<HEADER>()?;
        if !bytes.starts_with(&MAGIC) {
            return None;
        }
        let (fields, crc) = bytes.split_at_checked(HEADER - 4)?;
        if crc32c::crc32c(fields).to_le_bytes() != crc {
            return None;
        }
        let mut r = Reader(fields.get(4..)?);
        let header = Self {
            body_len: u32::from_le_bytes(r.array()?),
            salt: u64::from_le_bytes(r.array()?),
            commit: u64::from_le_bytes(r.array()?),
            known_synced: u64::from_le_bytes(r.array()?),
            previous: r.array()?,
            first_position: u64::from_le_bytes(r.array()?),
            records: {
                let records = u32::from_le_bytes(r.array()?);
                if r.array()? != [0_u8; 2] {
                    return None;
                }
                records
            },
            trailer_len: u16::from_le_bytes(r.array()?),
            body_crc: u32::from_le_bytes(r.array()?),
        };
        (header.commit.max(header.first_position) <= MAX_NUMBER).then_some(header)
    }

    /// Bytes from this frame's start to the next one's.
    pub(crate) fn frame_len(&self) -> u64 {
        frame_len(u64::from(self.body_len) + u64::from(self.trailer_len))
    }
}

/// Bytes that a frame with this much body and trailer takes.
pub(crate) const fn frame_len(body: u64) -> u64 {
    (HEADER as u64 + body).next_multiple_of(ALIGN as u64)
}

/// The chain hash after a commit.
pub(crate) fn chain(previous: &ChainHash, body: &[u8]) -> ChainHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(body);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> FrameHeader {
        FrameHeader {
            body_len: 5,
            salt: 0x1122_3344_5566_7788,
            commit: 3,
            known_synced: 2,
            previous: [9; 32],
            first_position: 4,
            records: 1,
            trailer_len: 0,
            body_crc: 0xAABB_CCDD,
        }
    }

    #[test]
    fn golden_bytes_of_a_frame_header() {
        let hex: String = sample()
            .encode()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(
            hex,
            concat!(
                "544c4631",
                "05000000",
                "8877665544332211",
                "0300000000000000",
                "0200000000000000",
                "0909090909090909090909090909090909090909090909090909090909090909",
                "0400000000000000",
                "01000000",
                "0000",
                "0000",
                "ddccbbaa",
                "ba03f022"
            )
        );
        assert_eq!(FrameHeader::decode(&sample().encode()), Some(sample()));
    }

    #[test]
    fn every_single_bit_flip_is_noticed() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn golden_chain_hash() {
        let hash = chain(&[0; 32], b"body");
        let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "241c4e348849e9441035fb62517a87e844d6dfc830ec13c28dd73e9203a4e317"
        );
    }
}
