//! Both sides' values around the first element that differs, and the whole tap with all that do.

use std::fmt::Write;

use crate::compare::neighbourhood::Neighbourhood;
use crate::compare::rows;

/// A cell of a window.
const CELL_PIXELS: f64 = 10.0;
/// Sizes of values that can be told apart.
const LEVELS: usize = 6;
/// The most elements that are written out.
const LISTED_MAX: usize = 8;
/// Frames around more than one element in this many would hide the values.
const FRAMED_MAX: usize = 4;
/// The mask is at most so wide.
const MASK_PIXELS: f64 = 640.0;

/// One side's values.
pub(super) struct Panel {
    pub(super) side: &'static str,
    /// Class and path of the cells of one size.
    pub(super) kinds: Vec<(String, String)>,
}

/// An element of both sides.
pub(super) struct Listed {
    pub(super) position: usize,
    pub(super) column: usize,
    pub(super) actual: String,
    pub(super) actual_bits: String,
    pub(super) expected: String,
    pub(super) expected_bits: String,
    pub(super) ulps: String,
}

/// The picture as it is drawn.
pub(super) struct Picture {
    pub(super) words: String,
    pub(super) window_words: String,
    pub(super) mask_words: String,
    pub(super) panels: Vec<Panel>,
    pub(super) outline: String,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) mask: Vec<(String, String)>,
    pub(super) mask_width: f64,
    pub(super) mask_height: f64,
    pub(super) frame: [f64; 4],
    pub(super) listed: Vec<Listed>,
}

/// Draws a neighbourhood.
pub(super) fn picture(shown: &Neighbourhood) -> Picture {
    let values = |bits: &[Vec<u32>]| -> Vec<Vec<f32>> {
        bits.iter().map(|row| row.iter().map(|&bits| f32::from_bits(bits)).collect()).collect()
    };
    let (expected, actual) = (values(&shown.expected_bits), values(&shown.actual_bits));
    let finite = |values: &[Vec<f32>]| {
        let all = values.iter().flatten().filter(|value| value.is_finite());
        all.fold(0.0_f32, |most, value| most.max(value.abs()))
    };
    let scale = finite(&expected);
    let columns = expected.iter().map(Vec::len).max().unwrap_or(0);
    let (place, each) = match shown.folded {
        true => ("one row, folded into lines of 64 values", "a line is 64 values that follow"),
        false => ("a line is a row, one a position", "a line is a position"),
    };
    let (mask, mask_cell) = mask(shown);
    let (line, column) = (shown.window_line as f64, shown.window_column as f64);
    let per = |cell: usize| mask_cell / cell as f64;
    let frame = [
        column * per(shown.mask.cell_columns),
        line * per(shown.mask.cell_lines),
        columns as f64 * per(shown.mask.cell_columns),
        expected.len() as f64 * per(shown.mask.cell_lines),
    ];
    let (outline, count) = outline(&expected, &actual);
    let all = expected.iter().map(Vec::len).sum::<usize>();
    let framed = count * FRAMED_MAX <= all;
    let differ = match framed {
        true => format!("the {count} elements of {all} that differ have a frame"),
        false => format!("{count} of its {all} elements differ, too many for a frame around each"),
    };
    let layer = shown.layer.map_or_else(String::new, |layer| format!("layer {layer} "));
    let mask_lines = shown.mask.cells.len();
    let cell = match (shown.mask.cell_lines, shown.mask.cell_columns) {
        (1, 1) => "a cell is one element".to_owned(),
        (lines, columns) => format!("a cell is {lines} × {columns} elements"),
    };
    Picture {
        words: format!(
            "{layer}tap {}: {} × {} values from position {}; {place}",
            shown.tap, shown.rows, shown.width, shown.first_position
        ),
        window_words: format!(
            "lines {} to {}, columns {} to {}; {each}; {differ}",
            shown.window_line,
            (shown.window_line + expected.len()).saturating_sub(1),
            shown.window_column,
            (shown.window_column + columns).saturating_sub(1),
        ),
        mask_words: format!("{cell}, the frame is the window above"),
        panels: vec![
            Panel { side: "engine", kinds: kinds(&actual, scale) },
            Panel { side: "reference", kinds: kinds(&expected, scale) },
        ],
        outline: if framed { outline } else { String::new() },
        width: columns as f64 * CELL_PIXELS,
        height: expected.len() as f64 * CELL_PIXELS,
        mask,
        mask_width: shown.mask.cells.first().map_or(0, String::len) as f64 * mask_cell,
        mask_height: mask_lines as f64 * mask_cell,
        frame,
        listed: listed(shown, &expected, &actual),
    }
}

fn cell(path: &mut String, line: usize, column: usize) {
    let (x, y) = (column as f64 * CELL_PIXELS, line as f64 * CELL_PIXELS);
    let size = CELL_PIXELS - 1.0;
    let _ = write!(path, "M{x} {y}h{size}v{size}h-{size}z");
}

/// Cells by sign and size: `p6` is the largest that is positive, `n1` the smallest that is not.
fn kinds(values: &[Vec<f32>], scale: f32) -> Vec<(String, String)> {
    let mut found: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    for (line, row) in values.iter().enumerate() {
        for (column, &value) in row.iter().enumerate() {
            let size = (value.abs() / scale * LEVELS as f32).ceil();
            let class = match value {
                _ if !value.is_finite() => "bad".to_owned(),
                _ if value == 0.0 => "z".to_owned(),
                // A value that is not on the reference's scale is as large as can be shown.
                _ => {
                    let level =
                        if size.is_finite() { (size as usize).clamp(1, LEVELS) } else { LEVELS };
                    format!("{}{level}", if value > 0.0 { 'p' } else { 'n' })
                }
            };
            cell(found.entry(class).or_default(), line, column);
        }
    }
    found.into_iter().collect()
}

/// Frames around what differs, and how many.
fn outline(expected: &[Vec<f32>], actual: &[Vec<f32>]) -> (String, usize) {
    let (mut path, mut count) = (String::new(), 0);
    for (line, (one, two)) in expected.iter().zip(actual).enumerate() {
        for (column, (one, two)) in one.iter().zip(two).enumerate() {
            if !rows::same(*one, *two) {
                cell(&mut path, line, column);
                count += 1;
            }
        }
    }
    (path, count)
}

fn mask(shown: &Neighbourhood) -> (Vec<(String, String)>, f64) {
    let columns = shown.mask.cells.first().map_or(1, String::len).max(1);
    let size = (MASK_PIXELS / columns as f64).clamp(3.0, 10.0);
    let mut found: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    for (line, cells) in shown.mask.cells.iter().enumerate() {
        for (column, digit) in cells.chars().enumerate() {
            let path = found.entry(format!("m{digit}")).or_default();
            let (x, y, side) = (column as f64 * size, line as f64 * size, size - 0.5);
            let _ = write!(path, "M{x:.1} {y:.1}h{side:.1}v{side:.1}h-{side:.1}z");
        }
    }
    (found.into_iter().collect(), size)
}

fn listed(shown: &Neighbourhood, expected: &[Vec<f32>], actual: &[Vec<f32>]) -> Vec<Listed> {
    let mut found = Vec::new();
    for (line, (one, two)) in expected.iter().zip(actual).enumerate() {
        for (column, (&one, &two)) in one.iter().zip(two).enumerate() {
            if rows::same(one, two) || found.len() == LISTED_MAX {
                continue;
            }
            let (line, column) = (shown.window_line + line, shown.window_column + column);
            let (row, column) = match shown.folded {
                true => (0, line * shown.columns + column),
                false => (line, column),
            };
            found.push(Listed {
                position: shown.first_position + row,
                column,
                actual: format!("{two:?}"),
                actual_bits: format!("0x{:08x}", two.to_bits()),
                expected: format!("{one:?}"),
                expected_bits: format!("0x{:08x}", one.to_bits()),
                ulps: ulps(one, two),
            });
        }
    }
    found
}

/// How many f32 numbers lie between two values.
fn ulps(one: f32, two: f32) -> String {
    if !one.is_finite() || !two.is_finite() {
        return "–".to_owned();
    }
    let order = |value: f32| {
        let bits = i64::from(value.to_bits() & 0x7fff_ffff);
        if value.is_sign_negative() { -bits } else { bits }
    };
    (order(one) - order(two)).abs().to_string()
}
