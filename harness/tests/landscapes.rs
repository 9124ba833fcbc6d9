//! The logits landscape of fixtures, of SmolLM2 and of its K-quants, step by step, as snapshots.
//!
//! The contract makes every digit the same on every machine. A changed bit is a changed hash, with
//! the values beside it; CONTRIBUTING.md says how it is reviewed. The exact reference runs alone:
//! that the engine has the same bits is tested elsewhere.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::fmt::Write;
use std::fs::File;

use fixtures::{GgmlDType, Mix, Recipe};
use harness::identity::ModelIdentity;
use harness::landscape::Landscape;
use harness::model::{Model, Prompt};
use harness::number::Hash;
use harness::sides::reference::ReferenceSide;
use harness::sides::sabotaged::{Fault, Sabotage, Sabotaged};
use harness::sides::{Readout, Row, Side, Unwatched};
use libtest_mimic::{Arguments, Trial};
use reference::{Activations, KvType, Options};

const PROMPT: &str = "The capital of France is";
const STEPS: usize = 8;

/// The real model, and what it is converted to.
const SMOLLM2: &str = "smollm2-135m-instruct";
const CONVERTED: [Mix; 6] = [
    Mix::All(GgmlDType::Q2K),
    Mix::Q3KM,
    Mix::Q4KM,
    Mix::Q5KM,
    Mix::All(GgmlDType::Q6K),
    Mix::All(GgmlDType::Q8_0),
];

fn main() {
    let small = Options { activations: Activations::I8, kv: KvType::F16, ..Options::default() };
    let mut trials = vec![
        Trial::test("tiny", move || {
            resolved("tiny", "tiny", &Options::default());
            Ok(())
        }),
        Trial::test("tiny_i8_f16", move || {
            resolved("tiny_i8_f16", "tiny", &small);
            Ok(())
        }),
        Trial::test("a_flipped_bit_is_a_changed_line", || {
            a_flipped_bit_is_a_changed_line();
            Ok(())
        }),
    ];
    for (preset, mix) in [
        ("mqa", Mix::Q5KM),
        ("head-80", Mix::Q3KM),
        ("rope-factors", Mix::All(GgmlDType::Q8_0)),
        ("tied", Mix::All(GgmlDType::F16)),
    ] {
        let name = format!("{}_{mix}", preset.replace('-', "_"));
        trials.push(Trial::test(name.clone(), move || {
            generated(&name, Recipe { mix, ..Recipe::preset(preset).unwrap() });
            Ok(())
        }));
    }
    let missing = fixtures::cached(SMOLLM2).is_none();
    let real = Trial::test("smollm2", || {
        resolved("smollm2", SMOLLM2, &Options::default());
        Ok(())
    });
    trials.push(real.with_ignored_flag(missing));
    for mix in CONVERTED {
        let name = format!("smollm2_{mix}");
        let trial = Trial::test(name.clone(), move || {
            converted(&name, mix);
            Ok(())
        });
        trials.push(trial.with_ignored_flag(missing));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// A model by its name.
fn resolved(name: &str, asked: &str, options: &Options) {
    compare(name, &Model::resolve(Some(asked)).unwrap(), options);
}

/// A fixture of a recipe.
fn generated(name: &str, recipe: Recipe) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{name}.gguf"));
    recipe.write(&mut File::create(&path).unwrap()).unwrap();
    compare(name, &Model::resolve(path.to_str()).unwrap(), &Options::default());
}

/// The real model in another mix of types.
fn converted(name: &str, mix: Mix) {
    let from = Model::resolve(Some(SMOLLM2)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{name}.gguf"));
    fixtures::convert(&from.path, mix, &mut File::create(&path).unwrap()).unwrap();
    compare(name, &Model::resolve(path.to_str()).unwrap(), &Options::default());
}

fn compare(name: &str, model: &Model, options: &Options) {
    let text = landscape(model, options, reference_side(model, options));
    support::settings().bind(|| insta::assert_snapshot!(format!("landscape_{name}"), text));
}

fn reference_side(model: &Model, options: &Options) -> ReferenceSide {
    let options = Options { context_tokens: 32, threads: 1, ..options.clone() };
    ReferenceSide::load(&model.path, &options).unwrap()
}

/// What stands in a snapshot: the file, then a line for each step and its five largest logits.
fn landscape(model: &Model, options: &Options, mut side: impl Side) -> String {
    let file = ModelIdentity::of_file(model.name.clone(), &model.path).unwrap();
    let mut ids = model.ids(Prompt::Text(PROMPT)).unwrap();
    let mut text = String::new();
    writeln!(text, "model    {} bytes, sha256 {}", file.bytes, file.sha256).unwrap();
    let (activations, kv) = (options.activations.name(), options.kv.name());
    writeln!(text, "numbers  activations {activations}, KV {kv}").unwrap();
    writeln!(text, "prompt   {PROMPT:?} {ids:?}\n").unwrap();
    let columns = ["hidden", "logits"].map(|name| format!("{name:<16}"));
    let [hidden, logits] = columns;
    let words = "gap          entropy of the top 64";
    writeln!(text, "step  position  {:<24}{hidden}  {logits}  {words}", " token").unwrap();
    let mut run = 0;
    for step in 0..STEPS {
        let readout = side.forward(&ids[run..], &mut Unwatched).unwrap();
        run = ids.len();
        let shape = Landscape::of(&readout.logits);
        text += &line(step, model, &ids, &readout, &shape, side.hasher());
        ids.push(shape.choice().unwrap());
    }
    writeln!(text, "\ntext     {:?}", model.decode(&ids).unwrap()).unwrap();
    text
}

fn line(
    step: usize,
    model: &Model,
    ids: &[u32],
    readout: &Readout,
    shape: &Landscape,
    hasher: fn(&[f32]) -> u64,
) -> String {
    let hash = |row: &Row| match row {
        Row::F32(values) => Hash(hasher(values)),
        Row::F64(_) => unreachable!("exact gives f32"),
    };
    let token = |id: u32| format!("{id:>6} {:?}", model.text(id).unwrap());
    let (hidden, logits) = (hash(&readout.hidden), hash(&readout.logits));
    let (fed, position) = (token(ids[readout.position]), readout.position);
    let (gap, entropy) = (shape.gap.unwrap().to_string(), shape.entropy);
    let mut text =
        format!("{step:>4}  {position:>8}{fed:<26}{hidden}  {logits}  {gap:<11}  {entropy}\n");
    for top in &shape.top {
        writeln!(text, "{:>14}{:<26}{}", "", token(top.id), top.logit).unwrap();
    }
    text
}

/// The lowest bit of one logit far from the top, in the third step: its hash and nothing else.
fn a_flipped_bit_is_a_changed_line() {
    let model = Model::resolve(Some("tiny")).unwrap();
    let options = Options::default();
    let honest = landscape(&model, &options, reference_side(&model, &options));
    let sabotage = Sabotage {
        call: 2,
        tap: "logits",
        layer: None,
        fault: Fault::FlipReadout { index: 500, bit: 0 },
    };
    let flipped = Sabotaged::new(reference_side(&model, &options), sabotage);
    let flipped = landscape(&model, &options, flipped);
    let changed: Vec<(&str, &str)> =
        honest.lines().zip(flipped.lines()).filter(|(one, two)| one != two).collect();
    let [(one, two)] = changed[..] else { panic!("{changed:#?}") };
    assert!(one.starts_with("   2 ") && two.starts_with("   2 "), "{one}\n{two}");
    let words = one.split_whitespace().zip(two.split_whitespace()).filter(|(a, b)| a != b);
    assert_eq!(words.count(), 1, "{one}\n{two}");
}
