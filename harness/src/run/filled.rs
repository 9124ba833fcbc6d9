//! Records that came with a hash only get their rows: of equal hashes the partner's, and of the
//! first that differs the side's own, which are read for it.

use super::lane::Lane;
use crate::compare::Key;
use crate::compare::rows::{self, RowVerdict};
use crate::compare::sequence::Record;

/// What has been read of a step.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// The rows of the last tap whose hashes are others.
    read: Vec<Record>,
    /// Whether one of them is another than the partner's: later taps follow from it.
    differs: bool,
}

impl Filled {
    /// The record with its row; nothing for one behind the tap that was read, which follows from it
    /// or is looked at by nobody.
    pub(super) fn fill(
        &mut self,
        expected: &Record,
        actual: Record,
        engine: &mut Lane,
    ) -> Option<Record> {
        // A record without a partner is told by its key, and one with a row has it.
        if expected.key != actual.key || !actual.row.is_empty() || expected.row.is_empty() {
            return Some(actual);
        }
        if expected.hash.is_some() && expected.hash == actual.hash {
            return Some(Record { row: expected.row.clone(), ..actual });
        }
        if self.of(&actual.key).is_none() {
            if self.differs {
                return None;
            }
            // Without its rows it differs all the same.
            let Some(read) = engine.rows_of(&actual.key) else { return Some(actual) };
            self.read = read;
        }
        let Some(read) = self.of(&actual.key) else { return Some(actual) };
        let verdict = rows::compare(&expected.row, &read.row);
        self.differs |= matches!(verdict, RowVerdict::Differs(_));
        // The hash that was shown: a digest that is wrong, or of memory that has changed since, is
        // not to be mended by one of the rows that were read.
        Some(Record { hash: actual.hash, ..read })
    }

    fn of(&self, key: &Key) -> Option<Record> {
        self.read.iter().find(|record| record.key == *key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::rows::same;
    use crate::compare::sequence::Comparison;
    use crate::compare::{Difference, Phase, Verdict};
    use crate::find::search::Search;
    use crate::run::lane::Loading;
    use crate::sides::imaginary::Imaginary;
    use crate::sides::{Row, Side, TapLevel};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn lane(side: Imaginary) -> Lane {
        let name = side.name;
        Loading::start(name, Box::new(move || Ok(Box::new(side) as Box<dyn Side>))).wait().unwrap()
    }

    /// Every record of a call that came with its row, and how many taps the side was asked for.
    fn filled(wrong_layer: Option<usize>) -> (Vec<(Record, Record)>, usize) {
        filled_by(Imaginary { wrong_layer, ..Imaginary::new("engine") })
    }

    fn filled_by(side: Imaginary) -> (Vec<(Record, Record)>, usize) {
        let reads = Arc::new(AtomicUsize::new(0));
        let side = Imaginary { reads: Some(Arc::clone(&reads)), ..side };
        let (mut engine, mut reference) = (lane(side), lane(Imaginary::new("reference")));
        let tokens = [3, 1, 4];
        engine.forward_hashed(&tokens, TapLevel::Op);
        reference.forward(&tokens, TapLevel::Op);
        let (mut filled, mut pairs) = (Filled::default(), Vec::new());
        while let Some(expected) = reference.next_record() {
            let actual = engine.next_record().unwrap();
            if let Some(actual) = filled.fill(&expected, actual, &mut engine) {
                pairs.push((expected, actual));
            }
        }
        assert!(engine.next_record().is_none());
        engine.finish().unwrap();
        (pairs, reads.load(Ordering::SeqCst))
    }

    fn equal((one, two): &(Record, Record)) -> bool {
        assert_eq!(one.key, two.key);
        let (Row::F32(one), Row::F32(two)) = (&one.row, &two.row) else { panic!("rows in f64") };
        assert_eq!(one.len(), two.len());
        one.iter().zip(two).all(|(one, two)| same(*one, *two))
    }

    #[test]
    fn of_equal_hashes_no_row_is_read() {
        let (pairs, reads) = filled(None);
        assert_eq!((pairs.len(), reads), (6, 0));
        assert!(pairs.iter().all(equal));
    }

    #[test]
    fn of_the_tap_that_differs_all_rows_are_read_once() {
        for (wrong, first) in [(1, 3), (0, 0)] {
            let (pairs, reads) = filled(Some(wrong));
            assert_eq!((pairs.len(), reads), (6, 1), "layer {wrong}");
            let differs = |index: usize| (first..first + 3).contains(&index);
            for (index, pair) in pairs.iter().enumerate() {
                assert_eq!(equal(pair), !differs(index), "layer {wrong}, record {index}");
            }
        }
    }

    #[test]
    fn a_wrong_digest_over_equal_rows_is_seen_and_hides_no_later_tap() {
        let (wrong_digest, wrong_layer) = (Some(0), Some(1));
        let side = Imaginary { wrong_digest, wrong_layer, ..Imaginary::new("engine") };
        let (pairs, reads) = filled_by(side);
        assert_eq!((pairs.len(), reads), (6, 2));
        let mut search = Search::default();
        search.begin(0, Phase::PrefillLast);
        let mut comparison = Comparison::new(0, Phase::PrefillLast);
        for (expected, actual) in pairs {
            comparison.pair(Some(&expected), Some(&actual));
            search.see(expected, actual);
        }
        search.close();
        let Verdict::Diverges(first) = comparison.finish().verdict else { panic!("it agrees") };
        assert!(matches!(first.difference, Difference::Hash { .. }), "{first}");
        assert_eq!(first.place.key.layer, Some(0));
        assert_eq!(search.found().unwrap().block.layer, Some(1));
    }

    #[test]
    fn a_side_that_waits_to_be_asked_is_not_waited_for() {
        let reads = Some(Arc::default());
        let mut engine = lane(Imaginary { reads, ..Imaginary::new("engine") });
        engine.forward_hashed(&[1; 50], TapLevel::Op);
        assert!(engine.next_record().is_some());
        drop(engine);
    }
}
