//! The purchase log's lines: fixed columns, and what is wrong with those that are none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;

use bank_account::import::{Line, Purchase, Source, is_header, parse};
use tidelog::Timestamp;

mod common;

#[test]
fn a_line_is_a_purchase() {
    let purchase = Purchase {
        customer: "00001".into(),
        // 1997-01-01T00:00:00Z
        date: Timestamp::from_micros(852_076_800_000_000),
        cds: 1,
        cents: 1_177,
    };
    assert_eq!(parse(b" 00001 19970101  1   11.77"), Ok(purchase));
}

#[test]
fn zero_is_a_purchase_for_the_rules_to_refuse() {
    assert_eq!(parse(b" 00001 19970101  1    0.00").unwrap().cents, 0);
}

#[test]
fn the_header_is_known() {
    assert!(is_header(b" customer_id  date number_of_cds  dollar_value"));
    assert!(!is_header(b" 00001 19970101  1   11.77"));
}

#[test]
fn a_bad_line_says_what_is_wrong() {
    let bad: [(&[u8], &str); 9] = [
        (b"", "26 characters, found 0"),
        (b" 00001 19970101  1   11.7", "26 characters, found 25"),
        (b" 00001 19970101  1   11.77 ", "26 characters, found 27"),
        (b" 0000x 19970101  1   11.77", "customer id"),
        (b" 00001 19970231  1   11.77", "date"),
        (b" 00001 19970101  x   11.77", "number of CDs"),
        (b" 00001 19970101  1  -11.77", "value"),
        (b" 00001 19970101  1   1e1.0", "value"),
        (b"\xff00001 19970101  1   11.77", "26 characters"),
    ];
    for (line, what) in bad {
        let error = parse(line).unwrap_err();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn the_same_columns_at_other_places_are_refused() {
    for line in [
        &b"00001  19970101  1   11.77"[..],
        b" 00001  1997010  1   11.77",
    ] {
        assert!(parse(line).is_err(), "{}", String::from_utf8_lossy(line));
    }
}

fn lines(bytes: &[u8]) -> (u64, Vec<Line>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.txt");
    fs::write(&path, bytes).unwrap();
    let mut source = Source::open(&path).unwrap();
    let mut lines = Vec::new();
    while let Some(line) = source.next_line().unwrap() {
        lines.push(line);
    }
    (source.lines, lines)
}

#[test]
fn lines_end_with_lf_crlf_or_the_file() {
    let line = |number, text: &str| Line {
        number,
        bytes: text.into(),
    };
    let expected = vec![line(1, "a"), line(2, ""), line(3, "b"), line(4, "c")];
    assert_eq!(lines(b"a\r\n\nb\nc"), (4, expected));
    assert_eq!(lines(b""), (0, vec![]));
    assert_eq!(lines(b"a\n"), (1, vec![line(1, "a")]));
}

#[test]
fn an_endless_line_takes_no_memory_and_the_next_is_read() {
    let mut bytes = vec![b'x'; 1 << 20];
    bytes.extend_from_slice(b"\nb\n");
    let (count, lines) = lines(&bytes);
    assert_eq!(count, 2);
    assert_eq!(lines[0].bytes.len(), 256);
    assert_eq!(
        lines[1],
        Line {
            number: 2,
            bytes: b"b".to_vec()
        }
    );
    let exact = [&[b'x'; 256][..], b"\nb"].concat();
    let mut source = self::lines(&exact).1.into_iter();
    assert_eq!(source.next().map(|line| line.bytes.len()), Some(256));
    assert_eq!(source.next().map(|line| line.bytes), Some(b"b".to_vec()));
}

#[test]
fn every_line_of_the_real_file_is_read() {
    let mut source = Source::open(&common::data()).unwrap();
    assert_eq!(source.lines, 69_660);
    assert!(is_header(&source.next_line().unwrap().unwrap().bytes));
    let (mut purchases, mut zero, mut cents) = (0, 0, 0);
    while let Some(line) = source.next_line().unwrap() {
        let purchase = parse(&line.bytes).unwrap();
        purchases += 1;
        zero += u64::from(purchase.cents == 0);
        cents += purchase.cents;
    }
    assert_eq!(
        (purchases, zero, cents),
        (69_659, 80, common::TOTALS.deposited_cents)
    );
}
