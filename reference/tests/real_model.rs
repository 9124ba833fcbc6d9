//! The reference on SmolLM2 itself; where it is not in the cache, each test counts as ignored.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod checks;

use std::path::Path;

use checks::splits::{hashes, run, run_tokens};
use checks::{distance, quantized_llama};
use libtest_mimic::{Arguments, Trial};
use reference::{Mode, Options, Reference, Silent};

const MODEL: &str = "smollm2-135m-instruct";

type Test = (&'static str, fn(&Path));

fn main() {
    let path = fixtures::cached(MODEL);
    let tests: [Test; 4] = [
        ("smollm2_has_one_hash", smollm2_has_one_hash),
        ("smollm2_config_is_the_files", smollm2_config_is_the_files),
        (AGREES, smollm2_agrees_with_quantized_llama),
        ("smollm2_is_as_near_as_candle", smollm2_is_as_near_as_candle),
    ];
    let trials = tests.map(|(name, test)| {
        let path = path.clone();
        Trial::test(name, move || {
            test(&path.ok_or_else(|| format!("{MODEL} is missing: lockstep fetch {MODEL}"))?);
            Ok(())
        })
    });
    let missing = path.is_none();
    let trials = trials.map(|trial| trial.with_ignored_flag(missing)).into();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Ordinary tokens, the same ones in every run.
fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|index| 300 + (index * 7919) % 40_000).collect()
}

fn smollm2_has_one_hash(path: &Path) {
    let base = Options {
        mode: Mode::Exact,
        threads: 2,
        ubatch: 512,
        context_tokens: 256,
        ..Options::default()
    };
    let (prompt, more) = (tokens(65), &tokens(68)[65..]);
    let expected = run(path, &base, &prompt, more);
    for (ubatch, threads, simd) in [(1, 2, true), (7, 1, true), (33, 2, true), (512, 2, false)] {
        let options = Options { ubatch, threads, simd, ..base.clone() };
        assert_eq!(expected, run(path, &options, &prompt, more), "{options:?}");
    }
    assert_eq!(expected[0], run_tokens(path, &base, &prompt));
}

fn smollm2_config_is_the_files(path: &Path) {
    let options = Options { threads: 2, ..Options::default() };
    let mut reference = Reference::load(path, &options).unwrap();
    let config = reference.config();
    assert_eq!((config.layers, config.hidden, config.feed_forward), (30, 576, 1536));
    assert_eq!((config.heads, config.kv_heads, config.head_size), (9, 3, 64));
    assert_eq!((config.vocabulary, config.context_length), (49_152, 8192));
    assert_eq!((config.eps, config.rope_base, config.rope_dimensions), (1e-5, 100_000.0, 64));
    assert!(config.tied);
    assert!(!config.rope_factors);
    let readout = reference.forward(&tokens(3), &mut Silent).unwrap();
    assert_eq!((readout.hidden.len(), readout.logits.len()), (576, 49_152));
    assert_ne!(hashes(&readout)[0], hashes(&readout)[1]);
}

const AGREES: &str = "smollm2_agrees_with_quantized_llama";

fn smollm2_agrees_with_quantized_llama(path: &Path) {
    quantized_llama::in_child(AGREES, || {
        quantized_llama::check(path, &tokens(33), &tokens(41)[33..]);
    });
}

fn smollm2_is_as_near_as_candle(path: &Path) {
    let tokens = tokens(40);
    distance::check("smollm2", path, &tokens[..32], &tokens[32..]);
}
