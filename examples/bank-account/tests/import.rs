//! The import of the real file, and of files with faults.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

use tidelog::{
    AppendBatch, CommandId, ContentType, ExpectedVersion, Metadata, NewEvent, StreamId, Tidelog,
};

mod common;
use common::{assert_clean, assert_totals, data, import_all, ok, row, run};

#[test]
fn the_real_file_adds_up_exactly_and_importing_it_again_adds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("bank");
    let report = import_all(&store);
    assert_totals(&report);
    assert_eq!(row(&report, "refused"), "80");
    assert_eq!(row(&report, "bad lines"), "0");
    assert_eq!(row(&report, "imported before"), "0");
    assert_eq!(row(&report, "events recorded"), "93,149");
    for expected in ["07592", "14048", "07983", "19339", "07931"] {
        assert!(
            report
                .lines()
                .any(|line| line.trim_start().starts_with(expected)),
            "{expected}"
        );
    }
    assert!(report.contains(" 1997-03  $393,155.27  ████████████████████████████████████████"));
    assert_clean(&store);

    let again = import_all(&store);
    assert_totals(&again);
    assert_eq!(row(&again, "refused"), "80");
    assert_eq!(row(&again, "imported before"), "69,579");
    assert_eq!(row(&again, "events recorded"), "0");
    assert_clean(&store);

    let history = ok(&store, &["history", "00003"]);
    let second = "     2  1997-01-02T00:00:00Z  deposited $20.76 for 2 CDs";
    assert_eq!(history.lines().nth(1), Some(second));
}

const FAULTY: &str = " customer_id  date number_of_cds  dollar_value\r
 00001 19970101  1   11.77\r
 00002 19970112  1   12.00\r
 not a purchase\r
 00002 19970112  1   12.00\r
 00003 19970230  1   12.00\r
 00004 19970102  2    0.00\r
 00001 19970103  3    0.23\r
";

#[test]
fn bad_lines_are_reported_by_number_and_do_not_stop_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (dir.path().join("bank"), dir.path().join("faulty.txt"));
    fs::write(&file, FAULTY).unwrap();
    let output = run(&store, &["import", file.to_str().unwrap()]);
    assert!(output.status.success());
    let (report, errors) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(
        errors.contains("line 4: expected 26 characters"),
        "{errors}"
    );
    assert!(errors.contains("line 6: date"), "{errors}");
    assert_eq!(row(&report, "bad lines"), "2");
    // The customer of line 7 has an account, and no deposit; lines 3 and 5 are equal and both count.
    assert_eq!(row(&report, "accounts"), "3");
    assert_eq!(row(&report, "deposits"), "4");
    assert_eq!(row(&report, "refused"), "1");
    assert_eq!(row(&report, "total"), "$36.00");
    assert_eq!(row(&report, "CDs in accepted deposits"), "6");
}

#[test]
fn a_strict_import_stops_at_the_first_bad_line_and_can_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (dir.path().join("bank"), dir.path().join("faulty.txt"));
    fs::write(&file, FAULTY).unwrap();
    let output = run(&store, &["import", "--strict", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("error: line 4: expected 26 characters"),
        "{errors}"
    );
    assert_eq!(row(&ok(&store, &["report"]), "deposits"), "2");
    let report = ok(&store, &["import", file.to_str().unwrap()]);
    assert_eq!(row(&report, "imported before"), "2");
    assert_eq!(row(&report, "deposits"), "4");
}

/// What the program recorded of lines 2 and 3 before deposits had revision 2.
fn record_revision_1(store: &Path) {
    let log = Tidelog::open(store).unwrap().blocking();
    let id = |command: &str| {
        CommandId::new(format!("faulty.txt:{command}"))
            .unwrap()
            .event_id(0)
    };
    let cds = Metadata::new().with("cds", "1");
    for (customer, open, purchase, payload) in [
        ("00001", "2:open", "2", [0x99, 0x09]),
        ("00002", "3:open", "3", [0xb0, 0x09]),
    ] {
        let holder = format!("CDNOW customer {customer}");
        let mut opened = vec![u8::try_from(holder.len()).unwrap()];
        opened.extend(holder.into_bytes());
        let events = vec![
            NewEvent::new("Opened", 1, ContentType::Postcard, opened).with_id(id(open)),
            NewEvent::new("Deposited", 1, ContentType::Postcard, payload.to_vec())
                .with_id(id(purchase))
                .with_metadata(cds.clone()),
        ];
        let account = StreamId::new("BankAccount", customer).unwrap();
        for event in events {
            let batch = AppendBatch::new(account.clone(), ExpectedVersion::Any, vec![event]);
            log.append(batch).unwrap();
        }
    }
    log.close().unwrap();
}

#[test]
fn a_store_with_deposits_of_revision_1_is_imported_into_as_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (dir.path().join("bank"), dir.path().join("faulty.txt"));
    fs::write(&file, FAULTY).unwrap();
    record_revision_1(&store);
    assert_eq!(
        row(&ok(&store, &["report"]), "CDs in accepted deposits"),
        "2"
    );

    let report = ok(&store, &["import", file.to_str().unwrap()]);
    assert_eq!(row(&report, "imported before"), "2");
    assert_eq!(row(&report, "deposits"), "4");
    assert_eq!(row(&report, "total"), "$36.00");
    assert_eq!(row(&report, "CDs in accepted deposits"), "6");
    let history = ok(&store, &["history", "00001"]);
    assert!(history.contains("deposited $11.77 for 1 CDs"), "{history}");
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&dir.path().join("bank"), &["import", "no-such-file.txt"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("cannot read no-such-file.txt"), "{errors}");
    assert!(data().exists());
}
