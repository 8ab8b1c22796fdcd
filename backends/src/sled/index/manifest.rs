//! The manifest: which runs exist, over which segments. Stands outside sled and is replaced whole.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tidelog_core::Error;

use crate::sled::sealed_file::{self, MANIFEST_MAGIC};
use crate::sled::varint::MAX_NUMBER;

pub(crate) const FILE: &str = "manifest";

/// Far above what a sane index reaches, and below the 16 MiB of a sealed file.
const MAX_RUNS: usize = 1 << 16;
const MAX_ROOT: u32 = 64 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// What the index belongs to: see [`IndexOptions::identity`](super::IndexOptions::identity).
    pub identity: [u8; 16],
    /// The directory under `index/`.
    pub generation: u64,
    /// The id that the next run gets; none is ever used twice.
    pub next_run: u64,
    /// Oldest segments first.
    pub runs: Vec<RunEntry>,
    /// No id of version 7 in the runs is above this one; `None` where that is not known. Stands
    /// behind the rest, and is missing in manifests of earlier builds.
    #[serde(skip)]
    pub newest_id: Option<u128>,
}

/// One run, as the manifest knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunEntry {
    pub id: u64,
    pub level: u8,
    pub first_segment: u64,
    pub last_segment: u64,
    pub blocks: u32,
    pub streams: u64,
    pub events: u64,
    /// Chain hash of the log at the end of `last_segment`.
    pub chain: [u8; 32],
    /// Bytes of the root.
    pub root_len: u32,
    /// BLAKE3 of the root, which vouches for all other pages.
    pub root_hash: [u8; 32],
}

impl Manifest {
    /// What stands in the store at `root`: `None` without a file, the reason when it is not to be
    /// believed.
    pub(super) fn read(root: &Path) -> Result<Option<Result<Self, String>>, Error> {
        let Some(bytes) = sealed_file::read(&root.join(FILE))? else {
            return Ok(None);
        };
        let unsealed = sealed_file::unseal(MANIFEST_MAGIC, &bytes);
        Ok(Some(unsealed.map_err(String::from).and_then(Self::decode)))
    }

    /// Replaces what stands in the store at `root`.
    pub(super) fn write(&self, root: &Path) -> Result<(), Error> {
        sealed_file::write(root, FILE, MANIFEST_MAGIC, &self.encode()?)
    }

    fn encode(&self) -> Result<Vec<u8>, Error> {
        let too_large = |_| Error::too_large("index manifest (runs)", self.runs.len(), MAX_RUNS);
        let mut body = postcard::to_stdvec(self).map_err(too_large)?;
        body.extend(self.newest_id.iter().flat_map(|id| id.to_be_bytes()));
        Ok(body)
    }

    fn decode(body: &[u8]) -> Result<Self, String> {
        let (mut manifest, rest) = postcard::take_from_bytes::<Self>(body)
            .map_err(|error| format!("it does not decode: {error}"))?;
        manifest.newest_id = match rest.split_first_chunk() {
            None if rest.is_empty() => None,
            Some((id, [])) => Some(u128::from_be_bytes(*id)),
            _ => return Err("bytes stand behind its end".into()),
        };
        manifest.check().map(|()| manifest)
    }

    /// What decodes is what it encodes to.
    #[cfg(feature = "fuzzing")]
    pub(super) fn fuzz(body: &[u8]) {
        if let Ok(manifest) = Self::decode(body) {
            let again = manifest.encode().map(|body| Self::decode(&body));
            assert!(matches!(again, Ok(Ok(again)) if again == manifest));
            let _ = manifest.agrees_with(Some((1, 1 << 20)));
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.generation.max(self.next_run) > MAX_NUMBER {
            return Err(format!(
                "generation {} or run {} is impossible",
                self.generation, self.next_run
            ));
        }
        if self.runs.len() > MAX_RUNS {
            return Err(format!("it names {} runs", self.runs.len()));
        }
        for run in &self.runs {
            let id = run.id;
            if id == 0 || id >= self.next_run {
                return Err(format!(
                    "run {id} is not below the next run {}",
                    self.next_run
                ));
            }
            if run.first_segment > run.last_segment || run.root_len > MAX_ROOT {
                return Err(format!("the bounds of run {id} are impossible"));
            }
            if run.streams > run.events || u64::from(run.blocks) > run.events {
                return Err(format!("the counts of run {id} are impossible"));
            }
        }
        for pair in self.runs.windows(2) {
            let [older, newer] = pair else { continue };
            if older.last_segment.checked_add(1) != Some(newer.first_segment) {
                return Err(format!("run {} does not follow run {}", newer.id, older.id));
            }
            if older.level < newer.level {
                return Err(format!(
                    "run {} is of a higher level than older ones",
                    newer.id
                ));
            }
        }
        let mut ids: Vec<u64> = self.runs.iter().map(|run| run.id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err("two runs have one id".into());
        }
        Ok(())
    }

    /// Whether it can be of a log whose sealed segments are these, the first and the last one.
    pub(super) fn agrees_with(&self, sealed: Option<(u64, u64)>) -> Result<(), String> {
        let (Some(first), Some(last)) = (self.runs.first(), self.runs.last()) else {
            return Ok(());
        };
        let Some((oldest, newest)) = sealed else {
            return Err("the log has no sealed segment".into());
        };
        let (first, last) = (first.first_segment, last.last_segment);
        if first != oldest || last > newest {
            return Err(format!(
                "it covers the segments {first} to {last}, the log has {oldest} to {newest}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, level: u8, first_segment: u64, last_segment: u64) -> RunEntry {
        RunEntry {
            id,
            level,
            first_segment,
            last_segment,
            blocks: 1,
            streams: 2,
            events: 300,
            chain: [7; 32],
            root_len: 120,
            root_hash: [9; 32],
        }
    }

    fn manifest(runs: Vec<RunEntry>) -> Manifest {
        Manifest {
            identity: [1; 16],
            generation: 3,
            next_run: 20,
            runs,
            newest_id: None,
        }
    }

    #[test]
    fn the_newest_id_stands_behind_the_rest_where_it_is_known() {
        let mut manifest = manifest(vec![entry(9, 1, 1, 8)]);
        let mut body = manifest.encode().unwrap();
        manifest.newest_id = Some(0x0102);
        body.extend_from_slice(&[0; 14]);
        body.extend_from_slice(&[1, 2]);
        assert_eq!(manifest.encode().unwrap(), body);
        assert_eq!(Manifest::decode(&body), Ok(manifest));
        body.push(0);
        assert!(Manifest::decode(&body).is_err());
    }

    #[test]
    fn golden_bytes_of_a_manifest() {
        let body = manifest(vec![entry(9, 1, 1, 8)]).encode().unwrap();
        let mut expected = vec![1; 16];
        expected.extend_from_slice(&[3, 20, 1, 9, 1, 1, 8, 1, 2, 0xac, 0x02]);
        expected.extend_from_slice(&[7; 32]);
        expected.push(120);
        expected.extend_from_slice(&[9; 32]);
        assert_eq!(body, expected);
    }

    #[test]
    fn runs_must_be_contiguous_of_falling_levels_and_known_ids() {
        let good = manifest(vec![
            entry(9, 1, 1, 8),
            entry(11, 0, 9, 9),
            entry(10, 0, 10, 10),
        ]);
        assert_eq!(Manifest::decode(&good.encode().unwrap()), Ok(good));
        for bad in [
            vec![entry(9, 1, 1, 8), entry(11, 0, 10, 10)],
            vec![entry(9, 0, 1, 8), entry(11, 1, 9, 9)],
            vec![entry(9, 0, 1, 8), entry(9, 0, 9, 9)],
            vec![entry(20, 0, 1, 8)],
            vec![entry(0, 0, 1, 8)],
            vec![entry(1, 0, 2, 1)],
        ] {
            let bad = manifest(bad);
            assert!(Manifest::decode(&bad.encode().unwrap()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_manifest_of_other_segments_is_not_believed() {
        let two = manifest(vec![entry(9, 1, 2, 8), entry(11, 0, 9, 9)]);
        assert!(two.agrees_with(Some((2, 9))).is_ok());
        assert!(two.agrees_with(Some((2, 20))).is_ok());
        assert!(two.agrees_with(Some((1, 9))).is_err());
        assert!(two.agrees_with(Some((2, 8))).is_err());
        assert!(two.agrees_with(None).is_err());
        assert!(manifest(Vec::new()).agrees_with(None).is_ok());
    }

    #[test]
    fn cut_or_lengthened_bodies_are_refused() {
        let body = manifest(vec![entry(9, 1, 1, 8)]).encode().unwrap();
        for len in 0..body.len() {
            assert!(Manifest::decode(&body[..len]).is_err());
        }
        let mut longer = body;
        longer.push(0);
        assert!(Manifest::decode(&longer).is_err());
    }
}
