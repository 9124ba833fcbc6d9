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

/// How the values of a block become fixed point: CONTRACT.md section 5, steps 1 and 2.
struct FixedScale {
    float scale, inverse;
    i32 limit;
    bool usable;
};

/// From the largest magnitude of a block, infinity where a value is not finite.
INLINE FixedScale fixed_scale(float largest, u32 digit_count) {
    const i32 limit = digit_count == 3 ? 8355711 : digit_count == 2 ? 32639 : 127;
    const bool bad = !(largest < infinity32());
    const bool vanishes = largest < power_of_two(-100);
    const bool usable = !bad && !vanishes;
    const float scale = bad ? nan32() : vanishes ? 0.0f : largest / to_f32(limit);
    return {scale, usable ? to_f32(limit) / largest : 0.0f, limit, usable};
}

/// One value; a spoiled block is all zeros whatever its values.
INLINE i32 fixed_value(const FixedScale& block, float value) {
    const i32 rounded = (i32)rint32(block.usable ? value * block.inverse : 0.0f);
    const i32 below = rounded > block.limit ? block.limit : rounded;
    return below < -block.limit ? -block.limit : below;
}

/// What counts for the largest magnitude: infinity stands for "not finite", as a finite one is
/// never that large.
INLINE float fixed_magnitude(float value) { return is_finite(value) ? abs32(value) : infinity32(); }

/// Writes element `column` of row `row`, whose value this thread has. All threads of a block come
/// here, with columns that follow each other from a multiple of 256; those past the width bring
/// `inside` false. `shared` is FIXED_POINT_SHARED, free again after the next barrier.
template <typename Shared>
INLINE void fixed_point_write(const FixedPointOut& out, u32 width, u32 row, u32 column, bool inside,
                              float value, Shared& shared) {
    const float magnitude = inside ? fixed_magnitude(value) : 0.0f;
    float largest = largest_of_32(magnitude);
    if (out.block == 256) {
        if (THREAD_X % 32 == 0) shared[THREAD_X / 32] = largest;
        BARRIER();
        largest = shared[0];
        for (u32 i = 1; i < BLOCK_THREADS / 32; ++i) {
            largest = shared[i] > largest ? shared[i] : largest;
        }
    }
    const FixedScale block = fixed_scale(largest, out.digit_count);
    const i32 fixed = inside ? fixed_value(block, value) : 0;
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
        out.scales[(u64)row * (width / out.block) + column / out.block] = block.scale;
    }
    if (column % out.group == 0) {
        out.sums[(u64)row * (width / out.group) + column / out.group] = block.scale * to_f32(sum);
    }
}
