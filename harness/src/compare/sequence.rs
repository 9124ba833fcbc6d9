//! The records of both sides, one by one in their order: keys first, then rows, then hashes.

use serde::Serialize;

use super::neighbourhood::{Capture, Neighbourhood};
use super::outcomes::{Outcomes, State, TapOutcome};
use super::rows::{self, RowVerdict};
use super::{Difference, Divergence, Key, Phase, Place, Reason, Verdict};
use crate::number::Hash;
use crate::sides::Row;

/// One row of one side, with its own hash of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it is paired on.
    pub key: Key,
    /// The values.
    pub row: Row,
    /// The side's hash; f64 rows have none.
    pub hash: Option<Hash>,
}

/// How much has been compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Pairs of rows.
    pub rows_compared: u64,
    /// Pairs of values in them.
    pub elements_compared: u64,
    /// Pairs of values that differ.
    pub elements_differing: u64,
    /// Pairs of rows that differ, or have no partner.
    pub rows_differing: u64,
}

impl Tally {
    /// Adds what another comparison counted.
    pub fn add(&mut self, other: Self) {
        self.rows_compared += other.rows_compared;
        self.elements_compared += other.elements_compared;
        self.elements_differing += other.elements_differing;
        self.rows_differing += other.rows_differing;
    }
}

/// Compares the records of one step as they come; remembers the first that parts.
#[derive(Debug)]
pub struct Comparison {
    step: usize,
    phase: Phase,
    verdict: Verdict,
    tally: Tally,
    aligned: bool,
    outcomes: Outcomes,
    pictured: bool,
    rows_before: usize,
    last: Option<Key>,
    capture: Option<Capture>,
}

/// A step that has been compared.
#[derive(Debug)]
pub struct Compared {
    /// What it showed.
    pub verdict: Verdict,
    /// How much was compared.
    pub tally: Tally,
    /// What each tap came to, in the order of the run.
    pub taps: Vec<TapOutcome>,
    /// The surroundings of the first element that differs, where they were asked for.
    pub neighbourhood: Option<Box<Neighbourhood>>,
}

impl Comparison {
    /// Begins a step.
    pub fn new(step: usize, phase: Phase) -> Self {
        Self {
            step,
            phase,
            verdict: Verdict::Agrees,
            tally: Tally::default(),
            aligned: true,
            outcomes: Outcomes::default(),
            pictured: false,
            rows_before: 0,
            last: None,
            capture: None,
        }
    }

    /// Keeps what surrounds the first element that differs.
    #[must_use]
    pub fn pictured(mut self, wanted: bool) -> Self {
        self.pictured = wanted;
        self
    }

    /// Whether the sequences have been the same so far. After a missing tap nothing pairs.
    pub fn aligned(&self) -> bool {
        self.aligned
    }

    /// The next record of either side; `None` where a side has ended.
    pub fn pair(&mut self, expected: Option<&Record>, actual: Option<&Record>) {
        let (Some(one), Some(two)) = (expected, actual) else {
            return self.no_pair(expected, actual);
        };
        if one.key != two.key {
            return self.no_pair(expected, actual);
        }
        let elements_count = one.row.len().min(two.row.len());
        self.tally.rows_compared += 1;
        self.tally.elements_compared += elements_count as u64;
        let place = self.place(&one.key);
        let compared = rows::compare(&one.row, &two.row);
        self.outcomes.add(&one.key, &compared);
        if self.pictured {
            self.picture(one, two, &compared);
        }
        match compared {
            RowVerdict::Differs(found) => {
                self.tally.rows_differing += 1;
                self.tally.elements_differing += found.differing_count as u64;
                self.note(Verdict::Diverges(Box::new(Divergence {
                    difference: found.difference,
                    place,
                    element: found.element,
                    differing_count: found.differing_count,
                    elements_count,
                })));
            }
            RowVerdict::NonFiniteOnBothSides { index, value } => {
                let reason = Reason::NonFiniteOnBothSides { place, index, value };
                self.note(Verdict::Inconclusive(reason));
            }
            RowVerdict::Agrees => self.hashes(one, two, place),
        }
    }

    /// The verdict of the step, and what was counted.
    pub fn finish(self) -> Compared {
        Compared {
            verdict: self.verdict,
            tally: self.tally,
            taps: self.outcomes.take(),
            neighbourhood: self.capture.map(|capture| Box::new(capture.finish())),
        }
    }

    /// Keeps the rows of the first tap that differs, until it ends.
    fn picture(&mut self, expected: &Record, actual: &Record, compared: &RowVerdict) {
        let (key, rows) = (&expected.key, (&expected.row, &actual.row));
        if let Some(capture) = &mut self.capture {
            self.pictured = capture.add(key, rows.0, rows.1);
            return;
        }
        let goes_on = self.last.as_ref().is_some_and(|last| {
            last.tap == key.tap && last.layer == key.layer && last.position + 1 == key.position
        });
        self.rows_before = if goes_on { self.rows_before + 1 } else { 0 };
        if matches!(compared, RowVerdict::Differs(_)) {
            self.capture = Capture::begin(key, rows.0, rows.1, self.rows_before);
            self.pictured = self.capture.is_some();
        }
        self.last = Some(key.clone());
    }

    /// Equal rows have equal hashes, or one of the two hash functions is wrong.
    fn hashes(&mut self, expected: &Record, actual: &Record, place: Place) {
        let (Some(one), Some(two)) = (expected.hash, actual.hash) else { return };
        if one != two {
            self.tally.rows_differing += 1;
            self.outcomes.spoil(&expected.key, State::Differs);
            self.note(Verdict::Diverges(Box::new(Divergence {
                difference: Difference::Hash { expected: one, actual: two },
                place,
                element: None,
                differing_count: 0,
                elements_count: expected.row.len(),
            })));
        }
    }

    fn no_pair(&mut self, expected: Option<&Record>, actual: Option<&Record>) {
        let Some(shown) = expected.or(actual) else { return };
        self.aligned = false;
        self.pictured = false;
        self.outcomes.spoil(&shown.key, State::NoPartner);
        self.tally.rows_differing += 1;
        let place = self.place(&shown.key);
        let difference = Difference::Sequence {
            expected: expected.map(|record| record.key.clone()),
            actual: actual.map(|record| record.key.clone()),
        };
        self.note(Verdict::Diverges(Box::new(Divergence {
            difference,
            place,
            element: None,
            differing_count: 0,
            elements_count: 0,
        })));
    }

    fn place(&self, key: &Key) -> Place {
        Place { key: key.clone(), step: self.step, phase: self.phase }
    }

    fn note(&mut self, found: Verdict) {
        let before = std::mem::replace(&mut self.verdict, Verdict::Agrees);
        self.verdict = before.and(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tap: &'static str, position: usize, token_id: u32, values: &[f32]) -> Record {
        Record {
            key: Key { token_id, position, layer: Some(1), tap: tap.into() },
            row: Row::F32(values.to_vec()),
            hash: Some(Hash(values.len() as u64)),
        }
    }

    fn divergence(expected: Option<&Record>, actual: Option<&Record>) -> Divergence {
        let mut comparison = Comparison::new(3, Phase::Decode);
        comparison.pair(expected, actual);
        match comparison.finish().verdict {
            Verdict::Diverges(divergence) => *divergence,
            other => panic!("expected a divergence, got {other:?}"),
        }
    }

    #[test]
    fn a_record_without_a_partner_is_a_failure() {
        let one = record("q", 4, 7, &[1.0]);
        for (expected, actual) in [(Some(&one), None), (None, Some(&one))] {
            let found = divergence(expected, actual);
            assert!(matches!(found.difference, Difference::Sequence { .. }));
            assert_eq!(found.place.key.tap, "q");
        }
    }

    #[test]
    fn the_same_step_with_another_token_position_layer_or_tap_is_no_pair() {
        let one = record("q", 4, 7, &[1.0]);
        let mut other_layer = one.clone();
        other_layer.key.layer = Some(2);
        for two in [
            record("q", 4, 8, &[1.0]),
            record("q", 5, 7, &[1.0]),
            record("k", 4, 7, &[1.0]),
            other_layer,
        ] {
            let found = divergence(Some(&one), Some(&two));
            assert!(matches!(found.difference, Difference::Sequence { .. }), "{found}");
        }
    }

    #[test]
    fn equal_rows_with_other_hashes_are_a_failure() {
        let one = record("q", 4, 7, &[1.0]);
        let mut two = one.clone();
        two.hash = Some(Hash(99));
        assert!(matches!(divergence(Some(&one), Some(&two)).difference, Difference::Hash { .. }));
    }

    #[test]
    fn the_first_divergence_is_kept_and_all_are_counted() {
        let mut comparison = Comparison::new(3, Phase::Decode);
        let good = record("q", 4, 7, &[1.0, 2.0]);
        comparison.pair(Some(&good), Some(&good));
        comparison.pair(Some(&good), Some(&record("q", 4, 7, &[1.0, 2.5])));
        comparison.pair(Some(&good), Some(&record("q", 4, 7, &[1.5, 2.5])));
        let Compared { verdict, tally, .. } = comparison.finish();
        let Verdict::Diverges(found) = verdict else { panic!("no divergence") };
        assert_eq!(found.element.as_ref().unwrap().index, 1);
        assert_eq!(found.place.step, 3);
        assert_eq!(
            tally,
            Tally {
                rows_compared: 3,
                elements_compared: 6,
                elements_differing: 3,
                rows_differing: 2
            }
        );
    }
    #[test]
    fn the_picture_is_of_the_first_tap_that_differs_with_the_rows_before_it() {
        let mut comparison = Comparison::new(0, Phase::PrefillLast).pictured(true);
        let one = |tap, position| record(tap, position, 7, &[1.0, 2.0]);
        let other = |tap, position| record(tap, position, 7, &[1.0, 2.5]);
        for position in 3..6 {
            comparison.pair(Some(&one("q", position)), Some(&one("q", position)));
        }
        comparison.pair(Some(&one("k", 3)), Some(&one("k", 3)));
        comparison.pair(Some(&one("k", 4)), Some(&other("k", 4)));
        comparison.pair(Some(&one("k", 5)), Some(&one("k", 5)));
        comparison.pair(Some(&one("v", 6)), Some(&other("v", 6)));
        let compared = comparison.finish();
        let shown = compared.neighbourhood.unwrap();
        assert_eq!((&*shown.tap, shown.rows, shown.first_position), ("k", 3, 3));
        assert_eq!(shown.mask.cells, ["00", "09", "00"]);
        let states: Vec<State> = compared.taps.iter().map(|tap| tap.state).collect();
        assert_eq!(states, [State::Equal, State::Differs, State::Differs]);
    }
}
