//! Every comparison can fail: one fault in the engine's rows, and the run is red and says where.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use harness::compare::{Difference, Divergence, Verdict};
use harness::model::Model;
use harness::sides::TapLevel;
use harness::sides::sabotaged::{Fault, Sabotage};
use support::matrix::{Case, answer};

/// Runs with a fault and gives what the run found. It has to find something.
fn find(model: &Model, level: TapLevel, sabotage: Sabotage) -> Divergence {
    let case = Case { level, ..Case::new(5, 2) };
    let outcome = answer(model, case, Some(sabotage)).outcome;
    assert_eq!(outcome.exit_code(), 1, "{sabotage:?} was not seen: {:?}", outcome.verdict);
    assert!(outcome.canary.unwrap().seen);
    match outcome.verdict {
        Verdict::Diverges(found) => *found,
        other => panic!("{sabotage:?}: {other:?}"),
    }
}

/// Every tap inside a layer, in the order of the contract.
const LAYER_TAPS: [&str; 15] = [
    "attn_norm",
    "q",
    "k",
    "v",
    "q_rope",
    "k_rope",
    "attn_out",
    "wo",
    "attn_residual",
    "ffn_norm",
    "gate",
    "up",
    "swiglu",
    "down",
    "ffn_residual",
];

#[test]
fn one_bit_in_any_tap_is_found_where_it_is() {
    let model = Model::resolve(None).unwrap();
    for tap in LAYER_TAPS {
        let fault = Fault::FlipBit { index: 17, bit: 0 };
        let found = find(&model, TapLevel::Op, Sabotage { tap, layer: Some(1), call: 1, fault });
        assert_eq!(found.place.key.tap, tap);
        assert_eq!(found.place.key.layer, Some(1), "{found}");
        assert_eq!((found.place.step, found.place.key.position), (1, 5), "{found}");
        assert_eq!(found.element.as_ref().unwrap().index, 17, "{found}");
        assert_eq!(found.differing_count, 1, "{found}");
        assert_eq!(found.difference, Difference::Bits);
    }
}

#[test]
fn every_kind_of_fault_in_a_tap_is_found() {
    let model = Model::resolve(None).unwrap();
    let at = |tap, layer, fault| Sabotage { tap, layer, call: 0, fault };
    let find = |sabotage| find(&model, TapLevel::Op, sabotage);

    let found = find(at("embed", None, Fault::SwapRows { one: 1, two: 3 }));
    assert_eq!((&*found.place.key.tap, found.place.key.position), ("embed", 1), "{found}");

    let found = find(at("attn_out", Some(0), Fault::WriteNan { index: 9 }));
    assert_eq!(found.difference, Difference::NonFinite);
    assert_eq!(found.element.unwrap().index, 9);

    let found = find(at("v", Some(1), Fault::WriteInfinity { index: 2 }));
    assert_eq!(found.difference, Difference::NonFinite);
    assert_eq!(&*found.place.key.tap, "v");

    let found = find(at("gate", Some(0), Fault::DropTap));
    let Difference::Sequence { expected, actual } = found.difference else { panic!("{found}") };
    assert_eq!(expected.unwrap().tap, "gate");
    assert_eq!(actual.unwrap().tap, "up");

    let found = find(at("k_rope", Some(1), Fault::ShiftPosition));
    assert!(matches!(found.difference, Difference::Sequence { .. }), "{found}");

    let found = find(at("down", Some(0), Fault::Shorten));
    assert!(matches!(found.difference, Difference::Length { .. }), "{found}");
    assert_eq!(&*found.place.key.tap, "down");
}

#[test]
fn every_kind_of_fault_in_the_readout_is_found() {
    let model = Model::resolve(None).unwrap();
    for tap in ["final_norm", "logits"] {
        for (fault, index) in [
            (Fault::FlipBit { index: 0, bit: 31 }, Some(0)),
            (Fault::FlipBit { index: 200, bit: 0 }, Some(200)),
            (Fault::WriteNan { index: 7 }, Some(7)),
            (Fault::WriteInfinity { index: 8 }, Some(8)),
            (Fault::Shorten, None),
        ] {
            let sabotage = Sabotage { tap, layer: None, call: 2, fault };
            let found = find(&model, TapLevel::Readout, sabotage);
            assert_eq!(&*found.place.key.tap, tap, "{found}");
            assert_eq!(found.place.step, 2, "{found}");
            assert_eq!(found.element.as_ref().map(|element| element.index), index, "{found}");
        }
        let fault = Fault::ShiftPosition;
        let sabotage = Sabotage { tap, layer: None, call: 1, fault };
        let found = find(&model, TapLevel::Readout, sabotage);
        assert!(matches!(found.difference, Difference::Sequence { .. }), "{found}");
    }
}

#[test]
fn the_last_tap_missing_is_found() {
    let model = Model::resolve(None).unwrap();
    let sabotage = Sabotage { tap: "logits", layer: None, call: 1, fault: Fault::DropTap };
    let found = find(&model, TapLevel::Op, sabotage);
    let Difference::Sequence { expected, actual } = found.difference else { panic!("{found}") };
    assert_eq!(expected.unwrap().tap, "logits");
    assert_eq!(actual, None);
}

#[test]
fn a_fault_in_a_chunking_is_found() {
    let model = Model::resolve(None).unwrap();
    // Calls 0 to 2 are the steps; call 3 is the prompt's first token once more, call 7 its last.
    let fault = Fault::FlipBit { index: 3, bit: 5 };
    let sabotage = Sabotage { tap: "final_norm", layer: None, call: 7, fault };
    let case = Case { prefill_decode: true, ..Case::new(5, 2) };
    let outcome = answer(&model, case, Some(sabotage)).outcome;
    let Verdict::Diverges(found) = outcome.verdict else { panic!("{:?}", outcome.verdict) };
    let Difference::Chunking { side, chunking } = &found.difference else { panic!("{found}") };
    assert_eq!((side.as_str(), chunking.as_str()), ("engine", "token by token"));
    assert_eq!(found.element.as_ref().unwrap().index, 3);
    assert_eq!(outcome.steps_agreeing, 3);
    assert_eq!(outcome.prefill_decode.unwrap().diverging_count, 1);
}
