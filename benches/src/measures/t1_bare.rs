//! What T1 is set beside: a bare write and `fdatasync` on a preallocated, zero-filled file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use crate::Outcome;

/// Bytes of the file; writing begins again at its start when it is full.
const LENGTH: u64 = 32 << 20;
/// What tidelog puts before and beside the payload of one event, and of each more in its commit.
const FRAME: usize = 88;
const RECORD: usize = 76;
/// What tidelog aligns its commits to.
const ALIGN: usize = 8;

/// The file.
pub struct Bare {
    file: File,
    at: u64,
    buffer: Vec<u8>,
}

impl Bare {
    /// Makes it in `dir`, full of zeros on the disk.
    pub fn create(dir: &Path) -> Outcome<Self> {
        std::fs::create_dir_all(dir)?;
        let file = File::create(dir.join("bare"))?;
        let zeros = vec![0; 1 << 20];
        for at in (0..LENGTH).step_by(zeros.len()) {
            file.write_all_at(&zeros, at)?;
        }
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(Self {
            file,
            at: 0,
            buffer: Vec::new(),
        })
    }

    /// Microseconds to write and sync as many bytes as tidelog does for a commit of `events`, each
    /// with a payload of `payload` bytes.
    pub fn sync(&mut self, events: usize, payload: usize) -> Outcome<f64> {
        let bytes = (FRAME + events * (RECORD + payload)).next_multiple_of(ALIGN);
        self.buffer.resize(bytes, 1);
        if self.at + bytes as u64 > LENGTH {
            self.at = 0;
        }
        let start = Instant::now();
        self.file.write_all_at(&self.buffer, self.at)?;
        self.file.sync_data()?;
        let micros = start.elapsed().as_secs_f64() * 1e6;
        self.at += bytes as u64;
        Ok(micros)
    }
}
