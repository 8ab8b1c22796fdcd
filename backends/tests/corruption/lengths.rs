//! Lengths, counts and numbers in files are never trusted: whatever they say, under checksums that
//! are right, no memory is taken for it, nothing overflows, and nothing takes long.

use std::fs::{self, File};
use std::path::Path;

use crate::forge::{self, Commit, Numbers, record, varint};
use crate::image::{End, Image, newest, open};
use crate::limited::{Case, case, run_all};
use crate::tools::{make_writable, segment};

const EXTREMES: [u64; 4] = [u64::MAX, u64::MAX - 1, 1 << 53, 1 << 32];

#[test]
fn lengths_in_small_files_are_not_believed() {
    let image = Image::rich(End::Closed);
    let mut cases = Vec::new();
    for file in ["format", "state", "manifest"] {
        cases.push(case(format!("{file}: length"), move |dir| {
            let path = dir.join(file);
            let mut bytes = fs::read(&path).unwrap();
            bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
            fs::write(path, bytes).unwrap();
        }));
        cases.push(case(format!("{file}: a terabyte long"), move |dir| {
            grow(&dir.join(file), 1 << 40);
        }));
    }
    for count in EXTREMES {
        cases.push(case(format!("state: {count} sections"), move |dir| {
            forge::sealed(&dir.join("state"), |body| {
                let rest = body.split_off(1);
                body.clear();
                varint(body, count);
                body.extend(rest);
            });
        }));
        cases.push(case(
            format!("state: a section of {count} bytes"),
            move |dir| {
                forge::sealed(&dir.join("state"), |body| {
                    *body = vec![1, 5];
                    body.extend_from_slice(b"clean");
                    varint(body, count);
                });
            },
        ));
        cases.push(case(
            format!("state: closed at commit {count}"),
            move |dir| {
                forge::sealed(&dir.join("state"), |body| {
                    let mut mark = Vec::new();
                    varint(&mut mark, count);
                    varint(&mut mark, count);
                    mark.extend_from_slice(&[7; 32]);
                    *body = vec![1, 5];
                    body.extend_from_slice(b"clean");
                    varint(body, mark.len() as u64);
                    body.extend(mark);
                });
            },
        ));
        cases.push(case(format!("manifest: {count} runs"), move |dir| {
            forge::sealed(&dir.join("manifest"), |body| {
                body.truncate(18);
                varint(body, count);
            });
        }));
        cases.push(case(format!("manifest: generation {count}"), move |dir| {
            forge::manifest(dir, |manifest| manifest.generation = count);
        }));
        cases.push(case(format!("manifest: next run {count}"), move |dir| {
            forge::manifest(dir, |manifest| manifest.next_run = count);
        }));
        cases.push(case(format!("manifest: run {count}"), move |dir| {
            forge::manifest(dir, |manifest| {
                manifest.next_run = u64::MAX;
                manifest.runs[0].id = count;
            });
        }));
        cases.push(case(
            format!("manifest: up to segment {count}"),
            move |dir| {
                forge::manifest(dir, |manifest| {
                    manifest.runs.last_mut().unwrap().last_segment = count;
                });
            },
        ));
        cases.push(case(format!("manifest: {count} events"), move |dir| {
            forge::manifest(dir, |manifest| {
                let run = manifest.runs.last_mut().unwrap();
                (run.streams, run.events, run.blocks) = (count, count, u32::MAX);
            });
        }));
        cases.push(case(format!("a folder index/{count}"), move |dir| {
            let folder = dir.join(format!("index/{count}"));
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("db"), [0xA5; 5000]).unwrap();
            fs::remove_file(dir.join("manifest")).unwrap();
        }));
    }
    for len in [64 << 20, u32::MAX] {
        cases.push(case(
            format!("manifest: a root of {len} bytes"),
            move |dir| {
                forge::manifest(dir, |manifest| {
                    manifest.runs.last_mut().unwrap().root_len = len;
                });
            },
        ));
    }
    run_all(&image, "open", &image.files, cases);
}

fn grow(path: &Path, len: u64) {
    make_writable(path);
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(len)
        .unwrap();
}

#[test]
fn lengths_in_segments_are_not_believed() {
    let image = Image::rich(End::Crashed);
    let (newest, ahead) = (image.newest(), image.newest() + 1);
    let mut cases = Vec::new();
    let fields = [
        ("number", 40),
        ("first commit", 48),
        ("first position", 56),
        ("left its parent at", 128),
        ("capacity", 168),
    ];
    for number in [1, 2, newest] {
        for ((field, at), value) in fields
            .into_iter()
            .flat_map(|field| EXTREMES.map(|value| (field, value)))
        {
            cases.push(case(
                format!("segment {number}: {field} {value}"),
                move |dir| {
                    forge::segment_field(dir, number, at, &value.to_le_bytes());
                },
            ));
        }
    }
    for (name, number) in [("sealed", 1), ("newest", newest), ("made ahead", ahead)] {
        for len in [1_u64 << 40, 1 << 30] {
            cases.push(case(
                format!("segment {name}: {len} bytes long"),
                move |dir| {
                    let path = segment(dir, number);
                    if !path.exists() {
                        fs::write(&path, []).unwrap();
                    }
                    grow(&path, len);
                },
            ));
        }
    }
    run_all(&image, "open", &image.files, cases);
}

type Set = fn(&mut Numbers, u64);

#[test]
fn lengths_in_commits_are_not_believed() {
    let image = Image::rich(End::Crashed);
    let mut cases = Vec::new();
    let honest = |position| Numbers {
        event_time: 0,
        position,
        sequence: 1,
        revision: 1,
        batch_offset: 0,
        batch_count: 1,
    };
    let fields: [(&str, usize, usize); 6] = [
        ("body length", 4, 4),
        ("commit", 16, 8),
        ("known synced", 24, 8),
        ("position", 64, 8),
        ("records", 72, 4),
        ("trailer", 78, 2),
    ];
    for ((field, at, len), value) in fields
        .into_iter()
        .flat_map(|field| EXTREMES.map(|value| (field, value)))
    {
        cases.push(case(format!("commit: {field} {value}"), move |dir| {
            let commit = Commit::after_the_last(dir);
            let body = record(honest(commit.position), 0, "new", b"");
            commit.write(&body, |header| {
                header[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            });
        }));
    }
    let numbers: [(&str, Set); 6] = [
        ("event time", |numbers, value| numbers.event_time = value),
        ("position", |numbers, value| numbers.position = value),
        ("sequence", |numbers, value| numbers.sequence = value),
        ("revision", |numbers, value| numbers.revision = value),
        ("batch offset", |numbers, value| {
            numbers.batch_offset = value;
        }),
        ("batch count", |numbers, value| numbers.batch_count = value),
    ];
    for ((field, set), value) in numbers
        .into_iter()
        .flat_map(|field| EXTREMES.map(|value| (field, value)))
    {
        // A stream that is new, one that is used later, and one that the index knows.
        for id in ["new", "6", "0"] {
            cases.push(case(
                format!("record of {id}: {field} {value}"),
                move |dir| {
                    let commit = Commit::after_the_last(dir);
                    let mut numbers = honest(commit.position);
                    set(&mut numbers, value);
                    let body = record(numbers, 0, id, b"");
                    commit.write(&body, |_| {});
                },
            ));
        }
    }
    for value in EXTREMES {
        for (field, flag) in [
            ("metadata", 1),
            ("tags", 2),
            ("key id", 4),
            ("content type", 16),
        ] {
            cases.push(case(format!("record: {field} {value}"), move |dir| {
                let commit = Commit::after_the_last(dir);
                let mut rest = Vec::new();
                varint(&mut rest, value);
                let mut body = record(honest(commit.position), flag, "new", &rest);
                if flag == 16 {
                    body[11] = 0;
                    let crc = crc32c::crc32c(&body[8..]).to_le_bytes();
                    body[4..8].copy_from_slice(&crc);
                }
                commit.write(&body, |_| {});
            }));
        }
        cases.push(case(format!("record: length {value}"), move |dir| {
            let commit = Commit::after_the_last(dir);
            let mut body = record(honest(commit.position), 0, "new", b"");
            body[..4].copy_from_slice(&(value as u32).wrapping_sub(1).to_le_bytes());
            commit.write(&body, |_| {});
        }));
    }
    run_all(&image, "open", &image.files, cases);
}

#[test]
fn lengths_in_the_index_are_not_believed() {
    let image = Image::rich(End::Closed);
    let mut cases = vec![
        case("root: a filter of 4 GiB", |dir| {
            forge::root(dir, |_, root| root.filters[0].len = u32::MAX);
        }),
        case("root: pages of filters from the last number on", |dir| {
            forge::root(dir, |_, root| root.filters[0].first_page = u32::MAX);
        }),
        case("root: a filter of no bytes", |dir| {
            forge::root(dir, |_, root| root.filters[0].len = 0);
        }),
        case("root: no filters", |dir| {
            forge::root(dir, |_, root| root.filters.clear());
        }),
        case("root: a fence of other blocks", |dir| {
            forge::root(dir, |_, root| root.fences[0].hash = u64::MAX);
        }),
    ];
    // What stands there first: a place just behind the header of the first segment.
    let (offset, len) = (4184 << 1, 100);
    for value in EXTREMES {
        cases.push(posting("sequence", value, Some(value), 1, offset, len));
        cases.push(posting("count", value, None, value, offset, len));
        cases.push(posting("offset", value, None, 1, value, len));
        cases.push(posting("length", value, None, 1, offset, value));
    }
    let almost = u64::from(u32::MAX) - 10_000;
    cases.push(posting("length", almost, None, 1, offset, almost));
    run_all(&image, "open", &image.files, cases);
}

/// A run whose first block holds one posting with these fields.
fn posting(
    field: &str,
    value: u64,
    sequence: Option<u64>,
    count: u64,
    step: u64,
    len: u64,
) -> Case {
    case(format!("posting: {field} {value}"), move |dir| {
        let (hash, name, first) = forge::first_chunk(dir);
        let mut postings = Vec::new();
        varint(&mut postings, step);
        varint(&mut postings, len);
        postings.extend_from_slice(&[0; 4]);
        let mut chunk = hash;
        varint(&mut chunk, name.len() as u64);
        chunk.extend(name);
        varint(&mut chunk, sequence.unwrap_or(first));
        varint(&mut chunk, count);
        varint(&mut chunk, postings.len() as u64);
        chunk.extend(postings);
        forge::first_block(dir, &chunk);
    })
}

#[test]
fn lengths_in_a_backup_are_not_believed() {
    let image = Image::rich(End::Closed);
    let backup = image.dir().with_file_name("backup");
    let store = open(&image.foreign).unwrap();
    store.backup(&backup).unwrap();
    store.close_blocking().unwrap();
    let newest = newest(&backup);
    let mut cases = vec![case("backup: a terabyte long", |dir| {
        grow(&dir.join("backup"), 1 << 40);
    })];
    for value in EXTREMES {
        cases.push(case(format!("backup: {value} segments"), move |dir| {
            forge::sealed(&dir.join("backup"), |body| {
                *body = vec![1, 1];
                body.extend_from_slice(&[7; 32]);
                varint(body, value);
            });
        }));
        for (field, at) in [("number", 0), ("used", 1), ("length", 2)] {
            cases.push(case(format!("backup: {field} {value}"), move |dir| {
                forge::backup(dir, newest, |segment| segment[at] = value);
            }));
        }
    }
    run_all(&image, "restore", &backup, cases);
}
