//! Spans of a listener: what it listens to, and below that each event that it handles.

use std::process::Command;

use super::kit::{Group, headers, told};
use crate::heard::Heard;
use crate::topics;

/// Set for the process that listens: there is one listener to spans a process.
const ALONE: &str = "TIDELOG_TEST_SPANS";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn each_event_that_is_handled_has_a_span_below_that_of_its_listener() {
    if std::env::var_os(ALONE).is_none() {
        let Some(server) = crate::services::kafka() else {
            return;
        };
        let name =
            "listen::spans::each_event_that_is_handled_has_a_span_below_that_of_its_listener";
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(ALONE, "1")
            .env("TIDELOG_TEST_KAFKA", server)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        let complained = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}{complained}");
        return;
    }
    let heard_spans = Heard::default();
    tracing::subscriber::set_global_default(heard_spans.clone()).unwrap();
    let group = Group::new("spans", 1).unwrap();
    let mut all = headers("a", 1);
    let metadata = format!(r#"{{"traceparent":"{TRACEPARENT}"}}"#);
    all.push(("ce_metadata", metadata));
    all.push(("ce_traceparent", TRACEPARENT.to_owned()));
    let all: Vec<(&str, &str)> = all.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let message: topics::Written<'_> = (Some(b"a"), Some(b"payload"), &all[..]);
    topics::write(&group.address, &group.topic, [message]);
    group.write(&[("b", 1)]);
    let (listener, heard) = told();
    let running = group.start(listener);
    heard.next(2);
    running.stop().unwrap();
    assert!(heard.rest().is_empty());

    let text = heard_spans.text();
    let spans = |name: &str| {
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let listening = spans("span listen ");
    let [listening] = &listening[..] else {
        panic!("{listening:?}")
    };
    for part in [
        format!("group=\"{}\"", group.name),
        format!("topics=\"{}\"", group.topic),
    ] {
        assert!(listening.contains(&part), "{part}: {listening}");
    }
    let handled = spans("span handle ");
    let [a, b] = &handled[..] else {
        panic!("{handled:?}")
    };
    for (span, id, offset) in [(a, "a", 0), (b, "b", 1)] {
        let parts = [
            "span handle in listen ".to_owned(),
            format!("stream=Till/{id} sequence=1 event_type=\"Sold\" partition=0 offset={offset}"),
        ];
        for part in parts {
            assert!(span.contains(&part), "{part}: {span}");
        }
    }
    let traced = format!("traceparent=\"{TRACEPARENT}\"");
    assert!(a.contains(&traced), "{a}");
    assert!(!b.contains("traceparent"), "{b}");
}
