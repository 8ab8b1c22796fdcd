//! What the tests of the bank share.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bank_account::query::TotalsAnswer;

/// What the real file adds up to.
pub const TOTALS: TotalsAnswer = TotalsAnswer {
    accounts: 23_570,
    deposits: 69_579,
    deposited_cents: 250_031_563,
    cds: 167_801,
};

/// One opening an account, and one a deposit.
pub const EVENTS: u64 = TOTALS.accounts + TOTALS.deposits;

pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/CDNOW_master.txt")
}

/// The program, with `--store`.
pub fn bank(store: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bank-account"));
    command.arg("--store").arg(store).args(args);
    command.stdin(Stdio::null());
    command
}

pub fn run(store: &Path, args: &[&str]) -> Output {
    bank(store, args).output().unwrap()
}

/// Runs it, expects success, and returns what it printed.
pub fn ok(store: &Path, args: &[&str]) -> String {
    let output = run(store, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{args:?}: {}: {errors}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What an example prints that runs in `dir`.
pub fn example(dir: &Path, name: &str, args: &[&str]) -> String {
    // Packages and features as in the Makefile: what was built just now with other ones would be built again.
    let built_with = match (cfg!(feature = "scylla"), cfg!(feature = "kafka")) {
        (true, true) => {
            "-p tidelog -p tidelog-backends -p bank-account \
             --features bank-account/distributed,tidelog-backends/fakes"
        }
        (true, false) => "-p bank-account --features scylla",
        (false, true) => "-p bank-account --features kafka",
        (false, false) => "--workspace --exclude tidelog-benches",
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline"]);
    cargo.args(built_with.split_whitespace());
    cargo.args(["--example", name]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    printed(cargo.current_dir(workspace));
    // This test's own program is in `deps`, beside the folder of examples.
    let test = std::env::current_exe().unwrap();
    let examples = test.ancestors().nth(2).unwrap().join("examples");
    let mut example = Command::new(examples.join(name));
    printed(example.args(args).current_dir(dir))
}

/// What a command prints that has to succeed.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn import_all(store: &Path) -> String {
    ok(store, &["import", data().to_str().unwrap()])
}

/// The value of a row of the report.
pub fn row(report: &str, what: &str) -> String {
    let line = report.lines().find_map(|line| {
        let line = line.trim_matches(['│', ' ']);
        line.strip_prefix(what)
            .filter(|rest| rest.starts_with("  "))
    });
    line.unwrap_or_else(|| panic!("no row {what:?} in\n{report}"))
        .trim()
        .to_owned()
}

/// Fails unless the report shows the real file's sums.
pub fn assert_totals(report: &str) {
    assert_eq!(row(report, "accounts"), "23,570");
    assert_eq!(row(report, "deposits"), "69,579");
    assert_eq!(row(report, "total"), "$2,500,315.63");
    assert_eq!(row(report, "CDs in accepted deposits"), "167,801");
}

/// Fails unless the store verifies with exactly the real file's events.
pub fn assert_clean(store: &Path) {
    let verified = ok(store, &["verify"]);
    assert!(
        verified.starts_with("verified: 93,149 events of 23,570 accounts"),
        "{verified}"
    );
}
