//! The night's script with stand-ins for what it calls, and what its workflows may and may not do.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

#[path = "support/tree.rs"]
#[expect(dead_code, reason = "each test binary uses its own part")]
mod tree;
#[path = "nightly/workflows.rs"]
mod workflows;

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::command;
use tempfile::TempDir;
use tree::root;

/// Answers as `lockstep` does, with the exit codes that variables name, and says what it was asked.
const LOCKSTEP: &str = r#"#!/bin/sh
echo "$*" >> "$ASKED"
case "$1" in
    --version) echo "lockstep 0" ;;
    devices)
        [ -z "${DEVICES:-}" ] || { echo "$DEVICES"; exit 0; }
        echo '{"device":"hip:0","state":"missing","reason":"no `card`","remedy":"plug in"}' ;;
    find) echo "weights    w on the device is not the file's"; exit "${FIND:-1}" ;;
    faults)
        [ -n "${SLEEPER:-}" ] || exit "${FAULTS:-0}"
        echo $$ > "$SLEEPER.new"
        mv "$SLEEPER.new" "$SLEEPER"
        exec sleep 99 ;;
    suite)
        while [ "$1" != --out ]; do shift; done
        mkdir -p "$2"
        cases='{"name":"a","exit_code":0},{"name":"b","exit_code":'"${SECOND:-0}}"
        echo '{"cases":['"$cases]}" > "$2/suite.json"
        [ "${SECOND:-0}" = null ] && run=1 || run=2
        echo "Summary [ 1.0s] $run of 2 cases run"; exit "${SUITE:-0}" ;;
    bench) echo "engine  decode  10.0 tok/s: no history"; exit "${BENCH:-0}" ;;
    *) exit "${RUN:-0}" ;;
esac
"#;

/// Builds everything at once; its tests end as `TESTS` says.
const CARGO: &str = r#"#!/bin/sh
case "$*" in *--no-run*) exit 0 ;; esac
echo "test --device ${LOCKSTEP_DEVICE:-}" >> "$ASKED"
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
        self.command(arguments, variables).output().unwrap()
    }

    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let search = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(root().join("ci/nightly.sh"));
        command
            .args(arguments)
            .env("PATH", search)
            .env("LOCKSTEP_BINARY", self.path("lockstep"))
            .env("LOCKSTEP_CACHE", self.path("cache"))
            .env("TMPDIR", self.folder.path())
            .env("GITHUB_STEP_SUMMARY", self.path("job.md"))
            .env("ASKED", self.path("asked"))
            .envs(variables.iter().copied());
        command
    }

    /// A quick night on a device, into `out`.
    fn quick(&self, device: &str, variables: &[(&str, &str)]) -> Output {
        let out = self.path("out");
        self.run(&["--device", device, "--quick", "--out", out.to_str().unwrap()], variables)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The exit code and each step's, of a night in which these variables are set.
    fn codes(&self, variables: &[(&str, &str)]) -> (i32, BTreeMap<String, u64>) {
        let output = self.quick("host", variables);
        (output.status.code().unwrap(), self.steps(&output))
    }

    /// Each step's exit code.
    fn steps(&self, output: &Output) -> BTreeMap<String, u64> {
        let (out, steps) = (self.path("out"), self.text("out/nightly.jsonl"));
        let steps: Vec<Value> =
            steps.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
        assert_eq!(names, STEPS, "{}", String::from_utf8_lossy(&output.stderr));
        for name in STEPS {
            assert!(out.join(format!("{name}.log")).is_file(), "{name} left no log");
        }
        let code = |step: &Value| step["exit_code"].as_u64().unwrap();
        let name = |step: &Value| step["step"].as_str().unwrap().to_owned();
        steps.iter().map(|step| (name(step), code(step))).collect()
    }
}

#[test]
fn a_green_night_leaves_everything() {
    let night = Night::new();
    fs::create_dir_all(night.path("cache/m")).unwrap();
    fs::write(night.path("cache/own.gguf"), "weights").unwrap();
    fs::create_dir(night.path("cache/m/odd.gguf")).unwrap();
    let (code, steps) = night.codes(&[]);
    assert_eq!(code, 0, "{steps:?}");
    assert!(steps.values().all(|code| *code == 0), "{steps:?}");
    let summary = fs::read_to_string(night.path("out/summary.md")).unwrap();
    assert!(summary.starts_with("# Night: green\n"), "{summary}");
    for words in ["2 of 2 cases run", "tok/s: no history", "commit `", "```\nasked: host\n"] {
        assert!(summary.contains(words), "no `{words}` in {summary}");
    }
    assert_eq!(fs::read_to_string(night.path("job.md")).unwrap(), summary);
    assert!(night.path("out.tar.gz").is_file());
    let environment = fs::read(night.path("out/environment.json")).unwrap();
    let environment: Value = serde_json::from_slice(&environment).unwrap();
    assert_eq!(environment["lockstep"], "lockstep 0");
    assert_eq!(environment["models"]["own.gguf"]["bytes"], 7);
    assert_eq!(environment["models"]["m/odd.gguf"]["reason"], "IsADirectoryError");
    let (_, fenced) = summary.split_once("```\nasked: host\n").unwrap();
    assert!(fenced.contains("\n  hip:0: missing: no `card`\n"), "{summary}");
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
        // A suite that its budget cut short is green by itself.
        (&[("SECOND", "null")], 4),
        (&[("SECOND", "null"), ("SUITE", "1")], 1),
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
    let output = night.quick("host", &[("TMPDIR", "/nowhere")]);
    assert_eq!(output.status.code(), Some(2), "without a lock: {output:?}");
    for (quick, code) in [(&["--quick"][..], 0), (&[], 2)] {
        let out = night.path("out");
        let arguments = [&["--device", "host", "--out", out.to_str().unwrap()], quick].concat();
        let mut homeless = night.command(&arguments, &[]);
        let output = homeless.env_remove("HOME").env_remove("XDG_STATE_HOME").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

#[test]
fn the_device_reaches_every_command() {
    let night = Night::new();
    let output = night.quick("cuda:1", &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let asked = night.text("asked");
    for command in ["run", "find", "test", "faults", "suite", "bench"] {
        let mut lines = asked.lines().filter(|line| line.split(' ').next() == Some(command));
        assert!(lines.clone().count() > 0, "no {command} in {asked}");
        assert!(lines.all(|line| format!("{line} ").contains(" --device cuda:1 ")), "{asked}");
    }
    assert!(asked.contains(&format!("report {}", night.path("out/suite").display())), "{asked}");
    let summary = night.text("out/summary.md");
    assert!(summary.contains("\nasked: cuda:1\n  which `lockstep devices` does not"), "{summary}");
    night.quick("hip", &[]);
    let summary = night.text("out/summary.md");
    assert!(summary.contains("\nasked: hip\n* hip:0: missing"), "{summary}");
}

#[test]
fn what_the_environment_says_differs_from_nothing() {
    let night = Night::new();
    let (code, _) = night.codes(&[("DEVICES", "{\"device\":")]);
    assert_eq!(code, 0, "what is not JSON is recorded as such");
    assert!(night.text("out/environment.json").contains("no JSON lines of devices: "));
    fs::copy(night.path("cargo"), night.path("python3")).unwrap();
    let (code, steps) = night.codes(&[("TESTS", "1")]);
    assert_eq!(steps["environment"], 4, "{code}: {steps:?}");
}

#[test]
fn two_nights_share_no_card_and_no_folder() {
    let night = Night::new();
    let held = |name: &str| {
        let file = fs::File::create(night.path(name)).unwrap();
        file.lock().unwrap();
        file
    };
    let card = held("lockstep-nightly-hip-0.lock");
    for (device, code) in [("hip", 4), ("hip:0", 4), ("hip:1", 0)] {
        assert_eq!(night.quick(device, &[]).status.code(), Some(code), "{device}");
    }
    drop(card);
    let _folder = held("out.lock");
    assert_eq!(night.quick("host", &[]).status.code(), Some(4));
    assert!(night.path("out/summary.md").is_file(), "the other night's files are gone");
}

#[test]
fn a_signal_to_the_script_alone_ends_what_runs() {
    let night = Night::new();
    let (out, sleeper) = (night.path("out"), night.path("sleeper"));
    let arguments = ["--device", "host", "--quick", "--out", out.to_str().unwrap()];
    let mut command = night.command(&arguments, &[("SLEEPER", sleeper.to_str().unwrap())]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while !sleeper.exists() {
        assert!(begin.elapsed() < Duration::from_secs(60), "no step sleeps");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sleeping = night.text("sleeper").trim().to_owned();
    let kill = |signal: &str, process: &str| {
        let quiet = Stdio::null();
        Command::new("kill").args([signal, process]).stderr(quiet).status().unwrap().success()
    };
    assert!(kill("-0", &sleeping) && kill("-TERM", &child.id().to_string()));
    let begin = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3), "it ended after {:?}", begin.elapsed());
    assert!(!kill("-0", &sleeping), "the command runs on");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let steps = night.steps(&output);
    for (step, code) in [("operations", 0), ("faults", 4), ("suite", 4), ("report", 4)] {
        assert_eq!(steps[step], code, "{step}: {steps:?}");
    }
    assert!(!night.text("asked").contains("suite"), "{}", night.text("asked"));
    let log = night.text("out/performance.log");
    assert_eq!(log, "not run: the night was interrupted\n");
    assert!(night.text("out/summary.md").contains("| faults | interrupted |"));
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
