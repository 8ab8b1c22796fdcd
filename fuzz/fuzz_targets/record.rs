//! No bytes make the record decoder panic, and what it accepts encodes to the same bytes again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidelog_backends::fuzzing::records(bytes));
