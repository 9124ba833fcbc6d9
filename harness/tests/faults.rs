//! The fault matrix: what is planted is caught, placed and explained, and a clean run raises no
//! alarm. The table is a snapshot, without its times.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use engine::HostBuild;
use engine::device::Device;
use harness::faults::cases::{CASES, Fixture};
use harness::faults::subject::{Place, Subject};
use harness::faults::table::table;
use harness::faults::{Trial, due, trial};
use serde_json::Value;
use support::{lockstep, settings_without_times, transcript};

#[test]
fn every_fault_is_caught_placed_and_explained() {
    let output = lockstep(&["faults", "--threads", "1"]);
    settings_without_times().bind(|| insta::assert_snapshot!("faults", transcript(&output)));
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
fn on_a_given_model_a_fault_that_cannot_show_counts_as_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let only = ["faults", "--model", "tiny", "--only", "F01,F09,F34", "--threads", "1"];
    let output = lockstep(&[&only[..], &["--out", out.to_str().unwrap()]].concat());
    let said = transcript(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("2 of 2 caught, 2 placed, 2 explained"), "{said}");
    let reason = "F01 does not apply to tiny: a row of the token table is one block of Q4_K";
    assert!(said.contains(reason), "{said}");
    let written = std::fs::read_to_string(out.join("faults.json")).unwrap();
    let lines: Vec<Value> =
        written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&Value> = lines.iter().map(|line| &line["id"]).collect();
    assert_eq!(ids, ["F01", "F09", "F34"]);
    assert_eq!(lines[0]["skipped"], "a row of the token table is one block of Q4_K");
    assert_eq!(lines[1]["place"], "layer 0 attn_out, step 1");
}

/// Nothing planted is nothing shown, and no answer about the device that was named.
#[test]
fn where_no_fault_can_show_nothing_was_compared() {
    let only = ["faults", "--model", "tiny", "--only", "F01", "--threads", "1"];
    let output = lockstep(&only);
    let said = transcript(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("0 of 0 caught") && said.contains("F01 does not apply"), "{said}");
    // The tests' environment hides the library of this device.
    let output = lockstep(&[&only[..], &["--device", "hip"]].concat());
    let said = transcript(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("no/such/libamdhip64.so"), "{said}");
}

/// The faults of a GPU, on the host's build of a GPU's code.
#[test]
fn what_is_planted_into_tuned_kernels_is_found_as_well() {
    let build = HostBuild::Waves32;
    if !Device::usable_host_builds().contains(&build) {
        eprintln!("SKIPPED faults on waves: this CPU does not run that build");
        return;
    }
    // What weaker checks say was seen above, and a GPU's code is slow on the host.
    let place = Place { host_build: Some(build), weighs: false, ..Place::host(1) };
    let mut trials = Vec::new();
    for fixture in [Fixture::Tiny, Fixture::Floats] {
        let mut subject = Subject::fixture(fixture).unwrap();
        for case in CASES.iter().filter(|case| case.fixture == fixture) {
            trials.push(match due::on(case, &subject.facts, true) {
                Ok(case) => trial(&case, &mut subject, &place).unwrap(),
                Err(reason) => Trial::skipped(case, &subject.name, reason),
            });
        }
    }
    settings_without_times().bind(|| insta::assert_snapshot!("faults_waves", table(&trials)));
    assert!(trials.iter().all(Trial::right), "a fault was not caught, placed or explained");
}

#[test]
fn an_unknown_fault_is_named_with_those_that_there_are() {
    let output = lockstep(&["faults", "--only", "F99"]);
    let said = transcript(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("unknown fault `F99`: use one of F01, F02"), "{said}");
}

/// Times of any length leave the same table: a snapshot is not to say how slow a machine is.
#[test]
fn no_snapshot_knows_how_wide_its_times_were() {
    let table_after = |seconds| {
        let trial = Trial::skipped(&CASES[0], "tiny", "a reason".to_owned());
        table(&[Trial { skipped: None, seconds, ..trial }])
    };
    for seconds in [1.0, 10.0, 100.0, 12_345.0] {
        let table = table_after(seconds);
        settings_without_times().bind(|| insta::assert_snapshot!("faults_times", table));
    }
}
