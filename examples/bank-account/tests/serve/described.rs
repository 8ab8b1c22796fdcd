//! The description of the service is true: it names what there is, and no more.

use std::collections::BTreeSet;

use bank_account::cli::{Action, Cli};
use clap::Parser as _;
use serde_json::Value;

use crate::http::ask;
use crate::service::Service;

const ROUTES: &str = include_str!("../../src/serve/routes.rs");

#[test]
fn it_names_each_address_and_method_that_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    let described = bank.get("/openapi.json").json();
    let mut named = BTreeSet::new();
    for (path, operations) in described["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            named.insert(format!("{method} {path}"));
        }
    }
    let mut there = BTreeSet::new();
    for route in ROUTES.split(".route(").skip(1) {
        let (path, rest) = route
            .trim_start()
            .trim_start_matches('"')
            .split_once('"')
            .unwrap();
        let methods = rest.split(".with_state").next().unwrap();
        for method in ["get", "post", "put", "delete"] {
            if methods.contains(&format!("{method}(")) {
                there.insert(format!("{method} {path}"));
            }
        }
    }
    assert!(there.len() > 15, "{there:?}");
    assert_eq!(named, there);
    // And each of them answers to its name.
    for one in &named {
        let (method, path) = one.split_once(' ').unwrap();
        let path = path.replace("{id}", "ada").replace("{code}", "closed");
        let path = path.replace("/v1/events", "/v1/events?follow=false");
        let answer = ask(bank.address, &method.to_uppercase(), &path, &[], None);
        assert_ne!(answer.status, 405, "{one}");
        let said = &described["paths"][one.split_once(' ').unwrap().1][method]["responses"];
        assert!(
            said[answer.status.to_string()].is_object(),
            "{one}: {}",
            answer.status
        );
    }
}

#[test]
fn it_listens_on_this_machine_alone_unless_told_otherwise() {
    let listen = |args: &[&str]| {
        let cli = Cli::try_parse_from([&["bank-account", "serve"], args].concat()).unwrap();
        match cli.action {
            Action::Serve(serving) => serving.listen,
            other => panic!("{other:?}"),
        }
    };
    assert!(listen(&[]).ip().is_loopback());
    assert!(!listen(&["--listen", "0.0.0.0:80"]).ip().is_loopback());
}

#[test]
fn whatever_it_refers_to_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    let described = bank.get("/openapi.json").json();
    let mut references = Vec::new();
    collect(&described, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(described.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "$ref" => into.push(text.clone()),
                    value => collect(value, into),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
        _ => {}
    }
}
