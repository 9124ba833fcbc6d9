//! The fault matrix: what is planted is caught, placed and explained, and a clean run raises no
//! alarm. The table is a snapshot, without its times.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use serde_json::Value;
use support::{lockstep, settings, transcript};

#[test]
fn every_fault_is_caught_placed_and_explained() {
    let output = lockstep(&["faults", "--threads", "1"]);
    let mut settings = settings();
    settings.add_filter(r" *\d+\.\d+ s\b", " [time]");
    settings.bind(|| insta::assert_snapshot!("faults", transcript(&output)));
    assert_eq!(output.status.code(), Some(0), "a fault was not caught, placed or explained");
}

#[test]
fn a_line_for_programs_has_every_figure() {
    let output = lockstep(&["faults", "--only", "F09,F15", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
    let lines: Vec<Value> = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["id"], "F09");
    assert_eq!(lines[0]["caught"], true);
    assert!(lines[0]["weak"]["cosine"].as_f64().unwrap() < 1.0);
    assert_eq!(lines[1]["judgement"], "refused");
    assert_eq!(lines[1]["weak"], Value::Null);
}

#[test]
fn an_unknown_fault_is_named_with_those_that_there_are() {
    let output = lockstep(&["faults", "--only", "F99"]);
    let said = transcript(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("unknown fault `F99`: use one of F01, F02"), "{said}");
}
