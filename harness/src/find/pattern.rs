//! Which rows, columns and heads differ, in words: all, one, a range, every n-th, or scattered.

use std::fmt;

use serde::Serialize;

use super::search::Block;

/// Where in a line of places the differing ones are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Spread {
    /// Everywhere.
    All {
        /// How many there are.
        count: usize,
    },
    /// At one place.
    One {
        /// Which.
        index: usize,
    },
    /// Side by side.
    Range {
        /// The first.
        first: usize,
        /// The last.
        last: usize,
    },
    /// At equal distances.
    Every {
        /// The first.
        first: usize,
        /// The last.
        last: usize,
        /// The distance.
        step: usize,
    },
    /// Without an order that has a name.
    Scattered {
        /// How many.
        count: usize,
        /// Of how many.
        of: usize,
        /// The first.
        first: usize,
        /// The last.
        last: usize,
    },
}

impl Spread {
    /// Looks at `places`, which are ascending and not empty, out of `of`.
    pub fn of(places: &[usize], of: usize) -> Self {
        let (first, last, count) = (places[0], places[places.len() - 1], places.len());
        if count == of && of > 1 {
            return Self::All { count };
        }
        if count == 1 {
            return Self::One { index: first };
        }
        let step = places[1] - first;
        let even = places.windows(2).all(|pair| pair[1] - pair[0] == step);
        match (even, step) {
            (true, 1) => Self::Range { first, last },
            (true, _) if count > 2 => Self::Every { first, last, step },
            _ => Self::Scattered { count, of, first, last },
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All { count } => write!(f, "all {count}"),
            Self::One { index } => write!(f, "{index} alone"),
            Self::Range { first, last } => write!(f, "{first} to {last}"),
            Self::Every { first, last, step } => {
                let ending = match (step % 10, step % 100) {
                    (_, 11..=13) => "th",
                    (1, _) => "st",
                    (2, _) => "nd",
                    (3, _) => "rd",
                    _ => "th",
                };
                write!(f, "every {step}{ending} from {first} to {last}")
            }
            Self::Scattered { count, of, first, last } => {
                write!(f, "{count} of {of} between {first} and {last}")
            }
        }
    }
}

/// The shape of a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pattern {
    /// Rows of the pass, one a position.
    pub rows: Spread,
    /// Columns, over all rows.
    pub columns: Spread,
    /// Heads, for taps that have them.
    pub heads: Option<Spread>,
}

impl Pattern {
    /// The pattern of a block that differs; `head_size` where its columns are heads.
    pub fn of(block: &Block, head_size: Option<usize>) -> Self {
        let differing = block.differing();
        assert!(!differing.is_empty(), "a block that was found differs");
        let places = |place: &dyn Fn(usize) -> usize| {
            let mut places: Vec<usize> = differing.iter().map(|index| place(*index)).collect();
            places.sort_unstable();
            places.dedup();
            places
        };
        let width = block.width;
        let heads = head_size
            .map(|size| Spread::of(&places(&|index| index % width / size), width.div_ceil(size)));
        Self {
            rows: Spread::of(&places(&|index| index / width), block.tokens.len()),
            columns: Spread::of(&places(&|index| index % width), width),
            heads,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows: {}; columns: {}", self.rows, self.columns)?;
        self.heads.as_ref().map_or(Ok(()), |heads| write!(f, "; heads: {heads}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spread_has_its_words() {
        for (places, of, words) in [
            (&[0, 1, 2][..], 3, "all 3"),
            (&[5], 9, "5 alone"),
            (&[0], 1, "0 alone"),
            (&[3, 4, 5, 6], 9, "3 to 6"),
            (&[1, 5, 9], 12, "every 4th from 1 to 9"),
            (&[0, 2, 4], 5, "every 2nd from 0 to 4"),
            (&[1, 2, 5], 9, "3 of 9 between 1 and 5"),
            (&[2, 7], 9, "2 of 9 between 2 and 7"),
        ] {
            assert_eq!(Spread::of(places, of).to_string(), words);
        }
    }

    #[test]
    fn heads_are_columns_by_their_size() {
        let mut block = Block {
            tap: "q".into(),
            layer: Some(0),
            first_position: 0,
            tokens: vec![1, 2],
            width: 8,
            expected: vec![0.0; 16],
            actual: vec![0.0; 16],
        };
        block.actual[12..16].fill(1.0);
        let words = "rows: 1 alone; columns: 4 to 7; heads: 1 alone";
        assert_eq!(Pattern::of(&block, Some(4)).to_string(), words);
    }
}
