//! The reference's rows of a run, kept for what comes after a divergence, within a budget.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::sides::Row;

/// How much is kept besides keys and values, which attention reads of every position: enough for
/// every tap of a few hundred positions of a small model, and for one layer of a large prompt.
const BUDGET_BYTES: usize = 512 << 20;

/// A tap and its layer.
type Name = (Cow<'static, str>, Option<usize>);

/// Rows by tap, layer and position. What is oldest goes first when the budget is used up.
#[derive(Debug, Default)]
pub struct Kept {
    rows: BTreeMap<Name, BTreeMap<usize, Vec<f32>>>,
    order: VecDeque<(Name, usize)>,
    bytes: usize,
}

impl Kept {
    /// Keeps the row of a position. Rows in f64 are no inputs of an engine.
    pub fn put(&mut self, tap: Cow<'static, str>, layer: Option<usize>, position: usize, row: Row) {
        let Row::F32(values) = row else { return };
        let name = (tap, layer);
        if !matches!(&*name.0, "k_rope" | "v") {
            self.bytes += values.len() * size_of::<f32>();
            self.order.push_back((name.clone(), position));
        }
        self.rows.entry(name).or_default().insert(position, values);
        while self.bytes > BUDGET_BYTES {
            let Some((name, position)) = self.order.pop_front() else { return };
            let gone = self.rows.get_mut(&name).and_then(|rows| rows.remove(&position));
            self.bytes -= gone.map_or(0, |row| row.len() * size_of::<f32>());
        }
    }

    /// The rows of these positions one after another, all of them or none.
    pub fn rows(
        &self,
        tap: &str,
        layer: Option<usize>,
        positions: Range<usize>,
    ) -> Option<Vec<f32>> {
        let rows = self.rows.get(&(Cow::Owned(tap.to_owned()), layer))?;
        let mut values = Vec::new();
        for position in positions {
            values.extend_from_slice(rows.get(&position)?);
        }
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_positions_or_none() {
        let mut kept = Kept::default();
        for position in 3..6 {
            kept.put("q".into(), Some(1), position, Row::F32(vec![position as f32; 2]));
        }
        assert_eq!(kept.rows("q", Some(1), 3..5), Some(vec![3.0, 3.0, 4.0, 4.0]));
        assert_eq!(kept.rows("q", Some(1), 3..7), None);
        assert_eq!(kept.rows("q", Some(0), 3..4), None);
    }

    #[test]
    fn the_oldest_goes_and_keys_stay() {
        let mut kept = Kept::default();
        let large = BUDGET_BYTES / size_of::<f32>() / 2;
        kept.put("v".into(), Some(0), 0, Row::F32(vec![1.0; 4]));
        for position in 0..3 {
            kept.put("q".into(), Some(0), position, Row::F32(vec![0.5; large]));
        }
        assert_eq!(kept.rows("q", Some(0), 0..1), None);
        assert!(kept.rows("q", Some(0), 1..3).is_some());
        assert!(kept.rows("v", Some(0), 0..1).is_some());
    }
}
