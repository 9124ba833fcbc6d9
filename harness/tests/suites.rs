//! Suites as people run them: the example, a budget, a filter, cases that cannot run.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{lockstep, settings, transcript};

const QUICK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/suites/quick.toml");

fn shows(name: &str, text: &str) {
    let mut settings = settings();
    settings.add_filter(r"\[ *\d+\.\ds\]", "[time]");
    settings.add_filter(r"(ratio|hidden|logits) \d[0-9.e-]*", "$1 [ratio]");
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn words(folder: &Path, arguments: &[&str]) -> String {
    let text = transcript(&lockstep(arguments));
    text.replace(folder.to_str().unwrap(), "[folder]")
        .replace(concat!(env!("CARGO_MANIFEST_DIR"), "/.."), "[root]")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_example() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let arguments = ["suite", QUICK, "--out", out.to_str().unwrap()];
    shows("suite_quick", &words(folder.path(), &arguments));
    let suite = json(&out.join("suite.json"));
    assert_eq!((&suite["complete"], &suite["exit_code"]), (&Value::Bool(true), &Value::from(0)));
    let cases = suite["cases"].as_array().unwrap();
    assert_eq!(suite["cases_count"], cases.len());
    for case in cases {
        assert_eq!(case["verdict"], "agrees", "{case}");
        let verdict = json(&out.join(case["name"].as_str().unwrap()).join("verdict.json"));
        assert_eq!(verdict["exit_code"], 0);
        // Each run had its own planted bit, and saw it.
        assert_eq!(verdict["canary"]["seen"], true);
    }
}

#[test]
fn what_was_not_run_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let budget = ["suite", QUICK, "--filter", "lengths", "--budget-minutes", "0"];
    shows("suite_budget", &words(folder.path(), &budget));
    let quiet = ["suite", QUICK, "--filter", "one-token", "--quiet"];
    shows("suite_quiet", &words(folder.path(), &quiet));
}

#[test]
fn cases_that_cannot_run_do_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mixed.toml");
    fs::write(
        &file,
        "[defaults]\nmax_tokens = 2\ndevice = \"host\"\n\
         [[case]]\nname = \"no-model\"\nmodel = \"no-such-model\"\n\
         [[case]]\nname = \"no-card\"\ndevice = \"hip\"\n\
         [[case]]\nname = \"outside\"\ntokens = [99999]\n\
         [[case]]\nname = \"good\"\n",
    )
    .unwrap();
    shows("suite_mixed", &words(folder.path(), &["suite", file.to_str().unwrap()]));
    let output = lockstep(&["suite", file.to_str().unwrap(), "--filter", "o-m"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn errors_of_suites() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("suite.toml");
    let path = file.to_str().unwrap();
    let mut all = String::new();
    for text in [
        "[[case]]\nname = \"a\"\nubatsh = 4\n",
        "[[case]]\nname = \"a\"\nkv = \"f8\"\n",
        "[[case]]\nname = \"a\"\nname = \"b\"\n",
        "[[case]]\nname = \"a\"\nmax_tokens = 0\n",
        "",
    ] {
        fs::write(&file, text).unwrap();
        writeln!(all, "{}\n---------", words(folder.path(), &["suite", path])).unwrap();
    }
    writeln!(all, "{}\n---------", words(folder.path(), &["suite", "no/such.toml"])).unwrap();
    write!(all, "{}", words(folder.path(), &["suite", QUICK, "--filter", "nothing"])).unwrap();
    shows("errors_suites", &all);
}

#[cfg(unix)]
#[test]
fn an_interrupted_suite_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.toml");
    fs::write(
        &file,
        "[defaults]\nmax_tokens = 2000\npast_end = true\n[[case]]\nname = \"one\"\n\
         [[case]]\nname = \"two\"\n",
    )
    .unwrap();
    let out = folder.path().join("out");
    let mut suite = std::process::Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(["suite", file.to_str().unwrap(), "--out", out.to_str().unwrap()])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let lines =
        || fs::read_to_string(out.join("one/readout.jsonl")).map_or(0, |t| t.lines().count());
    while lines() < 20 {
        assert!(suite.try_wait().unwrap().is_none(), "the suite ended before it was interrupted");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let process = suite.id().to_string();
    let killed = std::process::Command::new("kill").args(["-INT", &process]).status().unwrap();
    assert!(killed.success());
    assert_eq!(suite.wait().unwrap().code(), Some(4));
    let result = json(&out.join("suite.json"));
    let verdicts = [&result["cases"][0]["verdict"], &result["cases"][1]["verdict"]];
    assert_eq!(verdicts, ["inconclusive", "not_run"]);
    assert!(!out.join("two").exists());
}
