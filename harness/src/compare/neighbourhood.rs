//! The surroundings of the first element that differs: small enough for a page, enough to see how.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Key, rows};
use crate::sides::Row;

/// Lines of the window.
const WINDOW_LINES: usize = 16;
/// Elements of a line of the window, and of a single row that is shown in lines.
const WINDOW_COLUMNS: usize = 64;
/// Columns of the window before the first element that differs.
const BEFORE_COLUMNS: usize = 16;
/// Lines of the window before it, where one row is shown in lines.
const BEFORE_LINES: usize = 4;
/// The most lines of the mask.
const MASK_LINES_MAX: usize = 64;
/// The most columns of the mask.
const MASK_COLUMNS_MAX: usize = 128;
/// The rows whose values are kept until the tap has ended; of later ones only what differs.
const KEPT_ROWS_MAX: usize = WINDOW_LINES;

/// The rows of one tap of one pass, from the first that differs.
#[derive(Debug)]
pub struct Capture {
    key: Key,
    width: usize,
    rows_before: usize,
    rows_seen: usize,
    expected: Vec<Vec<f32>>,
    actual: Vec<Vec<f32>>,
    counts: Counts,
}

impl Capture {
    /// Begins at the first row that differs, after so many rows of the tap that are equal.
    pub fn begin(key: &Key, expected: &Row, actual: &Row, rows_before: usize) -> Option<Self> {
        let (Row::F32(one), Row::F32(two)) = (expected, actual) else { return None };
        let mut capture = Self {
            key: key.clone(),
            width: one.len(),
            rows_before,
            rows_seen: 0,
            expected: Vec::new(),
            actual: Vec::new(),
            counts: Counts::new(one.len()),
        };
        (one.len() == two.len() && !one.is_empty()).then(|| {
            capture.push(one, two);
            capture
        })
    }

    /// The next pair of rows; false where it is no row of this tap any more.
    pub fn add(&mut self, key: &Key, expected: &Row, actual: &Row) -> bool {
        let next = self.key.position + self.rows_seen;
        let same = key.tap == self.key.tap && key.layer == self.key.layer && key.position == next;
        let (Row::F32(one), Row::F32(two)) = (expected, actual) else { return false };
        let shaped = one.len() == self.width && two.len() == self.width;
        if same && shaped {
            self.push(one, two);
        }
        same && shaped
    }

    fn push(&mut self, expected: &[f32], actual: &[f32]) {
        let line = self.rows_before + self.rows_seen;
        self.counts.reach(line);
        differing(expected, actual).for_each(|column| self.counts.add(line, column));
        self.rows_seen += 1;
        if self.expected.len() < KEPT_ROWS_MAX {
            self.expected.push(expected.to_vec());
            self.actual.push(actual.to_vec());
        }
    }

    /// What is shown of it.
    pub fn finish(&self) -> Neighbourhood {
        let rows = self.rows_before + self.rows_seen;
        let first = || differing(&self.expected[0], &self.actual[0]);
        let column = first().next().unwrap_or(0);
        let folded = rows == 1 && self.width > WINDOW_COLUMNS;
        let (lines, columns) = match folded {
            true => (self.width.div_ceil(WINDOW_COLUMNS), WINDOW_COLUMNS),
            false => (rows, self.width),
        };
        let (window_line, window_column) = match folded {
            true => {
                let last = lines.saturating_sub(WINDOW_LINES);
                ((column / WINDOW_COLUMNS).saturating_sub(BEFORE_LINES).min(last), 0)
            }
            false => {
                let last = columns.saturating_sub(WINDOW_COLUMNS);
                (self.rows_before, column.saturating_sub(BEFORE_COLUMNS).min(last))
            }
        };
        let window = |rows: &[Vec<f32>]| -> Vec<Vec<u32>> {
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
            if folded {
                let all = rows[0].chunks(WINDOW_COLUMNS);
                return all.skip(window_line).take(WINDOW_LINES).map(bits).collect();
            }
            let last = columns.min(window_column + WINDOW_COLUMNS);
            rows.iter().map(|row| bits(&row[window_column..last])).collect()
        };
        Neighbourhood {
            layer: self.key.layer,
            tap: self.key.tap.clone(),
            first_position: self.key.position - self.rows_before.min(self.key.position),
            rows,
            width: self.width,
            folded,
            lines,
            columns,
            window_line,
            window_column,
            expected_bits: window(&self.expected),
            actual_bits: window(&self.actual),
            mask: match folded {
                true => Counts::folded(lines, first()).mask(),
                false => self.counts.mask(),
            },
        }
    }
}

/// The columns in which two rows differ.
fn differing<'a>(expected: &'a [f32], actual: &'a [f32]) -> impl Iterator<Item = usize> + 'a {
    let pairs = expected.iter().zip(actual).enumerate();
    pairs.filter(|(_, (one, two))| !rows::same(**one, **two)).map(|(column, _)| column)
}

/// Both sides' values around the first element that differs, and where all the others are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbourhood {
    /// The layer of the tap.
    pub layer: Option<usize>,
    /// The tap.
    pub tap: Cow<'static, str>,
    /// The position of row 0.
    pub first_position: usize,
    /// Rows of the pass, one a position.
    pub rows: usize,
    /// Values in a row.
    pub width: usize,
    /// Whether one row is shown in lines of 64 values.
    pub folded: bool,
    /// Lines of the picture: rows, or the pieces of one row.
    pub lines: usize,
    /// Elements in a line.
    pub columns: usize,
    /// The line with which the window begins.
    pub window_line: usize,
    /// The column with which it begins.
    pub window_column: usize,
    /// The reference's values in the window, as bits.
    pub expected_bits: Vec<Vec<u32>>,
    /// The engine's.
    pub actual_bits: Vec<Vec<u32>>,
    /// Where elements differ, over the whole tap.
    pub mask: Mask,
}

/// A picture of what differs, a digit a cell: 0 nothing, 1 to 9 so many ninths, rounded up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// Lines in a cell.
    pub cell_lines: usize,
    /// Columns in a cell.
    pub cell_columns: usize,
    /// The cells, a string for each line of them.
    pub cells: Vec<String>,
}

/// How many elements differ in each cell of a mask: a tap may have a hundred million of them, and
/// how many lines it has is known when it has ended.
#[derive(Debug)]
struct Counts {
    cell_lines: usize,
    cell_columns: usize,
    cells: Vec<Vec<usize>>,
}

impl Counts {
    fn new(columns: usize) -> Self {
        let cell_columns = columns.div_ceil(MASK_COLUMNS_MAX).max(1);
        Self { cell_lines: 1, cell_columns, cells: vec![vec![0; columns.div_ceil(cell_columns)]] }
    }

    /// Those of one row that is shown in so many lines.
    fn folded(lines: usize, differing: impl Iterator<Item = usize>) -> Self {
        let mut counts = Self::new(WINDOW_COLUMNS);
        counts.cell_lines = lines.div_ceil(MASK_LINES_MAX).max(1);
        counts.reach(lines.saturating_sub(1));
        differing.for_each(|place| counts.add(place / WINDOW_COLUMNS, place % WINDOW_COLUMNS));
        counts
    }

    /// Has cells as far as a line; where they would be too many, two become one.
    fn reach(&mut self, line: usize) {
        while line / self.cell_lines >= MASK_LINES_MAX {
            self.cell_lines *= 2;
            let sum = |two: &[Vec<usize>]| {
                let mut cells = two[0].clone();
                let other = two.iter().skip(1).flatten();
                cells.iter_mut().zip(other).for_each(|(cell, other)| *cell += other);
                cells
            };
            self.cells = self.cells.chunks(2).map(sum).collect();
        }
        let columns = self.cells[0].len();
        let lines = self.cells.len().max(line / self.cell_lines + 1);
        self.cells.resize(lines, vec![0; columns]);
    }

    fn add(&mut self, line: usize, column: usize) {
        self.cells[line / self.cell_lines][column / self.cell_columns] += 1;
    }

    fn mask(&self) -> Mask {
        let Self { cell_lines, cell_columns, .. } = *self;
        let size = cell_lines * cell_columns;
        let digit = |count: &usize| char::from(b'0' + (count * 9).div_ceil(size).min(9) as u8);
        let cells = self.cells.iter().map(|line| line.iter().map(digit).collect()).collect();
        Mask { cell_lines, cell_columns, cells }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(position: usize) -> Key {
        Key { token_id: 1, position, layer: Some(0), tap: "q".into() }
    }

    fn row(values: Vec<f32>) -> Row {
        Row::F32(values)
    }

    #[test]
    fn rows_are_lines_and_the_window_begins_where_they_part() {
        let same: Vec<f32> = (0..100).map(|value| value as f32).collect();
        let mut other = same.clone();
        other[90] = -1.0;
        let (same, other) = (row(same), row(other));
        let mut capture = Capture::begin(&key(5), &same, &other, 2).unwrap();
        assert!(capture.add(&key(6), &same, &same));
        assert!(!capture.add(&key(8), &same, &same), "a row is missing between");
        let shown = capture.finish();
        assert_eq!((shown.rows, shown.first_position, shown.folded), (4, 3, false));
        assert_eq!((shown.window_line, shown.window_column), (2, 36));
        assert_eq!(shown.expected_bits.len(), 2);
        assert_eq!(shown.actual_bits[0][90 - 36], (-1.0_f32).to_bits());
        let first: Vec<usize> =
            shown.mask.cells.iter().map(|line| line.find('9').unwrap_or(usize::MAX)).collect();
        assert_eq!(first, [usize::MAX, usize::MAX, 90, usize::MAX]);
    }

    #[test]
    fn one_row_is_folded_and_large_ones_are_small_in_the_mask() {
        let same = vec![1.0; 49_152];
        let mut other = same.clone();
        other[64 * 700 + 3] = 2.0;
        let shown = Capture::begin(&key(9), &row(same), &row(other), 0).unwrap().finish();
        assert_eq!((shown.folded, shown.lines, shown.columns), (true, 768, 64));
        assert_eq!(shown.window_line, 696);
        assert_eq!(shown.actual_bits[4][3], 2.0_f32.to_bits());
        assert_eq!((shown.mask.cells.len(), shown.mask.cell_lines), (64, 12));
        assert_eq!(&shown.mask.cells[58][..5], "00010");
    }

    #[test]
    fn what_is_kept_of_a_large_tap_is_bounded() {
        let (same, other) = (row(vec![1.0; 300]), row(vec![2.0; 300]));
        let mut capture = Capture::begin(&key(7), &same, &other, 7).unwrap();
        for position in 8..1000 {
            let actual = if position < 900 { &other } else { &same };
            assert!(capture.add(&key(position), &same, actual));
            assert!(capture.counts.cells.len() <= MASK_LINES_MAX);
            assert!(capture.counts.cells.iter().all(|line| line.len() <= MASK_COLUMNS_MAX));
        }
        assert_eq!((capture.expected.len(), capture.actual.len()), (KEPT_ROWS_MAX, KEPT_ROWS_MAX));
        let shown = capture.finish();
        assert_eq!((shown.rows, shown.first_position), (1000, 0));
        let mask = shown.mask;
        assert_eq!((mask.cell_lines, mask.cell_columns, mask.cells.len()), (16, 3, 63));
        // Seven rows before, of the sixteen of a cell, and four of those around the last.
        let digits: Vec<&str> = mask.cells.iter().map(|line| &line[99..]).collect();
        assert_eq!((digits[0], digits[1], digits[55]), ("6", "9", "9"));
        assert_eq!((digits[56], digits[57], digits[62]), ("3", "0", "0"));
    }

    #[test]
    fn rows_of_two_lengths_have_no_picture() {
        let (one, two) = (row(vec![1.0; 3]), row(vec![1.0; 4]));
        assert!(Capture::begin(&key(0), &one, &two, 0).is_none());
        let wide = Row::F64(vec![1.0; 3]);
        assert!(Capture::begin(&key(0), &wide, &wide, 0).is_none());
    }
}
