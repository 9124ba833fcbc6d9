//! Cases of integers and of conversions between them, f32, f16 and bf16.

use super::case::{Case, Words};
use super::operation::Operation;

const fn words(operation: Operation, inputs: Words, expected: i32) -> Case {
    Case { operation, inputs, expected: expected.cast_unsigned() }
}

const fn sign_extend(word: u32) -> Case {
    words(Operation::SignExtend, [word, 0, 0], word as u8 as i8 as i32)
}

const fn shift_right(value: i32, places: u32) -> Case {
    words(Operation::ShiftRight, [value.cast_unsigned(), places, 0], value >> places)
}

const fn second_digit(value: i32) -> Case {
    let rest = (value - value as i8 as i32) >> 8;
    words(Operation::SecondDigit, [value.cast_unsigned(), 0, 0], rest as i8 as i32)
}

const fn dot_bytes(p: [i8; 4], q: [i8; 4], k: i32) -> Case {
    let mut sum = k;
    let mut index = 0;
    while index < 4 {
        sum += p[index] as i32 * q[index] as i32;
        index += 1;
    }
    words(Operation::DotBytes, [packed_bytes(p), packed_bytes(q), k.cast_unsigned()], sum)
}

const fn packed_bytes([a, b, c, d]: [i8; 4]) -> u32 {
    u32::from_le_bytes([a as u8, b as u8, c as u8, d as u8])
}

const fn dot_pairs(p: [i16; 2], q: [i16; 2], k: i32) -> Case {
    let sum = p[0] as i32 * q[0] as i32 + p[1] as i32 * q[1] as i32 + k;
    words(Operation::DotPairs, [packed_pair(p), packed_pair(q), k.cast_unsigned()], sum)
}

const fn packed_pair([low, high]: [i16; 2]) -> u32 {
    low as u16 as u32 | (high as u16 as u32) << 16
}

const fn rint(x: f32) -> Case {
    Case::float(Operation::Rint, [x, 0.0, 0.0], x.round_ties_even())
}

const fn from_integer(i: i32) -> Case {
    Case::word(Operation::FromInteger, i.cast_unsigned(), (i as f32).to_bits())
}

const fn to_integer(x: f32) -> Case {
    Case::word(Operation::ToInteger, x.to_bits(), (x as i32).cast_unsigned())
}

const fn narrow(x: f32, expected: u16) -> Case {
    Case::word(Operation::NarrowHalf, x.to_bits(), expected as u32)
}

const fn widen(half: u16, expected: f32) -> Case {
    Case::word(Operation::WidenHalf, half as u32, expected.to_bits())
}

const fn widen_bfloat(upper: u16) -> Case {
    Case::word(Operation::WidenBfloat, upper as u32, (upper as u32) << 16)
}

pub(super) static INTEGERS: [Case; 41] = [
    sign_extend(0),
    sign_extend(1),
    sign_extend(127),
    sign_extend(128),
    sign_extend(255),
    sign_extend(0x1234_5680),
    sign_extend(0xffff_ff7f),
    shift_right(8, 1),
    shift_right(-8, 1),
    shift_right(-7, 1),
    shift_right(-1, 1),
    shift_right(-151, 1),
    shift_right(-8_355_711, 8),
    shift_right(i32::MIN, 8),
    shift_right(i32::MAX, 16),
    second_digit(0),
    second_digit(127),
    second_digit(128),
    second_digit(-129),
    second_digit(255),
    second_digit(-256),
    second_digit(32_639),
    second_digit(-32_639),
    second_digit(8_355_711),
    second_digit(-8_355_711),
    second_digit(5_000_000),
    dot_bytes([1, 2, 3, 4], [5, 6, 7, 8], 0),
    dot_bytes([-1, -2, -3, -4], [5, 6, 7, 8], 0),
    dot_bytes([-1, 2, -3, 4], [-5, 6, 7, -8], 1000),
    dot_bytes([-128; 4], [-128; 4], 0),
    dot_bytes([127; 4], [-128; 4], -7),
    dot_bytes([127; 4], [127; 4], 2_000_000_000),
    dot_bytes([-1; 4], [1; 4], 0),
    dot_bytes([1; 4], [-1; 4], 0),
    dot_bytes([100, -100, 100, -100], [100, 100, -100, -100], -1_000_000),
    dot_pairs([300, -300], [127, 127], 0),
    dot_pairs([-1, -1], [-1, 1], 5),
    dot_pairs([4032, 4032], [-128, -128], 0),
    dot_pairs([-32_768, -32_768], [127, 127], 0),
    dot_pairs([32_767, -32_768], [32_767, 127], 0),
    dot_pairs([-4064, 4064], [127, -128], -1_000_000),
];

pub(super) static RINT: [Case; 20] = [
    rint(0.5),
    rint(1.5),
    rint(2.5),
    rint(3.5),
    rint(-0.5),
    rint(-1.5),
    rint(-2.5),
    rint(-3.5),
    rint(0.499_999_97),
    rint(0.500_000_06),
    rint(-0.75),
    rint(126.5),
    rint(127.5),
    rint(4_194_303.5),
    rint(4_194_304.5),
    rint(8_388_607.5),
    rint(-8_388_606.5),
    rint(8_388_609.0),
    rint(1.0e20),
    rint(-150.8),
];

pub(super) static FROM_INTEGER: [Case; 26] = [
    from_integer(0),
    from_integer(1),
    from_integer(-1),
    from_integer(8_355_711),
    from_integer(-8_355_711),
    from_integer(16_777_215),
    // Ties from here on, to an even neighbour below and above, then numbers beside them.
    from_integer(16_777_217),
    from_integer(16_777_219),
    from_integer(-16_777_217),
    from_integer(-16_777_219),
    from_integer(33_554_434),
    from_integer(33_554_438),
    from_integer(33_554_433),
    from_integer(33_554_435),
    from_integer(-123_456_789),
    from_integer(987_654_321),
    from_integer(2_147_483_583),
    from_integer(2_147_483_584),
    from_integer(i32::MAX),
    from_integer(i32::MIN),
    to_integer(1.0),
    to_integer(-1.0),
    to_integer(2.9),
    to_integer(-2.9),
    to_integer(8_355_711.0),
    to_integer(-150.0),
];

/// Powers of two that f16 rounds at: half a unit in the last place of 1, and of the denormals.
const HALF_ULP: f32 = 1.0 / 2048.0;
const LEAST_HALF: f32 = 1.0 / 16_777_216.0;

/// The bits are literal: f16 has 10 bits of fraction, below 2^-14 multiples of 2^-24.
pub(super) static NARROW_HALF: [Case; 30] = [
    narrow(0.0, 0x0000),
    narrow(-0.0, 0x8000),
    narrow(1.0, 0x3c00),
    narrow(-2.0, 0xc000),
    narrow(0.1, 0x2e66),
    narrow(1.0 + HALF_ULP, 0x3c00),
    narrow(1.0 + 3.0 * HALF_ULP, 0x3c02),
    narrow(1.0 + HALF_ULP + f32::EPSILON, 0x3c01),
    narrow(1.0 + HALF_ULP - f32::EPSILON, 0x3c00),
    narrow(-1.0 - 3.0 * HALF_ULP, 0xbc02),
    // A carry into the exponent.
    narrow(2047.5, 0x6800),
    narrow(65_504.0, 0x7bff),
    narrow(65_519.996, 0x7bff),
    narrow(65_520.0, 0x7c00),
    narrow(-65_520.0, 0xfc00),
    narrow(1.0e9, 0x7c00),
    narrow(f32::INFINITY, 0x7c00),
    narrow(f32::NEG_INFINITY, 0xfc00),
    // Denormals: whole ones, ties, and what becomes normal by rounding.
    narrow(LEAST_HALF * 1024.0, 0x0400),
    narrow(LEAST_HALF * 1023.0, 0x03ff),
    narrow(LEAST_HALF * 1023.5, 0x0400),
    narrow(LEAST_HALF, 0x0001),
    narrow(-LEAST_HALF, 0x8001),
    narrow(LEAST_HALF * 0.5, 0x0000),
    narrow(LEAST_HALF * 0.500_000_06, 0x0001),
    narrow(LEAST_HALF * 1.5, 0x0002),
    narrow(LEAST_HALF * 2.5, 0x0002),
    narrow(LEAST_HALF * -300.4, 0x812c),
    narrow(-LEAST_HALF * 0.25, 0x8000),
    narrow(1.0e-40, 0x0000),
];

pub(super) static WIDEN_HALF: [Case; 14] = [
    widen(0x0000, 0.0),
    widen(0x8000, -0.0),
    widen(0x3c00, 1.0),
    widen(0xc000, -2.0),
    widen(0x2e66, 0.099_975_585_937_5),
    widen(0x3555, 0.333_251_953_125),
    widen(0x7bff, 65_504.0),
    widen(0x0400, LEAST_HALF * 1024.0),
    widen(0x03ff, LEAST_HALF * 1023.0),
    widen(0x0001, LEAST_HALF),
    widen(0x8001, -LEAST_HALF),
    widen(0x812c, LEAST_HALF * -300.0),
    widen(0x7c00, f32::INFINITY),
    widen(0xfc00, f32::NEG_INFINITY),
];

pub(super) static WIDEN_BFLOAT: [Case; 9] = [
    widen_bfloat(0x0000),
    widen_bfloat(0x8000),
    widen_bfloat(0x3f80),
    widen_bfloat(0xc2f7),
    widen_bfloat(0x3eab),
    widen_bfloat(0x7f7f),
    widen_bfloat(0x0001),
    widen_bfloat(0x807f),
    widen_bfloat(0xff80),
];
