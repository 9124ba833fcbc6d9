// The scalar operations of CONTRACT.md, sections 1 and 2, the same words on every compiler.
#pragma once
#include "platform.h"

INLINE float to_f32(i32 x) { return (float)x; }

#if defined(__CUDACC_RTC__) || defined(__CUDACC__)
INLINE float fma32(float a, float b, float c) { return __fmaf_rn(a, b, c); }
INLINE float rint32(float x) { return rintf(x); }
INLINE float sqrt32(float x) { return __fsqrt_rn(x); }
INLINE float abs32(float x) { return fabsf(x); }
INLINE float from_bits(u32 bits) { return __uint_as_float(bits); }
INLINE u32 to_bits(float x) { return __float_as_uint(x); }
#else
INLINE float fma32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
INLINE float rint32(float x) { return __builtin_rintf(x); }
INLINE float sqrt32(float x) { return __builtin_sqrtf(x); }
INLINE float abs32(float x) { return __builtin_fabsf(x); }
INLINE float from_bits(u32 bits) { return __builtin_bit_cast(float, bits); }
INLINE u32 to_bits(float x) { return __builtin_bit_cast(u32, x); }
#endif

INLINE float infinity32() { return from_bits(0x7f800000u); }
INLINE float nan32() { return from_bits(0x7fc00000u); }
/// False for NaN and both infinities.
INLINE bool is_finite(float x) { return abs32(x) <= from_bits(0x7f7fffffu); }

/// 2^n for n in -126..=127.
INLINE float power_of_two(i32 n) { return from_bits((u32)(n + 127) << 23); }

/// f16 widened: the exponent is moved by one exact multiplication, which also serves denormals.
INLINE float half_to_f32(u16 half) {
    const u32 magnitude = (u32)(half & 0x7fffu) << 13;
    const float moved = from_bits(magnitude) * power_of_two(112);
    const u32 special = (half & 0x7c00u) == 0x7c00u ? magnitude | 0x7f800000u : to_bits(moved);
    return from_bits(special | (u32)(half & 0x8000u) << 16);
}

/// f32 narrowed to f16: nearest even, overflow to infinity, denormals kept, NaN stays NaN.
INLINE u16 f32_to_half(float x) {
    const u32 bits = to_bits(x);
    const u32 sign = (bits >> 16) & 0x8000u;
    const u32 magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (u16)(sign | 0x7e00u);
    // 65520 and above round to infinity.
    if (magnitude >= 0x477ff000u) return (u16)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) {
        // Below 2^-14 the result is a multiple of 2^-24: adding 0.5 rounds there, ties to even.
        const float shifted = from_bits(magnitude) + 0.5f;
        return (u16)(sign | (to_bits(shifted) - 0x3f000000u));
    }
    const u32 odd = (magnitude >> 13) & 1u;
    return (u16)(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

INLINE float bf16_to_f32(u16 half) { return from_bits((u32)half << 16); }

/// CONTRACT.md section 2.
INLINE float exp32(float x) {
    // The clamp keeps n within reach of step 6; the selects at the end decide the real outcome.
    const float low = x < -104.0f ? -104.0f : x;
    const float inside = low > from_bits(0x42b17217u) ? from_bits(0x42b17217u) : low;
    const float safe = x == x ? inside : 0.0f;
    const float n = rint32(safe * from_bits(0x3fb8aa3bu));
    float r = fma32(n, from_bits(0xbf318000u), safe);
    r = fma32(n, from_bits(0x395e8083u), r);
    float p = from_bits(0x39506967u);
    p = fma32(p, r, from_bits(0x3ab743ceu));
    p = fma32(p, r, from_bits(0x3c088908u));
    p = fma32(p, r, from_bits(0x3d2aa9c1u));
    p = fma32(p, r, from_bits(0x3e2aaaaau));
    p = fma32(p, r, from_bits(0x3f000000u));
    float y = fma32(p, r * r, r);
    y = y + 1.0f;
    const i32 whole = (i32)n;
    const i32 first = whole >> 1;
    y = (y * power_of_two(first)) * power_of_two(whole - first);
    y = x < -104.0f ? 0.0f : y;
    y = x > from_bits(0x42b17217u) ? infinity32() : y;
    return x == x ? y : nan32();
}

/// CONTRACT.md section 11.
INLINE float swiglu32(float gate, float up) { return (gate / (1.0f + exp32(-gate))) * up; }
