//! The night's script with stand-ins for what it calls, and what its workflows may and may not do.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

#[path = "support/tree.rs"]
#[expect(dead_code, reason = "each test binary uses its own part")]
mod tree;

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tree::{files, read, root};

/// Answers as `lockstep` does, with the exit codes that variables name.
const LOCKSTEP: &str = r#"#!/bin/sh
case "$*" in *--help) echo "Usage: --device"; exit 0 ;; esac
case "$1" in
    --version) echo "lockstep 0" ;;
    devices) echo '{"device":"hip:0","state":"missing","reason":"no card","remedy":"plug in"}' ;;
    find) echo "weights    w on the device is not the file's"; exit "${FIND:-1}" ;;
    faults) exit "${FAULTS:-0}" ;;
    suite) echo "Summary [ 1.0s] 2 of 2 cases run"; exit "${SUITE:-0}" ;;
    bench) echo "engine  decode  10.0 tok/s: no history"; exit "${BENCH:-0}" ;;
    *) exit "${RUN:-0}" ;;
esac
"#;

/// Builds everything at once; its tests end as `TESTS` says.
const CARGO: &str = r#"#!/bin/sh
case "$*" in *--no-run*) exit 0 ;; esac
exit "${TESTS:-0}"
"#;

const STEPS: [&str; 9] = [
    "build",
    "environment",
    "models",
    "canary",
    "operations",
    "faults",
    "suite",
    "performance",
    "report",
];

/// A folder with the stand-ins.
struct Night {
    folder: TempDir,
}

impl Night {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("lockstep", LOCKSTEP), ("cargo", CARGO)] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let search = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        Command::new(root().join("ci/nightly.sh"))
            .args(arguments)
            .env("PATH", search)
            .env("LOCKSTEP_BINARY", self.path("lockstep"))
            .env("LOCKSTEP_CACHE", self.path("cache"))
            .env("TMPDIR", self.folder.path())
            .env("GITHUB_STEP_SUMMARY", self.path("job.md"))
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }

    /// The exit code and each step's, of a night in which these variables are set.
    fn codes(&self, variables: &[(&str, &str)]) -> (i32, BTreeMap<String, u64>) {
        let out = self.path("out");
        let output =
            self.run(&["--device", "host", "--quick", "--out", out.to_str().unwrap()], variables);
        let steps = fs::read_to_string(out.join("nightly.jsonl")).unwrap();
        let steps: Vec<Value> =
            steps.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
        assert_eq!(names, STEPS, "{}", String::from_utf8_lossy(&output.stderr));
        for name in STEPS {
            assert!(out.join(format!("{name}.log")).is_file(), "{name} left no log");
        }
        let code = |step: &Value| step["exit_code"].as_u64().unwrap();
        let name = |step: &Value| step["step"].as_str().unwrap().to_owned();
        let codes = steps.iter().map(|step| (name(step), code(step))).collect();
        (output.status.code().unwrap(), codes)
    }
}

#[test]
fn a_green_night_leaves_everything() {
    let night = Night::new();
    let (code, steps) = night.codes(&[]);
    assert_eq!(code, 0, "{steps:?}");
    assert!(steps.values().all(|code| *code == 0), "{steps:?}");
    let summary = fs::read_to_string(night.path("out/summary.md")).unwrap();
    assert!(summary.starts_with("# Night: green\n"), "{summary}");
    for words in ["2 of 2 cases run", "tok/s: no history", "`hip:0`: missing: no card", "commit `"]
    {
        assert!(summary.contains(words), "no `{words}` in {summary}");
    }
    assert_eq!(fs::read_to_string(night.path("job.md")).unwrap(), summary);
    assert!(night.path("out.tar.gz").is_file());
    let environment = fs::read(night.path("out/environment.json")).unwrap();
    let environment: Value = serde_json::from_slice(&environment).unwrap();
    assert_eq!(environment["lockstep"], "lockstep 0");
    for key in ["commit", "dirty", "system", "processor", "devices", "cards", "amd", "nvidia"] {
        assert!(environment.get(key).is_some(), "no {key}");
    }
}

#[test]
fn the_worst_step_decides_and_later_steps_run() {
    let night = Night::new();
    for (variables, expected) in [
        (&[("FAULTS", "3"), ("SUITE", "2")][..], 3),
        (&[("FAULTS", "3"), ("SUITE", "4")], 4),
        (&[("FAULTS", "1"), ("SUITE", "4")], 1),
        (&[("SUITE", "2")], 2),
        (&[("BENCH", "1")], 1),
        // A test that fails differs; whatever ends otherwise leaves a doubt.
        (&[("TESTS", "101")], 1),
        (&[("SUITE", "101")], 4),
        (&[("BENCH", "139")], 4),
    ] {
        let (code, steps) = night.codes(variables);
        assert_eq!(code, expected, "{variables:?}: {steps:?}");
        let summary = fs::read_to_string(night.path("out/summary.md")).unwrap();
        assert!(!summary.starts_with("# Night: green"), "{variables:?}: {summary}");
    }
}

#[test]
fn a_night_that_cannot_turn_red_is_inconclusive() {
    let night = Night::new();
    for find in ["0", "2", "4"] {
        let (code, steps) = night.codes(&[("FIND", find)]);
        assert_eq!((code, steps["canary"]), (4, 4), "the planted bit was answered with {find}");
    }
    let log = fs::read_to_string(night.path("out/canary.log")).unwrap();
    assert!(log.contains("this night could not have turned red"), "{log}");
}

#[test]
fn a_night_refuses_what_it_does_not_understand() {
    let night = Night::new();
    let kept = night.path("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("thesis.txt"), "years").unwrap();
    for arguments in [
        &[][..],
        &["--device", "tpu"],
        &["--device", "host", "--models", "none"],
        &["--device", "host", "--minutes", "0"],
        &["--device", "host", "--out"],
        &["--device", "host", "--fast"],
        &["--device", "host", "--out", kept.to_str().unwrap()],
    ] {
        let output = night.run(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage: "), "{arguments:?}");
    }
    assert_eq!(fs::read_to_string(kept.join("thesis.txt")).unwrap(), "years");
}

/// The workflows by name.
fn workflows() -> Vec<(String, String)> {
    let names = files().into_iter().filter(|name| name.starts_with(".github/workflows/"));
    let found: Vec<(String, String)> = names.map(|name| (name.clone(), read(&name))).collect();
    assert!(found.len() >= 2, "{found:?}");
    found
}

/// The jobs of a workflow, each with the lines below its name.
fn jobs(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut now = "";
    for line in text.lines().skip_while(|line| *line != "jobs:").skip(1) {
        match line.strip_prefix("  ").and_then(|rest| rest.strip_suffix(':')) {
            Some(name) if !name.starts_with([' ', '#']) => now = name,
            _ => found.entry(now).or_default().push(line),
        }
    }
    assert!(!found.is_empty() && !found.contains_key(""), "{found:?}");
    found
}

#[test]
fn actions_are_pinned_and_every_step_ends() {
    for (name, text) in workflows() {
        for line in text.lines().filter(|line| line.contains("uses:")) {
            let (_, pin) = line.split_once('@').unwrap();
            let (commit, version) = pin.split_once(" # v").unwrap_or((pin, ""));
            let digits = commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(digits && commit.len() == 40, "{name}: {line}: no whole commit");
            assert!(!version.is_empty(), "{name}: {line}: say which version that is");
        }
        for (job, lines) in jobs(&text) {
            let limit = |line: &&&str| line.starts_with("    timeout-minutes: ");
            assert_eq!(lines.iter().filter(limit).count(), 1, "{name}: {job} never ends");
            let steps = lines.iter().filter(|line| line.starts_with("      - ")).count();
            let ends = lines.iter().filter(|line| line.contains("timeout-minutes: ")).count() - 1;
            // Checking out is the only step that ends by the job's limit alone.
            assert!(ends + 1 >= steps, "{name}: {job}: {ends} of {steps} steps have a limit");
        }
    }
}

#[test]
fn workflows_may_do_little_and_forks_nothing() {
    let mut writes = 0;
    for (name, text) in workflows() {
        let head = text.split("\njobs:").next().unwrap();
        let least = head.contains("\npermissions: {}") || head.contains("\n  contents: read");
        assert!(least && !head.contains("write"), "{name}: permissions of all jobs");
        assert!(!text.contains("pull_request_target"), "{name} runs a fork's code with our rights");
        for (job, lines) in jobs(&text) {
            let ours = lines.iter().any(|line| line.contains("self-hosted"));
            let may_write: Vec<&&str> =
                lines.iter().filter(|line| line.trim_end().ends_with(": write")).collect();
            writes += may_write.len();
            if ours {
                assert!(may_write.is_empty(), "{name}: {job} writes from our own machine");
                let guard = lines.iter().find(|line| line.starts_with("    if: ")).unwrap();
                assert!(guard.contains("github.event.repository.fork == false"), "{guard}");
                assert!(guard.contains("github.ref == 'refs/heads/main'"), "{guard}");
                assert!(!head.contains("pull_request"), "{name}: {job}: whose code would that be?");
                assert!(head.contains("cancel-in-progress: false"), "{name}: one night a card");
            }
            if !may_write.is_empty() {
                assert!(
                    !lines.iter().any(|line| line.contains("actions/checkout@")),
                    "{name}: {job}"
                );
            }
            // What somebody typed into an input or a title is no part of a script.
            let mut in_script = None;
            for line in lines {
                let indentation = line.len() - line.trim_start().len();
                in_script =
                    in_script.filter(|begin| line.trim().is_empty() || indentation > *begin);
                assert!(in_script.is_none() || !line.contains("${{"), "{name}: {job}: {line}");
                let begins = line.trim_start().trim_start_matches("- ").starts_with("run:");
                assert!(!begins || !line.contains("${{"), "{name}: {job}: {line}");
                if begins {
                    in_script = Some(indentation);
                }
            }
        }
    }
    assert_eq!(writes, 1, "issues, in one job");
}

/// What is measured is kept and judged, by the command itself.
#[test]
fn a_history_is_kept_line_by_line_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nights.jsonl");
    let bench = |path: &Path| {
        command()
            .args(["bench", "--parts", "engine", "--prefill", "4", "--decode", "4"])
            .args(["--threads", "1", "--runner", "here", "--night", "one", "--history"])
            .arg(path)
            .output()
            .unwrap()
    };
    let words = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let first = bench(&path);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert_eq!(words(&first).matches(": no history\n").count(), 2, "{first:?}");
    let text = fs::read_to_string(&path).unwrap();
    let line: Value = serde_json::from_str(text.trim_end()).unwrap();
    let planted = |factor: f64, runner: &str| {
        let mut line = line.clone();
        line["runner"] = runner.into();
        for key in ["prefill_tokens_per_second", "decode_tokens_per_second"] {
            line[key] = (line[key].as_f64().unwrap() * factor).into();
        }
        format!("{line}\n")
    };
    // A thousand times as fast before: a failure. On another machine: nothing to this one.
    let fast = planted(1000.0, "here").repeat(5);
    fs::write(&path, &fast).unwrap();
    let slower = bench(&path);
    assert_eq!(slower.status.code(), Some(1), "{slower:?}");
    assert_eq!(words(&slower).matches(" in 5 nights: slower, fail\n").count(), 2, "{slower:?}");
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 6, "tonight is kept too");
    let slow = planted(0.001, "here").repeat(3);
    fs::write(&path, planted(1000.0, "there").repeat(9) + &slow).unwrap();
    let faster = bench(&path);
    assert_eq!(faster.status.code(), Some(0), "{faster:?}");
    assert_eq!(words(&faster).matches(" in 3 nights: ok\n").count(), 2, "{faster:?}");
    // A line that was cut: told by its number, before anything is measured, and nothing is lost.
    let cut = format!("{slow}{}", &fast[..40]);
    fs::write(&path, &cut).unwrap();
    let refused = bench(&path);
    let error = String::from_utf8(refused.stderr.clone()).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(error.contains("nights.jsonl:4: no measurement: it is cut off"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), cut);
}
