//! One hash for every split of the prompt, any number of threads, with vector instructions or not.

use reference::{Activations, KvType, Mode, Options, Reference, Silent, WeightType};

use crate::checks::splits::{run, run_tokens};
use crate::tiny::{Random, Tiny};

/// Beyond one chunk of attention.
const PROMPT_TOKENS: usize = 67;
const DECODE_TOKENS: usize = 3;

fn check(tiny: &Tiny, base: &Options) {
    let file = tiny.write();
    let mut random = Random(2);
    let (prompt, more) = (random.tokens(PROMPT_TOKENS), random.tokens(DECODE_TOKENS));
    let expected = run(&file.0, base, &prompt, &more);
    for (ubatch, threads, simd) in [
        (1, 2, true),
        (7, 1, true),
        (32, 2, true),
        (33, 1, true),
        (512, 1, true),
        (512, 2, false),
        (7, 2, false),
    ] {
        let options = Options { ubatch, threads, simd, ..base.clone() };
        let actual = run(&file.0, &options, &prompt, &more);
        assert_eq!(expected, actual, "{tiny:?} {options:?}");
    }
    assert_eq!(expected[0], run_tokens(&file.0, base, &prompt), "{tiny:?} token by token");
}

fn exact() -> Options {
    Options { mode: Mode::Exact, threads: 2, ..Options::default() }
}

#[test]
fn every_weight_type_has_one_hash() {
    for kind in WeightType::ALL {
        check(&Tiny::new(kind), &exact());
    }
}

#[test]
fn every_number_of_digits_has_one_hash_and_another_one() {
    let tiny = Tiny { layers: 1, ..Tiny::new(WeightType::Q4K) };
    let file = tiny.write();
    let mut seen = Vec::new();
    for activations in [Activations::I24, Activations::I16, Activations::I8] {
        let options = Options { activations, ..exact() };
        check(&tiny, &options);
        seen.push(run(&file.0, &options, &[1, 2, 3], &[]));
    }
    assert_ne!(seen[0], seen[1]);
    assert_ne!(seen[1], seen[2]);
}

#[test]
fn every_head_size_has_one_hash() {
    for (head_size, heads) in [(64, 4), (80, 16), (96, 8), (128, 2)] {
        let kv_heads = heads / 2;
        let tiny = Tiny {
            layers: 1,
            heads,
            kv_heads,
            head_size,
            rope_dimensions: head_size,
            ..Tiny::new(WeightType::Q4K)
        };
        check(&tiny, &exact());
    }
}

#[test]
fn options_and_features_have_one_hash_and_another_one() {
    let plain = Tiny { layers: 1, ..Tiny::new(WeightType::Q8_0) };
    let untied = Tiny { tied: false, ..plain.clone() };
    let factors = Tiny { rope_factors: true, ..plain.clone() };
    let partial = Tiny { rope_dimensions: 48, ..plain.clone() };
    let halves = Options { kv: KvType::F16, ..exact() };
    let mut seen = Vec::new();
    for (tiny, options) in [
        (&plain, exact()),
        (&untied, exact()),
        (&factors, exact()),
        (&partial, exact()),
        (&plain, halves),
    ] {
        check(tiny, &options);
        seen.push(run(&tiny.write().0, &options, &[5, 6, 7, 8, 9], &[])[0][1]);
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(count, seen.len(), "a feature changed nothing");
}

#[test]
fn a_reset_reference_starts_over() {
    let file = Tiny::new(WeightType::Q5_1).write();
    for mode in [Mode::Exact, Mode::Stock, Mode::Wide] {
        let options = Options { mode, threads: 1, ..Options::default() };
        let mut reference = Reference::load(&file.0, &options).unwrap();
        let first = reference.forward(&[1, 2, 3], &mut Silent).unwrap();
        assert_eq!((first.position, reference.position()), (2, 3));
        let second = reference.forward(&[1, 2, 3], &mut Silent).unwrap();
        assert_eq!((second.position, reference.position()), (5, 6));
        assert_ne!(first.logits, second.logits);
        reference.reset();
        assert_eq!(reference.position(), 0);
        assert_eq!(first, reference.forward(&[1, 2, 3], &mut Silent).unwrap());
    }
}
