//! What the integration tests share: the binary, the models, sides of every kind.
#![allow(clippy::allow_attributes, dead_code, reason = "each test binary uses its own part")]

pub(crate) mod devices;
pub(crate) mod matrix;
pub(crate) mod place;

use std::process::{Command, Output};

use harness::model::Model;
use matrix::{Case, Sum, answer};

/// The binary, which knows nothing of the job that it is tested in: annotations and summaries have
/// tests of their own, and theirs are not the job's.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.env_remove("GITHUB_ACTIONS").env_remove("GITHUB_STEP_SUMMARY");
    command
}

/// Runs the binary.
pub(crate) fn lockstep(arguments: &[&str]) -> Output {
    command()
        .args(arguments)
        .env("COLUMNS", "100")
        // What is said of a missing GPU does not depend on this machine's.
        .env("LOCKSTEP_LIBAMDHIP64", "no/such/libamdhip64.so")
        .output()
        .unwrap()
}

/// What a run printed, with its exit code, as one text.
pub(crate) fn transcript(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    format!(
        "exit code {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// The snapshots of the whole workspace stand in one folder.
pub(crate) fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings
}

/// The same for the table of faults, without its times.
pub(crate) fn settings_without_times() -> insta::Settings {
    let mut settings = settings();
    settings.add_filter(r" *\d+\.\d+ s\b", " [time]");
    // The head of that column stands as far to the right as the longest of the times.
    settings.add_filter(r" {2,}seconds\b", "   seconds");
    settings
}

/// Holds every case to equal bits on every device, and all devices to the same hashes.
pub(crate) fn all_agree(model: &Model, cases: &[Case]) {
    let mut sum = Sum::default();
    let devices = devices::all();
    for (&case, &device) in cases.iter().flat_map(|case| devices.iter().map(move |d| (case, d))) {
        let case = Case { device, ..case };
        let line = sum.add(case, &answer(model, case, None));
        assert_eq!(sum.failed, 0, "{device}: {line}");
    }
    assert_eq!(sum.cases, cases.len() * devices.len());
    assert_eq!(sum.tally.elements_differing, 0);
    assert!(sum.tally.rows_compared > 0);
}
