//! Lines over the steps, one a side; of many steps, each column shows its least and its most.

use std::fmt::Write;

use super::read::{Landscape, Run, number};

const WIDTH_PIXELS: f64 = 640.0;
const HEIGHT_PIXELS: f64 = 120.0;
/// Half of the topmost figure stands here.
const TOP_PIXELS: f64 = 10.0;
const LEFT_PIXELS: f64 = 56.0;
/// More points than this are drawn as columns.
const POINTS_MAX: usize = 640;

/// One side's line.
pub(super) struct Line {
    pub(super) side: String,
    pub(super) path: String,
    /// Values that are no number have no place on a line.
    pub(super) missing_count: usize,
}

/// A chart as it is drawn.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) words: String,
    pub(super) lines: Vec<Line>,
    pub(super) y_ticks: Vec<(f64, String)>,
    pub(super) x_ticks: Vec<(f64, usize)>,
    /// Columns of steps that do not agree.
    pub(super) marks: Vec<f64>,
    /// Whether columns are drawn and not points.
    pub(super) dense: bool,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) left: f64,
}

/// Gap and entropy of every side.
pub(super) fn charts(run: &Run) -> Vec<Chart> {
    let gap = |landscape: &Landscape| number(&landscape.gap);
    let entropy = |landscape: &Landscape| number(&landscape.entropy_topk);
    let gap = chart(run, "Gap", "top-1 logit less top-2 logit", &gap);
    let entropy =
        chart(run, "Entropy", "of the softmax of the 64 largest logits, in nats", &entropy);
    gap.into_iter().chain(entropy).collect()
}

fn chart(
    run: &Run,
    title: &'static str,
    what: &str,
    value: &dyn Fn(&Landscape) -> f64,
) -> Option<Chart> {
    let mut sides: Vec<(String, Vec<(usize, f64)>)> = Vec::new();
    for landscape in &run.landscapes {
        let point = (landscape.step, value(landscape));
        match sides.iter_mut().find(|(side, _)| *side == landscape.side) {
            Some((_, points)) => points.push(point),
            None => sides.push((landscape.side.clone(), vec![point])),
        }
    }
    let all = || sides.iter().flat_map(|(_, points)| points);
    let last = all().map(|(step, _)| *step).max()?;
    let finite = || all().map(|(_, value)| *value).filter(|value| value.is_finite());
    let (least, most) = (finite().fold(f64::INFINITY, f64::min), finite().fold(0.0, f64::max));
    let least = least.min(0.0);
    let range = if most > least { most - least } else { 1.0 };
    let x = |step: usize| LEFT_PIXELS + WIDTH_PIXELS * step as f64 / last.max(1) as f64;
    let y = |value: f64| TOP_PIXELS + HEIGHT_PIXELS * (1.0 - (value - least) / range);
    let same = sides.windows(2).all(|pair| {
        let bits = |points: &[(usize, f64)]| -> Vec<(usize, u64)> {
            points.iter().map(|(step, value)| (*step, value.to_bits())).collect()
        };
        bits(&pair[0].1) == bits(&pair[1].1)
    });
    let equal = match (sides.len(), same) {
        (1, _) => String::new(),
        (_, true) => {
            "; the sides are equal at every step, their lines lie on each other".to_owned()
        }
        (_, false) => "; the sides are not equal at every step".to_owned(),
    };
    let lines = sides
        .iter()
        .map(|(side, points)| Line {
            side: side.clone(),
            path: line(points, &x, &y),
            missing_count: points.iter().filter(|(_, value)| !value.is_finite()).count(),
        })
        .collect();
    let mut marks: Vec<f64> = run
        .taps
        .iter()
        .filter(|step| step.verdict != "agrees")
        .map(|step| x(step.step).round())
        .collect();
    marks.dedup();
    let y_ticks = [least, least + range / 2.0, least + range];
    let mut x_ticks: Vec<usize> = (0..=4).map(|part| last * part / 4).collect();
    x_ticks.dedup();
    Some(Chart {
        title,
        words: format!("{title}: {what}{equal}."),
        lines,
        y_ticks: y_ticks.iter().map(|value| (y(*value), short(*value))).collect(),
        x_ticks: x_ticks.into_iter().map(|step| (x(step), step)).collect(),
        marks,
        dense: last >= POINTS_MAX,
        width: LEFT_PIXELS + WIDTH_PIXELS + 16.0,
        height: TOP_PIXELS + HEIGHT_PIXELS + 20.0,
        left: LEFT_PIXELS,
    })
}

fn short(value: f64) -> String {
    match value.abs() {
        size if size == 0.0 || size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.2e}"),
    }
}

fn line(points: &[(usize, f64)], x: &dyn Fn(usize) -> f64, y: &dyn Fn(f64) -> f64) -> String {
    let mut path = String::new();
    if points.len() <= POINTS_MAX {
        let mut pen = 'M';
        for &(step, value) in points {
            if value.is_finite() {
                let _ = write!(path, "{pen}{:.1} {:.1}", x(step), y(value));
                // A point alone is seen too.
                path.push_str(if pen == 'M' { "h0.01" } else { "" });
                pen = 'L';
            } else {
                pen = 'M';
            }
        }
        return path;
    }
    for column in points.chunks(points.len().div_ceil(POINTS_MAX)) {
        let values = || column.iter().map(|(_, value)| *value).filter(|value| value.is_finite());
        let Some((step, _)) = column.iter().find(|(_, value)| value.is_finite()) else { continue };
        let (least, most) = values()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), v| {
                (least.min(v), most.max(v))
            });
        let pen = if path.is_empty() { 'M' } else { 'L' };
        let x = x(*step);
        let _ = write!(path, "{pen}{x:.1} {:.1}L{x:.1} {:.1}", y(least), y(most));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_among_many_steps_is_drawn() {
        let mut points: Vec<(usize, f64)> = (0..10_000).map(|step| (step, 1.0)).collect();
        let path = |points: &[(usize, f64)]| line(points, &|step| step as f64, &|value| value);
        assert!(!path(&points).contains("99.0"));
        points[4_321].1 = 99.0;
        points[4_322].1 = f64::NAN;
        assert!(path(&points).contains(" 99.0"));
        assert!(!path(&points).contains("NaN"));
    }

    #[test]
    fn a_line_breaks_where_a_value_is_no_number() {
        let points = [(0, 1.0), (1, f64::NAN), (2, 3.0)];
        let path = line(&points, &|step| step as f64, &|value| value);
        assert_eq!(path, "M0.0 1.0h0.01M2.0 3.0h0.01");
    }
}
