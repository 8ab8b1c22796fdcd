//! A request that is repeated is done once: after a lost answer, a kill, a restart.

use std::thread;

use serde_json::json;

use crate::http::ask;
use crate::service::Service;

#[test]
fn a_repeated_request_gets_the_first_answer_also_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut bank = Service::start(dir.path());
    let key = [("idempotency-key", "order 17")];
    let open = |bank: &Service| bank.post("/v1/accounts", &key, r#"{"holder":"Ada"}"#);
    let first = open(&bank);
    assert_eq!(
        (first.status, first.header("idempotency-replayed")),
        (201, None)
    );
    let at = first.header("location").unwrap().to_owned();
    let deposit = |bank: &Service| bank.post(&format!("{at}/deposits"), &key, r#"{"amount":"5"}"#);
    let deposited = deposit(&bank);
    assert_eq!(deposited.status, 201);
    bank.deposit(at.rsplit('/').next().unwrap(), "1");

    bank.kill();
    let bank = Service::start(dir.path());
    for (again, before) in [(open(&bank), &first), (deposit(&bank), &deposited)] {
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!((again.status, again.json()), (before.status, before.json()));
        assert_eq!(again.header("etag"), before.header("etag"));
        assert_eq!(again.header("location"), before.header("location"));
    }
    // Written otherwise, it says the same.
    let spaced = bank.post(&format!("{at}/deposits"), &key, r#"{ "amount" : "5.00" }"#);
    assert_eq!(spaced.header("idempotency-replayed"), Some("true"));
    assert_eq!(bank.get(&at).json()["balance"], "6.00");
}

#[test]
fn another_request_under_the_same_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    let key = [("idempotency-key", "k")];
    bank.open("ada", "Ada");
    assert_eq!(
        bank.post("/v1/accounts/ada/deposits", &key, r#"{"amount":"5"}"#)
            .status,
        201
    );
    for (path, body) in [
        ("/v1/accounts/ada/deposits", r#"{"amount":"6"}"#),
        ("/v1/accounts/ada/withdrawals", r#"{"amount":"5"}"#),
    ] {
        let other = bank.post(path, &key, body);
        assert_eq!(
            (other.status, &*other.problem()),
            (422, "key-reused"),
            "{path} {body}"
        );
    }
    let closed = ask(bank.address, "POST", "/v1/accounts/ada/close", &key, None);
    assert_eq!((closed.status, &*closed.problem()), (422, "key-reused"));
    assert_eq!(
        bank.post("/v1/accounts", &key, r#"{"holder":"Ada"}"#)
            .status,
        201
    );
    assert_eq!(
        bank.post("/v1/accounts", &key, r#"{"holder":"Bob"}"#)
            .problem(),
        "key-reused"
    );
    let transfer = r#"{"from":"ada","to":"bob","amount":"1"}"#;
    assert_eq!(bank.post("/v1/transfers", &key, transfer).status, 202);
    assert_eq!(
        bank.post("/v1/transfers", &key, transfer)
            .header("idempotency-replayed"),
        Some("true")
    );
    let other = r#"{"from":"ada","to":"bob","amount":"2"}"#;
    assert_eq!(
        bank.post("/v1/transfers", &key, other).problem(),
        "key-reused"
    );
    // A key is about one thing: at another account it is another request's.
    bank.open("bob", "Bob");
    assert_eq!(
        bank.post("/v1/accounts/bob/deposits", &key, r#"{"amount":"6"}"#)
            .status,
        201
    );
    let accounts = bank.get("/v1/status").json()["accounts"].clone();
    assert!(accounts.as_u64().unwrap() <= 3, "{accounts}");
}

#[test]
fn keys_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    let long = "k".repeat(256);
    for key in ["", &long, "é"] {
        let answer = bank.post(
            "/v1/accounts",
            &[("idempotency-key", key)],
            r#"{"holder":"Ada"}"#,
        );
        assert_eq!(
            (answer.status, &*answer.problem()),
            (400, "malformed"),
            "{key}"
        );
    }
    let two = [("idempotency-key", "a"), ("idempotency-key", "b")];
    assert_eq!(
        bank.post("/v1/accounts", &two, r#"{"holder":"Ada"}"#)
            .status,
        400
    );
    assert_eq!(bank.get("/v1/status").json()["committed"], 0);
}

#[test]
fn a_refusal_is_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    let key = [("idempotency-key", "k")];
    let withdraw = || bank.post("/v1/accounts/ada/withdrawals", &key, r#"{"amount":"5"}"#);
    assert_eq!(withdraw().problem(), "overdraft");
    bank.deposit("ada", "5");
    assert_eq!(withdraw().status, 201);
    assert_eq!(withdraw().header("idempotency-replayed"), Some("true"));
    assert_eq!(bank.balance("ada"), "0.00");
}

#[test]
fn a_condition_that_held_the_first_time_is_not_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    let headers = [("idempotency-key", "k"), ("if-match", "\"1\"")];
    let deposit = |amount: &str| {
        bank.post(
            "/v1/accounts/ada/deposits",
            &headers,
            &json!({ "amount": amount }).to_string(),
        )
    };
    assert_eq!(deposit("1").status, 201);
    let again = deposit("1");
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (201, Some("true"))
    );
    assert_eq!(deposit("2").problem(), "key-reused");
    assert_eq!(bank.balance("ada"), "1.00");
}

/// Sixteen at once under one key: half of them with a condition, one in four with another amount.
#[test]
fn of_many_at_once_under_one_key_one_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let bank = &Service::start(dir.path());
    bank.open("ada", "Ada");
    for round in 0..10 {
        let key = &format!("round {round}");
        let at = bank.account("ada")["sequence"].as_u64().unwrap();
        let tag = &format!("\"{at}\"");
        let answers: Vec<_> = thread::scope(|scope| {
            let asked: Vec<_> = (0..16)
                .map(|number| {
                    scope.spawn(move || {
                        let mut headers = vec![("idempotency-key", key.as_str())];
                        if number % 2 == 0 {
                            headers.push(("if-match", tag));
                        }
                        let amount = if number % 4 == 3 { "2" } else { "1" };
                        let body = json!({ "amount": amount }).to_string();
                        bank.post("/v1/accounts/ada/deposits", &headers, &body)
                    })
                })
                .collect();
            asked
                .into_iter()
                .map(|asked| asked.join().unwrap())
                .collect()
        });
        let (done, others): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status == 201);
        assert!(matches!(done.len(), 4 | 12), "{answers:?}");
        let first = done
            .iter()
            .filter(|answer| answer.header("idempotency-replayed").is_none());
        assert_eq!(first.count(), 1);
        assert!(done.iter().all(|answer| answer.json() == done[0].json()));
        assert!(
            others.iter().all(|answer| answer.problem() == "key-reused"),
            "{others:?}"
        );
        assert_eq!(bank.account("ada")["sequence"].as_u64(), Some(at + 1));
    }
}
