//! Multiplied by a constant: one for all elements, or one for each head.

use super::{Answer, Evidence, Explanation, Label, No, same};

/// Elements that one factor has to explain; fewer could be a coincidence.
const ELEMENTS_MIN: usize = 3;

/// A factor for which every product is the engine's value; the plainest one.
fn factor(pairs: &[(f32, f32)], plain: &[f32]) -> Option<f32> {
    let used = pairs.iter().filter(|(one, _)| *one != 0.0 && one.is_finite());
    let (mut lowest, mut highest) = (f64::NEG_INFINITY, f64::INFINITY);
    let mut count = 0;
    for (one, two) in used {
        count += 1;
        if !two.is_finite() {
            return None;
        }
        // Every factor that rounds to `two` lies between its neighbours.
        let (one, below, above) =
            (f64::from(*one), f64::from(two.next_down()), f64::from(two.next_up()));
        let (low, high) =
            if one > 0.0 { (below / one, above / one) } else { (above / one, below / one) };
        (lowest, highest) = (lowest.max(low), highest.min(high));
        // Written so that NaN ends it.
        let is_left = lowest <= highest;
        if !is_left {
            return None;
        }
    }
    if count < ELEMENTS_MIN {
        return None;
    }
    let holds = |factor: &f32| {
        factor.is_finite() && pairs.iter().all(|(one, two)| same(one * factor, *two))
    };
    if let Some(factor) = plain.iter().find(|factor| holds(factor)) {
        return Some(*factor);
    }
    let mut candidate = ((lowest as f32).next_down()).next_down();
    for _ in 0..64 {
        if holds(&candidate) {
            return Some(candidate);
        }
        candidate = candidate.next_up();
    }
    None
}

/// One factor.
pub(super) fn scaled(evidence: &Evidence<'_>) -> Answer {
    let root = |count: usize| (count as f32).sqrt();
    let config = &evidence.config;
    let plain = [
        2.0,
        0.5,
        -1.0,
        4.0,
        0.25,
        8.0,
        0.125,
        root(config.head_size),
        1.0 / root(config.head_size),
        root(config.hidden),
        1.0 / root(config.hidden),
        1.0,
    ];
    let pairs: Vec<(f32, f32)> = evidence.pairs().collect();
    let explain = |words: String| {
        let text = format!("got equals expected times {words} exactly, {}", evidence.all());
        Explanation::new(Label::Scaled, text)
    };
    if let Some(factor) = factor(&pairs, &plain) {
        return Ok(explain(format!("{factor}")).with("factor", factor).with("unit", "all"));
    }
    let parts: [(&str, Option<usize>); 2] =
        [("head", evidence.heads().map(|(_, size)| size)), ("row", Some(evidence.width))];
    for (unit, size) in parts {
        let Some(size) = size else { continue };
        let per_row = evidence.width / size;
        // A head has its factor in every row; a row has its own.
        let groups = if unit == "head" { per_row } else { evidence.rows() };
        let of = |group: usize| -> Vec<(f32, f32)> {
            let inside = |(index, _): &(usize, &(f32, f32))| match unit {
                "head" => index / size % per_row == group,
                _ => index / size == group,
            };
            pairs.iter().enumerate().filter(inside).map(|(_, pair)| *pair).collect()
        };
        if groups < 2 {
            continue;
        }
        let factors: Option<Vec<f32>> =
            (0..groups).map(|group| factor(&of(group), &plain)).collect();
        let Some(factors) = factors else { continue };
        let other = factors.iter().position(|factor| *factor != 1.0).unwrap_or_default();
        let shown = factors.iter().take(8).map(f32::to_string).collect::<Vec<_>>().join(", ");
        let more = if factors.len() > 8 { ", …" } else { "" };
        return Ok(explain(format!("one factor for each {unit} ({shown}{more})"))
            .with("factor", factors[other])
            .with(unit, other)
            .with("unit", unit));
    }
    Err(No::Refuted)
}
