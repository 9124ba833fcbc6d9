//! Suites as people run them: the example, a budget, a filter, cases that cannot run.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::place::Place;
use support::{command, lockstep, settings, transcript};

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

/// The lines of `suite.jsonl`; every one of them has to be whole.
fn lines(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("suite.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of(cases: &[Value], key: &str) -> Vec<Value> {
    cases.iter().map(|case| case[key].clone()).collect()
}

/// What an earlier suite found is not told as what this one found.
#[test]
fn the_page_has_no_run_of_a_case_that_was_not_run() {
    let place = Place::new("[[case]]\nname = \"one\"\nmax_tokens = 1\ndevice = \"host\"\n");
    let page = || fs::read_to_string(place.out().join("report.html")).unwrap();
    assert_eq!(place.run(&[]).status.code(), Some(0));
    assert!(page().contains("case-1-"), "the run's own anchors");
    place.run(&["--budget-minutes", "0"]);
    assert!(!page().contains("case-1-"), "the run of the suite before");
}

/// Yesterday's green tests are not today's missing device's.
#[test]
fn a_run_without_its_device_leaves_no_answer_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let run = |device| lockstep(&["run", "--max-tokens", "1", "--out", out, "--device", device]);
    assert_eq!(run("host").status.code(), Some(0));
    assert!(folder.path().join("junit.xml").exists());
    assert_eq!(run("hip").status.code(), Some(3));
    for name in ["junit.xml", "verdict.json", "report.html", "summary.md"] {
        assert!(!folder.path().join(name).exists(), "{name}");
    }
}

/// What `--resume` would take over, beside what it was not asked for.
#[test]
fn a_filter_forgets_no_result_and_an_automatic_device_is_run_again() {
    let text = "[defaults]\nmax_tokens = 1\ndevice = \"host\"\n[[case]]\nname = \"one\"\n\
                [[case]]\nname = \"two\"\n[[case]]\nname = \"any\"\ndevice = \"auto\"\n";
    let place = Place::new(text);
    place.run(&[]);
    place.run(&["--resume", "--filter", "one"]);
    place.run(&["--resume"]);
    assert_eq!(of(&place.cases(), "reused"), [true, true, false]);
    let recorded = place.folder.path().join("recorded");
    place.run(&["--resume", "--against", recorded.to_str().unwrap()]);
    assert_eq!(of(&place.cases(), "reused"), [false, false, false]);
}

/// What a night prints replays it on another day.
#[test]
fn the_day_s_tokens_are_drawn_again_by_their_number() {
    let place = Place::new(
        "[defaults]\nmax_tokens = 1\ndevice = \"host\"\nlengths = [5]\n\
         [[case]]\nname = \"day\"\nseed = \"date\"\n[[case]]\nname = \"own\"\nseed = 4\n",
    );
    let text = transcript(&place.run(&[]));
    let seed = json(&place.out().join("suite.json"))["seed"].as_u64().unwrap();
    assert!((20_250_101..100_000_000).contains(&seed), "{seed}");
    let said = format!("        Seed {seed}: --seed {seed} draws the same tokens\n");
    assert!(text.contains(&said), "{text}");
    assert_eq!(of(&place.cases(), "seed"), [seed, 4]);
    let (day, own) = (place.prompt("day-5"), place.prompt("own-5"));
    assert_ne!(day, own);
    assert_eq!(place.run(&["--seed", "20010203"]).status.code(), Some(0));
    assert_eq!(place.prompt("own-5"), own, "a number stays what the file says");
    assert_ne!(place.prompt("day-5"), day);
    place.run(&["--seed", &seed.to_string(), "--filter", "day-5"]);
    assert_eq!(place.prompt("day-5"), day);
    let bad = place.run(&["--seed", "tomorrow"]);
    assert_eq!(bad.status.code(), Some(2));
}

#[test]
fn what_is_finished_is_not_run_again() {
    let text = "[defaults]\nmax_tokens = 1\ndevice = \"host\"\n[[case]]\nname = \"one\"\n\
                [[case]]\nname = \"two\"\nmax_tokens = 2000\ncontext_tokens = 100\n\
                [[case]]\nname = \"three\"\n";
    let place = Place::new(text);
    // As after a kill: one case has its line, the next has half of one.
    place.run(&["--filter", "one"]);
    let mut left = fs::read_to_string(place.out().join("suite.jsonl")).unwrap();
    left.push_str("{\"event\":\"case\",\"name\":\"three\",\"verd");
    fs::write(place.out().join("suite.jsonl"), &left).unwrap();
    fs::remove_dir_all(place.out().join("one")).unwrap();
    let text_of_run = transcript(&place.run(&["--resume"]));
    assert_eq!(of(&place.cases(), "reused"), [true, false, false]);
    assert!(!place.out().join("one").exists(), "it was run again");
    assert!(text_of_run.contains("differing (taken over)\n"), "{text_of_run}");
    let names = of(&lines(&place.out()), "name");
    assert_eq!(names, [Value::Null, "one".into(), "two".into(), "three".into(), Value::Null]);
    // What had bad input is run again, what agreed twice is still there.
    place.run(&["--resume"]);
    assert_eq!(of(&place.cases(), "reused"), [true, false, true]);
    // Another device, and another file: all of it is run.
    place.run(&["--resume", "--device", "auto"]);
    assert_eq!(of(&place.cases(), "reused"), [false, false, false]);
    place.run(&[]);
    fs::write(place.folder.path().join("suite.toml"), format!("{text}# more\n")).unwrap();
    place.run(&["--resume"]);
    assert_eq!(of(&place.cases(), "reused"), [false, false, false]);
}

#[test]
fn a_case_over_its_limit_is_inconclusive_and_the_others_are_run() {
    let place = Place::new(
        "[defaults]\npast_end = true\ndevice = \"host\"\n[[case]]\nname = \"long\"\n\
         max_tokens = 2000\nlimit_minutes = 0.005\n[[case]]\nname = \"short\"\nmax_tokens = 1\n",
    );
    assert_eq!(place.run(&[]).status.code(), Some(4));
    let cases = place.cases();
    assert_eq!(of(&cases, "verdict"), ["inconclusive", "agrees"]);
    let message = cases[0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("over its limit of 0.005 minutes: interrupted after "),
        "{message}"
    );
}

#[test]
fn a_device_that_is_asked_for_replaces_every_case_s() {
    let text = "[[case]]\nname = \"a\"\ndevice = [\"host\", \"hip\"]\nmax_tokens = 1\n";
    let place = Place::new(text);
    assert_eq!(place.run(&[]).status.code(), Some(3));
    assert_eq!(of(&place.cases(), "verdict"), ["agrees", "device"]);
    assert_eq!(place.run(&["--device", "host"]).status.code(), Some(0));
    assert_eq!(of(&place.cases(), "name"), ["a-host", "a-hip"]);
    let device = json(&place.out().join("a-hip/verdict.json"));
    assert_eq!(device["identity"]["options"]["device"], "host");
}

/// A name is a case or a part of names; what a divergence prints runs that case and no other.
#[test]
fn a_filter_that_is_a_name_takes_that_case_alone() {
    let place = Place::new(
        "[defaults]\nmax_tokens = 1\ndevice = \"host\"\n[[case]]\nname = \"a\"\n\
         [[case]]\nname = \"ab\"\n[[case]]\nname = \"b\"\n",
    );
    for (filter, names) in [("a", vec!["a"]), ("ab", vec!["ab"]), ("", vec!["a", "ab", "b"])] {
        place.run(&["--filter", filter]);
        assert_eq!(of(&place.cases(), "name"), names);
    }
}

#[test]
fn json_lines_are_those_of_the_file() {
    let place = Place::new("[[case]]\nname = \"a\"\nmax_tokens = 1\nlengths = [2, 3]\n");
    let output = place.run(&["--format", "json"]);
    let file = fs::read_to_string(place.out().join("suite.jsonl")).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), file);
    let events = of(&lines(&place.out()), "event");
    assert_eq!(events, ["suite_started", "case", "case", "suite_finished"]);
    assert_eq!(lines(&place.out())[3]["canary_seen"], 2);
}

/// A model that nobody can fetch stands in the cache under its name; one that is not there is
/// inconclusive, and said with the way to get it.
#[test]
fn a_model_of_one_s_own_comes_from_the_cache() {
    let place = Place::new(
        "[defaults]\nmax_tokens = 1\ndevice = \"host\"\n[[case]]\nname = \"own\"\n\
         model = \"mine\"\n[[case]]\nname = \"none\"\nmodel = \"smollm2-135m-instruct\"\n",
    );
    fs::write(place.folder.path().join("mine.gguf"), fixtures::TINY).unwrap();
    let suite = place.folder.path().join("suite.toml");
    let output = command()
        .args(["suite", suite.to_str().unwrap(), "--out", place.out().to_str().unwrap()])
        .env("LOCKSTEP_CACHE", place.folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    let cases = place.cases();
    assert_eq!(of(&cases, "verdict"), ["agrees", "inconclusive"]);
    let words = "nothing was run: model smollm2-135m-instruct is not in the cache; \
                 lockstep fetch smollm2-135m-instruct";
    assert_eq!(cases[1]["message"], words);
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
        assert_eq!(case["figures"]["canary_seen"], true);
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
    for (filter, code) in [("o-m", 4), ("outside", 2), ("o-card", 3)] {
        let output = lockstep(&["suite", file.to_str().unwrap(), "--filter", filter]);
        assert_eq!(output.status.code(), Some(code));
    }
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
    let mut suite = command()
        .args(["suite", file.to_str().unwrap(), "--out", out.to_str().unwrap()])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let steps =
        || fs::read_to_string(out.join("one/readout.jsonl")).map_or(0, |t| t.lines().count());
    while steps() < 20 {
        assert!(suite.try_wait().unwrap().is_none(), "the suite ended before it was interrupted");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let process = suite.id().to_string();
    let killed = std::process::Command::new("kill").args(["-INT", &process]).status().unwrap();
    assert!(killed.success());
    assert_eq!(suite.wait().unwrap().code(), Some(4));
    let result = json(&out.join("suite.json"));
    assert_eq!(lines(&out).len(), 4, "the beginning, two cases, the end");
    let verdicts = [&result["cases"][0]["verdict"], &result["cases"][1]["verdict"]];
    assert_eq!(verdicts, ["inconclusive", "not_run"]);
    assert!(!out.join("two").exists());
}

/// Nothing is written when a process is killed: all of it has to be there before.
#[test]
fn a_killed_suite_has_its_reports_and_is_resumed() {
    let place = Place::new(
        "[defaults]\ndevice = \"host\"\npast_end = true\n[[case]]\nname = \"one\"\nmax_tokens = 1\n\
         [[case]]\nname = \"two\"\nmax_tokens = 2000\n",
    );
    let (suite, out) = (place.folder.path().join("suite.toml"), place.out());
    // What a command before left there, and no case of this suite writes over.
    fs::create_dir(&out).unwrap();
    for name in ["verdict.json", "report.html", "witness.json", "witness.bin"] {
        fs::write(out.join(name), "{}").unwrap();
    }
    let mut child = command()
        .args(["suite", suite.to_str().unwrap(), "--out", out.to_str().unwrap()])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let steps =
        || fs::read_to_string(out.join("two/readout.jsonl")).map_or(0, |t| t.lines().count());
    while steps() < 20 {
        assert!(child.try_wait().unwrap().is_none(), "the suite ended before it was killed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(of(&lines(&out), "event"), ["suite_started", "case"]);
    let left = json(&out.join("suite.json"));
    assert_eq!((&left["complete"], &left["exit_code"]), (&Value::Bool(false), &Value::from(4)));
    let junit = fs::read_to_string(out.join("junit.xml")).unwrap();
    let counts = "<testsuite name=\"suite.toml\" tests=\"2\" skipped=\"1\"";
    assert!(junit.contains(counts), "{junit}");
    assert!(junit.contains("not yet run"), "{junit}");
    for name in ["verdict.json", "report.html", "witness.json", "witness.bin"] {
        assert!(!out.join(name).exists(), "{name}");
    }
    let summary = fs::read_to_string(out.join("summary.md")).unwrap();
    assert!(summary.contains("\n1 of 2 cases run: 1 agree"), "{summary}");
    place.run(&["--resume", "--filter", "one"]);
    assert_eq!(of(&place.cases(), "reused"), [true]);
}
