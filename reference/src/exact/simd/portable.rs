//! The lanes in plain Rust: right on every machine, and what the other levels are compared with.

use half::{bf16, f16};

use super::{LANES, Lanes, Line};

/// Arrays of 16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

type F32 = [f32; LANES];
type I32 = [i32; LANES];

#[inline(always)]
fn map<T: Copy, U>(a: [T; LANES], operation: impl Fn(T) -> U) -> [U; LANES] {
    a.map(operation)
}

#[inline(always)]
fn zip<T: Copy, U>(a: [T; LANES], b: [T; LANES], operation: impl Fn(T, T) -> U) -> [U; LANES] {
    std::array::from_fn(|lane| operation(a[lane], b[lane]))
}

#[inline(always)]
fn halves(bits: &[u8; 32], widen: impl Fn(u16) -> f32) -> F32 {
    std::array::from_fn(|lane| widen(u16::from_le_bytes([bits[2 * lane], bits[2 * lane + 1]])))
}

impl Lanes for Portable {
    type F32 = F32;
    type I32 = I32;
    type Weights = [u8; 64];

    #[inline(always)]
    fn splat(self, value: f32) -> F32 {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> F32 {
        *values
    }

    #[inline(always)]
    fn load_f16(self, bits: &[u8; 32]) -> F32 {
        halves(bits, |half| f16::from_bits(half).to_f32())
    }

    #[inline(always)]
    fn load_bf16(self, bits: &[u8; 32]) -> F32 {
        halves(bits, |half| bf16::from_bits(half).to_f32())
    }

    #[inline(always)]
    fn store(self, values: F32) -> [f32; LANES] {
        values
    }

    #[inline(always)]
    fn add(self, a: F32, b: F32) -> F32 {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: F32, b: F32) -> F32 {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: F32, b: F32) -> F32 {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: F32, b: F32) -> F32 {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn fma(self, a: F32, b: F32, c: F32) -> F32 {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    #[inline(always)]
    fn rint(self, a: F32) -> F32 {
        map(a, f32::round_ties_even)
    }

    #[inline(always)]
    fn greater_or(self, a: F32, b: F32) -> F32 {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn select_greater(self, a: F32, b: F32, yes: F32, no: F32) -> F32 {
        std::array::from_fn(|lane| if a[lane] > b[lane] { yes[lane] } else { no[lane] })
    }

    #[inline(always)]
    fn select_nan(self, a: F32, yes: F32, no: F32) -> F32 {
        std::array::from_fn(|lane| if a[lane].is_nan() { yes[lane] } else { no[lane] })
    }

    #[inline(always)]
    fn to_i32(self, a: F32) -> I32 {
        map(a, |a| a as i32)
    }

    #[inline(always)]
    fn magnitude_bits(self, a: F32) -> I32 {
        map(a, |a| a.abs().to_bits().cast_signed())
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> I32 {
        [value; LANES]
    }

    #[inline(always)]
    fn load_i8(self, values: &[u8; LANES]) -> I32 {
        map(*values, |value| i32::from(value.cast_signed()))
    }

    #[inline(always)]
    fn load_u8(self, values: &[u8; LANES]) -> I32 {
        map(*values, i32::from)
    }

    #[inline(always)]
    fn store_i32(self, values: I32) -> [i32; LANES] {
        values
    }

    #[inline(always)]
    fn store_low_bytes(self, values: I32) -> [u8; LANES] {
        map(values, |value| value as u8)
    }

    #[inline(always)]
    fn add_i32(self, a: I32, b: I32) -> I32 {
        zip(a, b, i32::wrapping_add)
    }

    #[inline(always)]
    fn sub_i32(self, a: I32, b: I32) -> I32 {
        zip(a, b, i32::wrapping_sub)
    }

    #[inline(always)]
    fn mul_i32(self, a: I32, b: I32) -> I32 {
        zip(a, b, i32::wrapping_mul)
    }

    #[inline(always)]
    fn max_i32(self, a: I32, b: I32) -> I32 {
        zip(a, b, i32::max)
    }

    #[inline(always)]
    fn shift_left(self, a: I32, bits: u32) -> I32 {
        map(a, |a| a << bits)
    }

    #[inline(always)]
    fn shift_right(self, a: I32, bits: u32) -> I32 {
        map(a, |a| a >> bits)
    }

    #[inline(always)]
    fn to_f32(self, a: I32) -> F32 {
        map(a, |a| a as f32)
    }

    #[inline(always)]
    fn power_of_two(self, a: I32) -> F32 {
        map(a, |a| f32::from_bits((a.wrapping_add(127) << 23).cast_unsigned()))
    }

    #[inline(always)]
    fn weights(self, line: &Line) -> [u8; 64] {
        line.0
    }

    #[inline(always)]
    fn nibbles(self, line: &Line) -> [[u8; 64]; 2] {
        [line.0.map(|byte| byte & 15), line.0.map(|byte| byte >> 4)]
    }

    #[inline(always)]
    fn dot_narrow(self, sum: I32, weights: [u8; 64], digits: i32) -> I32 {
        let digits = digits.to_le_bytes().map(u8::cast_signed);
        std::array::from_fn(|lane| {
            let mut dot = sum[lane];
            for (index, digit) in digits.iter().enumerate() {
                dot += i32::from(weights[4 * lane + index]) * i32::from(*digit);
            }
            dot
        })
    }

    #[inline(always)]
    fn dot_wide(self, sum: I32, weights: [u8; 64], digits: i32) -> I32 {
        self.dot_narrow(sum, weights, digits)
    }
}
