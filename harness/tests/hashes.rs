//! One set of hashes for every device: `fixtures/hashes.toml` says what a prompt and the steps
//! after it leave behind. A device that computes otherwise is wrong, or the contract has changed.
//!
//! `LOCKSTEP_HASHES=write` writes the file anew with the host's; `LOCKSTEP_8B=FILE` adds the
//! fixture `llama3-8b`, which is too large to be made in a test.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::path::{Path, PathBuf};

use engine::{Activations, DeviceChoice, KvType, Options};
use harness::model::Model;
use harness::sides::TapLevel;
use harness::sides::engine::EngineSide;
use serde::{Deserialize, Serialize};
use support::devices;
use support::matrix::prompt;

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    model: String,
    activations: String,
    kv: String,
    prompt_tokens: usize,
    decode_tokens: usize,
    /// After the prompt, then after the last token: hidden state and logits.
    hashes: [String; 4],
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Table {
    #[serde(default)]
    run: Vec<Run>,
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/hashes.toml")
}

const SMOLLM2: &str = "smollm2-135m-instruct";
const EIGHT: &str = "llama3-8b";

/// The file of a model, where this machine has it.
fn resolve(model: &str) -> Option<Model> {
    match model {
        "tiny" => Some(Model::resolve(None).unwrap()),
        EIGHT => std::env::var("LOCKSTEP_8B").ok().map(|file| Model::resolve(Some(&file)).unwrap()),
        name => fixtures::cached(name).map(|_| Model::resolve(Some(name)).unwrap()),
    }
}

/// Model, digits, cache, prompt and steps.
type Case = (&'static str, Activations, KvType, usize, usize);

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for activations in [Activations::I24, Activations::I16, Activations::I8] {
        for kv in [KvType::F32, KvType::F16] {
            cases.push(("tiny", activations, kv, 205, 16));
        }
        cases.push((SMOLLM2, activations, KvType::F32, 33, 4));
        cases.push((EIGHT, activations, KvType::F32, 512, 32));
    }
    cases
}

fn run(model: &Model, case: Case, device: DeviceChoice) -> Run {
    let (name, activations, kv, prompt_tokens, decode_tokens) = case;
    let context_tokens = prompt_tokens + decode_tokens;
    let options = Options { device, activations, kv, context_tokens, ..Options::default() };
    let mut side = EngineSide::load(&model.file, &options).unwrap();
    let tokens = prompt(model.vocabulary, context_tokens);
    let (prompt, more) = tokens.split_at(prompt_tokens);
    let first = side.step(prompt, TapLevel::Readout).unwrap();
    let mut last = first.clone();
    for token in more {
        last = side.step(&[*token], TapLevel::Readout).unwrap();
    }
    let hashes = [first.hidden, first.logits, last.hidden, last.logits];
    Run {
        model: name.to_owned(),
        activations: activations.name().to_owned(),
        kv: kv.name().to_owned(),
        prompt_tokens,
        decode_tokens,
        hashes: hashes.map(|digest| format!("{:016x}", digest.hash)),
    }
}

/// The line of a case in the table.
fn find<'a>(table: &'a Table, run: &Run) -> Option<&'a Run> {
    table.run.iter().find(|other| Run { hashes: other.hashes.clone(), ..run.clone() } == **other)
}

#[test]
fn every_device_has_the_hashes_of_the_file() {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let mut table: Table = toml::from_str(&text).unwrap();
    let write = std::env::var("LOCKSTEP_HASHES").is_ok_and(|value| value == "write");
    let mut compared = 0;
    for case in cases() {
        let Some(model) = resolve(case.0) else { continue };
        let host = vec![DeviceChoice::Host];
        for device in if write { host } else { devices::all() } {
            let run = run(&model, case, device);
            if write {
                table
                    .run
                    .retain(|other| Run { hashes: run.hashes.clone(), ..other.clone() } != run);
                table.run.push(run);
                continue;
            }
            let due = find(&table, &run).unwrap_or_else(|| panic!("not in the file: {run:?}"));
            assert_eq!(run, *due, "{device}");
            compared += 1;
        }
    }
    if write {
        let note =
            "# What harness/tests/hashes.rs requires of every device; it says how to write it.\n";
        std::fs::write(path(), format!("{note}\n{}", toml::to_string(&table).unwrap())).unwrap();
        return;
    }
    eprintln!("{compared} runs have the hashes of the file");
    assert!(compared >= 6, "{compared} runs");
}

#[test]
fn a_changed_bit_is_a_changed_hash() {
    let model = resolve("tiny").unwrap();
    let device = devices::all()[0];
    let f32 = run(&model, ("tiny", Activations::I24, KvType::F32, 20, 2), device);
    let f16 = run(&model, ("tiny", Activations::I24, KvType::F16, 20, 2), device);
    for (one, other) in f32.hashes.iter().zip(&f16.hashes) {
        assert_ne!(one, other);
    }
}
