//! The rotary embedding by another convention, another base, or another position.

use reference::exact::ops::{self, Rope};

use super::operation::{Source, level, source};
use super::substitutes::substitutes;
use super::{Answer, Evidence, Explanation, Label, No, same};

/// Bases that models have.
const BASES: [f32; 6] = [10_000.0, 500_000.0, 1_000_000.0, 100_000.0, 5_000_000.0, 8_000_000.0];

/// How far ahead a position is looked for.
const POSITIONS_MAX: usize = 1 << 14;

/// Values of a row in another order within each head: `order` of an index is where it comes from.
fn reordered(row: &[f32], head: usize, order: &dyn Fn(usize) -> usize) -> Vec<f32> {
    let head_of = |index: usize| index / head * head;
    (0..row.len()).map(|index| row[head_of(index) + order(index % head)]).collect()
}

/// Pairs `(i, i + dim/2)` in the place of `(2i, 2i + 1)`.
fn half_split(rope: Rope<'_>, row: &[f32], position: usize) -> Vec<f32> {
    let half = rope.dimensions / 2;
    let to_adjacent = |index: usize| match index {
        _ if index >= 2 * half => index,
        _ => index % 2 * half + index / 2,
    };
    let to_halves = |index: usize| match index {
        _ if index >= 2 * half => index,
        _ => index % half * 2 + index / half,
    };
    let adjacent = reordered(row, rope.head_size, &to_adjacent);
    let turned = ops::rope(level(), rope, &adjacent, row.len(), position);
    reordered(&turned, rope.head_size, &to_halves)
}

/// A turn the other way: the mirror image of a turn of the mirror image.
fn backwards(rope: Rope<'_>, row: &[f32], position: usize) -> Vec<f32> {
    let mirror = |row: &[f32]| -> Vec<f32> {
        let turned = |index: usize| {
            index % rope.head_size % 2 == 1 && index % rope.head_size < rope.dimensions
        };
        let sign = |(index, value): (usize, &f32)| if turned(index) { -value } else { *value };
        row.iter().enumerate().map(sign).collect()
    };
    mirror(&ops::rope(level(), rope, &mirror(row), row.len(), position))
}

/// Half-split pairs, the other direction, other bases, other dimensions, no factors, twice.
pub(super) fn convention(evidence: &Evidence<'_>) -> Answer {
    let Source::Rope { input } = source(evidence)? else { return Err(No::Idle) };
    let x = evidence.input_like(&input)?;
    let factors = evidence.rope_factors()?;
    let (rope, width) = (evidence.rope(factors.as_deref()), evidence.width);
    type Turn<'a> = &'a dyn Fn(Rope<'_>, &[f32], usize) -> Vec<f32>;
    let plain: Turn<'_> = &|rope, row, position| ops::rope(level(), rope, row, row.len(), position);
    let twice: Turn<'_> = &|rope, row, position| plain(rope, &plain(rope, row, position), position);
    let mut forms: Vec<(String, Rope<'_>, Turn<'_>)> = vec![
        ("half-split pairs (i, i + dim/2) for adjacent ones".into(), rope, &half_split),
        ("the rotation in the other direction".into(), rope, &backwards),
        ("half-split pairs in the other direction".into(), rope, &|rope, row, position| {
            let mirrored = |row: &[f32]| -> Vec<f32> {
                let half = rope.dimensions / 2;
                let inside = |index: usize| (half..2 * half).contains(&(index % rope.head_size));
                let sign = |(index, value): (usize, &f32)| {
                    if inside(index) { -value } else { *value }
                };
                row.iter().enumerate().map(sign).collect()
            };
            mirrored(&half_split(rope, &mirrored(row), position))
        }),
        ("the rotation applied twice".into(), rope, twice),
    ];
    if rope.factors.is_some() {
        let what = "no `rope_freqs.weight`".to_owned();
        forms.push((what, Rope { factors: None, ..rope }, plain));
    }
    for base in BASES {
        forms.push((format!("base {base} for {}", rope.base), Rope { base, ..rope }, plain));
    }
    for dimensions in [rope.head_size, rope.head_size / 2, rope.head_size / 4, 2 * rope.dimensions]
    {
        let fits = dimensions > 0 && dimensions.is_multiple_of(2) && dimensions <= rope.head_size;
        if fits && rope.factors.is_none() {
            let what = format!("{dimensions} dimensions for {}", rope.dimensions);
            forms.push((what, Rope { dimensions, ..rope }, plain));
        }
    }
    for (what, rope, turn) in forms {
        let row =
            |row: usize| turn(rope, &x[row * width..][..width], evidence.first_position + row);
        if evidence.equals_rows(row) {
            let text = format!("{what}, exactly, {}", evidence.all());
            return Ok(Explanation::new(Label::RotaryConvention, text).with("convention", what));
        }
    }
    if let Some(extent) = evidence.extent(&x) {
        let text = format!("the input as it was, not rotated, exactly, {extent}");
        let what = "not rotated";
        return Ok(Explanation::new(Label::RotaryConvention, text).with("convention", what));
    }
    for other in substitutes(evidence, &input) {
        let rows = |row: usize| {
            plain(rope, &other.rows[row * width..][..width], evidence.first_position + row)
        };
        if evidence.equals_rows(rows) {
            let text =
                format!("the rotation of {} for {input}, exactly, {}", other.what, evidence.all());
            return Ok(Explanation::new(other.label, text)
                .with("read", other.what)
                .with("instead_of", input));
        }
    }
    Err(No::Refuted)
}

/// The position of a row.
type Rule<'f> = &'f dyn Fn(usize) -> Option<usize>;

/// Every row turned by the angle of another position, by one rule for all rows.
pub(super) fn position(evidence: &Evidence<'_>) -> Answer {
    let Source::Rope { input } = source(evidence)? else { return Err(No::Idle) };
    let x = evidence.input_like(&input)?;
    let factors = evidence.rope_factors()?;
    let (rope, width) = (evidence.rope(factors.as_deref()), evidence.width);
    let turned = |row: usize, position: usize| {
        ops::rope(level(), rope, &x[row * width..][..width], width, position)
    };
    let differing = evidence.differing().next().ok_or(No::Refuted)?;
    let (probe, head) = (differing / width, differing % width / rope.head_size * rope.head_size);
    let one_head = |position: usize| {
        let x = &x[probe * width + head..][..rope.head_size];
        let got = &evidence.actual_row(probe)[head..][..rope.head_size];
        let turned = ops::rope(level(), rope, x, rope.head_size, position);
        turned.iter().zip(got).all(|(one, two)| same(*one, *two))
    };
    let own = evidence.first_position + probe;
    let until = evidence.config.context_length.min(own + POSITIONS_MAX).max(own + 2);
    // The nearest positions first.
    let mut positions: Vec<usize> = (0..until).filter(|position| *position != own).collect();
    positions.sort_by_key(|position| position.abs_diff(own));
    for position in positions.into_iter().filter(|position| one_head(*position)) {
        let step = position.cast_signed() - own.cast_signed();
        let by_step = |row: usize| (evidence.first_position + row).checked_add_signed(step);
        let starts_over = evidence.first_position > 0 && position == probe;
        let rules: [(String, Rule<'_>); 3] = [
            (format!("{step:+} from its own"), &by_step),
            (format!("{position} in every row"), &|_| Some(position)),
            ("left at 0 in the first rows and late by a step".into(), &|row| {
                Some(by_step(row).unwrap_or(0))
            }),
        ];
        for (what, rule) in rules {
            let row = |row: usize| rule(row).map_or_else(Vec::new, |place| turned(row, place));
            if evidence.equals_rows(row) {
                let words = match (starts_over, evidence.pass_positions.start) {
                    (true, start) if start == evidence.first_position => {
                        " (counted from the start of the pass)"
                    }
                    (true, _) => " (counted from the first of these rows)",
                    (false, _) => "",
                };
                let text = format!(
                    "rotated by the angles of position {what}{words}, exactly, {}",
                    evidence.all()
                );
                return Ok(Explanation::new(Label::RotaryPosition, text)
                    .with("position", position)
                    .with("positions_off", step));
            }
        }
    }
    Err(No::Refuted)
}
