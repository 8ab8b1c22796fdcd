//! Requests that are slow, huge, malformed, half-closed or meant to harm: each gets a clear no, and the
//! service goes on.

use std::io::Read as _;
use std::net::Shutdown;

use crate::http::{Connection, ask, raw, written};
use crate::service::Service;

/// The status that these bytes are answered with; 0 when the connection is closed without one.
fn status(bank: &Service, bytes: &[u8]) -> u16 {
    raw(bank.address, bytes).map_or(0, |answer| answer.status)
}

#[test]
fn what_is_no_request_is_refused_and_the_service_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = "a".repeat(1_000_000);
    let cases: [(String, &[u16]); 12] = [
        ("nonsense\r\n\r\n".into(), &[400]),
        ("GET / HTTP/9.9\r\nhost: localhost\r\n\r\n".into(), &[400]),
        ("GET /\r\nhost: localhost\r\n\r\n".into(), &[400]),
        ("GET / HTTP/1.1\r\nhost localhost\r\n\r\n".into(), &[400]),
        (format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"), &[431]),
        (format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n"), &[431]),
        (format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\n\r\n"), &[414, 431]),
        // Two lengths, a length beside chunks: what a front server might read otherwise.
        ("POST /v1/accounts HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}".into(), &[400]),
        ("POST /v1/accounts HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n{}".into(), &[400]),
        ("GET / HTTP/1.1\r\n\r\n".into(), &[400]),
        ("GET http://evil.example/ HTTP/1.1\r\nhost: evil.example\r\n\r\n".into(), &[421]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &[400, 0]),
    ];
    for (request, wanted) in cases {
        let got = status(&bank, request.as_bytes());
        let begins = &request[..request.len().min(60)];
        assert!(wanted.contains(&got), "{got} of {begins:?}");
    }
    // As TLS, as nothing, and as bytes that are no text.
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        &[0; 4096],
        &[0xff; 4096],
    ] {
        assert!(matches!(status(&bank, bytes), 400 | 431 | 0));
    }
    assert_eq!(bank.get("/health/live").status, 200);
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    let large = format!(r#"{{"holder":"{}"}}"#, "a".repeat(20_000));
    let answer = bank.post("/v1/accounts", &[], &large);
    assert_eq!((answer.status, &*answer.problem()), (413, "too-large"));
    // One that says how large it is, and one that does not end.
    let said = "POST /v1/accounts HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n";
    assert_eq!(status(&bank, format!("{said}{large}").as_bytes()), 413);
    let endless = "POST /v1/accounts HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("1000\r\n{}\r\n", "a".repeat(0x1000));
    assert_eq!(
        status(&bank, format!("{endless}{}", chunk.repeat(8)).as_bytes()),
        413
    );
    // Deep, not long.
    let deep = format!(r#"{{"holder":{}"#, "[".repeat(10_000));
    let answer = bank.post("/v1/accounts", &[], &deep);
    assert!(matches!(answer.status, 400 | 422), "{answer:?}");
}

#[test]
fn what_comes_too_slowly_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start_with(dir.path(), &["--request-seconds", "2"]);
    // A head that does not end.
    let mut slow = Connection::to(bank.address).unwrap();
    slow.send(b"GET / HTTP/1.1\r\nhost: local").unwrap();
    let mut rest = Vec::new();
    // It is closed, with or without a word.
    slow.0.read_to_end(&mut rest).unwrap();
    assert!(
        rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"),
        "{rest:?}"
    );
    // A body that does not end.
    let mut slow = Connection::to(bank.address).unwrap();
    let request = "POST /v1/accounts HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{\"hol";
    slow.send(request.as_bytes()).unwrap();
    let answer = slow.answer(true).unwrap();
    assert_eq!((answer.status, &*answer.problem()), (408, "slow"));
    assert_eq!(bank.get("/v1/status").json()["committed"], 0);
}

#[test]
fn who_has_said_all_and_only_listens_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    let mut half = Connection::to(bank.address).unwrap();
    half.send(written("POST", "/v1/accounts", &[], Some(r#"{"holder":"Ada"}"#)).as_bytes())
        .unwrap();
    half.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(half.answer(true).unwrap().status, 201);
    // Half a request is none.
    let mut half = Connection::to(bank.address).unwrap();
    let request = written("POST", "/v1/accounts", &[], Some(r#"{"holder":"Bob"}"#));
    half.send(&request.as_bytes()[..request.len() - 4]).unwrap();
    half.0.get_ref().shutdown(Shutdown::Write).unwrap();
    if let Ok(answer) = half.answer(true) {
        assert_eq!((answer.status, &*answer.problem()), (400, "malformed"));
    }
    assert_eq!(bank.get("/v1/status").json()["committed"], 1);
}

#[test]
fn paths_lead_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    for path in [
        "/assets/../Cargo.toml",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2fmain.js",
        "//assets/main.js",
        "/assets//main.js",
        "/assets/main.js/",
        "/%2e",
        "/etc/passwd",
        "/assets/main.js%00.css",
        "/assets/",
        "/..",
        "/v1/accounts/..%2f..%2fstatus",
        "/v1/accounts/../status",
        "/v1//accounts",
    ] {
        let answer = bank.get(path);
        assert_eq!(answer.status, 404, "{path}");
        answer.problem();
    }
}

#[test]
fn another_site_s_page_can_neither_ask_nor_pass_for_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start_with(dir.path(), &["--host", "bank.example"]);
    let body = Some(r#"{"holder":"Ada"}"#);
    for headers in [
        [("origin", "https://evil.example")],
        [("origin", "null")],
        [("origin", "http://localhost.evil.example")],
        [("origin", "http://localhost:1")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
    ] {
        let answer = ask(bank.address, "POST", "/v1/accounts", &headers, body);
        assert_eq!(
            (answer.status, &*answer.problem()),
            (403, "foreign-origin"),
            "{headers:?}"
        );
    }
    let own = [
        ("origin", "http://localhost"),
        ("sec-fetch-site", "same-origin"),
    ];
    let answer = ask(bank.address, "POST", "/v1/accounts", &own, body);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    for (host, wanted) in [
        ("evil.example", 421),
        ("bank.example", 200),
        ("127.0.0.1:9", 200),
        ("[::1]", 200),
        ("", 421),
    ] {
        let request = format!("GET /v1/accounts HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(status(&bank, request.as_bytes()), wanted, "{host}");
    }
}

#[test]
fn names_come_back_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    for (number, name) in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "Robert'); DROP TABLE accounts;--",
        "\u{202e}evil\u{2066}",
        "{{7*7}} ${7*7} %s %n",
        "🦀 e\u{301} \u{200b}",
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("n{number}");
        bank.open(&id, name);
        let answer = bank.get(&format!("/v1/accounts/{id}"));
        assert_eq!(answer.json()["holder"], name);
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[test]
fn who_asks_too_often_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start_with(dir.path(), &["--rate", "1"]);
    let mut answers = (0..1_000).map(|_| bank.get("/health/live"));
    // Two at once are within it. Of those that follow each would have to take a second.
    for _ in 0..2 {
        assert_eq!(answers.next().unwrap().status, 200);
    }
    let refused = answers.find(|answer| answer.status != 200).unwrap();
    assert_eq!((refused.status, &*refused.problem()), (429, "too-many"));
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[test]
fn more_connections_than_allowed_wait_for_room() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start_with(dir.path(), &["--connections", "2"]);
    let held: Vec<_> = (0..2)
        .map(|_| Connection::to(bank.address).unwrap())
        .collect();
    let mut third = Connection::to(bank.address).unwrap();
    third
        .send(written("GET", "/health/live", &[], None).as_bytes())
        .unwrap();
    third.0.get_ref().set_nonblocking(true).unwrap();
    let early = third.0.get_ref().peek(&mut [0]);
    assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    third.0.get_ref().set_nonblocking(false).unwrap();
    drop(held);
    assert_eq!(third.answer(true).unwrap().status, 200);
}
