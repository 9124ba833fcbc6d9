//! JUnit, Markdown, annotations: what others are told of a run, in the figures of `verdict.json`.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus};
use serde_json::Value;
use support::{command, settings, transcript};

const SUITE: &str = "[defaults]\nmax_tokens = 2\ndevice = \"host\"\nthreads = 1\n\
                     [[case]]\nname = \"drawn\"\nlengths = [9]\nseed = 20261126\n\
                     [[case]]\nname = \"taps\"\ntokens = [5, 6, 7]\ntap = \"op\"\n\
                     [[case]]\nname = \"absent\"\nmodel = \"no-such-model\"\n\
                     [[case]]\nname = \"wrong\"\ntokens = [99999]\n";

/// Runs the binary as GitHub does, with a file for the job's summary.
fn on_github(folder: &Path, arguments: &[&str]) -> Output {
    command()
        .args(arguments)
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_STEP_SUMMARY", folder.join("step.md"))
        .output()
        .unwrap()
}

/// Compares with a snapshot, without times and folders.
fn shows(name: &str, folder: &Path, text: &str) {
    let mut settings = settings();
    for (pattern, words) in [
        (r"\[ *\d+\.\ds\]", "[time]"),
        (r"(\.hip:|\.hip,line=)\d+", "$1[line]"),
        (r#"time="[0-9.]+""#, r#"time="[time]""#),
        (r"(\| [^|]+ \| [^|]+ \|) \d+\.\d \|", "$1 [time] |"),
        (r"host x86_64 \w+", "host [cpu]"),
        (r"host [a-z0-9_]+ (baseline|neon)", "host [cpu]"),
        (r"kernels [0-9a-f]{16}, [^\n\x22]+", "kernels [hash], [compiler]"),
        (r"exact (i\d+), \w+", "exact $1, [instructions]"),
    ] {
        settings.add_filter(pattern, words);
    }
    let text = text.replace(folder.to_str().unwrap(), "[folder]");
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&read(path)).unwrap()
}

/// A suite with a planted fault, in its folder.
fn planted(arguments: &[&str]) -> (tempfile::TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    let (suite, out) = (folder.path().join("night.toml"), folder.path().join("out"));
    fs::write(&suite, SUITE).unwrap();
    let fixed = ["suite", suite.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let output = on_github(folder.path(), &[&fixed[..], arguments].concat());
    (folder, output)
}

#[test]
fn a_suite_with_a_fault_and_cases_that_cannot_run() {
    let (folder, output) = planted(&["--plant", "F09"]);
    let (path, out) = (folder.path(), folder.path().join("out"));
    shows("github_suite", path, &transcript(&output));
    shows("junit_suite", path, &read(&out.join("junit.xml")));
    shows("summary_suite", path, &read(&out.join("summary.md")));
    assert_eq!(read(&path.join("step.md")), read(&out.join("summary.md")));
    // A second command of the job is appended.
    let again = on_github(path, &["run", "--max-tokens", "1", "--quiet"]);
    assert_eq!(again.status.code(), Some(0));
    let both = read(&path.join("step.md"));
    assert_eq!(both.matches("## lockstep: ").count(), 2, "{both}");
}

#[test]
fn what_the_budget_left_out_is_skipped_and_noticed() {
    let (folder, output) = planted(&["--filter", "drawn", "--budget-minutes", "0"]);
    let out = folder.path().join("out");
    shows("github_budget", folder.path(), &transcript(&output));
    let report = Report::deserialize_from_str(&read(&out.join("junit.xml"))).unwrap();
    assert_eq!((report.tests, report.skipped, report.failures), (1, 1, 0));
}

#[test]
fn a_single_run_is_four_tests() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let options = ["--max-tokens", "2", "--threads", "1", "--device", "host"];
    let to = ["--out", out.to_str().unwrap()];
    let run = on_github(folder.path(), &[&["run"], &options[..], &to].concat());
    assert_eq!(run.status.code(), Some(0));
    assert!(!transcript(&run).contains("\n::"), "nothing to annotate");
    shows("junit_run", folder.path(), &read(&out.join("junit.xml")));
    let report = Report::deserialize_from_str(&read(&out.join("junit.xml"))).unwrap();
    let (verdict, test) = (json(&out.join("verdict.json")), &report.test_suites[0].test_cases[0]);
    for figure in ["steps_compared", "rows_compared", "elements_compared", "elements_differing"] {
        assert_eq!(property(test, figure), Some(verdict[figure].to_string()), "{figure}");
    }
    let fault = ["--plant", "F09", "--format", "json"];
    let find = on_github(folder.path(), &[&["find"], &options[..], &to, &fault].concat());
    assert_eq!(find.status.code(), Some(1));
    assert!(!transcript(&find).contains("\n::"), "JSON lines stay JSON lines");
    shows("junit_find", folder.path(), &read(&out.join("junit.xml")));
    shows("summary_find", folder.path(), &read(&out.join("summary.md")));
}

fn property(test: &TestCase, name: &str) -> Option<String> {
    let found = test.properties.iter().find(|property| property.name.as_str() == name);
    found.map(|property| property.value.as_str().to_owned())
}

/// Terminal, `suite.json`, JUnit and summary have what each `verdict.json` has, whatever it is.
#[test]
fn every_report_has_the_figures_of_the_verdict() {
    for fault in [&[][..], &["--plant", "F09"], &["--plant", "F14"]] {
        let (folder, output) = planted(fault);
        let out = folder.path().join("out");
        let (terminal, summary) = (transcript(&output), read(&out.join("summary.md")));
        let suite = json(&out.join("suite.json"));
        let report = Report::deserialize_from_str(&read(&out.join("junit.xml"))).unwrap();
        let tests = &report.test_suites[0].test_cases;
        let cases = suite["cases"].as_array().unwrap();
        assert_eq!((tests.len(), cases.len()), (4, 4));
        let mut compared = 0;
        for (case, test) in cases.iter().zip(tests) {
            let name = case["name"].as_str().unwrap();
            assert_eq!(name, test.name.as_str());
            let kind = match &test.status {
                TestCaseStatus::Success { .. } => "agrees",
                TestCaseStatus::NonSuccess { kind: NonSuccessKind::Failure, .. } => "diverges",
                TestCaseStatus::NonSuccess { .. } => "error",
                TestCaseStatus::Skipped { .. } => "not_run",
            };
            let path = out.join(name).join("verdict.json");
            if !path.exists() {
                assert_eq!((kind, &case["figures"]), ("error", &Value::Null), "{name}");
                continue;
            }
            let verdict = json(&path);
            assert_eq!(verdict["verdict"], kind, "{name}");
            assert_eq!(verdict["verdict"], case["verdict"]);
            assert_eq!(verdict["message"], case["message"]);
            let message = verdict["message"].as_str().unwrap();
            assert!(terminal.contains(&format!("{name}: {message}\n")), "{terminal}");
            for (figure, value) in case["figures"].as_object().unwrap() {
                let there = match figure.as_str() {
                    "chunkings_count" => &verdict["prefill_decode"]["chunkings_count"],
                    "chunkings_diverging" => &verdict["prefill_decode"]["diverging_count"],
                    "canary_seen" => &verdict["canary"]["seen"],
                    "copies_checked" => &verdict["copies"]["checked"],
                    "copies_total" => &verdict["copies"]["total"],
                    other => &verdict[other],
                };
                assert_eq!(value, there, "{name} {figure}");
                assert_eq!(property(test, figure), Some(there.to_string()), "{name} {figure}");
                compared += 1;
            }
            let count = |key: &str| verdict[key].to_string();
            let row = format!(
                "| {} of {} | {} | {} | {} | seen |",
                count("steps_agreeing"),
                count("steps_compared"),
                count("rows_compared"),
                count("elements_compared"),
                count("elements_differing"),
            );
            assert!(summary.contains(&row), "{row}\n{summary}");
        }
        assert_eq!(compared, 22, "two runs of eleven figures");
        let seen = "; canary seen in 2 of 2\n";
        assert!(terminal.contains(seen) && summary.contains(seen), "{terminal}");
    }
}
