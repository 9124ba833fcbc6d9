// quantise: activation rows as f32 scales times fixed point in int8 digits. CONTRACT.md section 5.
// Grid: x = activation blocks of a row, y = rows. One block of threads an activation block.
// The maximum has no order; the integer sums are exact.
#include "arguments.h"
#include "arithmetic.h"

#define QUANTISE_LANES 32u
#define QUANTISE_VALUES 256u

INLINE i32 clamp(i32 value, i32 limit) {
    const i32 below = value > limit ? limit : value;
    return below < -limit ? -limit : below;
}

KERNEL(quantise, QuantiseArguments) {
    SHARED(float, magnitude, QUANTISE_LANES);
    SHARED(u32, spoiled, QUANTISE_LANES);
    SHARED(i32, fixed, QUANTISE_VALUES);
    SHARED(float, factors, 2);
    const u32 start = BLOCK_X * a.block;
    const float* x = a.x.at((u64)BLOCK_Y * a.width + start, a.block);
    const i32 limit = a.digit_count == 3 ? 8355711 : a.digit_count == 2 ? 32639 : 127;
    // magnitude
    EACH_THREAD(lane, QUANTISE_LANES) {
        float largest = 0.0f;
        u32 bad = 0;
        for (u32 i = lane; i < a.block; i += QUANTISE_LANES) {
            const float size = abs32(x[i]);
            bad |= is_finite(x[i]) ? 0u : 1u;
            largest = size > largest ? size : largest;
        }
        magnitude[lane] = largest;
        spoiled[lane] = bad;
    }
    BARRIER();
    // scale
    EACH_THREAD(only, 1) {
        float largest = 0.0f;
        u32 bad = 0;
        for (u32 lane = 0; lane < QUANTISE_LANES; ++lane) {
            largest = magnitude[lane] > largest ? magnitude[lane] : largest;
            bad |= spoiled[lane];
        }
        const bool vanishes = largest < power_of_two(-100);
        factors[only] = bad ? nan32() : vanishes ? 0.0f : largest / to_f32(limit);
        factors[only + 1] = bad || vanishes ? 0.0f : to_f32(limit) / largest;
        a.scales[(u64)BLOCK_Y * (a.width / a.block) + BLOCK_X] = factors[only];
    }
    BARRIER();
    // digits
    const float scale = factors[0];
    const float inverse = factors[1];
    // A spoiled block is all zeros whatever its values: infinity times zero would not be.
    const bool usable = inverse != 0.0f;
    EACH_THREAD(i, a.block) {
        const i32 value = clamp((i32)rint32(usable ? x[i] * inverse : 0.0f), limit);
        fixed[i] = value;
        i32 rest = value;
        for (u32 digit = 0; digit < a.digit_count; ++digit) {
            const i8 low = (i8)(rest & 255);
            a.digits[((u64)BLOCK_Y * a.digit_count + digit) * a.width + start + i] = low;
            rest = (rest - low) >> 8;
        }
    }
    BARRIER();
    // sums
    EACH_THREAD(group, a.block / a.group) {
        i32 sum = 0;
        for (u32 i = 0; i < a.group; ++i) sum += fixed[group * a.group + i];
        const u64 index = (u64)BLOCK_Y * (a.width / a.group) + start / a.group + group;
        a.sums[index] = scale * to_f32(sum);
    }
}
