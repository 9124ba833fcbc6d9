// Values that the threads of a block hold, EACH of them, into fixed point: the arithmetic of
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

#define FIXED_POINT_SHARED(name) SHARED(u32, name, BLOCK_THREADS / 32)

/// What counts for the largest magnitude: bits without their sign, which are in the order of
/// magnitudes, and those of infinity or more where a value is not finite.
INLINE u32 fixed_magnitude(float value) { return to_bits(value) & 0x7fffffffu; }

/// Largest of LANES neighbouring lanes, of which every FROM know theirs.
template <u32 LANES = 32, u32 FROM = 1>
INLINE u32 largest_of(u32 magnitude) {
    for (u32 mask = FROM; mask < LANES; mask *= 2) {
        const u32 other = shuffle_xor(magnitude, mask);
        magnitude = other > magnitude ? other : magnitude;
    }
    return magnitude;
}

/// How the values of a block become fixed point: CONTRACT.md section 5, steps 1 and 2.
struct FixedScale {
    float scale, inverse;
    i32 limit;
    bool usable;
};

/// From the largest magnitude of a block.
INLINE FixedScale fixed_scale(u32 magnitude, u32 digit_count) {
    const i32 limit = digit_count == 3 ? 8355711 : digit_count == 2 ? 32639 : 127;
    const float largest = from_bits(magnitude);
    const bool bad = magnitude >= to_bits(infinity32());
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

/// Its digits, the least significant in the lowest byte: what every digit of -128 to 127 adds to be
/// a byte of 0 to 255 is added to all of them at once, and taken away from each.
INLINE u32 fixed_digits(i32 value) { return ((u32)value + 0x00808080u) ^ 0x00808080u; }

/// Writes elements `column` and on of row `row`, EACH of them, whose values this thread has. All
/// threads of a block come here, with columns that follow each other from a multiple of 256; those
/// past the width bring `inside` false. `shared` is FIXED_POINT_SHARED, free again after the next
/// barrier.
template <u32 EACH, typename Shared>
INLINE void fixed_point_write(const FixedPointOut& out, u32 width, u32 row, u32 column, bool inside,
                              const float (&values)[EACH], Shared& shared) {
    // Lanes that have 32 values, and those of 256.
    constexpr u32 LANES = 32 / EACH, WAVES = 8 / EACH;
    u32 largest = 0;
    UNROLL
    for (u32 i = 0; i < EACH; ++i) {
        const u32 magnitude = inside ? fixed_magnitude(values[i]) : 0;
        largest = magnitude > largest ? magnitude : largest;
    }
    largest = largest_of<LANES>(largest);
    if (out.block == 256) {
        largest = largest_of<32, LANES>(largest);
        if (THREAD_X % 32 == 0) shared[THREAD_X / 32] = largest;
        BARRIER();
        const u32 first = THREAD_X / 32 / WAVES * WAVES;
        largest = shared[first];
        UNROLL
        for (u32 i = 1; i < WAVES; ++i) {
            largest = shared[first + i] > largest ? shared[first + i] : largest;
        }
    }
    const FixedScale block = fixed_scale(largest, out.digit_count);
    u32 words[EACH];
    i32 sum = 0;
    UNROLL
    for (u32 i = 0; i < EACH; ++i) {
        const i32 value = inside ? fixed_value(block, values[i]) : 0;
        words[i] = fixed_digits(value);
        sum += value;
    }
    for (u32 mask = 1; mask * EACH < out.group; mask *= 2) sum += shuffle_xor(sum, mask);
    if (!inside) return;
    i8* digits = out.digits.at((u64)row * out.digit_count * width, out.digit_count * width);
    for (u32 digit = 0; digit < out.digit_count; ++digit, digits += width) {
        if constexpr (EACH == 4) {
            *(u32*)(digits + column) = bytes_of(words, digit);
        } else {
            UNROLL
            for (u32 i = 0; i < EACH; ++i) digits[column + i] = (i8)(words[i] >> digit * 8 & 255);
        }
    }
    if (column % out.block == 0) {
        out.scales[(u64)row * (width / out.block) + column / out.block] = block.scale;
    }
    if (column % out.group == 0) {
        out.sums[(u64)row * (width / out.group) + column / out.group] = block.scale * to_f32(sum);
    }
}

/// Four values of a row of `width`, a multiple of four, from `column` on; zeros past its end.
INLINE void load_four(const float* row, u32 column, u32 width, float (&values)[4]) {
    const Word4 four = column < width ? load16(row + column) : Word4{};
    UNROLL
    for (u32 i = 0; i < 4; ++i) values[i] = from_bits(four.words[i]);
}

/// The other way; nothing is written past the end.
INLINE void store_four(float* row, u32 column, u32 width, const float (&values)[4]) {
    if (column >= width) return;
    *(Word4*)(row + column) = {
        {to_bits(values[0]), to_bits(values[1]), to_bits(values[2]), to_bits(values[3])}};
}
