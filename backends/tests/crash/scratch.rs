//! Folders for images: in memory where there is such a place, since thousands are made.

use std::path::Path;

use tempfile::TempDir;

pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::Builder::new()
            .prefix("tidelog-")
            .tempdir_in(memory)
    } else {
        TempDir::new()
    };
    made.or_else(|_| TempDir::new()).unwrap()
}
