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

#[path = "serve/http.rs"]
#[allow(dead_code, reason = "the tests of the routes use it all")]
mod http;
#[path = "serve/service.rs"]
#[allow(dead_code, reason = "the tests of the routes use it all")]
mod service;

#[path = "common/browser.rs"]
mod chromium;
mod common;
use service::Service;

#[test]
fn people_open_accounts_and_move_money_in_a_browser() {
    let Some(scripts) = chromium::scripts("the page was not tried in a browser") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("bank");
    common::import_all(&store);
    let mut bank = Service::start_to_come_back(&store, &[]);
    let listen = bank.address.to_string();
    let looks = chromium::drive(
        &scripts.join("drive.mjs"),
        &format!("http://{listen}"),
        || {
            bank.kill();
            bank = Service::start_with(&store, &["--listen", &listen]);
        },
    );
    assert_eq!(looks, 8);
    // The picture of the README, when a new one is wanted.
    let pictures = chromium::pictures();
    if std::env::var("TIDELOG_PICTURE").is_ok() {
        std::fs::copy(pictures.join("page.jpg"), scripts.join("page.jpg")).unwrap();
    }
    println!("pictures in {}", pictures.display());
}
