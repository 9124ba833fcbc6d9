//! Three voices that are off by amounts made up here.

use super::*;
use crate::compare::outcomes::State;
use crate::compare::{Key, Phase};

fn place() -> Place {
    let key = Key { token_id: 1, position: 2, layer: None, tap: "logits".into() };
    Place { key, step: 0, phase: Phase::PrefillLast }
}

/// The verdict when engine and stock are off by these factors of 1e-6 in one logit.
fn judge(judge: Judge, engine: f64, stock: f64) -> Verdict {
    let wide = vec![1.0, 3.0, 2.0];
    let moved = |by: f64| {
        let mut row = wide.clone();
        row[0] += by * 1e-6;
        Row::F64(row)
    };
    let (engine, stock, wide) = (moved(engine), moved(stock), Row::F64(wide.clone()));
    let triangle = Triangle::measure(
        Rows { hidden: &engine, logits: &engine },
        Rows { hidden: &stock, logits: &stock },
        Rows { hidden: &wide, logits: &wide },
        Stream::default(),
        &Usual::default(),
    );
    let reference = if judge == Judge::Wide { &wide } else { &stock };
    triangle.verdict(judge, &place(), &Landscape::of(&engine), &Landscape::of(reference))
}

#[test]
fn the_rule_of_three_has_two_sides() {
    assert!(matches!(judge(Judge::Wide, 2.9, 1.0), Verdict::Agrees));
    assert!(matches!(judge(Judge::Wide, 3.1, 1.0), Verdict::Diverges(_)));
    assert!(matches!(judge(Judge::Wide, 0.0, 0.0), Verdict::Agrees));
    assert!(matches!(judge(Judge::Wide, 0.1, 0.0), Verdict::Diverges(_)));
}

#[test]
fn a_common_shift_of_the_logits_is_no_distance_but_has_its_own_limit() {
    let wide = vec![1.0, 3.0, 2.0, -1.0];
    let moved = |by: [f64; 4]| Row::F64(wide.iter().zip(by).map(|(w, by)| w + by).collect());
    let hidden = Row::F64(vec![1.0]);
    let stock = moved([1e-6, 0.0, 0.0, 0.0]);
    for (shift, within) in [(2.9e-6, true), (3.1e-6, false)] {
        let engine = moved([shift; 4]);
        let wide = Row::F64(wide.clone());
        let rows = |logits| Rows { hidden: &hidden, logits };
        let triangle = Triangle::measure(
            rows(&engine),
            rows(&stock),
            rows(&wide),
            Stream::default(),
            &Usual::default(),
        );
        assert!(triangle.logits_ratio < 1e-3, "{triangle:?}");
        let landscapes = (Landscape::of(&engine), Landscape::of(&wide));
        let verdict = triangle.verdict(Judge::Wide, &place(), &landscapes.0, &landscapes.1);
        assert_eq!(matches!(verdict, Verdict::Agrees), within, "{verdict:?}");
    }
}

#[test]
fn stock_that_is_lucky_is_not_the_measure() {
    // A stream that grows to a thousand times its end.
    let mut stream = Stream::default();
    for value in [1.0, 1000.0, 1.0] {
        stream.add(&Row::F32(vec![value]));
    }
    let expected = F32_ROUNDING * 2_000_004.0_f64.sqrt();
    assert!((stream.rounding() - expected).abs() <= 1e-15, "{}", stream.rounding());
    let row = |by: f64| Row::F64(vec![3.0 + by, 1.0]);
    let ratio = |engine: f64, stock: f64| {
        let (engine, stock, wide) = (row(engine), row(stock), row(0.0));
        let rows = |row| Rows { hidden: row, logits: row };
        Triangle::measure(rows(&engine), rows(&stock), rows(&wide), stream, &Usual::default())
            .hidden_ratio
    };
    assert!(ratio(3e-4, 0.0) < 3.0);
    assert!(ratio(6e-4, 0.0) > 3.0);
    assert!(ratio(6e-4, 3e-4) < 3.0);
}

#[test]
fn the_triangle_has_two_sides() {
    assert!(matches!(judge(Judge::Stock, -2.9, 1.0), Verdict::Agrees));
    assert!(matches!(judge(Judge::Stock, -3.1, 1.0), Verdict::Diverges(_)));
}

#[test]
fn nan_is_within_no_limit() {
    for at in [Judge::Wide, Judge::Stock] {
        assert!(matches!(judge(at, f64::NAN, 1.0), Verdict::Diverges(_)));
        assert!(matches!(judge(at, 1.0, f64::NAN), Verdict::Diverges(_)));
        assert!(matches!(judge(at, f64::INFINITY, 1.0), Verdict::Diverges(_)));
    }
}

#[test]
fn the_top_may_change_only_in_a_narrow_gap() {
    let rows = |logits: &[f64]| Row::F64(logits.to_vec());
    let hidden = Row::F64(vec![1.0]);
    let case = |engine: Row, stock: Row, wide: Row| {
        let triangle = Triangle::measure(
            Rows { hidden: &hidden, logits: &engine },
            Rows { hidden: &hidden, logits: &stock },
            Rows { hidden: &hidden, logits: &wide },
            Stream::default(),
            &Usual::default(),
        );
        let (engine, wide) = (Landscape::of(&engine), Landscape::of(&wide));
        triangle.verdict(Judge::Wide, &place(), &engine, &wide)
    };
    // Many small errors of stock allow one large error of the engine in the L2 norm.
    let stock: Vec<f64> = [3.0, 2.0].into_iter().chain([0.1, -0.1].repeat(49)).collect();
    let wide: Vec<f64> = [3.0, 2.0].into_iter().chain(vec![0.0; 98]).collect();
    let mut engine = wide.clone();
    engine[1] += 1.2;
    let verdict = case(rows(&engine), rows(&stock), rows(&wide));
    let Verdict::Diverges(found) = verdict else { panic!("the top changed: {verdict:?}") };
    assert!(matches!(found.difference, Difference::Top1 { expected_id: 0, .. }));
    let narrow: Vec<f64> = [3.0, 2.9].into_iter().chain(vec![0.0; 98]).collect();
    let mut engine = narrow.clone();
    engine[1] += 0.2;
    assert!(matches!(case(rows(&engine), rows(&stock), rows(&narrow)), Verdict::Agrees));
}

#[test]
fn a_lucky_step_of_stock_is_measured_by_its_usual_ones() {
    let row = |by: f64| Row::F64(vec![1.0 + by, 3.0, 2.0]);
    let ratio = |stock: f64, usual: &Usual| {
        let (engine, stock, wide) = (row(4e-6), row(stock), row(0.0));
        let rows = |row| Rows { hidden: row, logits: row };
        let none = Stream::default();
        Triangle::measure(rows(&engine), rows(&stock), rows(&wide), none, usual).hidden_ratio
    };
    let mut usual = Usual::default();
    let lucky = ratio(1e-6, &usual);
    assert!(lucky > RULE_OF_THREE, "{lucky}");
    // One bad step of stock changes nothing; a usual distance does.
    for by in [2e-6, 1.0, 2.5e-6] {
        let offset = distance(
            Rows { hidden: &row(by), logits: &row(by) },
            Rows { hidden: &row(0.0), logits: &row(0.0) },
        );
        usual.add(offset);
    }
    let measured = ratio(1e-6, &usual);
    assert!(measured > 1.0 && measured < 2.0, "{measured}");
    // And where stock is worse than it usually is, it is the measure itself.
    assert!(ratio(8e-6, &usual) < 1.0);
}

/// The states of the readout's two rows, and the share of the logits, against one judge.
fn outcomes(engine: [f64; 2], stock: [f64; 2]) -> (Vec<State>, f64, bool) {
    let [engine, stock, wide] = [engine, stock, [3.0, 1.0]].map(|row| Row::F64(row.to_vec()));
    let hidden = Row::F64(vec![1.0]);
    let rows = |logits| Rows { hidden: &hidden, logits };
    let (none, usual) = (Stream::default(), Usual::default());
    let triangle = Triangle::measure(rows(&engine), rows(&stock), rows(&wide), none, &usual);
    let landscapes = (Landscape::of(&engine), Landscape::of(&wide));
    let verdict = triangle.verdict(Judge::Wide, &place(), &landscapes.0, &landscapes.1);
    let taps = triangle.outcomes(Judge::Wide, &verdict);
    let share = taps[1].bound_share.unwrap().to_f64();
    let states = taps.iter().map(|tap| tap.state).collect();
    (states, share, matches!(verdict, Verdict::Diverges(_)))
}

#[test]
fn what_the_verdict_refuses_is_beyond_its_bound() {
    let (states, _, diverges) = outcomes([3.0, 1.0 + 1e-6], [3.0, 1.0 + 1e-6]);
    assert_eq!((states, diverges), (vec![State::Within; 2], false));
    // Stock is infinitely far, so that anything would be within.
    let (states, share, diverges) = outcomes([3.0, 1.0 + 1e-6], [3.0, f64::MAX]);
    assert_eq!((&states[1], share, diverges), (&State::Beyond, f64::INFINITY, true));
}

#[test]
fn of_two_shares_that_is_the_worse_which_is_no_number() {
    for (one, two) in [(f64::NAN, 0.5), (0.5, f64::NAN), (f64::NAN, f64::NAN)] {
        assert!(worse(one, two).is_nan(), "{one} {two}");
    }
    assert_eq!((worse(0.5, 2.0), worse(2.0, 0.5)), (2.0, 2.0));
}
