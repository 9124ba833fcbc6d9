//! What each tap of a step came to, in the order in which the taps ran.

use std::borrow::Cow;

use super::rows::RowVerdict;
use super::{Difference, Key};
use crate::number::Number;

/// A tap of a layer, over all positions of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct TapOutcome {
    /// The layer, for the taps inside one.
    pub layer: Option<usize>,
    /// The name in CONTRACT.md, section 12.
    pub tap: Cow<'static, str>,
    /// The worst of its rows.
    pub state: State,
    /// Pairs of rows.
    pub rows_compared: u64,
    /// Pairs of rows that are not equal.
    pub rows_differing: u64,
    /// Pairs of values that differ in them.
    pub elements_differing: u64,
    /// The largest distance over its limit, where distances are judged and not bits.
    pub bound_share: Option<Number>,
}

/// What a tap came to; the later is the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Equal bits in every row.
    Equal,
    /// Within the bound, where distances are judged.
    Within,
    /// No number, on both sides alike.
    NonFinite,
    /// Other bits, another length or another hash.
    Differs,
    /// Farther than the bound.
    Beyond,
    /// A tap of one side only.
    NoPartner,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Equal, Self::Within, Self::NonFinite, Self::Differs, Self::Beyond, Self::NoPartner];

    /// The character for it in `taps.jsonl`.
    pub fn letter(self) -> char {
        match self {
            Self::Equal => '=',
            Self::Within => '<',
            Self::NonFinite => 'n',
            Self::Differs => 'x',
            Self::Beyond => '>',
            Self::NoPartner => '-',
        }
    }

    /// Back from it.
    pub fn of_letter(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.letter() == letter)
    }
}

/// Collects the outcomes of a step as its rows are compared.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    taps: Vec<TapOutcome>,
    last: usize,
}

impl Outcomes {
    /// A pair of rows of one key.
    pub(super) fn add(&mut self, key: &Key, row: &RowVerdict) {
        let (state, differing) = match row {
            RowVerdict::Agrees => (State::Equal, 0),
            RowVerdict::NonFiniteOnBothSides { .. } => (State::NonFinite, 0),
            RowVerdict::Differs(found) => {
                let lengths = matches!(found.difference, Difference::Length { .. });
                (State::Differs, if lengths { 0 } else { found.differing_count as u64 })
            }
        };
        let tap = self.tap(key);
        tap.rows_compared += 1;
        tap.rows_differing += u64::from(state != State::Equal);
        tap.elements_differing += differing;
        tap.state = tap.state.max(state);
    }

    /// Equal rows that were hashed differently, or a row without a partner.
    pub(super) fn spoil(&mut self, key: &Key, state: State) {
        let tap = self.tap(key);
        tap.rows_differing += 1;
        tap.state = tap.state.max(state);
    }

    pub(super) fn take(self) -> Vec<TapOutcome> {
        self.taps
    }

    /// Rows of a tap come one after another, and the taps of every chunk in the same order: mostly
    /// it is the last tap or the one after it.
    fn tap(&mut self, key: &Key) -> &mut TapOutcome {
        let is = |tap: &TapOutcome| tap.layer == key.layer && tap.tap == key.tap;
        let near = [self.last, self.last + 1].into_iter();
        let found = near
            .filter(|&index| self.taps.get(index).is_some_and(is))
            .chain(self.taps.iter().position(is))
            .next();
        self.last = found.unwrap_or_else(|| {
            self.taps.push(TapOutcome {
                layer: key.layer,
                tap: key.tap.clone(),
                state: State::Equal,
                rows_compared: 0,
                rows_differing: 0,
                elements_differing: 0,
                bound_share: None,
            });
            self.taps.len() - 1
        });
        &mut self.taps[self.last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(layer: usize, tap: &'static str, position: usize) -> Key {
        Key { token_id: 1, position, layer: Some(layer), tap: tap.into() }
    }

    #[test]
    fn every_letter_has_one_state() {
        for state in State::ALL {
            assert_eq!(State::of_letter(state.letter()), Some(state));
        }
        assert_eq!(State::of_letter('?'), None);
    }

    #[test]
    fn a_tap_has_the_worst_of_its_rows_whatever_the_chunks() {
        let mut outcomes = Outcomes::default();
        let shared = RowVerdict::NonFiniteOnBothSides { index: 0, value: Number::F32(f32::NAN) };
        for position in 0..2 {
            for (layer, tap) in [(0, "q"), (0, "k"), (1, "q")] {
                outcomes.add(&key(layer, tap, position), &RowVerdict::Agrees);
            }
        }
        outcomes.add(&key(0, "k", 2), &shared);
        outcomes.add(&key(0, "k", 3), &RowVerdict::Agrees);
        outcomes.spoil(&key(1, "v", 0), State::NoPartner);
        let taps = outcomes.take();
        let seen: Vec<_> = taps
            .iter()
            .map(|tap| (tap.layer.unwrap(), &*tap.tap, tap.state, tap.rows_compared))
            .collect();
        assert_eq!(
            seen,
            [
                (0, "q", State::Equal, 2),
                (0, "k", State::NonFinite, 4),
                (1, "q", State::Equal, 2),
                (1, "v", State::NoPartner, 0)
            ]
        );
        assert_eq!(taps[1].rows_differing, 1);
    }
}
