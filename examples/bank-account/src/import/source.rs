//! The file: its lines with their numbers, read with bounded memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

/// A line above this length is no purchase; the rest of it is skipped.
const MAX_LINE: usize = 256;

/// The lines of a purchase log.
pub struct Source {
    reader: BufReader<File>,
    number: u64,
    /// Lines in all, the header included.
    pub lines: u64,
}

/// One line without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1, the header included.
    pub number: u64,
    /// At most the first 256 bytes of it.
    pub bytes: Vec<u8>,
}

impl Source {
    /// Opens `path` and counts its lines.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(64 << 10, File::open(path)?);
        let mut lines = 0;
        while reader.skip_until(b'\n')? > 0 {
            lines += 1;
        }
        reader.rewind()?;
        Ok(Self {
            reader,
            number: 0,
            lines,
        })
    }

    /// The next line; `None` at the end. Lines end with LF or CRLF.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::with_capacity(32);
        let limit = MAX_LINE as u64;
        if Read::by_ref(&mut self.reader)
            .take(limit)
            .read_until(b'\n', &mut bytes)?
            == 0
        {
            return Ok(None);
        }
        self.number += 1;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        } else if bytes.len() == MAX_LINE {
            self.reader.skip_until(b'\n')?;
        }
        Ok(Some(Line {
            number: self.number,
            bytes,
        }))
    }
}
