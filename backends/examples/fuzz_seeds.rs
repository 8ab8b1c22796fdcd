//! Made the seeds of the fuzz targets that read bytes: `fuzz_seeds DIR` takes them from the golden
//! store of `tests/golden/v1`. What the other targets read is not kept on any disk; their seeds are
//! runs that a fuzzer found.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Where frames begin in a segment, and records in a frame.
const DATA: usize = 4096;
const HEADER: usize = 88;
/// Where the body begins in a small file.
const SEALED: usize = 16;
/// Where the body begins in a page of the index.
const PAGE: usize = 17;
/// Longer seeds make the fuzzer slow.
const MAX_SEED: usize = 6 << 10;

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    let Some(to) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err("usage: fuzz_seeds DIR".into());
    };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let mut shapes = BTreeSet::new();
    for number in 1..=4 {
        let segment = fs::read(golden.join(format!("log/{number:08}.seg")))?;
        let data = segment.get(DATA..).unwrap_or_default();
        let frames = frames(data);
        if let Some(frame) = frames.iter().find(|frame| frame.len() < MAX_SEED) {
            put(&to, "frame", number, frame)?;
        }
        for record in frames.iter().flat_map(|frame| records(frame)) {
            let shape = record.get(8..12).map(<[u8]>::to_vec);
            if record.len() < MAX_SEED && shapes.insert(shape) {
                put(&to, "record", shapes.len(), record)?;
            }
        }
        let mut some: Vec<u8> = Vec::new();
        for frame in frames {
            if some.len() + frame.len() < MAX_SEED {
                some.extend_from_slice(frame);
            }
        }
        if some.is_empty() {
            continue;
        }
        let torn = some.get(..some.len() * 2 / 3).unwrap_or_default();
        put(&to, "segment", 2 * number, &[&[1], &some[..]].concat())?;
        put(&to, "segment", 2 * number + 1, &[&[0], torn].concat())?;
    }
    index(&golden, &to)
}

/// Each run as its parts, each behind its length.
fn index(golden: &Path, to: &Path) -> Done {
    let manifest = fs::read(golden.join("manifest"))?;
    let pages = fs::read(golden.join("00000001.pages"))?;
    let pages: BTreeMap<Vec<u8>, Vec<u8>> = postcard::from_bytes(&pages)?;
    let mut runs: BTreeMap<u64, BTreeMap<u8, Vec<&[u8]>>> = BTreeMap::new();
    for (key, page) in &pages {
        if let ([b'r', run @ .., _, _, _, _], Some(body)) = (&key[..], page.get(PAGE..)) {
            let (run, kind) = run.split_at(8);
            let run = u64::from_be_bytes(run.try_into()?);
            let of_kind = runs.entry(run).or_default().entry(kind[0]);
            of_kind.or_default().push(body);
        }
    }
    for (run, kinds) in runs {
        let kind = |kind: u8| kinds.get(&kind).cloned().unwrap_or_default();
        let mut parts = vec![manifest.get(SEALED..).unwrap_or_default().to_vec()];
        parts.extend([kind(4).concat(), kind(2).concat(), kind(3).concat()]);
        parts.extend(kind(1).into_iter().map(<[u8]>::to_vec));
        let mut seed = Vec::new();
        for part in parts {
            seed.extend_from_slice(&u16::try_from(part.len())?.to_le_bytes());
            seed.extend_from_slice(&part);
        }
        put(to, "index", usize::try_from(run)?, &seed)?;
    }
    Ok(())
}

fn frames(data: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = data;
    while rest.len() >= HEADER && rest.starts_with(b"TLF1") {
        let body = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        let len = (HEADER + body).next_multiple_of(8).min(rest.len());
        let (frame, after) = rest.split_at(len);
        found.push(frame);
        rest = after;
    }
    found
}

fn records(frame: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = frame.get(HEADER..).unwrap_or_default();
    while let [l0, l1, l2, l3, ..] = *rest {
        let len = 8 + u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if len == 8 || len > rest.len() {
            break;
        }
        let (record, after) = rest.split_at(len);
        found.push(record);
        rest = after;
    }
    found
}

fn put(to: &Path, target: &str, number: usize, seed: &[u8]) -> Done {
    let dir = to.join(target);
    fs::create_dir_all(&dir)?;
    Ok(fs::write(dir.join(format!("golden-{number}")), seed)?)
}
