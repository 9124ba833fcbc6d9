//! Lockstep on SmolLM2 itself; where it is not in the cache, each test counts as ignored.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::fs::File;

use fixtures::{GgmlDType, Mix};
use harness::model::{Model, Prompt};
use harness::sides::TapLevel;
use libtest_mimic::{Arguments, Trial};
use support::matrix::Case;
use support::{all_agree, lockstep, settings_without_times, transcript};

const MODEL: &str = "smollm2-135m-instruct";

type Test = (&'static str, fn(&Model));

fn main() {
    let tests: [Test; 6] = [
        ("smollm2_has_its_faults_found", smollm2_has_its_faults_found),
        ("smollm2_in_k_types_has_its_faults_found", smollm2_in_k_types_has_its_faults_found),
        ("smollm2_in_some_splits", smollm2_in_some_splits),
        ("smollm2_in_every_tap", smollm2_in_every_tap),
        ("smollm2_writes_what_the_readme_says", smollm2_writes_what_the_readme_says),
        ("smollm2_writes_the_same_when_it_is_padded", smollm2_writes_the_same_when_it_is_padded),
    ];
    let missing = fixtures::cached(MODEL).is_none();
    let trials = tests.map(|(name, test)| {
        // Found again by its hash: a damaged file is a failure, not a skipped test.
        let trial = Trial::test(name, move || {
            test(&Model::resolve(Some(MODEL))?);
            Ok(())
        });
        trial.with_ignored_flag(missing)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit();
}

fn smollm2_in_some_splits(model: &Model) {
    let cases = [
        Case { ubatch: 512, threads: 2, ..Case::new(33, 8) },
        Case { ubatch: 32, threads: 1, ..Case::new(33, 8) },
        Case { ubatch: 7, threads: 2, simd: false, ..Case::new(33, 8) },
    ];
    all_agree(model, &cases);
}

fn smollm2_in_every_tap(model: &Model) {
    all_agree(model, &[Case { level: TapLevel::Op, ..Case::new(2, 2) }]);
}

fn smollm2_writes_what_the_readme_says(_: &Model) {
    let prompt = "The capital of France is";
    let output =
        lockstep(&["run", "--model", MODEL, "--prompt", prompt, "--max-tokens", "24", "--greedy"]);
    assert_eq!(output.status.code(), Some(0));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let text = stdout.lines().find_map(|line| line.strip_prefix("text       ")).unwrap();
    let readme = include_str!("../../README.md");
    assert!(readme.contains(prompt), "README.md has another prompt");
    assert!(readme.contains(&format!("`{text}`")), "README.md does not say {text}");
}

/// The fault matrix as a snapshot, without its times.
fn faults_are_found(snapshot: &str, arguments: &[&str]) {
    let output = lockstep(&[&["faults"], arguments].concat());
    settings_without_times().bind(|| insta::assert_snapshot!(snapshot, transcript(&output)));
    assert_eq!(output.status.code(), Some(0), "a fault was not caught, placed or explained");
}

fn smollm2_has_its_faults_found(_: &Model) {
    faults_are_found("faults_smollm2", &["--model", MODEL]);
}

/// Faults of types that the file itself does not have.
fn smollm2_in_k_types_has_its_faults_found(model: &Model) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smollm2-q4_k_m.gguf");
    fixtures::convert(&model.path, Mix::Q4KM, &mut File::create(&path).unwrap()).unwrap();
    let only = ["--model", path.to_str().unwrap(), "--only", "F04,F05"];
    faults_are_found("faults_smollm2_q4_k_m", &only);
}

/// Prompts and how the model goes on, in 16 tokens of the largest logit.
fn texts(model: &Model) -> Vec<String> {
    let options = reference::Options { context_tokens: 64, ..reference::Options::default() };
    let mut reference = reference::Reference::load(&model.path, &options).unwrap();
    let prompts = ["The capital of France is", "Once upon a time", "def fibonacci(n):"];
    let mut go_on = |prompt: &str| {
        reference.reset();
        let mut ids = model.ids(Prompt::Text(prompt)).unwrap();
        let mut run = 0;
        for _ in 0..16 {
            let readout = reference.forward(&ids[run..], &mut reference::Silent).unwrap();
            run = ids.len();
            ids.push(largest(&readout.logits.to_f64()));
        }
        model.decode(&ids).unwrap()
    };
    prompts.map(&mut go_on).into()
}

fn largest(logits: &[f64]) -> u32 {
    let place = (0..logits.len()).max_by(|one, two| logits[*one].total_cmp(&logits[*two]));
    u32::try_from(place.unwrap()).unwrap()
}

fn smollm2_writes_the_same_when_it_is_padded(model: &Model) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("padded.gguf");
    let mix = Mix::All(GgmlDType::F32);
    fixtures::convert(&model.path, mix, &mut File::create(&path).unwrap()).unwrap();
    let padded = Model::resolve(path.to_str()).unwrap();
    let config = engine::Config::from_gguf(&padded.file).unwrap();
    assert_eq!((config.hidden, config.heads, config.kv_heads), (768, 12, 4));
    let tokeniser = |model: &Model| {
        let all = model.file.metadata().clone().into_iter();
        all.filter(|(key, _)| key.starts_with("tokenizer.")).collect::<Vec<_>>()
    };
    assert_eq!(tokeniser(&padded), tokeniser(model));
    let (expected, actual) = (texts(model), texts(&padded));
    assert_eq!(actual, expected);
    assert!(expected[0].starts_with("The capital of France is Paris"), "{expected:?}");
}
