//! The lanes as one 512-bit register, with `vpdpbusd` for the digits (Ice Lake, Zen 4 and later).

use archmage::intrinsics::x86_64::*;
use archmage::{X64V4xToken, arcane};

use super::{Kernel, LANES, Lanes, Line};

/// The proof that the instructions are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(X64V4xToken);

/// Runs a kernel compiled for these instructions.
#[arcane]
pub(super) fn enter<K: Kernel>(token: X64V4xToken, kernel: K) -> K::Output {
    kernel.run(Avx512(token))
}

lanes! {
    Avx512(X64V4xToken), __m512, __m512i, __m512i:

    fn splat(value: f32) -> __m512 { _mm512_set1_ps(value) }
    fn load(values: &[f32; LANES]) -> __m512 { _mm512_loadu_ps(values) }
    fn load_f16(bits: &[u8; 32]) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(bits)) }
    fn load_bf16(bits: &[u8; 32]) -> __m512 {
        let halves = _mm256_loadu_si256(bits);
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    }
    fn store(values: __m512) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        _mm512_storeu_ps(&mut out, values);
        out
    }
    fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
    fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
    fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
    fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
    fn fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
    fn rint(a: __m512) -> __m512 {
        _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
    }
    fn greater_or(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
    fn select_greater(a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), no, yes)
    }
    fn select_nan(a: __m512, yes: __m512, no: __m512) -> __m512 {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), no, yes)
    }
    fn to_i32(a: __m512) -> __m512i { _mm512_cvtps_epi32(a) }
    fn magnitude_bits(a: __m512) -> __m512i {
        _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fff_ffff))
    }
    fn splat_i32(value: i32) -> __m512i { _mm512_set1_epi32(value) }
    fn load_i8(values: &[u8; LANES]) -> __m512i {
        _mm512_cvtepi8_epi32(_mm_loadu_si128(values))
    }
    fn load_u8(values: &[u8; LANES]) -> __m512i {
        _mm512_cvtepu8_epi32(_mm_loadu_si128(values))
    }
    fn store_i32(values: __m512i) -> [i32; LANES] {
        let mut out = [0; LANES];
        _mm512_storeu_si512(&mut out, values);
        out
    }
    fn store_low_bytes(values: __m512i) -> [u8; LANES] {
        let mut out = [0; LANES];
        _mm_storeu_si128(&mut out, _mm512_cvtepi32_epi8(values));
        out
    }
    fn add_i32(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
    fn sub_i32(a: __m512i, b: __m512i) -> __m512i { _mm512_sub_epi32(a, b) }
    fn mul_i32(a: __m512i, b: __m512i) -> __m512i { _mm512_mullo_epi32(a, b) }
    fn max_i32(a: __m512i, b: __m512i) -> __m512i { _mm512_max_epi32(a, b) }
    fn shift_left(a: __m512i, bits: u32) -> __m512i {
        _mm512_sll_epi32(a, _mm_cvtsi32_si128(bits.cast_signed()))
    }
    fn shift_right(a: __m512i, bits: u32) -> __m512i {
        _mm512_sra_epi32(a, _mm_cvtsi32_si128(bits.cast_signed()))
    }
    fn to_f32(a: __m512i) -> __m512 { _mm512_cvtepi32_ps(a) }
    fn power_of_two(a: __m512i) -> __m512 {
        let biased = _mm512_add_epi32(a, _mm512_set1_epi32(127));
        _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
    }
    fn weights(line: &Line) -> __m512i { _mm512_loadu_si512(&line.0) }
    fn nibbles(line: &Line) -> [__m512i; 2] {
        let (both, mask) = (_mm512_loadu_si512(&line.0), _mm512_set1_epi8(15));
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(both), mask);
        [_mm512_and_si512(both, mask), high]
    }
    fn dot_narrow(sum: __m512i, weights: __m512i, digits: i32) -> __m512i {
        _mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(digits))
    }
    fn dot_wide(sum: __m512i, weights: __m512i, digits: i32) -> __m512i {
        _mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(digits))
    }
}
