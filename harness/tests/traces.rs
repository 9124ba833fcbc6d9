//! Recorded traces as people use them: recorded, compared, brought in from GRETA CORE's files.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use support::{lockstep, settings, transcript};

/// Records a trace into a folder.
fn record(folder: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let path = folder.join(name);
    let options = ["trace", "--out", path.to_str().unwrap()];
    // The snapshots are of the host, whatever card there is.
    let device: &[&str] = if arguments.contains(&"--side") { &[] } else { &["--device", "host"] };
    let output = lockstep(&[&options[..], device, arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
    path
}

/// What a command says, without what differs from machine to machine.
fn words(folder: &Path, arguments: &[&str]) -> String {
    transcript(&lockstep(arguments)).replace(folder.to_str().unwrap(), "[folder]")
}

fn redacted() -> insta::Settings {
    let mut settings = settings();
    for (pattern, words) in [
        (r"host x86_64 \w+", "host [cpu]"),
        (r"host [a-z0-9_]+ (baseline|neon)", "host [cpu]"),
        (r"kernels [0-9a-f]{16}, [^\n\x22;]+", "kernels [hash], [compiler]"),
        (r"exact (i\d+), \w+", "exact $1, [instructions]"),
        (r"(\x22threads\x22:)\d+", "$1[threads]"),
    ] {
        settings.add_filter(pattern, words);
    }
    settings
}

fn shows(name: &str, text: &str) {
    redacted().bind(|| insta::assert_snapshot!(name, text));
}

fn code(one: &Path, two: &Path) -> Option<i32> {
    lockstep(&["diff", one.to_str().unwrap(), two.to_str().unwrap()]).status.code()
}

#[test]
fn a_trace_of_each_side_and_what_they_say_of_each_other() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let engine = record(folder, "engine.jsonl", &["--max-tokens", "3", "--tap", "op"]);
    let [engine_path, reference_path] =
        ["engine.jsonl", "reference.jsonl"].map(|name| folder.join(name).display().to_string());
    let follow = ["--side", "reference", "--follow", &engine_path, "--tap", "op", "--rows"];
    let reference = record(folder, "reference.jsonl", &follow);
    shows("diff_agrees", &words(folder, &["diff", &reference_path, &engine_path]));
    // The order of the files is that of the letters only.
    assert_eq!(code(&engine, &reference), Some(0));
    assert_eq!(code(&engine, &engine), Some(4));
    let chunks = ["--follow", &engine_path, "--tap", "op", "--ubatch", "4"];
    let chunks = record(folder, "chunks.jsonl", &chunks);
    assert_eq!(code(&chunks, &reference), Some(0));

    let text = fs::read_to_string(&engine).unwrap();
    let head: String = text.lines().take(3).map(|line| format!("{line}\n")).collect();
    shows("trace_tiny", &head);
    // A killed run; the first line is as long as the names of this machine are.
    let first = text.find('\n').unwrap();
    fs::write(folder.join("cut.jsonl"), &text[..first + (text.len() - first) / 2]).unwrap();
    let cut = folder.join("cut.jsonl").display().to_string();
    shows("diff_early_end", &words(folder, &["diff", &reference_path, &cut]));
    // One bit of one row, and one row that is gone.
    let line = text.lines().find(|line| line.contains("\"layer\":1,\"tap\":\"wo\"")).unwrap();
    let at = line.find("\"hash\":\"").unwrap() + 8;
    let digit = if &line[at..=at] == "0" { "1" } else { "0" };
    let flipped = format!("{}{digit}{}", &line[..at], &line[at + 1..]);
    fs::write(folder.join("flipped.jsonl"), text.replace(line, &flipped)).unwrap();
    let flipped = folder.join("flipped.jsonl").display().to_string();
    shows("diff_diverges", &words(folder, &["diff", &reference_path, &flipped]));
    let rows = text.lines().filter(|line| line.contains("\"record\":\"row\"")).count();
    let gone = text
        .replace(&format!("{line}\n"), "")
        .replace(&format!("\"rows_count\":{rows}"), &format!("\"rows_count\":{}", rows - 1));
    fs::write(folder.join("gone.jsonl"), gone).unwrap();
    let gone = folder.join("gone.jsonl").display().to_string();
    shows("diff_missing", &words(folder, &["diff", &reference_path, &gone]));
}

#[test]
fn f64_is_looked_at_by_its_figures() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let engine = record(folder, "engine.jsonl", &["--max-tokens", "2"]);
    let path = engine.to_str().unwrap();
    let wide = ["--side", "reference", "--reference", "wide", "--follow", path];
    let wide = record(folder, "wide.jsonl", &wide);
    shows("diff_statistics", &words(folder, &["diff", wide.to_str().unwrap(), path]));
    let text = fs::read_to_string(&engine).unwrap();
    let line = text.lines().find(|line| line.contains("\"tap\":\"logits\"")).unwrap();
    let at = line.find("\"max\":").unwrap() + 6;
    let far = format!("{}9{}", &line[..at], &line[at..]);
    fs::write(folder.join("far.jsonl"), text.replace(line, &far)).unwrap();
    assert_eq!(code(&wide, &folder.join("far.jsonl")), Some(1));
    let output = lockstep(&["diff", wide.to_str().unwrap(), path, "--format", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["verdict"]["verdict"], "inconclusive");
    assert_eq!(value["evidence"], "statistics");
}

#[test]
fn errors_of_traces() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let engine = record(folder, "engine.jsonl", &["--max-tokens", "1"]);
    let path = engine.to_str().unwrap();
    let coarse = record(folder, "coarse.jsonl", &["--max-tokens", "1", "--activations", "i8"]);
    let text = fs::read_to_string(&engine).unwrap();
    let mut all = String::new();
    let mut say = |arguments: &[&str]| {
        write!(all, "{}\n---------\n", words(folder, arguments)).unwrap();
    };
    say(&["diff", "no/such/file", path]);
    say(&["diff", coarse.to_str().unwrap(), path]);
    let damaged = folder.join("damaged.jsonl");
    let damaged_path = damaged.to_str().unwrap();
    for (from, to) in [
        ("\"trace\"", "\"trice\""),
        ("\"trace\":1", "\"trace\":7"),
        ("\"position\":", "\"positions\":"),
        ("\"nan\":0", "\"nan\":0,\"nan\":0"),
        ("\"rows_count\":2", "\"rows_count\":1"),
    ] {
        fs::write(&damaged, text.replacen(from, to, 1)).unwrap();
        say(&["diff", damaged_path, path]);
    }
    let greta = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/greta/b3_57_normout.jsonl");
    fs::write(&damaged, fs::read(greta).unwrap()).unwrap();
    say(&["diff", damaged_path, path]);
    say(&["import", "greta", path]);
    say(&["import", "greta", greta, "--run", "4"]);
    fs::write(&damaged, "{\"phase\":\"decode\",\"step\":").unwrap();
    say(&["import", "greta", damaged_path]);
    say(&["trace", "--rows", "--side", "reference", "--reference", "wide"]);
    say(&["trace", "--follow", path, "--feed", "1"]);
    say(&["trace", "--feed", "1,9999"]);
    say(&["trace", "--reference", "wide"]);
    say(&["trace", "--side", "reference", "--device", "hip"]);
    shows("errors_traces", &all);
}

/// Every file as it was found, with the rules that it breaks.
#[test]
fn greta_s_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/greta");
    let mut names: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    names.sort();
    assert_eq!(names.len(), 14);
    let mut all = String::new();
    for path in &names {
        all.push_str(&words(&folder, &["import", "greta", path.to_str().unwrap()]));
        all.push('\n');
    }
    shows("import_greta", &all);
}

/// GRETA's trace of a prompt that this model ran too: its figures are of another model, and the
/// difference is named at the first of them.
#[test]
fn greta_against_lockstep() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let greta = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/greta");
    let rows = format!("{greta}/b3_10_p0_hi_prefill_decode.jsonl");
    let tops = format!("{greta}/b3_10_p0_hi_landscape.jsonl");
    let out = folder.join("greta.jsonl").display().to_string();
    let brought = ["import", "greta", &rows, &tops, "--layers", "2", "--tokens", "1,2,3"];
    let arguments = [&brought[..], &["--out", &out, "--build", "B3.10", "--device", "MI300X"]];
    let output = lockstep(&arguments.concat());
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
    let own = record(folder, "own.jsonl", &["--tokens", "1,2,3", "--max-tokens", "2"]);
    // Lengths are decided first: the vocabularies differ.
    shows("diff_greta", &words(folder, &["diff", &out, own.to_str().unwrap()]));
}
