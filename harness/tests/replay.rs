//! What `find` leaves behind: witnesses that replay, bounds against f64, smaller runs.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{lockstep, transcript};

/// Runs `find` with a planted fault into a folder.
fn plant(folder: &Path, fault: &str, more: &[&str]) -> String {
    let out = folder.to_str().unwrap();
    let find = ["find", "--plant", fault, "--max-tokens", "4", "--threads", "1", "--out", out];
    let output = lockstep(&[&find[..], &["--device", "host"], more].concat());
    assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn replay(path: &Path, more: &[&str]) -> (i32, Value) {
    let replay = ["replay", path.to_str().unwrap(), "--format", "json", "--threads", "1"];
    let output = lockstep(&[&replay[..], more].concat());
    let code = output.status.code().unwrap();
    (code, serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

#[test]
fn a_witness_is_still_there_and_gone_when_the_fault_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("witness.json");
    for (fault, tap, more) in [
        ("F08", "attn_out", &[][..]),
        ("F26", "attn_norm", &["--format", "json"]),
        ("F27", "keys", &["--kv", "f16"]),
        ("F39", "up", &["--activations", "i8"]),
    ] {
        let said = plant(folder.path(), fault, more);
        assert!(said.contains("witness"), "{said}");
        let (code, line) = replay(&path, &[]);
        assert_eq!((code, &line["verdict"]), (1, &"still_there".into()), "{fault} {line}");
        // Another layer's cache is empty when the operation runs alone on a fresh engine.
        assert_eq!(line["same_rows"], fault != "F08", "{line}");
        // The same witness for an engine without the fault.
        let mut witness: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(witness["place"]["tap"], tap);
        witness["options"]["plant"] = Value::Null;
        std::fs::write(&path, witness.to_string()).unwrap();
        let (code, line) = replay(&path, &[]);
        assert_eq!((code, &line["verdict"]), (0, &"gone".into()), "{fault} {line}");
        assert!(
            line["notes"]
                .as_array()
                .unwrap()
                .iter()
                .any(|note| { note.as_str().unwrap().contains("another") })
        );
    }
}

#[test]
fn what_a_replay_cannot_tell_it_does_not_tell() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("witness.json");
    // Alone, the readout is right: only the run shows the wrong row.
    plant(folder.path(), "F34", &[]);
    let (code, line) = replay(&path, &[]);
    assert_eq!((code, &line["verdict"]), (4, &"untold".into()), "{line}");
    // Another model runs, and decides nothing.
    plant(folder.path(), "F10", &[]);
    let other = folder.path().join("other.gguf");
    let recipe = fixtures::Recipe { seed: 2, ..fixtures::Recipe::tiny() };
    recipe.write(&mut std::fs::File::create(&other).unwrap()).unwrap();
    let (code, line) = replay(&path, &["--model", other.to_str().unwrap()]);
    assert_eq!((code, &line["verdict"]), (4, &"untold".into()), "{line}");
    assert!(line["message"].as_str().unwrap().contains("model"), "{line}");
}

#[test]
fn a_damaged_witness_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("witness.json");
    plant(folder.path(), "F10", &["--tokens", "1,2,3,4,5,6,7,8,9,10,11,12"]);
    let whole = std::fs::read_to_string(&path).unwrap();
    let beside = folder.path().join("witness.bin");
    let mut bytes = std::fs::read(&beside).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&beside, &bytes).unwrap();
    let refused = |words: &str| {
        let output = lockstep(&["replay", path.to_str().unwrap()]);
        let said = transcript(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(said.contains("hint:"), "{said}");
    };
    refused("is not the one that the witness was written with");
    bytes[100] ^= 1;
    std::fs::write(&beside, &bytes).unwrap();
    for (from, to, words) in [
        ("\"format\": 1", "\"format\": 2", "has format 2"),
        ("\"device\": \"host\"", "\"device\": \"abacus\"", "device `abacus`"),
        ("\"context_tokens\": 16", "\"context_tokens\": 99999999999", "context_tokens `9999"),
        ("\"ubatch\": 512", "\"ubatch\": 0", "ubatch `0`"),
        ("\"hex\": \"", "\"hex\": \"g0", "has not the"),
        ("\"width\": 256", "\"width\": 257", "has not the"),
        ("\"width\": 256", "\"odd\": 1, \"width\": 256", "is no witness"),
        ("{", "", "is no witness"),
    ] {
        assert!(whole.contains(from), "{from}");
        std::fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        refused(words);
    }
    // What fits a file and no model is refused by the sides, not by a crash.
    for (from, to) in [
        ("\"layer\": 0", "\"layer\": 77"),
        ("\"first_position\": 0", "\"first_position\": 18446744073709551615"),
        ("\"tap\": \"q_rope\"", "\"tap\": \"embed\""),
        ("\"tap\": \"q_rope\"", "\"tap\": \"attn_out\""),
        ("\"tap\": \"q_rope\"", "\"tap\": \"logits\""),
        ("\"tap\": \"q_rope\"", "\"tap\": \"none\""),
    ] {
        let mut witness: Value = serde_json::from_str(&whole).unwrap();
        let place = witness["place"].to_string();
        let compact = |text: &str| text.replace("\": ", "\":");
        assert!(place.contains(&compact(from)), "{place}");
        let place = place.replacen(&compact(from), &compact(to), 1).replacen("[1,", "[600000,", 1);
        witness["place"] = serde_json::from_str(&place).unwrap();
        std::fs::write(&path, witness.to_string()).unwrap();
        let output = lockstep(&["replay", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(4), "{}", transcript(&output));
    }
    std::fs::remove_file(&path).unwrap();
    refused("cannot read the witness");
}

/// Against f64 a fault is named by a bound, on the engine's own inputs, and a clean run is not.
#[test]
fn against_f64_the_operation_outside_its_bound_is_named() {
    let find = |fault: &[&str]| {
        let run = ["find", "--reference", "wide", "--max-tokens", "3", "--threads", "2"];
        let folder = tempfile::tempdir().unwrap();
        let out =
            ["--device", "host", "--format", "json", "--out", folder.path().to_str().unwrap()];
        let output = lockstep(&[&run[..], &out[..], fault].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let last = text.lines().last().unwrap().to_owned();
        (output.status.code().unwrap(), serde_json::from_str::<Value>(&last).unwrap())
    };
    for (fault, tap, layer) in [
        ("F26", "attn_norm", Value::from(0)),
        ("F05", "v", Value::from(2)),
        ("F08", "attn_out", Value::from(1)),
        ("F09", "attn_out", Value::from(0)),
        ("F10", "q_rope", Value::from(0)),
        ("F34", "final_norm", Value::Null),
    ] {
        let (code, line) = find(&["--plant", fault]);
        assert_eq!((code, &line["kind"]), (1, &"distance".into()), "{fault}: {line}");
        let first = &line["distances"]["first"];
        assert_eq!((&first["tap"], &first["layer"]), (&tap.into(), &layer), "{fault}: {line}");
    }
    let (code, line) = find(&[]);
    assert_eq!((code, &line["event"]), (0, &"finished".into()));
}

#[test]
fn a_smaller_run_shows_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (1..=70).map(|id| id.to_string()).collect();
    let more = ["--tokens", &ids.join(","), "--minimise"];
    for (fault, expected) in [
        ("F06", "--max-tokens 1 --ubatch 33 --context-tokens 34"),
        ("F09", "--tokens 69,70 --max-tokens 2"),
    ] {
        let said = plant(folder.path(), fault, &more);
        let line = said.lines().find_map(|line| line.strip_prefix("minimal    lockstep "));
        let line = line.unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains(expected), "{line}");
        let out = ["--out", folder.path().to_str().unwrap()];
        let words: Vec<&str> = line.split(' ').chain(out).collect();
        assert_eq!(lockstep(&words).status.code(), Some(1), "{line}");
    }
}
