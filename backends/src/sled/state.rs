//! The `state` file: small facts that stand beside the log and are replaced whole.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tidelog_core::Error;

use super::frame::ChainHash;
use super::sealed_file;

pub(crate) const FILE: &str = "state";
const CLEAN: &str = "clean";

/// Proof that everything up to this commit is on the disk, written when a store is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CleanMark {
    pub commit: u64,
    pub position: u64,
    pub hash: ChainHash,
}

/// Sections by name; those this version does not know are kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    sections: BTreeMap<String, Vec<u8>>,
}

impl State {
    /// The state of the store in `dir`; empty when it was never written.
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let Some(bytes) = sealed_file::read(&path)? else {
            return Ok(Self::default());
        };
        let damaged = |what: &str| {
            let remedy =
                "restore it from a backup; it is replaced whole, so no crash explains this";
            Error::damaged(&path, what, remedy)
        };
        let body = sealed_file::unseal(sealed_file::STATE_MAGIC, &bytes).map_err(damaged)?;
        postcard::from_bytes(body).map_err(|_| damaged("its sections cannot be read"))
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        sealed_file::write(dir, FILE, sealed_file::STATE_MAGIC, &encode(self)?)
    }

    pub(crate) fn clean(&self) -> Option<CleanMark> {
        postcard::from_bytes(self.sections.get(CLEAN)?).ok()
    }

    pub(crate) fn set_clean(&mut self, mark: Option<&CleanMark>) -> Result<(), Error> {
        match mark {
            Some(mark) => self.sections.insert(CLEAN.into(), encode(mark)?),
            None => self.sections.remove(CLEAN),
        };
        Ok(())
    }
}

/// Postcard of a value that always encodes; the error is there to have no panic.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    postcard::to_stdvec(value).map_err(|error| Error::Engine {
        engine: "postcard",
        action: "encode",
        source: std::sync::Arc::new(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> State {
        let mut state = State::default();
        state
            .set_clean(Some(&CleanMark {
                commit: 300,
                position: 5,
                hash: [7; 32],
            }))
            .unwrap();
        state
    }

    #[test]
    fn golden_bytes_of_the_state() {
        let mut golden = vec![1, 5];
        golden.extend_from_slice(b"clean");
        golden.extend_from_slice(&[35, 0xac, 0x02, 5]);
        golden.extend_from_slice(&[7; 32]);
        assert_eq!(encode(&sample()).unwrap(), golden);
    }

    #[test]
    fn sections_of_later_versions_survive() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = sample();
        state.sections.insert("sink/kafka".into(), vec![1, 2, 3]);
        state.write(dir.path()).unwrap();
        let mut read = State::read(dir.path()).unwrap();
        assert_eq!(read, state);
        read.set_clean(None).unwrap();
        read.write(dir.path()).unwrap();
        let read = State::read(dir.path()).unwrap();
        assert_eq!(read.clean(), None);
        assert_eq!(read.sections["sink/kafka"], [1, 2, 3]);
    }
}
