//! What every contender must do for its figures to count.

use tempfile::TempDir;

use super::*;
use crate::load::{PayloadKind, Payloads};

/// What the peers' versions stand in.
const MANIFEST: &str = include_str!("../../Cargo.toml");
const STREAMS: usize = 4;
const SIZE: usize = 256;

/// Opens `kind` in `dir`, for all streams or with names made on the fly.
fn open(kind: Kind, dir: &TempDir, streams: usize) -> Box<dyn Contender> {
    kind.open(dir.path(), streams).unwrap()
}

/// A batch of the events numbered from `first`, one to each stream.
fn batch(payloads: &Payloads, first: u64, expected: u64) -> Vec<Append<'_>> {
    (0..STREAMS)
        .map(|stream| Append {
            stream,
            expected,
            payload: payloads.get(first + stream as u64),
        })
        .collect()
}

fn clients(payloads: &Payloads, count: usize, first_event: u64, events: u64) -> Vec<Client> {
    (0..count)
        .map(|client| Client {
            first_stream: client * STREAMS,
            streams: STREAMS,
            already: 0,
            first_event: first_event + client as u64 * events,
            events,
            payloads: payloads.clone(),
        })
        .collect()
}

/// All contenders but those that check no version, which are the raw file's.
fn checking() -> impl Iterator<Item = Kind> {
    let raw = [Kind::Raw, Kind::RawThreads];
    Kind::ALL
        .into_iter()
        .filter(move |kind| !raw.contains(kind))
}

#[test]
fn every_contender_reads_back_what_lone_client_many_clients_and_batches_wrote() {
    for payload_kind in PayloadKind::ALL {
        let payloads = Payloads::of(payload_kind, 7, SIZE);
        for kind in Kind::ALL {
            let dir = TempDir::new().unwrap();
            let mut contender = open(kind, &dir, 8 * STREAMS);
            // Streams 0..4 by one client, 4..32 by seven, two events to each stream.
            contender.clients(clients(&payloads, 1, 0, 8)).unwrap();
            let mut many = clients(&payloads, 8, 0, 8);
            many.remove(0);
            contender.clients(many).unwrap();
            contender.append_batch(&batch(&payloads, 64, 2)).unwrap();
            contender.append_batch(&batch(&payloads, 68, 3)).unwrap();
            contender.drain().unwrap();
            contender.close().unwrap();

            let expected = Seen::expected(&payloads, 72);
            let mut reopened = open(kind, &dir, 0);
            assert_eq!(reopened.scan().unwrap(), expected, "{kind}");
            if kind.engine() == "raw file" {
                reopened.load(0).unwrap_err();
                continue;
            }
            let mut loaded = Seen::default();
            for stream in 0..8 * STREAMS {
                let seen = reopened.load(stream).unwrap();
                let events = if stream < STREAMS { 4 } else { 2 };
                assert_eq!(seen.events, events, "{kind}, stream {stream}");
                loaded.events += seen.events;
                loaded.bytes += seen.bytes;
                loaded.mark = loaded.mark.wrapping_add(seen.mark);
            }
            assert_eq!(loaded, expected, "{kind}");
            reopened.append_batch(&batch(&payloads, 72, 4)).unwrap();
            assert_eq!(
                reopened.scan().unwrap(),
                Seen::expected(&payloads, 76),
                "{kind}"
            );
            reopened.close().unwrap();
        }
    }
}

#[test]
fn every_contender_but_the_raw_file_refuses_a_stream_that_is_not_new() {
    let payloads = Payloads::new(7, SIZE);
    for kind in checking() {
        let dir = TempDir::new().unwrap();
        let mut contender = open(kind, &dir, 3 * STREAMS);
        contender.clients(clients(&payloads, 3, 0, 4)).unwrap();
        let before = contender.scan().unwrap();
        assert_eq!(before, Seen::expected(&payloads, 12), "{kind}");

        let again = |contender: &mut dyn Contender| {
            let refused = "was not refused";
            contender
                .clients(clients(&payloads, 1, 0, 4))
                .expect_err(refused);
            contender
                .clients(clients(&payloads, 3, 0, 4))
                .expect_err(refused);
            // One stream that is not new refuses all that are.
            let mut mixed = batch(&payloads, 0, 0);
            for (at, append) in mixed.iter_mut().enumerate().skip(1) {
                append.stream = 1_000 + at;
            }
            contender.append_batch(&mixed).expect_err(refused);
            mixed.reverse();
            contender.append_batch(&mixed).expect_err(refused);
            assert_eq!(contender.scan().unwrap(), before, "{kind}");
        };
        again(contender.as_mut());
        contender.close().unwrap();
        let mut reopened = open(kind, &dir, 0);
        again(reopened.as_mut());
        reopened.close().unwrap();
    }
}

#[test]
fn every_contender_that_knows_versions_refuses_a_wrong_one() {
    let payloads = Payloads::new(7, SIZE);
    // tephra knows positions alone.
    for kind in checking().filter(|kind| kind.engine() != "tephra") {
        let dir = TempDir::new().unwrap();
        let mut contender = open(kind, &dir, STREAMS);
        contender.clients(clients(&payloads, 1, 0, 8)).unwrap();
        let before = contender.scan().unwrap();
        for wrong in [1, 3, 9] {
            let refused = contender.append_batch(&batch(&payloads, 0, wrong));
            refused.expect_err("was not refused");
        }
        assert_eq!(contender.scan().unwrap(), before, "{kind}");
        contender.append_batch(&batch(&payloads, 8, 2)).unwrap();
        assert_eq!(
            contender.scan().unwrap(),
            Seen::expected(&payloads, 12),
            "{kind}"
        );
        contender.close().unwrap();
    }
}

#[test]
fn the_report_names_the_versions_that_the_manifest_pins() {
    for (name, version) in PEERS {
        let pinned = MANIFEST.lines().any(|line| {
            line.starts_with(&format!("{name} = ")) && line.contains(&format!("\"={version}\""))
        });
        assert!(pinned, "{name} {version}");
        assert!(peers().contains(&format!("{name} {version}")));
    }
}
