//! SmolLM2 itself, where it is in the cache; a visible line where it is not.

use std::path::PathBuf;

use reference::{Mode, Options, Reference, Silent};

use crate::chunking::{hashes, run, run_tokens};

const FILE: &str = "smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf";

/// The model, or the line that says that `test` was skipped.
pub(crate) fn path(test: &str) -> Option<PathBuf> {
    let folder = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let cached = || {
        let cache = folder("LOCKSTEP_CACHE")
            .or_else(|| folder("XDG_CACHE_HOME").map(|path| path.join("lockstep")))
            .or_else(|| folder("HOME").map(|path| path.join(".cache/lockstep")))?;
        Some(cache.join(FILE))
    };
    let path = folder("LOCKSTEP_SMOLLM2").or_else(cached).filter(|path| path.is_file());
    if path.is_none() {
        eprintln!(
            "SKIPPED {test}: model smollm2-135m-instruct is not in the cache \
             (lockstep fetch smollm2-135m-instruct)"
        );
    }
    path
}

/// Ordinary tokens, the same ones in every run.
pub(crate) fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|index| 300 + (index * 7919) % 40_000).collect()
}

#[test]
fn smollm2_has_one_hash() {
    let Some(path) = path("real_model::smollm2_has_one_hash") else {
        return;
    };
    let base = Options {
        mode: Mode::Exact,
        threads: 2,
        ubatch: 512,
        context_tokens: 256,
        ..Options::default()
    };
    let (prompt, more) = (tokens(65), &tokens(68)[65..]);
    let expected = run(&path, &base, &prompt, more);
    for (ubatch, threads, simd) in [(1, 2, true), (7, 1, true), (33, 2, true), (512, 2, false)] {
        let options = Options { ubatch, threads, simd, ..base.clone() };
        assert_eq!(expected, run(&path, &options, &prompt, more), "{options:?}");
    }
    assert_eq!(expected[0], run_tokens(&path, &base, &prompt));
}

#[test]
fn smollm2_config_is_the_files() {
    let Some(path) = path("real_model::smollm2_config_is_the_files") else {
        return;
    };
    let options = Options { threads: 2, ..Options::default() };
    let mut reference = Reference::load(&path, &options).unwrap();
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
