//! Requests that are written to be misread: by the service, by whoever stands before it, or by a browser
//! on another site.

use std::io::Read as _;
use std::net::Shutdown;

use serde_json::json;

use crate::events::Follower;
use crate::http::{Connection, ask, raw, written};
use crate::service::Service;

const POST: &str =
    "POST /v1/accounts HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
const ADA: &str = r#"{"holder":"Ada"}"#;

/// Everything that comes back, until the other end closes.
fn all(bank: &Service, bytes: &[u8]) -> String {
    let mut connection = Connection::to(bank.address).unwrap();
    // It may have answered, and closed, before all was sent.
    let _ = connection.send(bytes);
    let _ = connection.0.get_ref().shutdown(Shutdown::Write);
    let mut said = Vec::new();
    let _ = connection.0.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

/// The statuses of all answers, in their order.
fn statuses(said: &str) -> Vec<u16> {
    let each = said.split("HTTP/1.1 ").skip(1);
    each.map(|answer| answer[..3].parse().unwrap()).collect()
}

#[test]
fn requests_that_come_together_are_answered_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    let deposit = written(
        "POST",
        "/v1/accounts/ada/deposits",
        &[("idempotency-key", "k")],
        Some(r#"{"amount":"1"}"#),
    );
    let requests = [
        written("PUT", "/v1/accounts/ada", &[], Some(ADA)),
        deposit.clone(),
        written("GET", "/nothing", &[], None),
        deposit,
        written("GET", "/v1/accounts/ada", &[], None),
    ];
    let said = all(&bank, requests.concat().as_bytes());
    assert_eq!(statuses(&said), [201, 201, 404, 201, 200], "{said}");
    assert!(
        said.ends_with(
            r#""balance":"1.00","closed":false,"holder":"Ada","id":"ada","sequence":2}"#
        ),
        "{said}"
    );
}

#[test]
fn a_length_that_lies_makes_no_second_request() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    let hidden = written("PUT", "/v1/accounts/hidden", &[], Some(ADA));
    for (head, body) in [
        // Less than comes: what follows is no request.
        ("content-length: 5\r\n".to_owned(), ADA.to_owned()),
        // Less than nothing, more than there are numbers, two of them, not one.
        ("content-length: -1\r\n".into(), ADA.into()),
        (
            "content-length: 18446744073709551616\r\n".into(),
            ADA.into(),
        ),
        (
            "content-length: 16\r\ncontent-length: 0\r\n".into(),
            hidden.clone(),
        ),
        ("content-length: 16, 0\r\n".into(), hidden.clone()),
        ("content-length: 0x10\r\n".into(), ADA.into()),
        // More than may come: what follows is never looked at.
        ("content-length: 999999999\r\n".into(), hidden.clone()),
        // A length beside chunks, and codings that nobody knows.
        (
            format!(
                "content-length: {}\r\ntransfer-encoding: chunked\r\n",
                5 + hidden.len()
            ),
            format!("0\r\n\r\n{hidden}"),
        ),
        ("transfer-encoding: gzip\r\n".into(), hidden.clone()),
        (
            "transfer-encoding: chunked, identity\r\n".into(),
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "transfer-encoding: xchunked\r\n".into(),
            format!("0\r\n\r\n{hidden}"),
        ),
    ] {
        let said = all(&bank, format!("{POST}{head}\r\n{body}").as_bytes());
        let statuses = statuses(&said);
        println!("{head:?}: {statuses:?}");
        assert!(
            !statuses.is_empty() && statuses.iter().all(|status| matches!(status, 400 | 413)),
            "{head:?}: {statuses:?} {said}"
        );
    }
    assert_eq!(bank.get("/v1/status").json()["committed"], 0);
}

#[test]
fn chunks_that_are_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    let head = format!("{POST}transfer-encoding: chunked\r\n\r\n");
    let flood = format!("10;{}\r\n{ADA}\r\n0\r\n\r\n", "x".repeat(100_000));
    let trailers = format!("10\r\n{ADA}\r\n0\r\n{}\r\n", "x: y\r\n".repeat(50_000));
    for body in [
        "zz\r\n{}\r\n0\r\n\r\n",
        "-1\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n{}\r\n",
        "10\n{}",
        "\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        &flood,
        &trailers,
    ] {
        let said = all(&bank, format!("{head}{body}").as_bytes());
        let begins = &body[..body.len().min(20)];
        println!("{begins:?}: {:?}", statuses(&said));
        assert!(matches!(statuses(&said)[..], [400]), "{begins:?}: {said}");
    }
    assert_eq!(bank.get("/v1/status").json()["committed"], 0);
    let whole = all(
        &bank,
        format!("{head}8\r\n{{\"holder\r\n8\r\n\":\"Ada\"}}\r\n0\r\n\r\n").as_bytes(),
    );
    assert_eq!(statuses(&whole), [201], "{whole}");
}

#[test]
fn the_bounds_of_heads_are_firm() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    let get = |extra: &str| {
        let head = format!("GET /health/live HTTP/1.1\r\nhost: localhost\r\n{extra}\r\n");
        raw(bank.address, head.as_bytes()).unwrap().status
    };
    let long = |bytes: usize| format!("x: {}\r\n", "a".repeat(bytes));
    let many = |headers: usize| "x: y\r\n".repeat(headers);
    assert_eq!((get(&long(32_000)), get(&many(63))), (200, 200));
    assert_eq!((get(&long(33_000)), get(&many(64))), (431, 431));
    assert_eq!(get(&long(100_000)), 431);
    let path = |bytes: usize| bank.get(&format!("/{}", "a".repeat(bytes))).status;
    assert_eq!(path(30_000), 404);
    let request = format!(
        "GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "a".repeat(40_000)
    );
    assert_eq!(raw(bank.address, request.as_bytes()).unwrap().status, 431);
}

#[test]
fn what_a_header_says_twice_is_not_chosen_from() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    let deposit = |headers: &[(&str, &str)]| {
        bank.post("/v1/accounts/ada/deposits", headers, r#"{"amount":"1"}"#)
    };
    for host in ["localhost", "evil.example"] {
        let twice = deposit(&[("host", host)]);
        assert_eq!((twice.status, &*twice.problem()), (400, "malformed"));
    }
    let twice = deposit(&[("idempotency-key", "a"), ("idempotency-key", "a")]);
    assert_eq!((twice.status, &*twice.problem()), (400, "malformed"));
    let twice = [("last-event-id", "0"), ("last-event-id", "1")];
    let twice = ask(bank.address, "GET", "/v1/events", &twice, None);
    assert_eq!((twice.status, &*twice.problem()), (400, "malformed"));
    assert_eq!(bank.balance("ada"), "0.00");
    // Conditions are lists, wherever their parts stand.
    let listed = deposit(&[("if-match", "\"7\""), ("if-match", "\"1\"")]);
    assert_eq!(listed.status, 201);
    assert_eq!(
        deposit(&[("if-match", "\"7\""), ("if-match", "\"1\"")]).status,
        412
    );
    // Two traces are none.
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let two = deposit(&[("traceparent", trace), ("traceparent", trace)]);
    assert_eq!(
        (two.status, &two.json()["event"]["traceparent"]),
        (201, &json!(null))
    );
}

#[test]
fn numbers_are_taken_as_they_are_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    for amount in [
        json!("-1"),
        json!("+1"),
        json!(" 1"),
        json!("1 "),
        json!("1,000"),
        json!("1.234"),
        json!("1."),
        json!(".5"),
        json!("0.00"),
        json!("NaN"),
        json!("Infinity"),
        json!("0x10"),
        json!("1e3"),
        json!("١٢"),
        json!("１"),
        json!(""),
        json!(1),
        json!(1.5),
        json!(-1),
        json!(null),
        json!(["1"]),
        json!({ "amount": "1" }),
        json!(true),
        json!("1".repeat(19)),
        json!("184467440737095516.16"),
        json!("9".repeat(10_000)),
    ] {
        let body = json!({ "amount": amount }).to_string();
        let answer = bank.post("/v1/accounts/ada/deposits", &[], &body);
        assert_eq!(
            (answer.status, &*answer.problem()),
            (422, "invalid"),
            "{body}"
        );
    }
    for body in [
        r#"{"amount":1e999}"#,
        r#"{"amount":"1","amount":"2"}"#,
        r#"{"amount":"\ud800"}"#,
        "\u{feff}{\"amount\":\"1\"}",
    ] {
        let answer = bank.post("/v1/accounts/ada/deposits", &[], body);
        assert!(matches!(answer.status, 400 | 422), "{body}: {answer:?}");
        answer.problem();
    }
    assert_eq!(bank.account("ada")["sequence"], 1);
    // As much as can be counted, and not a cent more, by whatever way.
    bank.deposit("ada", "184467440737095516.15");
    let more = bank.post("/v1/accounts/ada/deposits", &[], r#"{"amount":"0.01"}"#);
    assert_eq!((more.status, &*more.problem()), (409, "too-much"));
    bank.open("bob", "Bob");
    bank.deposit("bob", "0.01");
    let moved = r#"{"from":"bob","to":"ada","amount":"0.01"}"#;
    let moved = bank.post("/v1/transfers", &[], moved);
    let ended = bank.get(&format!("{}?wait=true", moved.header("location").unwrap()));
    assert_eq!(ended.json()["phase"], "refunded");
    assert_eq!(
        (bank.balance("ada"), bank.balance("bob")),
        ("184467440737095516.15".into(), "0.01".into())
    );
    for (path, status) in [
        ("/v1/accounts?limit=18446744073709551616", 400),
        ("/v1/accounts?limit=-1", 400),
        ("/v1/accounts?limit=1e2", 400),
        ("/v1/accounts?at_least=18446744073709551615", 410),
        ("/v1/accounts?at_least=18446744073709551616", 400),
        (
            "/v1/accounts/ada/events?before=18446744073709551615.18446744073709551615",
            200,
        ),
        ("/v1/accounts/ada/events?before=1.18446744073709551616", 400),
        ("/v1/accounts/ada/events?before=0.0", 400),
        ("/v1/accounts/ada/events?before=-1.0", 400),
        ("/v1/events?after=18446744073709551615", 410),
        ("/v1/events?after=-1", 400),
    ] {
        assert_eq!(bank.get(path).status, status, "{path}");
    }
}

#[test]
fn texts_are_unicode_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    for holder in [
        "é".repeat(200),
        "🦀".repeat(200),
        "\u{10ffff}".into(),
        "e\u{301}".into(),
    ] {
        let body = json!({ "holder": holder }).to_string();
        let opened = bank.post("/v1/accounts", &[], &body);
        assert_eq!(opened.status, 201, "{holder}");
        let shown = bank.get(opened.header("location").unwrap()).json();
        assert_eq!(shown["holder"], holder);
    }
    for body in [
        r#"{"holder":"\ud800"}"#.as_bytes(),
        b"{\"holder\":\"\xff\"}",
        b"{\"holder\":\"\xc0\xae\"}",
        b"{\"holder\":\"\xed\xa0\x80\"}",
        b"{\"holder\":\"a\nb\"}",
    ] {
        let head = format!("{POST}content-length: {}\r\n\r\n", body.len());
        let answer = raw(bank.address, &[head.as_bytes(), body].concat()).unwrap();
        assert_eq!((answer.status, &*answer.problem()), (400, "malformed"));
    }
    for path in [
        "/v1/accounts/%c0%ae%c0%ae",
        "/v1/accounts/%ed%a0%80",
        "/v1/accounts?q=%ff",
    ] {
        assert!(matches!(bank.get(path).status, 200 | 400), "{path}");
    }
    for path in [
        "/v1/accounts/\u{e9}",
        "/v1/accounts/%E9x",
        "/v1/accounts/%zz",
        "/v1/accounts/%",
    ] {
        let answer = raw(bank.address, written("GET", path, &[], None).as_bytes()).unwrap();
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
    }
}

/// A page on another site sends what browsers send without asking first: forms, and `fetch` of "simple"
/// requests. With an `Origin`, as all browsers of today say it; without, its kind of body gives it away.
#[test]
fn another_site_s_page_can_change_nothing_by_any_address() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    bank.open("bob", "Bob");
    bank.deposit("ada", "5");
    let last = bank.get("/v1/status").json()["committed"].clone();
    let amount = r#"{"amount":"1"}"#;
    let transfer = r#"{"from":"ada","to":"bob","amount":"1"}"#;
    let changes = [
        ("POST", "/v1/accounts", Some(ADA)),
        ("PUT", "/v1/accounts/eve", Some(ADA)),
        ("POST", "/v1/accounts/ada/deposits", Some(amount)),
        ("POST", "/v1/accounts/ada/withdrawals", Some(amount)),
        ("POST", "/v1/accounts/ada/close", None),
        ("POST", "/v1/transfers", Some(transfer)),
    ];
    for (method, path, body) in changes {
        for foreign in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
        ] {
            for kind in ["application/json", "text/plain"] {
                let headers = [foreign, ("content-type", kind)];
                let answer = ask(bank.address, method, path, &headers, body);
                assert_eq!(
                    (answer.status, &*answer.problem()),
                    (403, "foreign-origin"),
                    "{path}"
                );
            }
        }
        let asked = [
            ("origin", "http://evil.example"),
            ("access-control-request-method", method),
        ];
        let asked = ask(bank.address, "OPTIONS", path, &asked, None);
        let allows = asked
            .headers
            .iter()
            .any(|(name, _)| name.starts_with("access-control"));
        assert!(!allows, "{asked:?}");
        if body.is_some() {
            for kind in [
                "text/plain",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=x",
                "",
            ] {
                let answer = ask(bank.address, method, path, &[("content-type", kind)], body);
                assert_eq!(
                    (answer.status, &*answer.problem()),
                    (415, "not-json"),
                    "{path}"
                );
            }
        }
    }
    // A name that leads here without being this bank's: the page behind it is somebody else's.
    for (method, path, body) in changes {
        let request = written(method, path, &[("origin", "http://evil.example")], body);
        let request = request.replacen("host: localhost", "host: evil.example", 1);
        assert_eq!(
            raw(bank.address, request.as_bytes()).unwrap().status,
            421,
            "{path}"
        );
        let absolute = written(method, &format!("http://evil.example{path}"), &[], body);
        assert_eq!(
            raw(bank.address, absolute.as_bytes()).unwrap().status,
            421,
            "{path}"
        );
    }
    // Nor can it read: nothing says that it may.
    let read = ask(
        bank.address,
        "GET",
        "/v1/accounts",
        &[("origin", "http://evil.example")],
        None,
    );
    assert_eq!(
        read.header("cross-origin-resource-policy"),
        Some("same-origin")
    );
    assert!(
        read.headers
            .iter()
            .all(|(name, _)| !name.starts_with("access-control"))
    );
    assert_eq!(bank.get("/v1/status").json()["committed"], last);
}

#[test]
fn methods_and_upgrades_that_there_are_not_do_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    for method in [
        "DELETE",
        "PATCH",
        "TRACE",
        "get",
        "PROPFIND",
        &"M".repeat(1_000),
    ] {
        let answer = ask(bank.address, method, "/v1/accounts/ada", &[], None);
        assert_eq!(
            (answer.status, &*answer.problem()),
            (405, "method"),
            "{method}"
        );
    }
    let tunnel = raw(
        bank.address,
        b"CONNECT localhost:22 HTTP/1.1\r\nhost: localhost:22\r\n\r\n",
    );
    let tunnel = tunnel.unwrap();
    assert!(matches!(tunnel.status, 400 | 404 | 405), "{tunnel:?}");
    for upgrade in ["h2c", "websocket"] {
        let headers = [
            ("connection", "upgrade, http2-settings"),
            ("upgrade", upgrade),
            ("http2-settings", "AAMAAABkAAQAAP__"),
        ];
        assert_eq!(
            ask(bank.address, "GET", "/health/live", &headers, None).status,
            200
        );
    }
    // What waits for leave to send its body is given it.
    let mut polite = Connection::to(bank.address).unwrap();
    let head = format!(
        "{POST}expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        ADA.len()
    );
    polite.send(head.as_bytes()).unwrap();
    assert_eq!(polite.head().unwrap().0, 100);
    polite.send(ADA.as_bytes()).unwrap();
    assert_eq!(polite.answer(true).unwrap().status, 201);
    let old = raw(bank.address, b"GET /health/live HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((old.status, &*old.problem()), (400, "malformed"));
}

#[test]
fn who_dawdles_in_any_phase_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--request-seconds", "2", "--connections", "4"];
    let bank = Service::start_with(dir.path(), &args);
    let live = written("GET", "/health/live", &[], None);
    // Before anything is said, between two requests, in a head, in a body. There is room for four, and a
    // fifth waits: so each of these ends, or this does not.
    let body = format!("{POST}content-length: 16\r\n\r\n{{");
    let dawdle = |begins: &str| {
        let mut connection = Connection::to(bank.address).unwrap();
        connection.send(begins.as_bytes()).unwrap();
        connection
    };
    let mut between = dawdle(&live);
    assert_eq!(between.answer(true).unwrap().status, 200);
    let held = ["", "GET / HTTP/1.1\r\nhost: local", &body].map(dawdle);
    let fifth = dawdle(&live).answer(true).unwrap();
    assert_eq!(fifth.status, 200);
    for mut ended in held.into_iter().chain([between]) {
        let mut said = String::new();
        // A reset is an end, too.
        let _ = ended.0.read_to_string(&mut said);
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 408"),
            "{said}"
        );
    }
    assert_eq!(bank.get("/v1/status").json()["committed"], 0);
}

#[test]
fn a_byte_at_a_time_is_no_way_around_the_time_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start_with(dir.path(), &["--request-seconds", "2"]);
    let body = format!("{POST}content-length: 1000000\r\n\r\n");
    for begins in ["GET / HTTP/1.1\r\nx: ", &body] {
        let mut drip = Connection::to(bank.address).unwrap();
        drip.send(begins.as_bytes()).unwrap();
        drip.0
            .get_ref()
            .set_read_timeout(Some(std::time::Duration::from_millis(20)))
            .unwrap();
        // A byte whenever nothing has been said for a moment.
        let said = loop {
            let mut said = [0; 12];
            match drip.0.read(&mut said) {
                Ok(length) => break said[..length].to_vec(),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break vec![],
                Err(_) if drip.send(b"a").is_err() => break vec![],
                Err(_) => {}
            }
        };
        assert!(
            said.is_empty() || said == b"HTTP/1.1 408",
            "{:?}",
            String::from_utf8_lossy(&said)
        );
    }
    assert_eq!(bank.get("/v1/status").json()["committed"], 0);
}

#[test]
fn live_events_go_on_exactly_over_kills_while_others_write() {
    let dir = tempfile::tempdir().unwrap();
    let mut bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    let mut last = 0;
    for round in 1..=4 {
        for number in 0..10 {
            bank.deposit("ada", &format!("{round}.{number:02}"));
        }
        let id = last.to_string();
        let mut follower = Follower::of(bank.address, "/v1/events", &[("last-event-id", &id)]);
        assert_eq!(follower.next().unwrap().id, last);
        for _ in 0..8 {
            last += 1;
            assert_eq!(follower.next().unwrap().id, last);
        }
        // Whoever reads along is cut off in the middle, with all others.
        bank.kill();
        bank = Service::start(dir.path());
    }
    let id = last.to_string();
    let rest = [("last-event-id", &*id)];
    let mut follower = Follower::of(bank.address, "/v1/events?follow=false", &rest);
    let rest: Vec<_> = std::iter::from_fn(|| follower.next())
        .map(|event| event.id)
        .collect();
    assert_eq!(rest, (last..=41).collect::<Vec<_>>());
}
