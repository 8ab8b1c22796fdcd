//! One process at a time: `LOCK`, held by `flock` for as long as the store is open.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use tidelog_core::{Error, Timestamp};

use crate::platform;

pub(crate) const FILE: &str = "LOCK";

/// Holds the lock until dropped. The file stays: unlinking it would let two processes hold two
/// locks of one name.
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the store in `dir`, or says who has it.
    pub(crate) fn take(dir: &Path, now: Timestamp) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let mut file = platform::open_or_create_file(&path)
            .map_err(|error| Error::io("open", &path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked {
                    path: dir.into(),
                    holder: holder(&path).into(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", path, error)),
        }
        // Information only: a holder that cannot be written down still holds the lock.
        let note = format!("{} since {now}\n", platform::describe_holder());
        let _ = file
            .set_len(0)
            .and_then(|()| file.write_all(note.as_bytes()));
        Ok(Self { file })
    }
}

impl Lock {
    /// Takes the lock of a store that is only read: nothing in `dir` is changed, and without a lock
    /// file nobody has it open.
    pub(crate) fn hold(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", path, error)),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Err(Error::Locked {
                path: dir.into(),
                holder: holder(&path).into(),
            }),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", path, error)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that another thread starts right now has a copy
        // of it until it runs its own program.
        let _ = self.file.unlock();
    }
}

fn holder(path: &Path) -> String {
    noted(path).unwrap_or_else(|| "another process".to_owned())
}

/// What whoever took the lock last has noted in its file.
pub(crate) fn noted(path: &Path) -> Option<String> {
    let mut note = String::new();
    let read = File::open(path).and_then(|file| file.take(400).read_to_string(&mut note));
    read.ok()
        .map(|_| note.trim().to_owned())
        .filter(|note| !note.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_when_it_is_dropped_whoever_has_a_copy_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::default();
        let lock = Lock::take(dir.path(), now).unwrap();
        // As a process has that is being started.
        let _copy = lock.file.try_clone().unwrap();
        assert!(matches!(
            Lock::take(dir.path(), now),
            Err(Error::Locked { .. })
        ));
        drop(lock);
        Lock::take(dir.path(), now).unwrap();
    }
}
