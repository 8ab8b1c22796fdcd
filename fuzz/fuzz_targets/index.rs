//! No bytes make what reads the index panic: manifest, root, fences, filters, blocks, merges.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidelog_backends::fuzzing::index(bytes));
