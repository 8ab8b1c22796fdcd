//! The page in a real Chromium: see `browser/drive.mjs`.
//!
//! `browser/install` installs what it needs, and is called by `make test`. Without it, this says what it
//! leaves out, and fails if `CI=true`.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[path = "serve/http.rs"]
#[allow(dead_code, reason = "the tests of the routes use it all")]
mod http;
#[path = "serve/service.rs"]
#[allow(dead_code, reason = "the tests of the routes use it all")]
mod service;

mod common;
use service::Service;

/// What is missing, if something is.
fn missing(driver: &Path) -> Option<&'static str> {
    let chromium = std::env::var("CHROMIUM").unwrap_or("/usr/bin/chromium".into());
    let node = Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !Path::new(&chromium).exists() {
        Some("Chromium")
    } else if !node.is_ok_and(|status| status.success()) {
        Some("Node")
    } else if !driver.join("node_modules/playwright-core").exists() {
        Some("what `npm ci` installs")
    } else {
        None
    }
}

#[test]
fn people_open_accounts_and_move_money_in_a_browser() {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    if let Some(what) = missing(&driver) {
        assert!(
            std::env::var("CI").is_err(),
            "there is no {what}; run browser/install"
        );
        eprintln!(
            "LEFT OUT: the page was not tried in a browser, since there is no {what}: run browser/install"
        );
        return;
    }
    let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&pictures).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("bank");
    common::import_all(&store);
    let mut bank = Service::start(&store);
    let url = format!("http://{}", bank.address);
    let mut drive = Command::new("node");
    drive.arg(driver.join("drive.mjs")).arg(&url).arg(&pictures);
    let mut drive = drive
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut tell = drive.stdin.take().unwrap();
    let mut looks = 0;
    for line in BufReader::new(drive.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        println!("{line}");
        looks += u32::from(line.contains("axe finds 0 violations"));
        if line == "restart" {
            let listen = bank.address.to_string();
            bank.kill();
            bank = Service::start_with(&store, &["--listen", &listen]);
            writeln!(tell).unwrap();
        }
    }
    assert!(
        drive.wait().unwrap().success(),
        "the browser found something"
    );
    assert_eq!(looks, 8);
    // The picture of the README, when a new one is wanted.
    if std::env::var("TIDELOG_PICTURE").is_ok() {
        std::fs::copy(pictures.join("page.jpg"), driver.join("page.jpg")).unwrap();
    }
    println!("pictures in {}", pictures.display());
}
