// Values that the threads of a block hold, one each, into fixed point: the arithmetic of
// quantise.hip (CONTRACT.md section 5) by shuffles, for tuned kernels that end with it.
#pragma once
#include "../arguments.h"
#include "../lanes.h"

/// Where a row in fixed point goes; as QuantiseArguments.
struct FixedPointOut {
    Span<i8> digits;      // [rows][digit_count][width]
    Span<float> scales;   // [rows][width / block]
    Span<float> sums;     // [rows][width / group]
    u32 block, group, digit_count, unused;
};

#define FIXED_POINT_SHARED(name) SHARED(float, name, BLOCK_THREADS / 32)

/// Largest of 32 lanes; NaN is never taken.
INLINE float largest_of_32(float value) {
    for (u32 mask = 16; mask > 0; mask /= 2) {
        const float other = shuffle_xor(value, mask);
        value = other > value ? other : value;
    }
    return value;
}

/// Writes element `column` of row `row`, whose value this thread has. All threads of a block come
/// here, with columns that follow each other from a multiple of 256; those past the width bring
/// `inside` false. `shared` is FIXED_POINT_SHARED, free again after the next barrier.
template <typename Shared>
INLINE void fixed_point_write(const FixedPointOut& out, u32 width, u32 row, u32 column, bool inside,
                              float value, Shared& shared) {
    // Infinity stands for "not finite": a finite magnitude is never that large.
    const float magnitude = !inside ? 0.0f : is_finite(value) ? abs32(value) : infinity32();
    float largest = largest_of_32(magnitude);
    if (out.block == 256) {
        if (THREAD_X % 32 == 0) shared[THREAD_X / 32] = largest;
        BARRIER();
        largest = shared[0];
        for (u32 i = 1; i < BLOCK_THREADS / 32; ++i) {
            largest = shared[i] > largest ? shared[i] : largest;
        }
    }
    const i32 limit = out.digit_count == 3 ? 8355711 : out.digit_count == 2 ? 32639 : 127;
    const bool bad = !(largest < infinity32());
    const bool vanishes = largest < power_of_two(-100);
    const float scale = bad ? nan32() : vanishes ? 0.0f : largest / to_f32(limit);
    const bool usable = !bad && !vanishes;
    const float inverse = usable ? to_f32(limit) / largest : 0.0f;
    // A spoiled block is all zeros whatever its values.
    const i32 rounded = (i32)rint32(usable && inside ? value * inverse : 0.0f);
    const i32 below = rounded > limit ? limit : rounded;
    const i32 fixed = below < -limit ? -limit : below;
    i32 sum = fixed;
    for (u32 mask = 1; mask < out.group; mask *= 2) sum += shuffle_xor(sum, mask);
    if (!inside) return;
    i32 rest = fixed;
    for (u32 digit = 0; digit < out.digit_count; ++digit) {
        const i8 low = (i8)(rest & 255);
        out.digits[((u64)row * out.digit_count + digit) * width + column] = low;
        rest = (rest - low) >> 8;
    }
    if (column % out.block == 0) {
        out.scales[(u64)row * (width / out.block) + column / out.block] = scale;
    }
    if (column % out.group == 0) {
        out.sums[(u64)row * (width / out.group) + column / out.group] = scale * to_f32(sum);
    }
}
