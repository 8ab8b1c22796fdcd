//! Nothing that somebody may write to a topic makes a listener panic: not as an event, not as a letter, not
//! as a record of the parked set. What is read of the latter two is written as it was.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tidelog::fuzzing::{Message, kafka_letter, kafka_parked_set, kafka_record};

/// Names and values that mean something, so that they need not be found.
const NAMES: [&str; 26] = [
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_subject",
    "ce_time",
    "content-type",
    "ce_sequence",
    "ce_revision",
    "ce_position",
    "ce_epoch",
    "ce_recordedtime",
    "ce_batchindex",
    "ce_batchcount",
    "ce_metadata",
    "ce_tags",
    "CE_ID",
    "tidelog-unreadable",
    "tidelog-topic",
    "tidelog-partition",
    "tidelog-offset",
    "tidelog-group",
    "tidelog-reason",
    "tidelog-attempts",
    "tidelog-since",
    "tidelog-left-out",
];
const VALUES: [&str; 16] = [
    "1.0",
    "1",
    "0",
    "18446744073709551615",
    "-1",
    "Till/7",
    "urn:uuid:00000000-0000-4000-8000-000000000001",
    "00000000-0000-4000-8000-000000000002",
    "2026-01-02T03:04:05.000006Z",
    "application/cloudevents+json; charset=utf-8",
    "application/postcard",
    "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/a\",\"type\":\"b\"}",
    "{\"a\":\"b\"}",
    "[\"a\"]",
    "group",
    "reason,value",
];
const SUFFIX: &str = "/asked";

#[derive(Arbitrary, Debug)]
enum Name<'a> {
    Known(u8),
    Any(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Text<'a> {
    Known(u8),
    Any(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
enum Read<'a> {
    Message {
        key: Option<&'a [u8]>,
        value: Option<Text<'a>>,
        headers: Vec<(Name<'a>, Option<Text<'a>>)>,
        partition: i32,
        offset: i64,
    },
    ParkedSet(Vec<Parked<'a>>),
}

#[derive(Arbitrary, Debug)]
enum Parked<'a> {
    Any(&'a [u8], Option<&'a [u8]>),
    /// An entry, or what is asked of it, of a key whose name is right.
    Entry {
        partition: i32,
        key: Option<&'a str>,
        stream: &'a str,
        letter: Option<(i32, i64)>,
        numbers: (i64, i64, u32),
        is_gone: bool,
    },
    Asked {
        of: u8,
        word: &'a str,
        is_gone: bool,
    },
}

fn bytes<'a>(text: &Text<'a>) -> &'a [u8] {
    match text {
        Text::Known(at) => VALUES[usize::from(*at) % VALUES.len()].as_bytes(),
        Text::Any(bytes) => bytes,
    }
}

fuzz_target!(|read: Read<'_>| {
    match read {
        Read::Message {
            key,
            value,
            headers,
            partition,
            offset,
        } => {
            let headers = headers.iter().map(|(name, text)| {
                let name = match name {
                    Name::Known(at) => NAMES[usize::from(*at) % NAMES.len()],
                    Name::Any(name) => name,
                };
                (name, text.as_ref().map(bytes))
            });
            let message = Message {
                key,
                value: value.as_ref().map(bytes),
                headers: headers.collect(),
                partition,
                offset,
            };
            kafka_record(&message);
            kafka_letter(&message);
        }
        Read::ParkedSet(records) => parked_set(&records),
    }
});

fn parked_set(records: &[Parked<'_>]) {
    let mut names: Vec<String> = Vec::new();
    let written = records.iter().map(|record| match record {
        Parked::Any(key, value) => (key.to_vec(), value.map(<[u8]>::to_vec)),
        Parked::Entry {
            partition,
            key,
            stream,
            letter,
            numbers,
            is_gone,
        } => {
            let (name, value) =
                tidelog::fuzzing::kafka_entry(*partition, *key, stream, *letter, *numbers);
            names.push(name.clone());
            (name.into_bytes(), (!is_gone).then(|| value.into_bytes()))
        }
        Parked::Asked { of, word, is_gone } => {
            let at = usize::from(*of) % names.len().max(1);
            let name = names.get(at).cloned().unwrap_or_default() + SUFFIX;
            let word = if word.is_empty() { "resume" } else { word };
            let value = format!("{{\"format\":1,\"asked\":{word:?}}}");
            (name.into_bytes(), (!is_gone).then(|| value.into_bytes()))
        }
    });
    let written: Vec<_> = written.collect();
    let written = written
        .iter()
        .map(|(key, value)| (key.as_slice(), value.as_deref()));
    kafka_parked_set(written);
}
