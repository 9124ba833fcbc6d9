//! Sixteen lanes of binary32 and i32, and the three ways to run them with the same bits.
//!
//! A kernel is written once over [`Lanes`]; [`Level::run`] enters it compiled for the instructions
//! that this machine was seen to have.

/// Implements [`Lanes`] with functions that need instructions, safe because the token was shown.
#[cfg(target_arch = "x86_64")]
macro_rules! lanes {
    (
        $name:ident($token:ident), $f32:ty, $i32:ty, $weights:ty:
        $(fn $method:ident($($argument:ident: $kind:ty),*) -> $result:ty $body:block)*
    ) => {
        $(
            #[archmage::arcane]
            fn $method(_token: $token, $($argument: $kind),*) -> $result $body
        )*

        impl Lanes for $name {
            type F32 = $f32;
            type I32 = $i32;
            type Weights = $weights;

            $(
                #[inline(always)]
                fn $method(self, $($argument: $kind),*) -> $result {
                    $method(self.0, $($argument),*)
                }
            )*
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
use archmage::{SimdToken, X64V3Token, X64V4xToken};

/// How many lanes a vector has, on every level.
pub(crate) const LANES: usize = 16;

/// 64 bytes, aligned as a cache line is: four weights of each of 16 rows, or 16 lanes of scales.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

/// Lane-wise arithmetic. Every method is exact or rounds once, so levels cannot differ.
pub(crate) trait Lanes: Copy {
    type F32: Copy;
    type I32: Copy;
    type Weights: Copy;

    fn splat(self, value: f32) -> Self::F32;
    fn load(self, values: &[f32; LANES]) -> Self::F32;
    fn load_f16(self, bits: &[u8; 32]) -> Self::F32;
    fn load_bf16(self, bits: &[u8; 32]) -> Self::F32;
    fn store(self, values: Self::F32) -> [f32; LANES];
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c` with one rounding.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The nearest integer, ties to even.
    fn rint(self, a: Self::F32) -> Self::F32;
    /// `if a > b { a } else { b }`, so a NaN in `a` loses.
    fn greater_or(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `if a > b { yes } else { no }`.
    fn select_greater(self, a: Self::F32, b: Self::F32, yes: Self::F32, no: Self::F32)
    -> Self::F32;
    /// `if a is NaN { yes } else { no }`.
    fn select_nan(self, a: Self::F32, yes: Self::F32, no: Self::F32) -> Self::F32;
    /// The integer in `a`, which is one already and fits; anything else gives any integer.
    fn to_i32(self, a: Self::F32) -> Self::I32;
    /// The bits of `a` without the sign.
    fn magnitude_bits(self, a: Self::F32) -> Self::I32;

    fn splat_i32(self, value: i32) -> Self::I32;
    fn load_i8(self, values: &[u8; LANES]) -> Self::I32;
    fn load_u8(self, values: &[u8; LANES]) -> Self::I32;
    fn store_i32(self, values: Self::I32) -> [i32; LANES];
    /// The lowest byte of every lane.
    fn store_low_bytes(self, values: Self::I32) -> [u8; LANES];
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    fn mul_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    fn max_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    fn shift_left(self, a: Self::I32, bits: u32) -> Self::I32;
    /// Arithmetic.
    fn shift_right(self, a: Self::I32, bits: u32) -> Self::I32;
    /// Nearest even.
    fn to_f32(self, a: Self::I32) -> Self::F32;
    /// 2^a for a in -126..=127.
    fn power_of_two(self, a: Self::I32) -> Self::F32;

    /// Four unsigned weights of each of 16 rows.
    fn weights(self, line: &Line) -> Self::Weights;
    /// The same from the low and the high nibbles of a line.
    fn nibbles(self, line: &Line) -> [Self::Weights; 2];
    /// `sum[lane] + Σ weights[lane][i] * digits[i]`, four signed digits in a word, weights to 127.
    fn dot_narrow(self, sum: Self::I32, weights: Self::Weights, digits: i32) -> Self::I32;
    /// The same with weights to 255.
    fn dot_wide(self, sum: Self::I32, weights: Self::Weights, digits: i32) -> Self::I32;
}

/// Work that runs over lanes.
pub(crate) trait Kernel {
    type Output;
    /// Implementations are `#[inline(always)]`: that is how they get the level's instructions.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// Which instructions run the kernels. The bits are the same on every level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Level(Instructions);

#[derive(Clone, Copy, Debug, Default)]
enum Instructions {
    #[default]
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(X64V3Token),
    #[cfg(target_arch = "x86_64")]
    Avx512(X64V4xToken),
}

impl Level {
    /// Plain Rust.
    #[must_use]
    pub const fn portable() -> Self {
        Self(Instructions::Portable)
    }

    /// The fastest level of this machine, or the portable one when `simd` is false.
    #[must_use]
    pub fn best(simd: bool) -> Self {
        if simd { Self::available().pop().unwrap_or_default() } else { Self::portable() }
    }

    /// All levels of this machine, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self::portable()];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(X64V3Token::summon().map(|token| Self(Instructions::Avx2(token))));
            levels.extend(X64V4xToken::summon().map(|token| Self(Instructions::Avx512(token))));
        }
        levels
    }

    /// The word for it in a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Instructions::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512(_) => "avx512vnni",
        }
    }

    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Instructions::Portable => kernel.run(portable::Portable),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2(token) => avx2::enter(token, kernel),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512(token) => avx512::enter(token, kernel),
        }
    }
}
