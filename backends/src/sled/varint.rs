//! LEB128 of a `u64`, shortest form only, and the reader that all decoders share.

/// The largest number that a commit, position, sequence, run or generation may have: 2⁵³ − 1. A
/// larger one in a file was never written by this library, and counting on from it could overflow.
pub(crate) const MAX_NUMBER: u64 = (1 << 53) - 1;

/// Appends `value`.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the low seven bits are meant"
        )]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation, reason = "below 0x80")]
    out.push(value as u8);
}

/// Appends the length of `bytes`, then `bytes`.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Small numbers of either sign as small numbers.
pub(crate) const fn zigzag(value: i64) -> u64 {
    #[allow(
        clippy::cast_sign_loss,
        reason = "a change of representation, not of value"
    )]
    {
        ((value << 1) ^ (value >> 63)) as u64
    }
}

/// Undoes [`zigzag`].
pub(crate) const fn unzigzag(value: u64) -> i64 {
    #[allow(
        clippy::cast_possible_wrap,
        reason = "a change of representation, not of value"
    )]
    {
        (value >> 1) as i64 ^ -((value & 1) as i64)
    }
}

/// Reads fields off the front of a slice; every read is bounded by what is there.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(first)
    }

    /// A varint in its shortest form.
    #[inline]
    pub(crate) fn varint(&mut self) -> Option<u64> {
        match self.0 {
            [first @ ..0x80, rest @ ..] => {
                self.0 = rest;
                Some(u64::from(*first))
            }
            [a, b @ 1..0x80, rest @ ..] => {
                self.0 = rest;
                Some(u64::from(*a & 0x7f) | u64::from(*b) << 7)
            }
            [a, b @ 0x80..=0xff, c @ 1..0x80, rest @ ..] => {
                self.0 = rest;
                let low = u64::from(*a & 0x7f) | u64::from(*b & 0x7f) << 7;
                Some(low | u64::from(*c) << 14)
            }
            _ => self.long_varint(),
        }
    }

    #[cold]
    fn long_varint(&mut self) -> Option<u64> {
        let first = self.u8()?;
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return None;
            }
            value |= part << shift;
            if byte < 0x80 {
                return (byte != 0).then_some(value);
            }
        }
        None
    }

    /// A varint up to [`MAX_NUMBER`].
    #[inline]
    pub(crate) fn number(&mut self) -> Option<u64> {
        self.varint().filter(|number| *number <= MAX_NUMBER)
    }

    /// A varint length and that many bytes.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        self.take(len)
    }

    /// The same as text.
    #[inline]
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip_in_shortest_form(value: u64, shift in 0..64_u32) {
            let value = value >> shift;
            let mut out = Vec::new();
            put(&mut out, value);
            let mut reader = Reader(&out);
            prop_assert_eq!(reader.varint(), Some(value));
            prop_assert!(reader.0.is_empty());
            prop_assert_eq!(out.len(), (64 - value.leading_zeros() as usize).div_ceil(7).max(1));
        }

        #[test]
        fn zigzag_round_trips(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes: Vec<u8>) {
            let mut reader = Reader(&bytes);
            if let Some(value) = reader.varint() {
                let mut out = Vec::new();
                put(&mut out, value);
                prop_assert_eq!(&bytes[..bytes.len() - reader.0.len()], &out[..]);
            }
        }
    }

    #[test]
    fn longer_forms_are_refused() {
        for forms in 1..9 {
            let mut longer = [0x80; 10];
            longer[forms] = 0;
            assert_eq!(Reader(&longer).varint(), None, "{forms}");
        }
        // Not three bytes: the second ends it.
        assert_eq!(Reader(&[0x80, 0x00, 0x01]).varint(), None);
        assert_eq!(Reader(&[0x80, 0x00]).varint(), None);
        assert_eq!(Reader(&[0xff; 10]).varint(), None);
    }
}
