//! What a person reads: help, errors with their way out, the step table, the files of a run.
//!
//! The embedded model's hashes and logits stand in the snapshots whole: the contract makes them the
//! same on every machine. Only names of machines and compilers are replaced.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{command, lockstep, settings, transcript};

/// Replaces what differs from machine to machine.
fn redacted() -> insta::Settings {
    let mut settings = settings();
    for (pattern, words) in [
        (r"host x86_64 \w+", "host [cpu]"),
        (r"host [a-z0-9_]+ (baseline|neon)", "host [cpu]"),
        (r"kernels [0-9a-f]{16}, [^\n\x22]+", "kernels [hash], [compiler]"),
        (r"exact (i\d+), \w+", "exact $1, [instructions]"),
        (r"0x[0-9a-f]{6,16}", "[address]"),
        (r"\d+\.\d+ s\b", "[time]"),
        (r"(seconds\x22: )[0-9.e-]+", "$1[time]"),
        (r"(\x22(?:threads|cpus)\x22: ?)\d+", "$1[threads]"),
    ] {
        settings.add_filter(pattern, words);
    }
    settings
}

/// Runs the binary and compares what it says with the snapshot of this name.
fn says(name: &str, arguments: &[&str]) {
    redacted().bind(|| insta::assert_snapshot!(name, transcript(&lockstep(arguments))));
}

/// Every command with a help text of its own.
const COMMANDS: [&str; 17] = [
    "run",
    "find",
    "replay",
    "report",
    "faults",
    "suite",
    "trace",
    "diff",
    "import",
    "serve",
    "fetch",
    "inspect",
    "fixture",
    "devices",
    "bench",
    "completions",
    "man",
];

#[test]
fn help() {
    says("help", &["--help"]);
    for command in COMMANDS {
        says(&format!("help_{command}"), &[command, "--help"]);
    }
    says("help_import_greta", &["import", "greta", "--help"]);
    says("help_first_steps", &[]);
}

#[test]
fn the_step_table() {
    says("run_tiny", &["run", "--max-tokens", "4", "--threads", "1"]);
    let verified = ["run", "--max-tokens", "2", "--threads", "1", "--verify-weights"];
    says("run_tiny_verified", &verified);
    says("run_tiny_quiet", &["run", "--max-tokens", "4", "--quiet"]);
    says("run_tiny_wide", &["run", "--max-tokens", "4", "--quiet", "--reference", "wide"]);
}

/// A whole report, from the first divergence to the line that replays it.
#[test]
fn what_a_search_finds() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let find = ["find", "--max-tokens", "4", "--threads", "1", "--out", out, "--plant"];
    let shown = |name: &str, output: &std::process::Output| {
        let words = transcript(output).replace(out, "[folder]");
        redacted().bind(|| insta::assert_snapshot!(name, words));
    };
    for (name, fault) in [
        ("find_off_by_one", "F09"),
        ("find_not_written", "F14"),
        ("find_refused", "F15"),
        // The last: a search removes what the one before it left there.
        ("find_weight_bit", "F39"),
    ] {
        shown(name, &lockstep(&[&find[..], &[fault]].concat()));
    }
    let witness = folder.path().join("witness.json");
    shown("replay_weight_bit", &lockstep(&["replay", witness.to_str().unwrap()]));
    says("find_tiny", &["find", "--max-tokens", "2", "--threads", "1"]);
}

#[test]
fn the_facts_of_a_file() {
    says("inspect_tiny", &["inspect", "tiny", "--tensors"]);
}

/// A run with `--out`: its files by their names.
fn files(max_tokens: &str) -> impl Fn(&str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let options = ["--max-tokens", max_tokens, "--quiet", "--threads", "1", "--out", out];
    let output = lockstep(&[&["run"], &options[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
    move |name| std::fs::read_to_string(folder.path().join(name)).unwrap()
}

/// The JSON values of a file; every one of them has to be valid.
fn values(text: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().unwrap()
}

#[test]
fn the_files_of_a_run() {
    let read = files("2");
    for name in ["readout", "prefill_decode", "landscape", "taps"] {
        let text = read(&format!("{name}.jsonl"));
        assert_eq!(values(&text).len(), text.lines().count());
        redacted().bind(|| insta::assert_snapshot!(format!("file_{name}"), text));
    }
    let verdict = &values(&read("verdict.json"))[0];
    assert_eq!(verdict["verdict"], "agrees");
    assert_eq!(verdict["exit_code"], 0);
    assert_eq!(verdict["elements_differing"], 0);
    assert_eq!(verdict["steps_compared"], 2);
}

#[test]
fn bad_options() {
    for (name, arguments) in [
        ("unknown_option", ["--bogus", "1"]),
        ("unknown_device", ["--device", "abacus"]),
        ("missing_device", ["--device", "hip"]),
        ("no_steps", ["--max-tokens", "0"]),
        ("too_many_steps", ["--max-tokens", "5000"]),
        ("small_context", ["--context-tokens", "4"]),
        ("large_context", ["--context-tokens", "4096"]),
        ("empty_prompt", ["--prompt", ""]),
        ("prompt_file", ["--prompt-file", "no/such/file"]),
        ("token_outside", ["--tokens", "1,2,600"]),
        ("unknown_model", ["--model", "no-such-model.gguf"]),
    ] {
        says(&format!("error_{name}"), &["run", arguments[0], arguments[1]]);
    }
    says("error_wide_i8", &["run", "--reference", "wide", "--activations", "i8"]);
    says("error_unknown_name", &["fetch", "no-such-model"]);
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().to_str().unwrap();
    says("error_by_hand", &["fetch", "llama3-8b-instruct-q4_k_m", "--cache", cache]);
}

#[test]
fn an_output_folder_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    let output = lockstep(&["run", "--out", file.to_str().unwrap()]);
    let words = transcript(&output).replace(folder.path().to_str().unwrap(), "[folder]");
    settings().bind(|| insta::assert_snapshot!("error_out", words));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}

/// Runs a file made of these bytes, and compares the error with the snapshot.
fn refuses(name: &str, folder: &Path, bytes: &[u8]) {
    let path = folder.join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    says(name, &["run", "--model", path.to_str().unwrap()]);
}

#[test]
fn damaged_models() {
    let folder = tempfile::tempdir().unwrap();
    let refuses = |name: &str, bytes: &[u8]| refuses(name, folder.path(), bytes);
    let replaced = |from: &[u8], to: &[u8]| {
        let mut bytes = fixtures::TINY.to_vec();
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    refuses("error_no_gguf", b"a letter to a friend");
    refuses("error_empty_file", b"");
    refuses("error_truncated", &fixtures::TINY[..fixtures::TINY.len() / 2]);
    refuses(
        "error_architecture",
        &replaced(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba"),
    );
    // The type of the first tensor, behind its name, its two dimensions and their count.
    let mut table = b"token_embd.weight\x02\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0".to_vec();
    let from = table.clone();
    table.extend_from_slice(&[200, 0, 0, 0]);
    refuses("error_tensor_type", &replaced(&from, &table));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_step_and_writes_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let mut run = command()
        .args(["run", "--max-tokens", "2000", "--past-end", "--quiet", "--out", out])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let readout = folder.path().join("readout.jsonl");
    let lines = || std::fs::read_to_string(&readout).map_or(0, |text| text.lines().count());
    while lines() < 20 {
        assert!(run.try_wait().unwrap().is_none(), "the run ended before it was interrupted");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let process = run.id().to_string();
    assert!(
        std::process::Command::new("kill").args(["-INT", &process]).status().unwrap().success()
    );
    assert_eq!(run.wait().unwrap().code(), Some(4));
    let verdict = values(&std::fs::read_to_string(folder.path().join("verdict.json")).unwrap());
    assert_eq!(verdict[0]["stopped"], "interrupted");
    let steps = verdict[0]["steps_compared"].as_u64().unwrap();
    assert_eq!(verdict[0]["steps_agreeing"], steps);
    assert_eq!(lines() as u64, 1 + 2 * steps);
}
