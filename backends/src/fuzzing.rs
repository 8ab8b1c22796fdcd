//! What the fuzz targets call; behind the feature `fuzzing`, and no part of the API.

use std::fs::File;

use bytes::Bytes;
use tidelog_core::EventEnvelope;

use crate::SledStoreBuilder;
use crate::sled::fuzzing as decoders;
use crate::sled::index::Engine;
use crate::sled::index::fuzzing as index_decoders;

/// Reads `bytes` as a record.
///
/// # Panics
/// When a record that was accepted does not encode to the bytes it was read from.
pub fn records(bytes: &[u8]) {
    decoders::record(&Bytes::copy_from_slice(bytes));
    // Mutations seldom hit the checksum: try the same bytes behind a right one.
    decoders::record(&decoders::with_prefix(bytes));
}

/// Encodes `envelope` as a record and reads that.
///
/// # Panics
/// When something else comes back.
pub fn record_round_trip(envelope: &EventEnvelope) {
    let page = Bytes::from(decoders::encode(envelope));
    let read = decoders::record(&page);
    assert!(read.as_ref() == Some(envelope), "another record came back");
}

/// Reads `bytes` as one commit: as they are, then with right checksums.
///
/// # Panics
/// When a header or a record that was accepted does not encode to the bytes it was read from.
pub fn frame(bytes: &[u8]) {
    decoders::frame(bytes);
    let mut mended = bytes.to_vec();
    decoders::mend(&mut mended);
    decoders::frame(&mended);
}

/// Reads `data` as the commits of a segment, which is put into `file`; with `mend`, checksums and
/// chain are made right first, so that mutations reach what is behind them.
///
/// # Panics
/// When replay and the walk of `verify` do not see the same commits.
pub fn segment(file: &File, data: &[u8], mend: bool) {
    let mut data = data.to_vec();
    if mend {
        decoders::mend(&mut data);
    }
    decoders::segment(file, &data);
}

/// Reads `bytes` as what the index consists of: a manifest, and the root, fences, filters and blocks
/// of a run, each behind its length in two bytes.
///
/// # Panics
/// When scans of one stream in both directions do not agree.
pub fn index(bytes: &[u8]) {
    index_decoders::index(bytes);
}

/// The same store with the pages of its index in memory: sled takes longer to open than all else.
pub fn without_sled(mut builder: SledStoreBuilder) -> SledStoreBuilder {
    builder.engine = Engine::Memory;
    builder
}
