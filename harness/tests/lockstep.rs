//! Engine against `exact`: not one bit, whatever the prompt, the split, the threads or the CPU.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use harness::model::Model;
use harness::sides::TapLevel;
use support::all_agree;
use support::matrix::{Case, PROMPTS_TOKENS, UBATCHES_TOKENS, answer};

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
