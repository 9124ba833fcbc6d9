//! Two traces that are equal, and one fault after another planted into the second.

use super::*;
use crate::compare::Phase;
use crate::event::Stopped;
use crate::landscape::Logit;
use crate::sides::TapLevel;
use crate::trace::tests::{header, record};
use crate::trace::{Contract, Ending, Landscape, Record};

fn row(salt: usize) -> Vec<f32> {
    (0..32).map(|index| ((index * 7 + salt * 13) % 64) as f32 / 8.0 - 3.0).collect()
}

/// Three prompt tokens in one chunk and two decodes, two taps of two layers each.
fn trace(name: &str) -> Trace {
    let mut header = header();
    header.side.implementation = name.to_owned();
    let mut records = Vec::new();
    for positions in [0..3, 3..4, 4..5] {
        for layer in 0..2 {
            for (index, tap) in ["attn_norm", "ffn_residual"].into_iter().enumerate() {
                for position in positions.clone() {
                    let row = row(100 * position + 10 * layer + index);
                    records.push(record(tap, Some(layer), position, &row));
                }
            }
        }
        records.push(record("logits", None, positions.end - 1, &row(positions.end)));
    }
    for (index, record) in records.iter_mut().enumerate() {
        record.line = index + 2;
    }
    Trace { header, records, landscapes: Vec::new(), ending: Ending::Whole(Stopped::MaxTokens) }
}

fn place(trace: &Trace, tap: &str, layer: Option<usize>, position: usize) -> usize {
    let here = |r: &Record| r.tap == tap && r.layer == layer && r.position == position;
    trace.records.iter().position(here).unwrap()
}

fn after(change: impl FnOnce(&mut Trace)) -> Diff {
    let mut two = trace("two");
    change(&mut two);
    compare(&trace("one"), &two).unwrap()
}

fn first(diff: &Diff) -> &Finding {
    match &diff.verdict {
        DiffVerdict::Diverges(finding) => finding,
        other => panic!("no divergence: {other:?}"),
    }
}

fn doubt(diff: &Diff) -> &Doubt {
    match &diff.verdict {
        DiffVerdict::Inconclusive(doubt) => doubt,
        other => panic!("no doubt: {other:?}"),
    }
}

/// Makes a trace one of an engine that lockstep knows nothing of.
fn foreign(trace: &mut Trace) {
    trace.header.contract = None;
    trace.header.hash = HashKind::Foreign;
    trace.header.tap = None;
    trace.header.digits = Some(6);
}

#[test]
fn equal_traces_agree_and_say_by_what() {
    let diff = after(|_| {});
    assert!(matches!(diff.verdict, DiffVerdict::Agrees));
    assert_eq!((diff.evidence, diff.pairs_by_bits, diff.exit_code()), (Evidence::Bits, 23, 0));
}

#[test]
fn a_step_means_nothing() {
    let diff = after(|two| {
        for record in &mut two.records {
            (record.step, record.phase) = (record.step + 5, Phase::Decode);
        }
    });
    assert_eq!(diff.exit_code(), 0);
}

/// The order is that of computation: layer 0 of the second position before layer 1 of the first.
#[test]
fn one_bit_is_named_at_its_first_place() {
    let diff = after(|two| {
        for (tap, layer, position) in [("attn_norm", 1, 0), ("ffn_residual", 0, 1)] {
            let at = place(two, tap, Some(layer), position);
            two.records[at].hash = two.records[at].hash.map(|hash| Hash(hash.0 ^ 1));
        }
    });
    let finding = first(&diff);
    assert_eq!(finding.key.to_string(), "layer 0 tap ffn_residual at position 1, token 8");
    assert_eq!((diff.pairs_differing, diff.exit_code()), (2, 1));
    assert_eq!(finding.line_a, finding.line_b);
}

#[test]
fn rows_name_the_element() {
    let (mut one, mut two) = (trace("one"), trace("two"));
    let at = place(&one, "attn_norm", Some(1), 2);
    let mut values = row(100 * 2 + 10);
    one.records[at].row = Some(values.clone());
    values[9] = f32::from_bits(values[9].to_bits() ^ 1);
    two.records[at].hash = Some(Hash(engine::hash_row(&values)));
    two.records[at].row = Some(values);
    let diff = compare(&one, &two).unwrap();
    let Parting::Bits { element: Some(element), differing_count, .. } = &first(&diff).difference
    else {
        panic!("{:?}", diff.verdict)
    };
    assert_eq!((element.index, *differing_count), (9, Some(1)));
}

#[test]
fn a_missing_record_is_a_failure_and_not_a_skip() {
    let gone = |two: &mut Trace| {
        let at = place(two, "ffn_residual", Some(1), 3);
        two.records.remove(at);
    };
    let diff = after(gone);
    assert_eq!(first(&diff).difference, Parting::Missing { only_in: "A" });
    assert_eq!(diff.unpaired[0].reason, Unpaired::Missing);
    let mut one = trace("one");
    gone(&mut one);
    let diff = compare(&one, &trace("two")).unwrap();
    assert_eq!(first(&diff).difference, Parting::Missing { only_in: "B" });
    assert_eq!(diff.exit_code(), 1);
}

/// The record that only B has comes before the later difference, and after the earlier one.
#[test]
fn what_only_b_has_stands_in_the_order_too() {
    let mut one = trace("one");
    let at = place(&one, "attn_norm", Some(1), 3);
    one.records.remove(at);
    let flip = |two: &mut Trace, tap: &str, position: usize| {
        let at = place(two, tap, Some(0), position);
        two.records[at].hash = Some(Hash(0));
    };
    let mut two = trace("two");
    flip(&mut two, "attn_norm", 4);
    let finding = compare(&one, &two).unwrap();
    assert_eq!(first(&finding).difference, Parting::Missing { only_in: "B" });
    flip(&mut two, "ffn_residual", 3);
    let finding = compare(&one, &two).unwrap();
    assert!(matches!(first(&finding).difference, Parting::Bits { .. }));
}

#[test]
fn another_token_pairs_with_nothing() {
    let diff = after(|two| {
        two.records.iter_mut().filter(|r| r.position == 4).for_each(|r| r.token_id = Some(90));
    });
    assert_eq!(first(&diff).difference, Parting::OtherToken { a: 11, b: 90 });
    let counts: Vec<_> = diff.unpaired.iter().map(|c| (c.reason, c.which, c.records)).collect();
    assert_eq!(counts, [(Unpaired::OtherToken, "A", 5), (Unpaired::OtherToken, "B", 5)]);
    let diff = after(|two| two.records.iter_mut().for_each(|r| r.token_id = Some(90)));
    assert_eq!(*doubt(&diff), Doubt::NothingCompared);
    assert_eq!(diff.exit_code(), 4);
}

#[test]
fn a_key_that_stands_twice_is_not_compared() {
    let diff = after(|two| {
        let again = two.records[3].clone();
        two.records.push(again);
    });
    assert_eq!(*doubt(&diff), Doubt::Duplicates { count: 3 });
}

#[test]
fn an_early_end_is_no_agreement() {
    let diff = after(|two| {
        two.records.truncate(20);
        two.ending = Ending::Early { cut_bytes: 0 };
    });
    assert_eq!(*doubt(&diff), Doubt::EndedEarly { which: "B", missing_count: 3 });
    // Cut inside the prompt: later stages of positions that are there, and positions that are not.
    let diff = after(|two| {
        two.records.truncate(5);
        two.ending = Ending::Early { cut_bytes: 9 };
    });
    assert_eq!(*doubt(&diff), Doubt::EndedEarly { which: "B", missing_count: 18 });
    // An end that says that the run was stopped is an early one too.
    for stopped in [Stopped::Interrupted, Stopped::Failed] {
        let diff = after(|two| {
            two.records.truncate(20);
            two.ending = Ending::Whole(stopped);
        });
        assert_eq!(*doubt(&diff), Doubt::EndedEarly { which: "B", missing_count: 3 });
    }
    let diff = after(|two| two.records.truncate(20));
    assert_eq!(first(&diff).difference, Parting::Missing { only_in: "A" });
    // A hole before the end is no matter of the end.
    let diff = after(|two| {
        two.records.truncate(20);
        two.records.remove(0);
        two.ending = Ending::Early { cut_bytes: 0 };
    });
    assert_eq!(first(&diff).difference, Parting::Missing { only_in: "A" });
}

#[test]
fn what_the_other_did_not_watch_is_counted_and_no_failure() {
    let diff = after(|two| {
        two.header.tap = Some(TapLevel::Readout);
        two.records.retain(|record| record.tap == "logits");
    });
    assert_eq!(diff.exit_code(), 0);
    assert_eq!(diff.unpaired.len(), 1);
    assert_eq!((diff.unpaired[0].reason, diff.unpaired[0].records), (Unpaired::NotRecorded, 20));
}

#[test]
fn equal_identities_other_models_and_other_contracts_are_refused() {
    let diff = compare(&trace("one"), &trace("one")).unwrap();
    assert!(matches!(doubt(&diff), Doubt::SameIdentity { .. }));
    let mut two = trace("two");
    two.header.model.as_mut().unwrap().sha256 = "cd".repeat(32);
    assert!(matches!(compare(&trace("one"), &two), Err(Refusal::Models { .. })));
    let mut two = trace("two");
    two.header.contract = Some(Contract { activations: "i16".to_owned(), kv: "f32".to_owned() });
    let refusal = compare(&trace("one"), &two).unwrap_err().to_string();
    assert!(refusal.contains("activations i24, cache f32, B activations i16"), "{refusal}");
}

#[test]
fn nan_is_decided_first_and_never_agrees() {
    let mut values = row(10);
    values[3] = f32::NAN;
    let at = place(&trace("one"), "attn_norm", Some(1), 0);
    let with_nan = |trace: &mut Trace| {
        let line = trace.records[at].line;
        trace.records[at] = record("attn_norm", Some(1), 0, &values);
        trace.records[at].line = line;
    };
    let diff = after(with_nan);
    assert_eq!(first(&diff).difference, Parting::NonFinite { what: "NaN", a: 0, b: 1 });
    let (mut one, mut two) = (trace("one"), trace("two"));
    with_nan(&mut one);
    with_nan(&mut two);
    let diff = compare(&one, &two).unwrap();
    assert!(matches!(doubt(&diff), Doubt::NonFiniteOnBothSides { .. }));
    let diff = after(|two| two.records[at].elements_count = Some(31));
    assert_eq!(first(&diff).difference, Parting::Length { a: 32, b: 31 });
}

#[test]
fn statistics_never_prove_agreement() {
    let diff = after(foreign);
    assert_eq!(diff.evidence, Evidence::Statistics);
    assert_eq!(*doubt(&diff), Doubt::StatisticsOnly { pairs_count: 23 });
    assert_eq!(diff.exit_code(), 4);
}

#[test]
fn statistics_can_show_a_divergence() {
    let at = place(&trace("one"), "ffn_residual", Some(0), 1);
    for (value, seen) in [(1.0, false), (4.0, true), (f32::NAN, true), (f32::INFINITY, true)] {
        let diff = after(|two| {
            foreign(two);
            let max = two.records[at].max.to_f64() as f32;
            two.records[at].max = Number::F32(max + value);
        });
        assert_eq!(diff.exit_code(), if seen { 1 } else { 4 }, "{value}");
        if seen {
            let Parting::Figure { name, .. } = &first(&diff).difference else { panic!() };
            assert_eq!(name, "maximum");
        }
    }
}

#[test]
fn figures_of_a_part_are_held_against_the_same_part() {
    let mut one = trace("one");
    let at = place(&one, "ffn_residual", Some(0), 1);
    let part = |two: &mut Trace, change: f32| {
        foreign(two);
        let own = row(101);
        let mut start = record("ffn_residual", Some(0), 1, &own[..4]);
        start.line = two.records[at].line;
        (start.covered_count, start.elements_count) = (Some(4), Some(32));
        let changed =
            own[..4].iter().enumerate().map(|(i, v)| if i == 2 { v + change } else { *v });
        start.sample = Some(changed.map(Number::F32).collect());
        two.records[at] = start;
    };
    let mut two = trace("two");
    part(&mut two, 0.0);
    assert_eq!(compare(&one, &two).unwrap().pairs_incomparable, 1);
    one.records[at].row = Some(row(101));
    let diff = compare(&one, &two).unwrap();
    assert_eq!((diff.pairs_incomparable, diff.exit_code()), (0, 4));
    part(&mut two, 9.0);
    let diff = compare(&one, &two).unwrap();
    let Parting::Figure { name, .. } = &first(&diff).difference else { panic!() };
    assert_eq!(name, "element 2");
}

#[test]
fn another_top_at_a_wide_gap_is_a_divergence() {
    let top = |id: u32, gap: f32| Landscape {
        line: 30,
        step: 0,
        token_id: Some(9),
        position: Some(2),
        top: vec![Logit { id, logit: Number::F32(10.0) }],
        gap: Some(Number::F32(gap)),
        entropy: Number::F64(1.0),
    };
    for (id, gap, code) in [(5, 9.0, 4), (6, 9.0, 1), (6, 4.0, 4)] {
        let (mut one, mut two) = (trace("one"), trace("two"));
        foreign(&mut two);
        one.landscapes.push(top(5, 9.0));
        two.landscapes.push(top(id, gap));
        assert_eq!(compare(&one, &two).unwrap().exit_code(), code, "{id} {gap}");
    }
}

#[test]
fn the_canary_sings_with_both_kinds_of_evidence() {
    let (one, two) = (trace("one"), trace("two"));
    for by in [Evidence::Bits, Evidence::Statistics] {
        let pair = (&one.records[0], &two.records[0]);
        assert!(judge::canary(by, &one.header, &two.header, pair));
    }
    let zeros = record("v", None, 0, &[0.0; 4]);
    let pair = (&zeros, &zeros);
    assert!(judge::canary(Evidence::Statistics, &one.header, &two.header, pair));
}
