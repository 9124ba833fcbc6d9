//! A recorded reference in the place of the computed one: the same answers, or a refusal.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use support::lockstep;
use support::place::Place;

const SUITE: &str = "[defaults]\nmax_tokens = 4\ndevice = \"host\"\npast_end = true\n\
                     [[case]]\nname = \"a\"\nlengths = [9]\nubatch = [512, 4]\n\
                     [[case]]\nname = \"b\"\ntokens = [5, 6, 7]\n\
                     [[case]]\nname = \"taps\"\ntokens = [5, 6, 7]\ntap = \"op\"\n\
                     [[case]]\nname = \"driven\"\ntokens = [5, 6, 7]\ndrive = \"engine\"\n\
                     [[case]]\nname = \"wide\"\ntokens = [5, 6, 7]\nreference = \"wide\"\n";

/// The exit code of a run, and the cases of its `suite.json`.
fn run(place: &Place, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let code = place.run(arguments).status.code();
    (code, place.cases())
}

fn recordings(place: &Place) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.path("recorded")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Name, and what was said of the reference.
fn references(cases: &[Value]) -> Vec<(&str, &str)> {
    cases.iter().map(|case| (text(case, "name"), text(case, "reference"))).collect()
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_default()
}

#[test]
fn a_reference_is_computed_once_and_gives_the_same_answer_later() {
    let place = Place::new(SUITE);
    let recorded = place.path("recorded");
    let (code, cases) = run(&place, &["--record", &recorded]);
    assert_eq!(code, Some(0));
    let others = [
        ("taps", "reference computed: a recording has no taps"),
        ("driven", "reference computed: the engine chooses the tokens"),
        ("wide", "reference computed: only `exact` is recorded"),
    ];
    let first = [
        ("a-ubatch512-9", "reference computed and recorded, 4 steps"),
        // The same model, tokens and options: how the prompt is cut changes nothing.
        ("a-ubatch4-9", "reference recorded, 4 steps"),
        ("b", "reference computed and recorded, 4 steps"),
    ];
    assert_eq!(references(&cases), [&first[..], &others].concat());
    assert_eq!(recordings(&place).len(), 2);
    let (code, cases) = run(&place, &["--against", &recorded]);
    assert_eq!(code, Some(0));
    let words = "reference recorded, 4 steps";
    let later = ["a-ubatch512-9", "a-ubatch4-9", "b"].map(|name| (name, words));
    assert_eq!(references(&cases), [&later[..], &others].concat());
    // The steps are compared as ever; the reference's other chunkings are not there, and said.
    assert_eq!(cases[0]["figures"]["steps_agreeing"], 4);
    assert_eq!(cases[0]["figures"]["canary_seen"], true);
    let verdict = fs::read(Path::new(&place.path("out")).join("b/verdict.json")).unwrap();
    let verdict: Value = serde_json::from_slice(&verdict).unwrap();
    let not_checked = &verdict["prefill_decode"]["not_checked"];
    assert_eq!(not_checked, "the reference, which is a recording");
    assert_eq!(verdict["identity"]["references"][0]["device"], "cpu, recorded");
}

#[test]
fn a_fault_is_seen_against_a_recording_with_both_values() {
    let place = Place::new(SUITE);
    let recorded = place.path("recorded");
    let live = run(&place, &["--record", &recorded, "--plant", "F09", "--filter", "b"]);
    let against = run(&place, &["--against", &recorded, "--plant", "F09", "--filter", "b"]);
    assert_eq!((live.0, against.0), (Some(1), Some(1)));
    assert_eq!(against.1[0]["reference"], "reference recorded, 4 steps");
    assert_eq!(live.1[0]["message"], against.1[0]["message"]);
    let cause = against.1[0]["found"]["cause"].as_str().unwrap();
    assert!(cause.starts_with("off by one (length)"), "{cause}");
}

#[test]
fn what_has_no_recording_is_computed_and_said() {
    let place = Place::new(SUITE);
    let (code, cases) = run(&place, &["--against", &place.path("recorded"), "--filter", "b"]);
    assert_eq!(code, Some(0));
    assert_eq!(references(&cases), [("b", "reference computed: it has no recording")]);
}

/// A full disk costs the recording, not the answer; a folder that cannot be is said at once.
#[test]
fn a_recording_that_cannot_be_written_changes_no_answer() {
    let place = Place::new(SUITE);
    let recorded = place.path("recorded");
    assert_eq!(run(&place, &["--record", &recorded, "--filter", "b"]).0, Some(0));
    let path = recordings(&place).remove(0);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let record = ["--record", &recorded, "--filter", "b"];
    let (code, cases) = run(&place, &[&record[..], &["--plant", "F09"]].concat());
    assert_eq!((code, text(&cases[0], "verdict")), (Some(1), "diverges"));
    let words = text(&cases[0], "reference");
    assert!(words.starts_with("reference not recorded: cannot write the recording"), "{words}");
    let suite = place.path("suite.toml");
    let output = lockstep(&["suite", &suite, "--record", &format!("{suite}/in"), "--filter", "b"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
}

/// Tokens of another day than the file's have no reader tomorrow.
#[test]
fn what_is_drawn_from_the_day_is_not_recorded() {
    let place =
        Place::new("[[case]]\nname = \"day\"\nlengths = [3]\nseed = \"date\"\nmax_tokens = 1\n");
    let (code, cases) = run(&place, &["--record", &place.path("recorded")]);
    assert_eq!(code, Some(0));
    let words = "reference computed: its tokens are not those of the file";
    assert_eq!(references(&cases), [("day-3", words)]);
}

/// The content with another text in its first line, and the hash that belongs to it.
fn forged(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let content = &bytes[..bytes.len() - 32];
    let end = content.iter().position(|byte| *byte == b'\n').unwrap();
    let header = String::from_utf8(content[..end].to_vec()).unwrap();
    assert!(header.contains(from), "{header}");
    let mut forged = header.replace(from, to).into_bytes();
    forged.extend_from_slice(&content[end..]);
    let hash = Sha256::digest(&forged);
    forged.extend_from_slice(&hash);
    forged
}

#[test]
fn a_recording_that_is_not_this_one_is_an_error_and_no_agreement() {
    let place = Place::new(SUITE);
    let recorded = place.path("recorded");
    assert_eq!(run(&place, &["--record", &recorded, "--filter", "b"]).0, Some(0));
    let path = recordings(&place).remove(0);
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    let middle = whole.len() / 2;
    flipped[middle] ^= 1;
    let name = path.file_name().unwrap().to_str().unwrap();
    let damaged = format!("{name} is damaged: its hash is not that of its contents");
    let start = fixtures_hash();
    for (bytes, words) in [
        (whole[..whole.len() - 4].to_vec(), damaged.as_str()),
        (flipped, damaged.as_str()),
        (b"short".to_vec(), damaged.as_str()),
        (forged(&whole, "\"format\":1", "\"format\":2"), "has format 2, this lockstep reads 1"),
        (
            forged(&whole, &start, "0123456789abcdef"),
            "is of the model with sha256 0123456789abcdef",
        ),
        (
            forged(&whole, "prompt_ids\":[5,6,7]", "prompt_ids\":[5,6,8]"),
            "is of a prompt with token 8 at place 2, this run has 7",
        ),
        (forged(&whole, "\"i24\"", "\"i16\""), "is of activations i16, this run has i24"),
        (forged(&whole, "contract_sha256\":\"", "contract_sha256\":\"00"), "is of the contract "),
        (forged(&whole, "\"hidden_count\":256", "\"hidden_count\":255"), damaged.as_str()),
        (forged(&whole, "\"kv\"", "\"kw\""), "is no recording: unknown field `kw`"),
    ] {
        fs::write(&path, bytes).unwrap();
        let (code, cases) = run(&place, &["--against", &recorded, "--filter", "b"]);
        assert_eq!(code, Some(2), "{words}");
        let message = cases[0]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}\n{words}");
        assert_eq!(cases[0]["figures"], Value::Null);
    }
    // Other tokens than those that are asked for: nothing is compared from there on.
    fs::write(&path, forged(&whole, "\"calls\":[[5,6,7]", "\"calls\":[[5,6,8]")).unwrap();
    let (code, cases) = run(&place, &["--against", &recorded, "--filter", "b"]);
    assert_eq!(code, Some(4));
    let words = "the recording has no step 0 with these 3 tokens at position 0: record it again";
    assert!(cases[0]["message"].as_str().unwrap().contains(words), "{}", cases[0]["message"]);
    fs::write(&path, whole).unwrap();
    assert_eq!(run(&place, &["--against", &recorded, "--filter", "b"]).0, Some(0));
}

/// The first half of the embedded model's hash.
fn fixtures_hash() -> String {
    let hash = Sha256::digest(fixtures::TINY);
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Other logits in a file whose hash is right: nothing in it is believed, everything is compared.
#[test]
fn rows_that_differ_from_the_engine_are_a_divergence() {
    let place = Place::new(SUITE);
    let recorded = place.path("recorded");
    assert_eq!(run(&place, &["--record", &recorded, "--filter", "b"]).0, Some(0));
    let path = recordings(&place).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let content = bytes.len() - 32;
    bytes[content - 4] ^= 1;
    let hash = Sha256::digest(&bytes[..content]);
    bytes[content..].copy_from_slice(&hash);
    fs::write(&path, bytes).unwrap();
    let (code, cases) = run(&place, &["--against", &recorded, "--filter", "b"]);
    assert_eq!(code, Some(1));
    let message = cases[0]["message"].as_str().unwrap();
    assert!(message.contains("tap logits") && message.contains("1 of 512 elements"), "{message}");
    // The search computes the reference, and sees that the engine is right.
    let found = cases[0]["found"]["divergence"].as_str().unwrap();
    assert!(found.starts_with("the search computed the reference, and saw no"), "{found}");
}
