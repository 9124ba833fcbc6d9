//! An engine over JSON lines: it agrees, it diverges at the tap that is due, and every defect of
//! its process is one error.
//!
//! The engines of defects are scripts of bash: what a line is answered with is written down here.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::fmt::Write as _;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::identity::ModelIdentity;
use harness::model::Model;
use harness::sides::foreign::{ForeignSide, Options};
use harness::sides::{Side, Unwatched};
use serde_json::json;
use support::{command, lockstep, settings, transcript};

/// Our own engine as a process, through a script that knows where the binary is.
fn served(arguments: &str) -> String {
    format!("'{}' serve --device host {arguments}", env!("CARGO_BIN_EXE_lockstep"))
}

fn run(command: &str, arguments: &[&str], engine: &str) -> Output {
    let fixed = [command, "--tokens", "84,104,101", "--max-tokens", "3", "--threads", "1"];
    lockstep(&[&fixed[..], arguments, &["--engine-command", engine]].concat())
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn an_honest_engine_agrees_in_every_tap_and_every_chunking() {
    let output = run("run", &["--tap", "op", "--ubatch", "2"], &served(""));
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
    let words = stdout(&output);
    assert!(words.contains("over JSON lines on host"), "{words}");
    assert!(words.contains("0 differing"), "{words}");
    let narrow = ["--activations", "i8", "--kv", "f16"];
    let output = run("run", &narrow, &served(""));
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
}

/// The rotary pairs of F10: named at `q_rope` of the first layer, with the cause.
#[test]
fn a_broken_engine_is_found_where_it_is_broken() {
    let output = run("find", &[], &served("--plant F10"));
    assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
    let words = stdout(&output);
    for due in ["q_rope", "rotary convention", "witness    none: a foreign engine"] {
        assert!(words.contains(due), "{due}: {words}");
    }
    let output = run("find", &[], &served("--plant F24"));
    let words = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
    assert!(words.contains("logits") && words.contains("NaN"), "{words}");
}

/// The worked example: an engine in Python, whose bits are its own.
#[test]
fn the_example_in_python_is_right_and_its_faults_are_named() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/foreign_engine.py");
    let wide = ["--reference", "wide", "--ubatch", "2"];
    let output = run("run", &wide, &format!("python3 '{example}'"));
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
    assert!(stdout(&output).contains("prefill equals decode"), "{}", transcript(&output));
    for (fault, tap) in [("rope", "q_rope"), ("mask", "attn_out"), ("silu", "swiglu")] {
        let engine = format!("python3 '{example}' --break {fault}");
        let output = run("find", &["--reference", "wide"], &engine);
        assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
        let due = format!("judged     layer 0 tap {tap} at position ");
        assert!(stdout(&output).contains(&due), "{due}: {}", transcript(&output));
    }
    // Against the contract's bits it diverges at the first operation that rounds.
    let output = run("find", &[], &format!("python3 '{example}'"));
    assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
    let words = stdout(&output);
    assert!(words.contains("tap attn_norm") && words.contains("rounding (within"), "{words}");
}

/// Where bits cannot be asked for, distances are, and the operation that is too far off is named.
#[test]
fn f64_judges_a_foreign_engine_too() {
    let output = run("run", &["--reference", "wide"], &served(""));
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
    let output = run("find", &["--reference", "wide"], &served("--plant F10"));
    assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
    assert!(stdout(&output).contains("q_rope"), "{}", transcript(&output));
}

#[test]
fn options_of_our_engine_say_nothing_to_another() {
    for option in [&["--device", "host"][..], &["--unchecked"], &["--plant", "F10"]] {
        let output = run("run", option, "true");
        assert_eq!(output.status.code(), Some(2), "{}", transcript(&output));
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(words.contains("cannot be used with"), "{words}");
    }
}

/// What an honest engine says first.
fn hello() -> String {
    let model = Model::resolve(None).unwrap();
    let identity = ModelIdentity::of_file(String::new(), &model.path).unwrap();
    let mut line = json!({ "answer": "hello", "protocol": 1, "implementation": "script" });
    line["device"] = "bash".into();
    line["build"] = "1".into();
    line["model_sha256"] = identity.sha256.into();
    line["vocabulary"] = model.vocabulary.into();
    line.to_string()
}

/// A readout of zeros at a position.
fn readout(position: usize) -> String {
    let zeros = |count: usize| "0".repeat(8 * count);
    let (hidden, logits) = (zeros(256), zeros(512));
    json!({ "answer": "readout", "position": position, "hidden": hidden, "logits": logits })
        .to_string()
}

/// A tap of layer 0, one value wide.
fn tap(name: &str, first_position: usize, rows: usize, values: &str) -> String {
    let mut line = json!({ "answer": "tap", "name": name, "layer": 0, "rows": rows, "width": 1 });
    line["first_position"] = first_position.into();
    line["values"] = values.into();
    line.to_string()
}

/// An engine that answers each request with the next of these lines, then closes its output.
fn script(folder: &std::path::Path, answers: &[String], end: &str) -> String {
    let mut text = String::new();
    for answer in answers {
        writeln!(text, "read -r request || exit 0\ncat <<'EOF'\n{answer}\nEOF").unwrap();
    }
    let path = folder.join("engine.sh");
    std::fs::write(&path, text + end).unwrap();
    format!("bash {}", path.display())
}

/// Reads on and says nothing.
const SILENCE: &str = "while read -r request; do :; done\n";

#[test]
fn every_defect_has_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let replaced = |from: &str, to: &str| vec![hello().replacen(from, to, 1)];
    let after = |line: String| vec![hello(), line];
    let row = "3f800000";
    let (long, wide) = ("x".repeat(200_000), "0".repeat(8 * 600));
    let cases: Vec<(&str, Vec<String>, &str)> = vec![
        ("says nothing", vec![], SILENCE),
        ("ends at once", vec![], "exit 3\n"),
        ("talks to people", vec!["Loading model ...".into()], SILENCE),
        ("no text at all", vec![], "read -r request\nprintf '\\xff\\xfe\\n'\n"),
        ("an answer of another kind", vec![readout(2)], SILENCE),
        ("another version", replaced("\"protocol\":1", "\"protocol\":7"), SILENCE),
        ("a field too many", replaced("\"build\"", "\"colour\":1,\"build\""), SILENCE),
        ("a field too few", replaced("\"build\":\"1\",", ""), SILENCE),
        ("another file", replaced("\"model_sha256\":\"", "\"model_sha256\":\"0"), SILENCE),
        ("another vocabulary", replaced("\"vocabulary\":512", "\"vocabulary\":513"), SILENCE),
        ("a name of two lines", replaced("\"bash\"", "\"a\\nb\""), SILENCE),
        ("reports an error", after(r#"{"answer":"error","message":"no memory"}"#.into()), SILENCE),
        ("ends in a pass", vec![hello()], "read -r request\nexit 1\n"),
        ("half a line", vec![hello()], "read -r request\nprintf '{\"answer\"'\n"),
        ("hangs in a pass", vec![hello()], SILENCE),
        ("a line too long", after(long.clone()), SILENCE),
        ("a first line too long", vec![long], SILENCE),
        ("a number that JSON has not", after(r#"{"answer":"readout","position":NaN}"#.into()), ""),
        ("another position", after(readout(1)), SILENCE),
        ("a row too short", after(readout(2).replacen("00000000", "", 1)), SILENCE),
        ("a row with words", after(readout(2).replacen("0000", "+nan", 1)), SILENCE),
        ("a tap unheard of", after(tap("flux", 0, 1, row)), SILENCE),
        ("a tap of no row", after(tap("q", 0, 0, "")), SILENCE),
        ("a tap beyond the call", after(tap("q", 2, 2, &row.repeat(2))), SILENCE),
        ("a tap at the end of numbers", after(tap("q", usize::MAX, 2, row)), SILENCE),
        ("a tap of too few values", after(tap("q", 0, 2, row)), SILENCE),
        ("a tap too wide", after(tap("q", 0, 1, &wide).replace("th\":1", "th\":600")), SILENCE),
    ];
    let mut text = String::new();
    for (name, answers, end) in cases {
        let engine = script(folder.path(), &answers, end);
        // Two are waited for in vain, and shortly; the others answer on a slow machine too.
        let waits = name == "says nothing" || name == "hangs in a pass";
        let limit = if waits { "2" } else { "100" };
        let output = run("run", &["--quiet", "--time-limit", limit], &engine);
        let words = transcript(&output).replace(folder.path().to_str().unwrap(), "[folder]");
        writeln!(text, "{name}: {words}").unwrap();
    }
    for command in ["", "'python3", "no/such/program --fast"] {
        writeln!(text, "{command:?}: {}", transcript(&run("run", &["--quiet"], command))).unwrap();
    }
    settings().bind(|| insta::assert_snapshot!("errors_foreign", text));
}

/// What a reset is answered with shows in the call behind it; after a defect nothing is asked.
#[test]
fn a_reset_is_answered_and_a_defect_is_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::resolve(None).unwrap();
    let config = engine::Config::from_gguf(&model.file).unwrap();
    let load = |answers: &[String]| {
        let options = Options {
            command: script(folder.path(), answers, SILENCE),
            time_limit: Duration::from_secs(100),
            ubatch: 8,
            context_tokens: 8,
            activations: "i24".to_owned(),
            kv: "f32".to_owned(),
            threads: 1,
        };
        ForeignSide::load(&model.path, &config, &options).unwrap()
    };
    let reset = json!({ "answer": "reset" }).to_string();
    let mut side = load(&[hello(), readout(1), reset, readout(0)]);
    side.forward(&[1, 2], &mut Unwatched).unwrap();
    assert_eq!(side.position(), 2);
    side.reset();
    assert_eq!(side.position(), 0);
    assert_eq!(side.forward(&[1], &mut Unwatched).unwrap().position, 0);
    let mut side = load(&[hello(), readout(1), readout(0)]);
    side.forward(&[1, 2], &mut Unwatched).unwrap();
    side.reset();
    for _ in 0..2 {
        let words = side.forward(&[1], &mut Unwatched).unwrap_err().to_string();
        assert_eq!(words, "engine: it answered `reset` with `readout`, reset is due");
    }
}

/// Taps without an end are counted, and an engine that floods is ended with the run.
#[test]
fn an_engine_that_never_stops_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let flood =
        format!("read -r request\nwhile echo '{}'; do :; done\n", tap("q", 0, 1, "3f800000"));
    let engine = script(folder.path(), &[hello()], &flood);
    let begin = Instant::now();
    let output = run("run", &["--tap", "op", "--quiet"], &engine);
    assert!(begin.elapsed() < Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(4), "{}", transcript(&output));
    let words = transcript(&output);
    assert!(words.contains("more than 189 taps came without a readout"), "{words}");
}

/// Our engine's command, and the one of the example in Python.
fn engines() -> [Vec<&'static str>; 2] {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/foreign_engine.py");
    let ours = vec![env!("CARGO_BIN_EXE_lockstep"), "serve", "--device", "host"];
    [ours, vec!["python3", example]]
}

/// What an engine answers to these lines, with its exit code.
fn answers(engine: &[&str], lines: &[&str]) -> (Vec<String>, Option<i32>) {
    let mut process = Command::new(engine[0])
        .args(&engine[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let text = stdout(&output).lines().map(str::to_owned).collect();
    (text, output.status.code())
}

/// The first request, for the embedded model.
fn asked(model: &Model) -> String {
    json!({
        "request": "hello", "protocol": 1, "model": model.path, "ubatch": 2, "context_tokens": 4,
        "activations": "i24", "kv": "f32", "threads": 1
    })
    .to_string()
}

/// Which taps are due at which level is the protocol's: both engines say the same ones.
#[test]
fn two_engines_say_the_same_taps_at_every_level() {
    let model = Model::resolve(None).unwrap();
    for (level, lines_due) in [("readout", 2), ("layer", 2 + 2 * 5 + 2), ("op", 2 + 2 * 61 + 2)] {
        let forward = json!({ "request": "forward", "tokens": [1, 2, 3], "level": level });
        let lines = [asked(&model), forward.to_string(), r#"{"request":"quit"}"#.to_owned()];
        let [ours, example] = engines().map(|engine| {
            let (lines, code) = answers(&engine, &lines.each_ref().map(String::as_str));
            assert_eq!(code, Some(0), "{engine:?} {level}");
            let shape = |line: &String| {
                let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
                let line = line.as_object_mut().unwrap();
                for own in ["values", "hidden", "logits", "implementation", "device", "build"] {
                    line.remove(own);
                }
                format!("{line:?}")
            };
            lines.iter().map(shape).collect::<Vec<_>>()
        });
        assert_eq!(ours.len(), lines_due, "{level}");
        assert_eq!(example, ours, "{level}");
    }
}

#[test]
fn our_engine_refuses_what_is_no_request() {
    let model = Model::resolve(None).unwrap();
    let (hello, [ours, _]) = (asked(&model), engines());
    let forward = r#"{"request":"forward","tokens":[1,2],"level":"layer"}"#;
    for (lines, code, words) in [
        (vec![forward], 2, "`forward` is out of turn: hello is first"),
        (vec!["{}"], 2, "the line is no request: missing field `request`"),
        (vec![&hello.replace("\"protocol\":1", "\"protocol\":2")], 2, "version 2 of the protocol"),
        (vec![&hello.replace("i24", "i4")], 2, "there is no activations `i4`"),
        (vec![&hello, &forward.replace("[1,2]", "[1,2,3,4,5]")], 4, "context"),
    ] {
        let (said, actual) = answers(&ours, &lines);
        let last = said.last().unwrap();
        assert!(last.starts_with(r#"{"answer":"error","message":""#), "{last}");
        assert!(last.contains(words), "{words}: {last}");
        assert_eq!(actual, Some(code), "{last}");
    }
}

/// A script that starts another process, which notes that it runs, and then answers `hello`.
fn wrapper(folder: &std::path::Path) -> String {
    let engine = script(folder, &[hello()], "read -r request\ntouch asked\nread -r request\n");
    let path = folder.join("engine.sh");
    let alive = "(for n in {1..3000}; do echo >> alive; sleep 0.02; done) > /dev/null 2>&1 &\n";
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("cd '{}'\n{alive}{text}", folder.display())).unwrap();
    engine
}

/// The process behind the wrapper has run, and runs no more.
fn ended(folder: &std::path::Path) {
    let bytes = || std::fs::metadata(folder.join("alive")).unwrap().len();
    let before = bytes();
    std::thread::sleep(Duration::from_millis(500));
    assert!(before > 0 && bytes() == before, "what the engine has started runs on");
}

#[test]
fn what_an_engine_has_started_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let engine = wrapper(folder.path());
    let output = run("run", &["--quiet", "--time-limit", "1"], &engine);
    assert_eq!(output.status.code(), Some(4), "{}", transcript(&output));
    ended(folder.path());
}

#[test]
fn a_second_interrupt_ends_the_engine_too() {
    let folder = tempfile::tempdir().unwrap();
    let engine = wrapper(folder.path());
    let mut run = command()
        .args(["run", "--quiet", "--max-tokens", "3", "--engine-command", &engine])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !folder.path().join("asked").exists() {
        assert!(run.try_wait().unwrap().is_none(), "the run ended before it was interrupted");
        std::thread::sleep(Duration::from_millis(5));
    }
    let process = run.id().to_string();
    while run.try_wait().unwrap().is_none() {
        Command::new("kill").args(["-INT", &process]).status().unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(run.wait().unwrap().code(), Some(130));
    ended(folder.path());
}
