//! The lanes as two 256-bit registers (Haswell, Zen and later).

use archmage::intrinsics::x86_64::*;
use archmage::{X64V3Token, arcane};

use super::{Kernel, LANES, Lanes, Line};

/// The proof that the instructions are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(X64V3Token);

type F32 = [__m256; 2];
type I32 = [__m256i; 2];

/// Runs a kernel compiled for these instructions.
#[arcane]
pub(super) fn enter<K: Kernel>(token: X64V3Token, kernel: K) -> K::Output {
    kernel.run(Avx2(token))
}

lanes! {
    Avx2(X64V3Token), F32, I32, I32:

    fn splat(value: f32) -> F32 { [_mm256_set1_ps(value); 2] }
    fn load(values: &[f32; LANES]) -> F32 {
        let [low, high] = halves(values);
        [_mm256_loadu_ps(low), _mm256_loadu_ps(high)]
    }
    fn load_f16(bits: &[u8; 32]) -> F32 {
        let [low, high] = halves(bits);
        [_mm256_cvtph_ps(_mm_loadu_si128(low)), _mm256_cvtph_ps(_mm_loadu_si128(high))]
    }
    fn load_bf16(bits: &[u8; 32]) -> F32 {
        let [low, high] = halves(bits);
        let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(low));
        let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(high));
        [_mm256_slli_epi32::<16>(low), _mm256_slli_epi32::<16>(high)].map(|half| {
            _mm256_castsi256_ps(half)
        })
    }
    fn store(values: F32) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        let [low, high] = halves_mut(&mut out);
        _mm256_storeu_ps(low, values[0]);
        _mm256_storeu_ps(high, values[1]);
        out
    }
    fn add(a: F32, b: F32) -> F32 { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    fn sub(a: F32, b: F32) -> F32 { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    fn mul(a: F32, b: F32) -> F32 { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    fn div(a: F32, b: F32) -> F32 { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    fn fma(a: F32, b: F32, c: F32) -> F32 {
        [
            _mm256_fmadd_ps(a[0], b[0], c[0]),
            _mm256_fmadd_ps(a[1], b[1], c[1]),
        ]
    }
    fn rint(a: F32) -> F32 { [_mm256_round_ps::<NEAREST>(a[0]), _mm256_round_ps::<NEAREST>(a[1])] }
    fn greater_or(a: F32, b: F32) -> F32 { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    fn select_greater(a: F32, b: F32, yes: F32, no: F32) -> F32 {
        let low = _mm256_cmp_ps::<_CMP_GT_OQ>(a[0], b[0]);
        let high = _mm256_cmp_ps::<_CMP_GT_OQ>(a[1], b[1]);
        [_mm256_blendv_ps(no[0], yes[0], low), _mm256_blendv_ps(no[1], yes[1], high)]
    }
    fn select_nan(a: F32, yes: F32, no: F32) -> F32 {
        let low = _mm256_cmp_ps::<_CMP_UNORD_Q>(a[0], a[0]);
        let high = _mm256_cmp_ps::<_CMP_UNORD_Q>(a[1], a[1]);
        [_mm256_blendv_ps(no[0], yes[0], low), _mm256_blendv_ps(no[1], yes[1], high)]
    }
    fn to_i32(a: F32) -> I32 { [_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1])] }
    fn magnitude_bits(a: F32) -> I32 {
        let mask = _mm256_set1_epi32(0x7fff_ffff);
        a.map(|half| _mm256_and_si256(_mm256_castps_si256(half), mask))
    }
    fn splat_i32(value: i32) -> I32 { [_mm256_set1_epi32(value); 2] }
    fn load_i8(values: &[u8; LANES]) -> I32 {
        let bytes = _mm_loadu_si128(values);
        [_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes))]
    }
    fn load_u8(values: &[u8; LANES]) -> I32 {
        let bytes = _mm_loadu_si128(values);
        [_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes))]
    }
    fn store_i32(values: I32) -> [i32; LANES] {
        let mut out = [0; LANES];
        let [low, high] = halves_mut(&mut out);
        _mm256_storeu_si256(low, values[0]);
        _mm256_storeu_si256(high, values[1]);
        out
    }
    fn store_low_bytes(values: I32) -> [u8; LANES] {
        let mut out = [0_i32; LANES];
        let [low, high] = halves_mut(&mut out);
        _mm256_storeu_si256(low, values[0]);
        _mm256_storeu_si256(high, values[1]);
        out.map(|value| value as u8)
    }
    fn add_i32(a: I32, b: I32) -> I32 {
        [
            _mm256_add_epi32(a[0], b[0]),
            _mm256_add_epi32(a[1], b[1]),
        ]
    }
    fn sub_i32(a: I32, b: I32) -> I32 {
        [
            _mm256_sub_epi32(a[0], b[0]),
            _mm256_sub_epi32(a[1], b[1]),
        ]
    }
    fn mul_i32(a: I32, b: I32) -> I32 {
        [
            _mm256_mullo_epi32(a[0], b[0]),
            _mm256_mullo_epi32(a[1], b[1]),
        ]
    }
    fn max_i32(a: I32, b: I32) -> I32 {
        [
            _mm256_max_epi32(a[0], b[0]),
            _mm256_max_epi32(a[1], b[1]),
        ]
    }
    fn shift_left(a: I32, bits: u32) -> I32 {
        let bits = _mm_cvtsi32_si128(bits.cast_signed());
        [_mm256_sll_epi32(a[0], bits), _mm256_sll_epi32(a[1], bits)]
    }
    fn shift_right(a: I32, bits: u32) -> I32 {
        let bits = _mm_cvtsi32_si128(bits.cast_signed());
        [_mm256_sra_epi32(a[0], bits), _mm256_sra_epi32(a[1], bits)]
    }
    fn to_f32(a: I32) -> F32 { [_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])] }
    fn power_of_two(a: I32) -> F32 {
        let bias = _mm256_set1_epi32(127);
        a.map(|half| {
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias)))
        })
    }
    fn weights(line: &Line) -> I32 {
        let [low, high] = halves(&line.0);
        [_mm256_loadu_si256(low), _mm256_loadu_si256(high)]
    }
    fn nibbles(line: &Line) -> [I32; 2] {
        let [low, high] = halves(&line.0);
        let both = [_mm256_loadu_si256(low), _mm256_loadu_si256(high)];
        let mask = _mm256_set1_epi8(15);
        let high = both.map(|half| _mm256_and_si256(_mm256_srli_epi16::<4>(half), mask));
        [both.map(|half| _mm256_and_si256(half, mask)), high]
    }
    fn dot_narrow(sum: I32, weights: I32, digits: i32) -> I32 {
        // Two products of a byte to 127 and a digit fit into i16, so nothing saturates.
        let (digits, ones) = (_mm256_set1_epi32(digits), _mm256_set1_epi16(1));
        let dot = weights.map(|half| _mm256_madd_epi16(_mm256_maddubs_epi16(half, digits), ones));
        [_mm256_add_epi32(sum[0], dot[0]), _mm256_add_epi32(sum[1], dot[1])]
    }
    fn dot_wide(sum: I32, weights: I32, digits: i32) -> I32 {
        // Bytes at even and at odd places, each widened to i16, where a product is exact.
        let digits = _mm256_set1_epi32(digits);
        let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(digits));
        let odd = _mm256_srai_epi16::<8>(digits);
        let mask = _mm256_set1_epi16(255);
        let dot = weights.map(|half| {
            let even = _mm256_madd_epi16(_mm256_and_si256(half, mask), even);
            let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(half), odd);
            _mm256_add_epi32(even, odd)
        });
        [_mm256_add_epi32(sum[0], dot[0]), _mm256_add_epi32(sum[1], dot[1])]
    }
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

#[inline(always)]
fn halves<T, const WHOLE: usize, const HALF: usize>(whole: &[T; WHOLE]) -> [&[T; HALF]; 2] {
    const { assert!(2 * HALF == WHOLE) };
    let (low, rest) = whole.split_first_chunk().expect("a half is shorter");
    [low, rest.first_chunk().expect("the other half is as long")]
}

#[inline(always)]
fn halves_mut<T>(whole: &mut [T; LANES]) -> [&mut [T; LANES / 2]; 2] {
    let (low, rest) = whole.split_first_chunk_mut().expect("a half is shorter");
    [low, rest.first_chunk_mut().expect("the other half is as long")]
}
