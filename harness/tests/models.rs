//! Every fixture of every shape in lockstep, and what a sequence leaves behind: nothing.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::fs::File;
use std::io::BufWriter;

use fixtures::{Mix, PRESETS, Recipe, Shape};
use harness::model::Model;
use harness::sides::engine::EngineSide;
use harness::sides::reference::ReferenceSide;
use harness::sides::{Readout, Row, Side, TapLevel, Unwatched};
use support::matrix::{Case, prompt};
use support::{all_agree, lockstep, transcript};
use tempfile::TempDir;

/// A recipe as a file that both sides can open.
struct Fixture {
    model: Model,
    _folder: TempDir,
}

impl Fixture {
    fn new(recipe: &Recipe) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fixture.gguf");
        recipe.write(&mut BufWriter::new(File::create(&path).unwrap())).unwrap();
        let model = Model::resolve(path.to_str()).unwrap();
        Self { model, _folder: folder }
    }
}

/// The presets that fit into a test.
fn presets() -> impl Iterator<Item = (&'static str, Recipe)> {
    let small = PRESETS.into_iter().filter(|(name, _)| *name != "llama3-8b");
    small.map(|(name, _)| (name, Recipe::preset(name).unwrap()))
}

#[test]
fn every_preset_in_every_split() {
    let mut count = 0;
    for (name, recipe) in presets() {
        eprintln!("{name}");
        let fixture = Fixture::new(&recipe);
        let mut cases = Vec::new();
        for (index, prompt_tokens) in [1, 2, 31, 33, 64, 65, 200].into_iter().enumerate() {
            // Each prompt whole, and in another piece size each.
            let piece = [1, 2, 7, 32, 33, 64, 128][index];
            for ubatch in [512, piece] {
                let threads = 1 + index % 2;
                cases.push(Case { ubatch, threads, ..Case::new(prompt_tokens, 4) });
            }
        }
        cases.push(Case { level: TapLevel::Op, ubatch: 32, ..Case::new(70, 2) });
        all_agree(&fixture.model, &cases);
        count += 1;
    }
    assert!(count >= 10, "{count} presets");
}

#[test]
fn every_weight_type_decodes_and_takes_512_tokens() {
    for mix in Mix::EVERY {
        eprintln!("{mix:?}");
        let recipe = Recipe { mix, ..Recipe::small() };
        let fixture = Fixture::new(&recipe);
        let cases = [
            Case::new(5, 64),
            Case { ubatch: 100, ..Case::new(512, 2) },
            Case { simd: false, threads: 1, ..Case::new(40, 2) },
        ];
        all_agree(&fixture.model, &cases);
    }
}

/// The rule of three, end to end; what breaks it is planted in the tests of a run.
#[test]
fn every_preset_is_as_near_to_f64_as_candle_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fixture.gguf");
    let file = file.to_str().unwrap();
    let tokens = "1,2,3,4,5,6,7,8,9,10,300,301,302,303,304,305,306,307,308,309";
    for (name, _) in presets() {
        let written = lockstep(&["fixture", name, "--out", file]);
        assert_eq!(written.status.code(), Some(0), "{name}\n{}", transcript(&written));
        let run = ["run", "--model", file, "--tokens", tokens, "--max-tokens", "12"];
        let output = lockstep(&[&run[..], &["--past-end", "--reference", "wide"]].concat());
        assert_eq!(output.status.code(), Some(0), "{name}\n{}", transcript(&output));
    }
}

/// Both sides of a model, with a context and a cache type.
fn sides(model: &Model, context_tokens: usize, half: bool) -> [Box<dyn Side>; 2] {
    sides_on(model, context_tokens, half, None)
}

/// The same with the engine in a build of the host, or in the one that it chooses.
fn sides_on(
    model: &Model,
    context_tokens: usize,
    half: bool,
    host_build: Option<engine::HostBuild>,
) -> [Box<dyn Side>; 2] {
    let (ours, theirs) = if half {
        (engine::KvType::F16, reference::KvType::F16)
    } else {
        (engine::KvType::F32, reference::KvType::F32)
    };
    let options =
        engine::Options { context_tokens, kv: ours, threads: 2, host_build, ..Default::default() };
    let engine = EngineSide::load(&model.file, &options).unwrap();
    let options =
        reference::Options { context_tokens, kv: theirs, threads: 2, ..Default::default() };
    [Box::new(engine), Box::new(ReferenceSide::load(&model.path, &options).unwrap())]
}

fn bits(readout: &Readout) -> Vec<u32> {
    let rows = [&readout.hidden, &readout.logits];
    let values = rows.into_iter().flat_map(|row| match row {
        Row::F32(values) => values.clone(),
        Row::F64(_) => panic!("both sides are in f32"),
    });
    values.map(f32::to_bits).collect()
}

/// The bits after a prompt and after each token that follows.
fn steps(side: &mut dyn Side, tokens: &[u32], prompt_tokens: usize) -> Vec<Vec<u32>> {
    let (prompt, more) = tokens.split_at(prompt_tokens);
    let calls = [prompt].into_iter().chain(more.chunks(1));
    calls.map(|tokens| bits(&side.forward(tokens, &mut Unwatched).unwrap())).collect()
}

#[test]
fn a_second_sequence_finds_nothing_of_the_first() {
    let fixture = Fixture::new(&Recipe::small());
    let vocabulary = fixture.model.vocabulary;
    let long = prompt(vocabulary, 150);
    let short: Vec<u32> = long.iter().rev().take(70).copied().collect();
    for half in [false, true] {
        let fresh = sides(&fixture.model, 160, half).map(|mut side| steps(&mut *side, &short, 66));
        assert_eq!(fresh[0], fresh[1]);
        for (mut side, fresh) in sides(&fixture.model, 160, half).into_iter().zip(fresh) {
            let first = steps(&mut *side, &long, 140);
            side.reset();
            assert_eq!(side.position(), 0);
            assert_eq!(steps(&mut *side, &short, 66), fresh, "{}", side.identity().implementation);
            // Two resets are one.
            side.reset();
            side.reset();
            assert_eq!(steps(&mut *side, &long, 140), first);
        }
    }
}

/// Files of mixed types on waves: at this width a launch has matrices of two types.
#[test]
fn a_wide_row_meets_matrices_of_two_types_on_waves() {
    let waves = engine::HostBuild::Waves32;
    if !engine::device::Device::usable_host_builds().contains(&waves) {
        eprintln!("SKIPPED two types on waves: this CPU does not run that build");
        return;
    }
    for mix in [Mix::Q4KM, Mix::Q5KM] {
        let mut recipe = Recipe { mix, ..Recipe::small() };
        let shape = Shape { layers: 2, hidden: 2048, heads: 16, ..recipe.shape };
        recipe.shape = Shape { kv_heads: 4, head_size: 64, feed_forward: 512, ..shape };
        let fixture = Fixture::new(&recipe);
        let tokens = prompt(fixture.model.vocabulary, 9);
        let [mut engine, mut exact] = sides_on(&fixture.model, 16, false, Some(waves));
        assert_eq!(steps(&mut *engine, &tokens, 5), steps(&mut *exact, &tokens, 5), "{mix:?}");
    }
}

#[test]
fn a_context_is_filled_to_its_last_position_and_no_further() {
    let fixture = Fixture::new(&Recipe::small());
    for context_tokens in [1, 63, 64, 65, 130] {
        let tokens = prompt(fixture.model.vocabulary, context_tokens);
        let prompt_tokens = context_tokens.div_ceil(2);
        let mut answers = Vec::new();
        for mut side in sides(&fixture.model, context_tokens, false) {
            answers.push(steps(&mut *side, &tokens, prompt_tokens));
            assert_eq!(side.position(), context_tokens);
            let error = side.forward(&[1], &mut Unwatched).unwrap_err().to_string();
            assert!(error.contains(&context_tokens.to_string()), "{error}");
            // A refused step takes no position.
            assert_eq!(side.position(), context_tokens);
        }
        assert_eq!(answers[0], answers[1], "{context_tokens} positions");
    }
}

#[test]
fn the_first_refused_step_changes_nothing_of_the_next() {
    let fixture = Fixture::new(&Recipe::small());
    let tokens = prompt(fixture.model.vocabulary, 20);
    for (mut side, mut other) in
        sides(&fixture.model, 24, false).into_iter().zip(sides(&fixture.model, 24, false))
    {
        let expected = steps(&mut *other, &tokens, 10);
        let (first, rest) = tokens.split_at(10);
        let mut actual = vec![bits(&side.forward(first, &mut Unwatched).unwrap())];
        side.forward(&prompt(fixture.model.vocabulary, 15), &mut Unwatched).unwrap_err();
        side.forward(&[fixture.model.vocabulary as u32], &mut Unwatched).unwrap_err();
        side.forward(&[], &mut Unwatched).unwrap_err();
        actual.extend(rest.iter().map(|id| bits(&side.forward(&[*id], &mut Unwatched).unwrap())));
        assert_eq!(actual, expected, "{}", side.identity().implementation);
    }
}
