// What products of few rows share.
#pragma once
#include "../arguments.h"
#include "../lanes.h"

// Matrices of one launch.
#define WAVE_MATRICES 3u

/// T of CONTRACT.md section 6: exact sums of digits, least significant first, as one f32.
template <u32 DIGITS>
INLINE float meet(const i32* sums) {
    float t = to_f32(sums[0]);
    if constexpr (DIGITS > 1) t = fma32(to_f32(sums[1]), 256.0f, t);
    if constexpr (DIGITS > 2) t = fma32(to_f32(sums[2]), 65536.0f, t);
    return t;
}
