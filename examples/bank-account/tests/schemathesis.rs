//! schemathesis makes requests of what `/openapi.json` says, and of what it says cannot be: none is
//! answered by 5xx, nor by anything that is not described.
//!
//! A bounded part of it runs in `make test`; all of it with `TIDELOG_SWEEP=full`. `schemathesis/install`
//! installs it, and is called by `make test`. Without it, this says what it leaves out, and fails if
//! `CI=true`.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::process::Command;

#[path = "serve/http.rs"]
#[allow(dead_code, reason = "the tests of the routes use it all")]
mod http;
#[path = "serve/service.rs"]
#[allow(dead_code, reason = "the tests of the routes use it all")]
mod service;

use service::Service;

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,unsupported_method,negative_data_rejection";

#[test]
fn no_request_that_can_be_made_up_meets_an_answer_that_is_not_described() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = manifest.join("../../target/schemathesis");
    let program = installed.join("bin/schemathesis");
    if !installed.join("installed").exists() {
        assert!(std::env::var("CI").is_err(), "run schemathesis/install");
        eprintln!(
            "LEFT OUT: what /openapi.json says was not tried by schemathesis: run schemathesis/install"
        );
        return;
    }
    let full = std::env::var("TIDELOG_SWEEP").is_ok_and(|sweep| sweep == "full");
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start_with(&dir.path().join("bank"), &["--rate", "0"]);
    // Some requests are about what is there.
    for (id, amount) in [("ada", "1000"), ("0", "5")] {
        bank.open(id, "Ada");
        bank.deposit(id, amount);
    }
    let mut run = Command::new(program);
    run.arg("run")
        .arg(format!("http://{}/openapi.json", bank.address));
    run.args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing"]);
    run.args([
        "--continue-on-failure",
        // How long it takes to make requests up is no fault.
        "--suppress-health-check",
        "all",
        "--request-timeout",
        "30",
        "--workers",
        "1",
    ]);
    if full {
        run.args(["--max-examples", "150"]);
    } else {
        // The same requests each time: what is new is looked for in the full sweep.
        run.args(["--max-examples", "10", "--no-shrink", "--seed", "8"]);
        run.arg("--generation-deterministic");
    }
    run.env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", manifest.join("schemathesis"));
    run.env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(dir.path());
    let output = run.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let made = said
        .lines()
        .find_map(|line| line.trim().split(" generated").next()?.parse::<u64>().ok());
    let made = made.unwrap_or_else(|| panic!("{said}"));
    println!("{made} requests were made up, and all answers are described");
    let wanted = if full { 2_000 } else { 200 };
    assert!(made >= wanted, "{made} of {wanted}");
    assert_eq!(bank.get("/health/ready").status, 200);
}
