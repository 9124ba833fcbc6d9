//! What the integration tests share: the binary, the models, sides of every kind.
#![allow(clippy::allow_attributes, dead_code, reason = "each test binary uses its own part")]

pub(crate) mod matrix;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};

use harness::model::Model;

/// What a person has to do to get the real model, in the words every skipped test prints.
const REMEDY: &str =
    "model smollm2-135m-instruct is not in the cache (lockstep fetch smollm2-135m-instruct)";

/// Runs the binary.
pub(crate) fn lockstep(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(arguments)
        .env("COLUMNS", "100")
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

/// The real model; without it the test says so and is counted as skipped, never as passed.
pub(crate) fn smollm2(test: &str) -> Option<Model> {
    if let Ok(model) = Model::resolve(Some("smollm2-135m-instruct")) {
        return Some(model);
    }
    let line = format!("SKIPPED {test}: {REMEDY}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("LOCKSTEP_SKIPPED_FILE").map(PathBuf::from) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }
    None
}
