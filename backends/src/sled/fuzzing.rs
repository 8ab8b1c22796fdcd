//! The log's decoders as the fuzz targets reach them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what a fuzz target finds is a panic"
)]

use std::fs::File;
use std::path::PathBuf;

use bytes::Bytes;
use tidelog_core::EventEnvelope;
use uuid::Uuid;

use super::branches::Branches;
use super::frame::{self, FrameHeader};
use super::frame_reader::{Expect, FrameReader, Step, for_each_record};
use super::hash::NameHash;
use super::record::{self, Names, Record};
use super::replay::{Replay, Replayed};
use super::segment::{DATA, Epoch};
use crate::platform;

/// `body` behind the length and checksum that make it worth reading.
pub(crate) fn with_prefix(body: &[u8]) -> Bytes {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&len[..], &crc32c::crc32c(body).to_le_bytes(), body]
        .concat()
        .into()
}

/// The envelope in `page`, which must encode to the same bytes again.
pub(crate) fn record(page: &Bytes) -> Option<EventEnvelope> {
    let parsed = record::parse(page).ok()?;
    let encodable = !parsed.has_key_id();
    let envelope = Names::new().envelope(parsed, page)?;
    if encodable {
        assert!(encode(&envelope) == page.as_ref(), "a record has one form");
    }
    Some(envelope)
}

pub(crate) fn encode(envelope: &EventEnvelope) -> Vec<u8> {
    let mut out = Vec::new();
    Record::of(envelope).encode(&mut out);
    out
}

pub(crate) fn frame(bytes: &[u8]) {
    let Some(header) = FrameHeader::decode(bytes) else {
        return;
    };
    assert!(
        bytes.starts_with(&header.encode()),
        "a frame header has one form"
    );
    assert!(header.frame_len() >= frame::HEADER as u64 + u64::from(header.body_len));
    let body = bytes.get(frame::HEADER..).unwrap_or_default();
    let body = body.get(..header.body_len as usize).unwrap_or(body);
    let _ = for_each_record(body, |at, len, _| {
        record(&Bytes::copy_from_slice(&body[at..at + len]));
        Ok(())
    });
}

/// Makes the checksums of all commits in `data` right, and each follow the one before it.
pub(crate) fn mend(data: &mut [u8]) {
    let mut at = 0;
    let mut before: Option<Expect> = None;
    while let Some((head, rest)) = data
        .get_mut(at..)
        .and_then(|data| data.split_at_mut_checked(frame::HEADER))
    {
        // Through the decoder's eyes: only the checksum is wrong.
        head[..4].copy_from_slice(&frame::MAGIC);
        head[76..78].fill(0);
        let crc = crc32c::crc32c(&head[..frame::HEADER - 4]);
        head[frame::HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        let Some(mut header) = FrameHeader::decode(head) else {
            return;
        };
        let Some(body) = rest.get_mut(..header.body_len as usize) else {
            return;
        };
        mend_records(body);
        if let Some(expect) = before {
            header.salt = expect.salt;
            header.commit = expect.commit;
            header.previous = expect.previous;
            header.first_position = expect.position;
        }
        header.body_crc = crc32c::crc32c(body);
        head.copy_from_slice(&header.encode());
        before = Some(Expect {
            salt: header.salt,
            commit: header.commit + 1,
            position: header.first_position + u64::from(header.records),
            previous: frame::chain(&header.previous, body),
        });
        at = usize::try_from(at as u64 + header.frame_len()).unwrap_or(usize::MAX);
    }
}

fn mend_records(mut body: &mut [u8]) {
    while let Some(len) = record::total_len(body).filter(|len| *len <= body.len()) {
        let (here, rest) = body.split_at_mut(len);
        let (prefix, content) = here.split_at_mut(record::PREFIX);
        prefix[4..].copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
        body = rest;
    }
}

/// Replays `data` as the commits of a segment, then walks over it as `verify` does.
pub(crate) fn segment(file: &File, data: &[u8]) {
    let written = file
        .set_len(0)
        .and_then(|()| file.set_len(DATA + data.len() as u64))
        .and_then(|()| platform::write_all_at(file, data, DATA));
    written.expect("a small file can be written");
    let first = FrameHeader::decode(data).map_or(
        Expect {
            salt: 0,
            commit: 1,
            position: 1,
            previous: [0; 32],
        },
        |header| Expect {
            salt: header.salt,
            commit: header.commit,
            position: header.first_position,
            previous: header.previous,
        },
    );
    let hash = NameHash::new(&[7; 16], 64);
    let branches = Branches::default();
    let mut replay =
        Replay::new(file, 1, PathBuf::new(), &hash, &branches).expect("the file is there");
    let (mut next, mut vouched) = (first, 0);
    let epoch = Epoch {
        id: Uuid::nil(),
        parent: Uuid::nil(),
        parent_position: 0,
        parent_hash: [0; 32],
    };
    let replayed = replay.run(&mut next, &mut vouched, &mut Replayed::new(epoch));
    let end = replay.reader.offset();
    if replayed.is_ok() {
        let survey = replay.reader.survey(end, first.salt).expect("it is read");
        assert!(survey.nonzero_end >= end);
        assert!(replay.index.events() as u64 <= next.position - first.position);
    }

    let mut reader = FrameReader::new(file, PathBuf::new()).expect("the file is there");
    let mut walked = first;
    while reader.offset() < end {
        let step = reader.step(&walked).expect("it is read");
        let Step::Commit { next, .. } = step else {
            panic!("a commit that was replayed is not there");
        };
        walked = next;
        let body = reader.body();
        let _ = for_each_record(body, |at, len, _| {
            record(&Bytes::copy_from_slice(&body[at..at + len]));
            Ok(())
        });
    }
    if replayed.is_ok() {
        assert_eq!(walked, next, "the walk ends where replay does");
    }
}
