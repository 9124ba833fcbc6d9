// What products of few rows share: their arguments, and how digits meet.
#pragma once
#include "../arguments.h"
#include "../lanes.h"

// Matrices of one launch.
#define WAVE_MATRICES 3u

struct ProductWaveArguments {
    Span<const u8> weights[WAVE_MATRICES];  // [outputs][row bytes]
    Span<float> out[WAVE_MATRICES];         // [rows][outputs]
    Span<const i8> digits;                  // as QuantiseArguments
    Span<const float> scales;
    Span<const float> sums;
    u32 outputs[WAVE_MATRICES];             // 0: there is no such matrix
    u32 width, rows;
    // product_stream: blocks of threads, and bytes of shared memory that were asked for.
    u32 stride, pool_bytes, unused;
};

/// T of CONTRACT.md section 6: exact sums of digits, least significant first, as one f32.
template <u32 DIGITS>
INLINE float meet(const i32* sums) {
    float t = to_f32(sums[0]);
    if constexpr (DIGITS > 1) t = fma32(to_f32(sums[1]), 256.0f, t);
    if constexpr (DIGITS > 2) t = fma32(to_f32(sums[2]), 65536.0f, t);
    return t;
}
