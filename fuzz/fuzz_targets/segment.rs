//! No bytes behind a segment's header make replay panic or believe what a second walk does not see.
//! The first byte says whether checksums and chain are made right before.
#![no_main]

use std::fs::File;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// Written anew in each run; in memory, if `TMPDIR` is.
static FILE: LazyLock<File> = LazyLock::new(|| tempfile::tempfile().expect("a file can be made"));

fuzz_target!(|bytes: &[u8]| {
    if let Some((mend, data)) = bytes.split_first() {
        tidelog_backends::fuzzing::segment(&FILE, data, *mend != 0);
    }
});
