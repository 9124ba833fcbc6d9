//! Two rows: length, then NaN and infinity by name, then bits. The whole row, always.

use super::{Difference, Element};
use crate::number::Number;
use crate::sides::Row;

/// What two rows say.
#[derive(Clone, Debug, PartialEq)]
pub enum RowVerdict {
    /// Equal bits, all finite.
    Agrees,
    /// Different.
    Differs(RowDifference),
    /// Equal where finite, and the same NaN or infinities on both sides: nobody is right.
    NonFiniteOnBothSides {
        /// The first such element.
        index: usize,
        /// What it is.
        value: Number,
    },
}

/// How two rows differ.
#[derive(Clone, Debug, PartialEq)]
pub struct RowDifference {
    /// The kind.
    pub difference: Difference,
    /// The first element that shows it.
    pub element: Option<Element>,
    /// How many elements differ.
    pub differing_count: usize,
}

/// Compares the bits of two rows.
pub fn compare(expected: &Row, actual: &Row) -> RowVerdict {
    if expected.len() != actual.len() {
        let (expected_count, actual_count) = (expected.len(), actual.len());
        return RowVerdict::Differs(RowDifference {
            difference: Difference::Length { expected_count, actual_count },
            element: None,
            differing_count: expected_count.abs_diff(actual_count),
        });
    }
    match (expected, actual) {
        (Row::F32(one), Row::F32(two)) => {
            let equal = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() && b.is_finite();
            // Blocks without an early exit inside, so that the compiler makes vectors of them.
            let all = one
                .chunks(1024)
                .zip(two.chunks(1024))
                .all(|(one, two)| one.iter().zip(two).fold(true, |all, pair| all & equal(pair)));
            if all { RowVerdict::Agrees } else { explain(expected, actual) }
        }
        (Row::F64(_), Row::F64(_)) => explain(expected, actual),
        _ => RowVerdict::Differs(RowDifference {
            difference: Difference::Precision,
            element: None,
            differing_count: expected.len(),
        }),
    }
}

/// Equal bits, or NaN twice: payloads and signs of NaN are not compared (CONTRACT.md, section 1).
pub fn same(one: f32, two: f32) -> bool {
    one.to_bits() == two.to_bits() || (one.is_nan() && two.is_nan())
}

/// What a value is before its bits matter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Finite,
    NaN,
    PlusInfinity,
    MinusInfinity,
}

fn class(number: Number) -> Class {
    let value = number.to_f64();
    if value.is_nan() {
        Class::NaN
    } else if value.is_finite() {
        Class::Finite
    } else if value > 0.0 {
        Class::PlusInfinity
    } else {
        Class::MinusInfinity
    }
}

fn explain(expected: &Row, actual: &Row) -> RowVerdict {
    let mut differing_count = 0;
    let mut first_class = None;
    let mut first_bits = None;
    let mut first_shared = None;
    for index in 0..expected.len() {
        let (one, two) = (expected.at(index), actual.at(index));
        let (class_one, class_two) = (class(one), class(two));
        if class_one != class_two {
            differing_count += 1;
            first_class.get_or_insert(index);
        } else if class_one != Class::Finite {
            // NaN payloads and signs are not compared: CONTRACT.md, section 1.
            first_shared.get_or_insert(index);
        } else if one != two {
            differing_count += 1;
            first_bits.get_or_insert(index);
        }
    }
    let (difference, index) = match (first_class, first_bits, first_shared) {
        (Some(index), _, _) => (Difference::NonFinite, index),
        (None, Some(index), _) => (Difference::Bits, index),
        (None, None, Some(index)) => {
            return RowVerdict::NonFiniteOnBothSides { index, value: expected.at(index) };
        }
        (None, None, None) => return RowVerdict::Agrees,
    };
    let element = Element::new(index, expected.at(index), actual.at(index));
    RowVerdict::Differs(RowDifference { difference, element: Some(element), differing_count })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn differs(expected: &[f32], actual: &[f32]) -> RowDifference {
        match compare(&Row::F32(expected.to_vec()), &Row::F32(actual.to_vec())) {
            RowVerdict::Differs(difference) => difference,
            other => panic!("expected a difference, got {other:?}"),
        }
    }

    #[test]
    fn one_bit_anywhere_is_named() {
        let row: Vec<f32> = (0..3000).map(|i| (i as f32).sin()).collect();
        for index in [0, 255, 256, 1023, 1024, 2999] {
            for bit in [0, 22, 23, 31] {
                let mut other = row.clone();
                other[index] = f32::from_bits(other[index].to_bits() ^ (1 << bit));
                let difference = differs(&row, &other);
                assert_eq!(difference.element.unwrap().index, index);
                assert_eq!(difference.differing_count, 1);
            }
        }
    }

    #[test]
    fn non_finite_is_decided_before_bits() {
        let difference = differs(&[1.0, 2.0, 3.0, 4.0], &[1.5, 2.0, f32::NAN, 4.0]);
        assert_eq!(difference.difference, Difference::NonFinite);
        assert_eq!(difference.element.unwrap().index, 2);
        assert_eq!(difference.differing_count, 2);
        let difference = differs(&[f32::INFINITY], &[f32::NEG_INFINITY]);
        assert_eq!(difference.difference, Difference::NonFinite);
        let difference = differs(&[f32::NAN], &[f32::INFINITY]);
        assert_eq!(difference.difference, Difference::NonFinite);
    }

    #[test]
    fn the_same_nan_on_both_sides_is_no_agreement() {
        let row = Row::F32(vec![1.0, f32::NAN]);
        let verdict = compare(&row, &row);
        assert!(matches!(verdict, RowVerdict::NonFiniteOnBothSides { index: 1, .. }));
        let row = Row::F64(vec![f64::INFINITY]);
        let verdict = compare(&row, &row);
        assert!(matches!(verdict, RowVerdict::NonFiniteOnBothSides { index: 0, .. }));
    }

    #[test]
    fn zeros_of_two_signs_differ() {
        assert_eq!(differs(&[0.0], &[-0.0]).difference, Difference::Bits);
    }

    #[test]
    fn lengths_and_precisions_are_compared_first() {
        let difference = differs(&[1.0, f32::NAN], &[1.0]);
        assert_eq!(
            difference.difference,
            Difference::Length { expected_count: 2, actual_count: 1 }
        );
        let verdict = compare(&Row::F32(vec![1.0]), &Row::F64(vec![1.0]));
        assert!(matches!(verdict, RowVerdict::Differs(d) if d.difference == Difference::Precision));
    }

    proptest! {
        #[test]
        fn comparing_is_symmetric(
            one in proptest::collection::vec(any::<u32>(), 0..40),
            two in proptest::collection::vec(any::<u32>(), 0..40),
        ) {
            let row = |bits: &[u32]| Row::F32(bits.iter().map(|&b| f32::from_bits(b)).collect());
            let (one, two) = (row(&one), row(&two));
            match (compare(&one, &two), compare(&two, &one)) {
                (RowVerdict::Agrees, RowVerdict::Agrees) => {}
                (RowVerdict::Differs(there), RowVerdict::Differs(back)) => {
                    prop_assert_eq!(there.differing_count, back.differing_count);
                    prop_assert_eq!(
                        there.element.as_ref().map(|e| e.index),
                        back.element.as_ref().map(|e| e.index)
                    );
                    if let (Some(there), Some(back)) = (there.element, back.element) {
                        prop_assert_eq!(there.actual_bits, back.expected_bits);
                    }
                }
                (
                    RowVerdict::NonFiniteOnBothSides { index: there, .. },
                    RowVerdict::NonFiniteOnBothSides { index: back, .. },
                ) => prop_assert_eq!(there, back),
                (there, back) => prop_assert!(false, "{there:?} but back {back:?}"),
            }
        }

        #[test]
        fn a_row_agrees_with_itself_exactly_when_it_is_finite(
            bits in proptest::collection::vec(any::<u32>(), 0..40),
        ) {
            let values: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
            let finite = values.iter().all(|v| v.is_finite());
            let row = Row::F32(values);
            prop_assert_eq!(compare(&row, &row) == RowVerdict::Agrees, finite);
        }

        #[test]
        fn one_differing_bit_never_agrees(
            bits in proptest::collection::vec(any::<u32>(), 1..40),
            index in any::<proptest::sample::Index>(),
            bit in 0_u32..32,
        ) {
            let index = index.index(bits.len());
            let mut flipped = bits.clone();
            flipped[index] ^= 1 << bit;
            let row = |bits: &[u32]| Row::F32(bits.iter().map(|&b| f32::from_bits(b)).collect());
            prop_assert_ne!(compare(&row(&bits), &row(&flipped)), RowVerdict::Agrees);
        }
    }
}
