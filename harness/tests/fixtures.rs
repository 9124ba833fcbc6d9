//! Made and converted files run on both sides, and a padded model computes what the model did.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::fs::File;
use std::path::{Path, PathBuf};

use fixtures::{GgmlDType, Mix, PRESETS, Recipe, Shape, Tokeniser};
use harness::model::{Model, Prompt};
use harness::sides::TapLevel;
use reference::{Mode, Options, Reference, Silent};
use support::all_agree;
use support::matrix::{Case, prompt};

/// Writes a recipe into a folder.
fn written(recipe: &Recipe, folder: &Path) -> PathBuf {
    let path = folder.join("model.gguf");
    recipe.write(&mut File::create(&path).unwrap()).unwrap();
    path
}

fn model(path: &Path) -> Model {
    Model::resolve(Some(path.to_str().unwrap())).unwrap()
}

#[test]
fn every_preset_agrees_with_every_tap() {
    let folder = tempfile::tempdir().unwrap();
    for (name, _) in PRESETS.into_iter().filter(|(name, _)| *name != "llama3-8b") {
        let recipe = Recipe::preset(name).unwrap();
        let model = model(&written(&recipe, folder.path()));
        assert_eq!(model.vocabulary, recipe.shape.vocabulary, "{name}");
        all_agree(
            &model,
            &[
                Case { level: TapLevel::Op, ..Case::new(33, 3) },
                Case { ubatch: 7, ..Case::new(33, 3) },
            ],
        );
    }
}

#[test]
fn every_mix_agrees_in_generated_blocks() {
    let folder = tempfile::tempdir().unwrap();
    for mix in Mix::EVERY {
        let model = model(&written(&Recipe { mix, ..Recipe::small() }, folder.path()));
        let plain = Case { simd: false, ..Case::new(9, 2) };
        all_agree(&model, &[Case { level: TapLevel::Op, ..Case::new(9, 2) }, plain]);
    }
}

/// The logits after a prompt, in f64 on the dequantised weights.
fn logits(path: &Path, ids: &[u32]) -> Vec<f64> {
    let options = Options { mode: Mode::Wide, context_tokens: 64, ..Options::default() };
    let mut reference = Reference::load(path, &options).unwrap();
    reference.forward(ids, &mut Silent).unwrap().logits.to_f64()
}

/// The gap between the two largest logits, and the largest size of one.
fn landscape(mut logits: Vec<f64>) -> (f64, f64) {
    logits.sort_by(f64::total_cmp);
    let last = logits.len() - 1;
    (logits[last] - logits[last - 1], logits[last].max(-logits[0]))
}

#[test]
fn the_logits_have_gaps_and_stay_in_range_however_deep() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&Recipe::preset("deep").unwrap(), folder.path());
    let mut gaps = Vec::new();
    for tokens in 1..=16 {
        let (gap, largest) = landscape(logits(&path, &prompt(512, tokens)));
        assert!((4.0..40.0).contains(&largest), "{largest}");
        gaps.push(gap);
    }
    gaps.sort_by(f64::total_cmp);
    assert!(gaps[8] > 0.2, "{gaps:?}");
}

/// Sizes that fit no block of 256, as in SmolLM2: three heads on one KV head.
fn narrow() -> Recipe {
    let shape = Shape {
        hidden: 192,
        heads: 3,
        kv_heads: 1,
        head_size: 64,
        feed_forward: 352,
        ..Recipe::small().shape
    };
    Recipe { shape, mix: Mix::All(GgmlDType::Q8_0), epsilon: 1e-2, ..Recipe::small() }
}

fn converted(from: &Path, mix: Mix, to: &Path) {
    fixtures::convert(from, mix, &mut File::create(to).unwrap()).unwrap();
}

#[test]
fn a_padded_model_computes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("padded.gguf");
    let factors = Some((0..32).map(|pair| 1.0 + pair as f32 / 8.0).collect());
    for (tied, rope_factors) in [(false, None), (true, factors)] {
        let from = written(&Recipe { tied, rope_factors, ..narrow() }, folder.path());
        converted(&from, Mix::All(GgmlDType::F32), &to);
        let config = engine::Config::from_gguf(&model(&to).file).unwrap();
        assert_eq!((config.hidden, config.heads, config.kv_heads), (256, 12, 4));
        assert_eq!((config.head_size, config.feed_forward), (64, 512));
        let ids = prompt(512, 20);
        let expected = logits(&from, &ids);
        let distance = |actual: &[f64]| {
            let distances = actual.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            distances.fold(0.0, f64::max)
        };
        // The norm weights and the epsilon are rounded to f32 once more.
        let padded = distance(&logits(&to, &ids));
        assert!(padded <= 1e-5, "{padded}");
        // The epsilon is the smallest of what the padding changes: without it the test is red.
        let mut bytes = std::fs::read(&to).unwrap();
        let key = b"layer_norm_rms_epsilon\x06\0\0\0";
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
        bytes[at..at + 4].copy_from_slice(&1e-2_f32.to_le_bytes());
        std::fs::write(&to, bytes).unwrap();
        let damaged = distance(&logits(&to, &ids));
        assert!(damaged > 1e-4, "{damaged}");
        let tied_mix = if tied { Mix::Q3KM } else { Mix::Q4KM };
        converted(&from, tied_mix, &to);
        all_agree(&model(&to), &[Case { level: TapLevel::Op, ..Case::new(9, 2) }]);
    }
}

#[test]
fn a_tokeniser_comes_from_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let other = Recipe::preset("mqa").unwrap();
    let shape = Shape { vocabulary: 300, ..other.shape };
    let from = written(&Recipe { shape, ..other }, folder.path());
    let tokeniser = Tokeniser::of_file(&from).unwrap();
    let texts = model(&from);
    let recipe = Recipe::small().with_tokeniser(tokeniser);
    let model = model(&written(&recipe, folder.path()));
    assert_eq!(model.vocabulary, 300);
    for text in ["the capital of France", "ÄÖ\n"] {
        let ids = model.ids(Prompt::Text(text)).unwrap();
        assert_eq!(ids, texts.ids(Prompt::Text(text)).unwrap());
        assert_eq!(model.decode(&ids).unwrap(), text);
    }
    for (key, value) in texts.file.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer"))
    {
        assert_eq!(model.file.metadata().get(key), Some(value), "{key}");
    }
}
