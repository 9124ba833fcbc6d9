//! Cases of denormal numbers, NaN, infinity and the sign of zero.

use super::case::Case;
use super::operation::Operation;
use super::rounding::{LEAST_NORMAL, add, divide, fma, multiply, subtract};

/// 2^-149, the least number above zero.
const LEAST: f32 = f32::from_bits(1);
/// The greatest denormal number.
pub(super) const DENORMAL: f32 = f32::from_bits(0x007f_ffff);
const NAN: f32 = f32::NAN;
const INFINITY: f32 = f32::INFINITY;
/// 2^120.
const LARGE: f32 = f32::from_bits(0x7b80_0000);

const fn one(operation: Operation, x: f32, expected: f32) -> Case {
    Case::float(operation, [x, 0.0, 0.0], expected)
}

const fn says(operation: Operation, x: f32, y: f32, expected: bool) -> Case {
    Case::bits(operation, [x, y, 0.0], expected as u32)
}

const fn larger(x: f32, y: f32, expected: f32) -> Case {
    Case::float(Operation::Larger, [x, y, 0.0], expected)
}

/// Exact, and with results that are not denormal: only the inputs are in question. Division and
/// roots are left to their own cases: by reciprocals they fail here for another reason.
pub(super) static DENORMAL_INPUTS: [Case; 8] = [
    multiply(LEAST, LARGE),
    multiply(DENORMAL, 4.0),
    multiply(LARGE, -DENORMAL),
    add(LEAST_NORMAL, LEAST),
    subtract(LEAST_NORMAL * 2.0, LEAST_NORMAL * 0.5),
    fma(LEAST, LARGE, 0.0),
    says(Operation::Greater, LEAST, 0.0, true),
    larger(LEAST, -0.0, LEAST),
];

/// Exact, and of normal inputs: only the results are in question.
pub(super) static DENORMAL_RESULTS: [Case; 6] = [
    multiply(LEAST_NORMAL, 0.5),
    multiply(LEAST_NORMAL, -f32::EPSILON),
    multiply(LEAST_NORMAL * 1.5, 0.25),
    subtract(LEAST_NORMAL * 1.5, LEAST_NORMAL),
    add(LEAST_NORMAL, -LEAST_NORMAL * 1.25),
    fma(LEAST_NORMAL, 0.75, 0.0),
];

pub(super) static NOT_A_NUMBER: [Case; 24] = [
    says(Operation::Greater, NAN, 1.0, false),
    says(Operation::Greater, 1.0, NAN, false),
    says(Operation::Greater, NAN, NAN, false),
    says(Operation::Greater, 2.0, 1.0, true),
    says(Operation::NotGreater, NAN, 1.0, true),
    says(Operation::NotGreater, 1.0, NAN, true),
    says(Operation::NotGreater, 2.0, 1.0, false),
    says(Operation::EqualsItself, NAN, 0.0, false),
    says(Operation::EqualsItself, -NAN, 0.0, false),
    says(Operation::EqualsItself, 1.0, 0.0, true),
    says(Operation::Finite, NAN, 0.0, false),
    says(Operation::Infinite, NAN, 0.0, false),
    larger(NAN, 2.0, 2.0),
    larger(2.0, NAN, NAN),
    one(Operation::TimesZero, NAN, NAN),
    one(Operation::MinusItself, NAN, NAN),
    one(Operation::Rint, NAN, NAN),
    one(Operation::Exponential, NAN, NAN),
    one(Operation::SquareRoot, -1.0, NAN),
    Case::word(Operation::NarrowHalf, 0x7fc0_0000, 0x7e00),
    Case::word(Operation::WidenHalf, 0x7e01, 0x7fc0_0000),
    add(NAN, 1.0),
    divide(0.0, 0.0),
    fma(0.0, INFINITY, 1.0),
];

pub(super) static INFINITE: [Case; 24] = [
    says(Operation::Finite, INFINITY, 0.0, false),
    says(Operation::Finite, -INFINITY, 0.0, false),
    says(Operation::Finite, f32::MAX, 0.0, true),
    says(Operation::Finite, DENORMAL, 0.0, true),
    says(Operation::Infinite, INFINITY, 0.0, true),
    says(Operation::Infinite, -INFINITY, 0.0, true),
    says(Operation::Infinite, f32::MAX, 0.0, false),
    says(Operation::Greater, INFINITY, f32::MAX, true),
    says(Operation::EqualsItself, INFINITY, 0.0, true),
    larger(-INFINITY, -f32::MAX, -f32::MAX),
    larger(INFINITY, f32::MAX, INFINITY),
    one(Operation::TimesZero, INFINITY, NAN),
    one(Operation::MinusItself, INFINITY, NAN),
    one(Operation::Rint, -INFINITY, -INFINITY),
    one(Operation::SquareRoot, INFINITY, INFINITY),
    add(f32::MAX, f32::MAX),
    // Half a unit in the last place of MAX is a tie, and MAX is odd; less is none.
    add(f32::MAX, 1.014_120_5e31),
    add(f32::MAX, 1.0e31),
    multiply(-LARGE, LARGE),
    divide(1.0, 0.0),
    divide(-1.0, 0.0),
    divide(1.0, INFINITY),
    subtract(INFINITY, INFINITY),
    fma(LARGE, LARGE, -INFINITY),
];

pub(super) static SIGNED_ZERO: [Case; 20] = [
    one(Operation::PlusZero, -0.0, 0.0),
    one(Operation::PlusZero, 0.0, 0.0),
    one(Operation::ZeroMinus, 0.0, 0.0),
    one(Operation::ZeroMinus, -0.0, 0.0),
    one(Operation::TimesZero, -1.0, -0.0),
    one(Operation::TimesZero, 1.0, 0.0),
    one(Operation::MinusItself, -1.0, 0.0),
    one(Operation::Negate, 0.0, -0.0),
    one(Operation::Negate, -0.0, 0.0),
    one(Operation::Absolute, -0.0, 0.0),
    one(Operation::SquareRoot, -0.0, -0.0),
    one(Operation::Rint, -0.25, -0.0),
    one(Operation::Reciprocal, -0.0, -INFINITY),
    larger(-0.0, 0.0, 0.0),
    larger(0.0, -0.0, -0.0),
    add(-0.0, -0.0),
    add(1.0, -1.0),
    multiply(-0.0, 3.0),
    divide(-1.0, INFINITY),
    fma(1.0, -0.0, -0.0),
];
