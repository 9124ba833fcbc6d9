//! Engine against `exact`: not one bit, whatever the prompt, the split, the threads or the CPU.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use harness::model::Model;
use harness::sides::TapLevel;
use support::matrix::{Case, PROMPTS_TOKENS, Sum, UBATCHES_TOKENS, answer};

fn all_agree(model: &Model, cases: &[Case]) {
    let mut sum = Sum::default();
    for &case in cases {
        let line = sum.add(case, &answer(model, case, None));
        assert_eq!(sum.failed, 0, "{line}");
    }
    assert_eq!(sum.cases, cases.len());
    assert_eq!(sum.tally.elements_differing, 0);
    assert!(sum.tally.rows_compared > 0);
}

#[test]
fn the_embedded_model_in_every_split() {
    let model = Model::resolve(None).unwrap();
    let mut cases = Vec::new();
    for prompt_tokens in PROMPTS_TOKENS {
        for ubatch in UBATCHES_TOKENS {
            for threads in [1, 2] {
                cases.push(Case { ubatch, threads, ..Case::new(prompt_tokens, 64) });
            }
        }
    }
    all_agree(&model, &cases);
}

#[test]
fn the_embedded_model_in_every_tap() {
    let model = Model::resolve(None).unwrap();
    for (prompt_tokens, ubatch) in [(33, 512), (64, 32), (65, 1)] {
        let level = TapLevel::Op;
        all_agree(&model, &[Case { ubatch, level, ..Case::new(prompt_tokens, 4) }]);
    }
    all_agree(&model, &[Case { level: TapLevel::Layer, ..Case::new(70, 4) }]);
}

#[test]
fn the_embedded_model_in_every_chunking_of_a_run() {
    let model = Model::resolve(None).unwrap();
    for ubatch in [7, 512] {
        let case = Case { ubatch, prefill_decode: true, ..Case::new(100, 8) };
        let answer = answer(&model, case, None);
        assert_eq!(answer.outcome.exit_code(), 0, "{:?}", answer.outcome.verdict);
        let summary = answer.outcome.prefill_decode.unwrap();
        assert_eq!((summary.chunkings_count, summary.diverging_count), (10, 0));
        assert!(summary.decode_checked);
        assert_eq!(answer.prompt_hashes.len(), 1);
    }
}

#[test]
fn the_embedded_model_with_and_without_vector_instructions() {
    let model = Model::resolve(None).unwrap();
    let case = Case::new(70, 8);
    all_agree(&model, &[case, Case { simd: false, ..case }]);
}

#[test]
fn smollm2_in_some_splits() {
    let Some(model) = support::smollm2("smollm2_in_some_splits") else { return };
    let cases = [
        Case { ubatch: 512, threads: 2, ..Case::new(33, 8) },
        Case { ubatch: 32, threads: 1, ..Case::new(33, 8) },
        Case { ubatch: 7, threads: 2, simd: false, ..Case::new(33, 8) },
        Case { level: TapLevel::Op, ..Case::new(2, 2) },
    ];
    all_agree(&model, &cases);
}
