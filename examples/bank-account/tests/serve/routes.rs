//! Each address: what it does, and what it says when it does not.

use serde_json::json;
use tidelog::{AppendBatch, ContentType, ExpectedVersion, NewEvent, StreamId, Tidelog};

use crate::http::ask;
use crate::service::Service;

#[test]
fn an_account_lives_from_open_to_close() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    let opened = bank.post("/v1/accounts", &[], r#"{"holder":"Ada"}"#);
    assert_eq!(opened.status, 201, "{opened:?}");
    assert_eq!(opened.header("etag"), Some("\"1\""));
    let at = opened.header("location").unwrap().to_owned();
    let id = opened.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(at, format!("/v1/accounts/{id}"));

    let done = bank.post(&format!("{at}/deposits"), &[], r#"{"amount":"12.34"}"#);
    assert_eq!((done.status, done.header("etag")), (201, Some("\"2\"")));
    let event = &done.json()["event"];
    assert_eq!(
        (&event["type"], &event["amount"]),
        (&json!("Deposited"), &json!("12.34"))
    );
    assert_eq!(
        bank.post(&format!("{at}/withdrawals"), &[], r#"{"amount":"2.3"}"#)
            .status,
        201
    );

    let account = bank.get(&at);
    assert_eq!(account.header("etag"), Some("\"3\""));
    let shown =
        json!({ "id": id, "holder": "Ada", "balance": "10.04", "closed": false, "sequence": 3 });
    assert_eq!(account.json(), shown);
    let known = ask(
        bank.address,
        "GET",
        &at,
        &[("if-none-match", "\"3\"")],
        None,
    );
    assert_eq!((known.status, known.body.len()), (304, 0));

    assert_eq!(
        ask(bank.address, "POST", &format!("{at}/close"), &[], None).status,
        201
    );
    let history = bank.get(&format!("{at}/events")).json();
    let told = history["events"].as_array().unwrap().iter();
    let told: Vec<_> = told
        .map(|event| {
            (
                event["type"].as_str().unwrap(),
                event["balance"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("Closed", "10.04"),
            ("Withdrawn", "10.04"),
            ("Deposited", "12.34"),
            ("Opened", "0.00")
        ]
    );
    let refused = bank.post(&format!("{at}/deposits"), &[], r#"{"amount":"1"}"#);
    assert_eq!((refused.status, &*refused.problem()), (409, "closed"));
}

#[test]
fn each_no_has_its_status_and_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    bank.deposit("ada", "5");
    let long = format!(r#"{{"holder":"{}"}}"#, "é".repeat(201));
    let cases = [
        (
            "PUT",
            "/v1/accounts/ada",
            r#"{"holder":"Ada"}"#,
            409,
            "open-already",
        ),
        (
            "PUT",
            "/v1/accounts/-a",
            r#"{"holder":"Ada"}"#,
            422,
            "invalid",
        ),
        (
            "PUT",
            "/v1/accounts/a%2Fb",
            r#"{"holder":"Ada"}"#,
            422,
            "invalid",
        ),
        ("POST", "/v1/accounts", r#"{"holder":""}"#, 422, "invalid"),
        (
            "POST",
            "/v1/accounts",
            r#"{"holder":"a\u0000"}"#,
            422,
            "invalid",
        ),
        ("POST", "/v1/accounts", &long, 422, "invalid"),
        ("POST", "/v1/accounts", r#"{"holder":7}"#, 422, "invalid"),
        (
            "POST",
            "/v1/accounts",
            r#"{"holder":"Ada","id":"x"}"#,
            422,
            "invalid",
        ),
        ("POST", "/v1/accounts", "{", 400, "malformed"),
        ("POST", "/v1/accounts", "", 400, "malformed"),
        (
            "POST",
            "/v1/accounts/ada/deposits",
            r#"{"amount":"0"}"#,
            422,
            "invalid",
        ),
        (
            "POST",
            "/v1/accounts/ada/deposits",
            r#"{"amount":"-1"}"#,
            422,
            "invalid",
        ),
        (
            "POST",
            "/v1/accounts/ada/deposits",
            r#"{"amount":1}"#,
            422,
            "invalid",
        ),
        (
            "POST",
            "/v1/accounts/ada/deposits",
            r#"{"amount":"1e3"}"#,
            422,
            "invalid",
        ),
        (
            "POST",
            "/v1/accounts/ada/deposits",
            r#"{"amount":"184467440737095516.15"}"#,
            409,
            "too-much",
        ),
        (
            "POST",
            "/v1/accounts/ada/withdrawals",
            r#"{"amount":"5.01"}"#,
            409,
            "overdraft",
        ),
        (
            "POST",
            "/v1/accounts/eve/deposits",
            r#"{"amount":"1"}"#,
            404,
            "no-account",
        ),
        (
            "POST",
            "/v1/transfers",
            r#"{"from":"ada","to":"ada","amount":"1"}"#,
            422,
            "invalid",
        ),
        (
            "POST",
            "/v1/transfers",
            r#"{"from":"ada","to":"","amount":"1"}"#,
            422,
            "invalid",
        ),
        (
            "POST",
            "/v1/transfers",
            r#"{"from":"ada","to":"bob","amount":"1","within_seconds":0}"#,
            422,
            "invalid",
        ),
    ];
    for (method, path, body, status, code) in cases {
        let answer = ask(bank.address, method, path, &[], Some(body));
        assert_eq!(
            (answer.status, &*answer.problem()),
            (status, code),
            "{method} {path} {body}"
        );
    }
    for (path, status, code) in [
        ("/v1/accounts/eve", 404, "no-account"),
        ("/v1/accounts/a%00b", 404, "no-account"),
        ("/v1/accounts/%ff", 400, "malformed"),
        ("/v1/accounts/eve/events", 404, "no-account"),
        ("/v1/accounts/ada/events?before=x", 400, "malformed"),
        ("/v1/accounts/ada/events?limit=1001", 400, "malformed"),
        ("/v1/accounts?limit=0", 400, "malformed"),
        ("/v1/accounts?limit=1&limit=2", 400, "malformed"),
        ("/v1/accounts?unknown=1", 400, "malformed"),
        ("/v1/accounts?at_least=99", 410, "unknown-position"),
        ("/v1/transfers/eve", 404, "no-transfer"),
        ("/v1/events?after=99", 410, "unknown-position"),
        ("/nothing", 404, "not-found"),
        ("/problems/nothing", 404, "not-found"),
    ] {
        let answer = bank.get(path);
        assert_eq!(
            (answer.status, &*answer.problem()),
            (status, code),
            "{path}"
        );
    }
    let answer = ask(bank.address, "DELETE", "/v1/accounts/ada", &[], None);
    assert_eq!((answer.status, &*answer.problem()), (405, "method"));
    assert!(answer.header("allow").unwrap().contains("PUT"));
    let answer = bank.post(
        "/v1/accounts",
        &[("content-type", "text/plain")],
        r#"{"holder":"Ada"}"#,
    );
    assert_eq!((answer.status, &*answer.problem()), (415, "not-json"));
    assert_eq!(bank.balance("ada"), "5.00");
    assert_eq!(bank.get("/problems/overdraft").status, 200);
}

#[test]
fn what_was_decided_on_another_sequence_is_not_done() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    let deposit = |tag: &str| {
        bank.post(
            "/v1/accounts/ada/deposits",
            &[("if-match", tag)],
            r#"{"amount":"1"}"#,
        )
    };
    assert_eq!(deposit("\"1\"").header("etag"), Some("\"2\""));
    let late = deposit("\"1\"");
    assert_eq!((late.status, &*late.problem()), (412, "changed"));
    assert_eq!(late.json()["sequence"], 2);
    assert_eq!(deposit("*").status, 201);
    assert_eq!(deposit("\"9\", \"3\"").status, 201);
    assert_eq!(deposit("W/\"4\"").status, 412);
    assert_eq!(
        (deposit("4").status, &*deposit("4").problem()),
        (400, "malformed")
    );
    let close = ask(
        bank.address,
        "POST",
        "/v1/accounts/ada/close",
        &[("if-match", "\"3\"")],
        None,
    );
    assert_eq!(close.status, 412);
    assert_eq!(bank.balance("ada"), "3.00");
}

#[test]
fn accounts_are_found_page_by_page_and_by_words() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    for number in 1..=23 {
        bank.open(&format!("n{number:02}"), &format!("Åsa Number {number}"));
    }
    bank.open("zoe", "Zoë of the Numbers, number one");
    let last = bank.deposit("zoe", "7");
    let pages = |q: &str, limit: usize| {
        let (mut all, mut after) = (Vec::new(), String::new());
        for _ in 0..50 {
            let page = bank
                .get(&format!(
                    "/v1/accounts?at_least={last}&limit={limit}&q={q}{after}"
                ))
                .json();
            let rows = page["accounts"].as_array().unwrap();
            assert!(rows.len() <= limit);
            all.extend(
                rows.iter()
                    .map(|row| row["id"].as_str().unwrap().to_owned()),
            );
            match page["next"].as_str() {
                Some(next) => after = format!("&after={}", next.replace(' ', "%20")),
                None => return all,
            }
        }
        panic!("{q}: no end after {all:?}");
    };
    let numbered: Vec<_> = (1..=23).map(|number| format!("n{number:02}")).collect();
    let everybody: Vec<_> = numbered.iter().cloned().chain(["zoe".to_owned()]).collect();
    for limit in [1, 5, 23, 24, 200] {
        assert_eq!(pages("", limit), everybody, "{limit}");
        // Two of Zoe's words begin with it, and she is found once.
        assert_eq!(pages("NUMB", limit), everybody, "{limit}");
        assert_eq!(pages("%C3%A5sa%20num", limit), numbered, "{limit}");
        assert_eq!(pages("zo%C3%AB%20one", limit), ["zoe"], "{limit}");
        assert_eq!(pages("n2", limit), ["n20", "n21", "n22", "n23"], "{limit}");
        assert_eq!(
            pages("number%20zebra", limit),
            Vec::<String>::new(),
            "{limit}"
        );
    }
    let page = bank
        .get(&format!("/v1/accounts?q=zoe&at_least={last}"))
        .json();
    let row = &page["accounts"][0];
    assert_eq!(
        (&row["balance"], &row["deposits"]),
        (&json!("7.00"), &json!(1))
    );
}

#[test]
fn a_long_history_is_paged_with_its_balances() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    for _ in 0..9 {
        bank.deposit("ada", "1.50");
    }
    let withdrawn = bank.post("/v1/accounts/ada/withdrawals", &[], r#"{"amount":"0.50"}"#);
    assert_eq!(withdrawn.status, 201);
    for limit in [1, 3, 10, 11, 100] {
        let (mut told, mut before) = (Vec::new(), String::new());
        loop {
            let page = bank
                .get(&format!("/v1/accounts/ada/events?limit={limit}{before}"))
                .json();
            for event in page["events"].as_array().unwrap() {
                let balance = event["balance"].as_str().unwrap().to_owned();
                told.push((event["sequence"].as_u64().unwrap(), balance));
            }
            match page["next"].as_str() {
                Some(next) => before = format!("&before={next}"),
                None => break,
            }
        }
        let mut wanted: Vec<_> = (0..=9_u64)
            .map(|n| (n + 1, format!("{}.{:02}", n * 150 / 100, n * 150 % 100)))
            .collect();
        wanted.push((11, "13.00".into()));
        wanted.reverse();
        assert_eq!(told, wanted, "{limit}");
    }
}

#[test]
fn a_transfer_is_asked_for_and_looked_at_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    bank.open("bob", "Bob");
    bank.deposit("ada", "10");
    let ended = |body: &str| {
        let asked = bank.post("/v1/transfers", &[], body);
        assert_eq!(asked.status, 202, "{asked:?}");
        let at = asked.header("location").unwrap().to_owned();
        bank.get(&format!("{at}?wait=true")).json()
    };
    let moved = ended(r#"{"from":"ada","to":"bob","amount":"4"}"#);
    assert_eq!(
        (&moved["phase"], &moved["ended"], &moved["reason"]),
        (&json!("completed"), &json!(true), &json!(null))
    );
    let refused = ended(r#"{"from":"ada","to":"bob","amount":"400"}"#);
    assert_eq!(refused["phase"], "refused");
    assert!(
        refused["reason"]
            .as_str()
            .unwrap()
            .contains("the account holds $6.00"),
        "{refused}"
    );
    let back = ended(r#"{"from":"ada","to":"eve","amount":"1"}"#);
    assert_eq!(back["phase"], "refunded");
    assert!(
        back["reason"]
            .as_str()
            .unwrap()
            .contains("there is no account eve"),
        "{back}"
    );
    assert_eq!(
        (bank.balance("ada"), bank.balance("bob")),
        ("6.00".into(), "4.00".into())
    );
}

#[test]
fn a_trace_stays_with_the_events_that_it_led_to() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let done = bank.post(
        "/v1/accounts/ada/deposits",
        &[("traceparent", trace)],
        r#"{"amount":"1"}"#,
    );
    assert_eq!(done.json()["event"]["traceparent"], trace);
    let bad = bank.post(
        "/v1/accounts/ada/deposits",
        &[("traceparent", "00-no")],
        r#"{"amount":"1"}"#,
    );
    assert_eq!(bad.status, 201);
    let history = bank.get("/v1/accounts/ada/events").json();
    let traces: Vec<_> = history["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["traceparent"].clone())
        .collect();
    assert_eq!(traces, [json!(null), json!(trace), json!(null)]);
}

#[test]
fn it_says_how_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    let last = bank.deposit("ada", "2.50");
    assert_eq!(bank.get("/health/live").json(), json!({ "status": "live" }));
    // Once the read models have it, they follow.
    assert_eq!(
        bank.get(&format!("/v1/accounts?at_least={last}")).status,
        200
    );
    bank.until("/health/ready", |ready| ready["status"] == "ready");
    let status = bank.until("/v1/status", |status| {
        status["transfers"]["state"] == "running"
    });
    assert_eq!(
        (
            &status["committed"],
            &status["durable"],
            &status["accounts"]
        ),
        (&json!(2), &json!(2), &json!(1))
    );
    assert_eq!(
        (&status["replication"], &status["parked"]),
        (&json!(null), &json!([]))
    );
    assert_eq!(bank.metric("bank_log_position"), 2);
    let text = String::from_utf8(bank.get("/metrics").body).unwrap();
    let counted = r#"bank_http_requests_total{method="POST",route="/v1/accounts/{id}/deposits",status="201"} 1"#;
    assert!(text.contains(counted), "{text}");
    // Whatever addresses users make up, they make no names of figures.
    for path in ["/a", "/b", "/v1/accounts/x/y/z"] {
        assert_eq!(bank.get(path).status, 404);
    }
    let text = String::from_utf8(bank.get("/metrics").body).unwrap();
    assert!(text.contains(r#"route="none",status="404"} 3"#), "{text}");
    // The months of the other read model come by themselves.
    let months = bank.until("/v1/months", |months| months["position"] == 2);
    assert_eq!(months["months"][0]["deposited"], "2.50", "{months}");
}

/// A program of another day recorded an event that this one cannot read.
#[test]
fn a_stream_that_nobody_can_read_is_named_by_each_that_set_it_aside_and_holds_up_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Tidelog::open(dir.path()).unwrap().blocking();
    let odd = NewEvent::new("TransferRequested", 1, ContentType::Json, r#"{"from":7}"#);
    let stream = StreamId::new("Transfer", "odd").unwrap();
    bank.append(AppendBatch::new(
        stream,
        ExpectedVersion::NoStream,
        vec![odd],
    ))
    .unwrap();
    bank.close().unwrap();
    let bank = Service::start(dir.path());
    let status = bank.until("/v1/status", |status| status["parked_count"] == 2);
    let parked = status["parked"].as_array().unwrap().iter();
    let parked = parked.map(|one| (one["by"].as_str().unwrap(), one["stream"].as_str().unwrap()));
    assert_eq!(
        parked.collect::<Vec<_>>(),
        [
            ("transfers", "Transfer/odd"),
            ("timers.transfers", "Transfer/odd")
        ]
    );
    bank.until("/health/ready", |ready| ready["status"] == "ready");
    let shown = bank.get("/v1/transfers/odd");
    assert_eq!((shown.status, &*shown.problem()), (500, "internal"));
    bank.open("ada", "Ada");
    bank.open("bob", "Bob");
    bank.deposit("ada", "2");
    let moved = bank.post(
        "/v1/transfers",
        &[],
        r#"{"from":"ada","to":"bob","amount":"2"}"#,
    );
    let moved = bank.get(&format!("{}?wait=true", moved.header("location").unwrap()));
    assert_eq!(moved.json()["phase"], "completed");
    // Who reads along is told of all that can be read.
    let all = ask(
        bank.address,
        "GET",
        "/v1/events?after=0&follow=false",
        &[],
        None,
    );
    let all = String::from_utf8(all.body).unwrap();
    assert!(
        all.contains("event: TransferCompleted") && !all.contains("\nid: 1\n"),
        "{all}"
    );
}

#[test]
fn the_page_and_every_answer_say_what_browsers_may_do() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    for path in [
        "/",
        "/assets/main.js",
        "/assets/style.css",
        "/v1/accounts",
        "/nothing",
    ] {
        let answer = bank.get(path);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
    }
    let page = bank.get("/");
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let text = String::from_utf8(page.body.clone()).unwrap();
    for inline in [
        "<style",
        "style=",
        " onclick",
        "javascript:",
        "http://",
        "https://",
    ] {
        assert!(!text.contains(inline), "{inline}");
    }
    // Each script is a file of its own.
    assert_eq!(
        text.matches("<script").count(),
        text.matches("src=\"/assets/").count()
    );
    let tag = page.header("etag").unwrap();
    assert_eq!(
        ask(bank.address, "GET", "/", &[("if-none-match", tag)], None).status,
        304
    );
    let main = String::from_utf8(bank.get("/assets/main.js").body).unwrap();
    for part in main
        .lines()
        .filter_map(|line| line.split("from \"./").nth(1))
    {
        let file = part.trim_end_matches("\";");
        assert_eq!(bank.get(&format!("/assets/{file}")).status, 200, "{file}");
    }
    for file in [
        "main.js",
        "account.js",
        "bank.js",
        "charts.js",
        "dom.js",
        "status.js",
    ] {
        let code = String::from_utf8(bank.get(&format!("/assets/{file}")).body).unwrap();
        for markup in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!code.contains(markup), "{file}: {markup}");
        }
    }
}
