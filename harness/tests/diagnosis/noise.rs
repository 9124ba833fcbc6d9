//! What has no cause gets none: noise, single elements, constants.

use std::sync::OnceLock;

use fixtures::values::Stream;
use harness::diagnose::{Certainty, Evidence, Label, diagnose};
use proptest::prelude::*;

use crate::world::{FLOATS, GROUPED, PASSES, PLAIN, World};

fn worlds() -> &'static [World; 3] {
    static WORLDS: OnceLock<[World; 3]> = OnceLock::new();
    WORLDS.get_or_init(|| [GROUPED, PLAIN, FLOATS].map(|spec| World::new(&spec, 77)))
}

pub(crate) const TAPS: [(&str, Option<usize>); 18] = [
    ("embed", None),
    ("attn_norm", Some(1)),
    ("q", Some(1)),
    ("k", Some(1)),
    ("v", Some(1)),
    ("q_rope", Some(1)),
    ("k_rope", Some(1)),
    ("attn_out", Some(1)),
    ("wo", Some(1)),
    ("attn_residual", Some(1)),
    ("ffn_norm", Some(1)),
    ("gate", Some(1)),
    ("up", Some(1)),
    ("swiglu", Some(1)),
    ("down", Some(1)),
    ("ffn_residual", Some(1)),
    ("final_norm", None),
    ("logits", None),
];

fn any_evidence() -> impl Strategy<Value = (Evidence<'static>, u64)> {
    let choice = (0..3_usize, prop::sample::select(&TAPS[..]), 0..PASSES.len(), any::<u64>());
    choice.prop_map(|(world, (tap, layer), pass, seed)| {
        (worlds()[world].evidence(tap, layer, pass), seed)
    })
}

/// Some different places of a tensor.
fn places(stream: &mut Stream, evidence: &Evidence<'_>, count: usize) -> Vec<usize> {
    let mut places: Vec<usize> =
        (0..count).map(|_| stream.below(evidence.expected.len())).collect();
    places.sort_unstable();
    places.dedup();
    places
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..Default::default()
    })]

    /// Other values everywhere, as large as the right ones.
    #[test]
    fn noise_is_explained_by_nothing((mut evidence, seed) in any_evidence()) {
        let mut stream = Stream::new(seed);
        let rows = evidence.expected.clone();
        let take = |stream: &mut Stream| rows[stream.below(rows.len())] * (1.0 + stream.unit());
        evidence.actual = rows.iter().map(|_| take(&mut stream)).collect();
        let found = diagnose(&evidence);
        prop_assert!(found.explanations.is_empty(), "{found}");
        prop_assert!(found.inputs_fit == Some(true));
        prop_assert!(found.to_string().starts_with("no hypothesis explains it: "), "{found}");
    }

    /// Other values in a few places.
    #[test]
    fn a_few_wrong_values_are_explained_by_nothing(
        (mut evidence, seed) in any_evidence(),
        count in 2_usize..40,
    ) {
        let mut stream = Stream::new(seed);
        for place in places(&mut stream, &evidence, count) {
            evidence.actual[place] = 3.0 * (1.0 + evidence.actual[place].abs()) * stream.unit();
        }
        let found = diagnose(&evidence);
        prop_assert!(found.explanations.is_empty(), "{found}");
    }

    /// One other value: no cause that moves or recomputes values may claim it.
    #[test]
    fn one_wrong_value_says_nothing_of_its_cause((mut evidence, seed) in any_evidence()) {
        let mut stream = Stream::new(seed);
        let place = stream.below(evidence.expected.len());
        evidence.actual[place] = (0.1 + evidence.expected[place].abs()) * (1.5 + stream.unit());
        let found = diagnose(&evidence);
        prop_assert!(found.explanations.is_empty(), "{found}");
    }

    /// The last bit here and there: another rounding within the bounds, never an exact cause.
    #[test]
    fn last_bits_are_no_exact_cause((mut evidence, seed) in any_evidence(), count in 1_usize..60) {
        let mut stream = Stream::new(seed);
        for place in places(&mut stream, &evidence, count) {
            let value = evidence.actual[place];
            evidence.actual[place] =
                if stream.bits() & 1 == 0 { value.next_up() } else { value.next_down() };
        }
        let found = diagnose(&evidence);
        for explanation in &found.explanations {
            let bounded = explanation.label == Label::Rounding
                && explanation.certainty == Certainty::WithinBound;
            prop_assert!(bounded || explanation.label == Label::BitFlip, "{found}");
        }
    }

    /// Anything gives a constant: it is explained by nothing, but for zeros that nobody overwrote.
    #[test]
    fn a_constant_is_explained_by_nothing((mut evidence, seed) in any_evidence()) {
        let value = Stream::new(seed).unit();
        evidence.actual.fill(value);
        let found = diagnose(&evidence);
        prop_assert!(found.explanations.is_empty(), "{found}");
    }
}

#[test]
fn nothing_differs_and_nothing_is_said() {
    let evidence = worlds()[0].evidence("q", Some(1), 0);
    let found = diagnose(&evidence);
    assert!(found.explanations.is_empty());
    assert!(found.refuted.is_empty());
}
