// probe: out[lane] = one scalar operation of up to three words. CONTRACT.md section 14.
// Grid: x = runs of `lanes` lanes, `lanes` dividing ROW_LANES; a row has one operation. One thread
// a lane, no order between lanes. Whole rows meet a compiler's vectors, single lanes its scalars.
// Words come from memory, so that nothing is folded when the kernel is compiled.
#include "arguments.h"
#include "arithmetic.h"

#define ROW_LANES 32u

/// Twelve additions in order: a tree or a multiplication by four gives other bits.
INLINE float sum_in_order(float x, float y, float z) {
    float sum = 0.0f;
    for (u32 turn = 0; turn < 4; ++turn) {
        sum = sum + x;
        sum = sum + y;
        sum = sum + z;
    }
    return sum;
}

/// Byte `index` of a word as int8.
INLINE i32 signed_byte(u32 word, u32 index) { return (i8)(word >> (8 * index) & 255u); }

INLINE i32 dot4(u32 p, u32 q) {
    i32 sum = 0;
    for (u32 index = 0; index < 4; ++index) sum += signed_byte(p, index) * signed_byte(q, index);
    return sum;
}

INLINE i32 dot2(u32 p, u32 q) {
    const i32 low = (i32)(i16)(p & 0xffffu) * (i32)(i16)(q & 0xffffu);
    return low + (i32)(i16)(p >> 16) * (i32)(i16)(q >> 16);
}

/// The second digit of CONTRACT.md section 5, step 3.
INLINE i32 second_digit(i32 value) {
    const i32 rest = (value - (i8)(value & 255)) >> 8;
    return (i8)(rest & 255);
}

/// x, y, z are the words as f32, i, j, k as i32, p, q as they are.
#define OPERATION(number, name, result)                           \
    case number:                                                  \
        EACH_THREAD(lane, lanes) {                                \
            [[maybe_unused]] const u32 p = first[lane];           \
            [[maybe_unused]] const u32 q = second[lane];          \
            [[maybe_unused]] const i32 i = (i32)p;                \
            [[maybe_unused]] const i32 j = (i32)q;                \
            [[maybe_unused]] const i32 k = (i32)third[lane];      \
            [[maybe_unused]] const float x = from_bits(p);        \
            [[maybe_unused]] const float y = from_bits(q);        \
            [[maybe_unused]] const float z = from_bits((u32)k);   \
            out[lane] = (u32)(result);                            \
        }                                                         \
        break;

KERNEL(probe, ProbeArguments) {
    // A copy: the compiler would not vectorise loops whose length their own stores might change.
    const u32 lanes = a.lanes;
    const u64 start = (u64)BLOCK_X * lanes;
    const u32* first = a.first.at(start, lanes);
    const u32* second = a.second.at(start, lanes);
    const u32* third = a.third.at(start, lanes);
    u32* out = a.out.at(start, lanes);
    // The numbers and names are those of engine/src/device/probe/operation.rs, asserted there.
    switch (a.operations[start / ROW_LANES]) {
        OPERATION(0, add, to_bits(x + y))
        OPERATION(1, subtract, to_bits(x - y))
        OPERATION(2, multiply, to_bits(x * y))
        OPERATION(3, divide, to_bits(x / y))
        OPERATION(4, reciprocal, to_bits(1.0f / x))
        OPERATION(5, square_root, to_bits(sqrt32(x)))
        OPERATION(6, reciprocal_root, to_bits(1.0f / sqrt32(x)))
        OPERATION(7, fma, to_bits(fma32(x, y, z)))
        OPERATION(8, product_plus, to_bits(x * y + z))
        OPERATION(9, product_minus, to_bits(x * y - z))
        OPERATION(10, minus_product, to_bits(z - x * y))
        OPERATION(11, sum_of_three, to_bits((x + y) + z))
        OPERATION(12, sum_minus_first, to_bits((x + y) - x))
        OPERATION(13, sum_in_order, to_bits(sum_in_order(x, y, z)))
        OPERATION(14, product_of_three, to_bits((x * y) * z))
        OPERATION(15, common_factor, to_bits(x * z + y * z))
        OPERATION(16, common_divisor, to_bits(x / z + y / z))
        OPERATION(17, plus_zero, to_bits(x + 0.0f))
        OPERATION(18, zero_minus, to_bits(0.0f - x))
        OPERATION(19, times_zero, to_bits(x * 0.0f))
        OPERATION(20, minus_itself, to_bits(x - x))
        OPERATION(21, negate, to_bits(-x))
        OPERATION(22, absolute, to_bits(abs32(x)))
        OPERATION(23, greater, x > y)
        OPERATION(24, not_greater, !(x > y))
        OPERATION(25, equals_itself, x == x)
        OPERATION(26, larger, to_bits(x > y ? x : y))
        OPERATION(27, finite, is_finite(x))
        OPERATION(28, infinite, abs32(x) == infinity32())
        OPERATION(29, rint, to_bits(rint32(x)))
        OPERATION(30, from_integer, to_bits(to_f32(i)))
        OPERATION(31, to_integer, (i32)x)
        OPERATION(32, narrow_half, f32_to_half(x))
        OPERATION(33, widen_half, to_bits(half_to_f32((u16)p)))
        OPERATION(34, widen_bfloat, to_bits(bf16_to_f32((u16)p)))
        OPERATION(35, sign_extend, signed_byte(p, 0))
        OPERATION(36, shift_right, i >> j)
        OPERATION(37, second_digit, second_digit(i))
        OPERATION(38, dot_bytes, dot4(p, q) + k)
        OPERATION(39, dot_pairs, dot2(p, q) + k)
        OPERATION(40, exponential, to_bits(exp32(x)))
        // A number that this build does not know leaves its lanes as they were, which is seen.
        default: break;
    }
}
