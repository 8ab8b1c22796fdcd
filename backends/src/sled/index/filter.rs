//! Filters: whether a run may know a stream, at 9 bits a stream and one wrong yes in 256.

use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter as _, FilterRef};

const DESCRIPTOR: usize = BinaryFuse8::DESCRIPTOR_LEN;

/// Most hashes in one filter: bounds the memory of making one (about 1 MiB).
pub(super) const MAX_HASHES: usize = 1 << 15;

/// A binary fuse filter over distinct hashes.
pub(super) struct Filter {
    descriptor: [u8; DESCRIPTOR],
    fingerprints: Box<[u8]>,
}

impl Filter {
    /// The bytes of a filter over `hashes`, which are distinct; `None` when it cannot be made.
    pub(super) fn build(hashes: &[u64]) -> Option<Vec<u8>> {
        let filter = BinaryFuse8::try_from(hashes).ok()?;
        let mut bytes = vec![0; DESCRIPTOR];
        filter.dma_copy_descriptor_to(&mut bytes);
        bytes.extend_from_slice(filter.dma_fingerprints());
        Some(bytes)
    }

    /// The filter in `bytes`; `None` when they cannot be one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (descriptor, fingerprints) = bytes.split_first_chunk::<DESCRIPTOR>()?;
        let field = |at: usize| {
            let bytes = descriptor.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_le_bytes(bytes) as usize)
        };
        let (segment, mask, count) = (field(8)?, field(12)?, field(16)?);
        // These bound every index that a look-up computes.
        let fits = segment.is_power_of_two()
            && mask == segment - 1
            && count % segment == 0
            && segment
                .checked_mul(2)
                .and_then(|two| two.checked_add(count))
                == Some(fingerprints.len());
        fits.then(|| Self {
            descriptor: *descriptor,
            fingerprints: fingerprints.into(),
        })
    }

    pub(super) fn contains(&self, hash: u64) -> bool {
        BinaryFuse8Ref::from_dma(&self.descriptor, &self.fingerprints).contains(&hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_knows_all_its_hashes_and_few_others() {
        for count in [1, 2, 3, 17, 1000, MAX_HASHES] {
            let hash = |n: usize| (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let hashes: Vec<u64> = (0..count).map(hash).collect();
            let filter = Filter::parse(&Filter::build(&hashes).unwrap()).unwrap();
            assert!(hashes.iter().all(|hash| filter.contains(*hash)));
            let wrong = (count..count + 10_000)
                .filter(|n| filter.contains(hash(*n)))
                .count();
            assert!(wrong < 200, "{wrong} of 10,000 at {count}");
        }
    }

    /// The bytes depend on `xorf`: another version that hashes otherwise must not go unnoticed.
    #[test]
    fn golden_bytes_of_a_filter() {
        let bytes = Filter::build(&(1..=1000).collect::<Vec<u64>>()).unwrap();
        assert_eq!((bytes.len(), crc32c::crc32c(&bytes)), (1428, 2_830_333_346));
    }

    #[test]
    fn bytes_that_would_index_out_of_bounds_are_refused() {
        let bytes = Filter::build(&[1, 2, 3]).unwrap();
        for at in 8..DESCRIPTOR {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                if let Some(filter) = Filter::parse(&damaged) {
                    filter.contains(u64::MAX);
                    filter.contains(0);
                }
            }
        }
    }
}
