//! What the fuzz targets call; behind the feature `fuzzing`, and no part of the API.

use bytes::Bytes;

use crate::sled::fuzzing as decoders;

/// Reads `bytes` as records, then as a frame header.
///
/// # Panics
/// When a record that was accepted does not encode to the bytes it was read from.
pub fn records(bytes: &[u8]) {
    decoders::frame_header(bytes);
    decoders::record(&Bytes::copy_from_slice(bytes));
    // Mutations seldom hit the checksum: try the same bytes behind a right one.
    decoders::record(&decoders::with_prefix(bytes));
}
