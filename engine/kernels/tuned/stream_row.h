// The activation row of product_stream in shared memory: as it is in memory, or made here from the
// stream by residual, norm and fixed point (CONTRACT.md sections 11, 4 and 5), which costs every
// block of threads a few microseconds and saves a launch and its waiting.
#pragma once
#include "few_rows.h"
#include "fixed_point.h"
#include "streamed.h"

struct ProductStreamArguments {
    Span<const u8> weights[WAVE_MATRICES];  // [outputs][row bytes]
    Span<float> out[WAVE_MATRICES];         // [outputs]
    Span<const i8> digits;                  // as QuantiseArguments; not read where there is a norm
    Span<const float> scales;
    Span<const float> sums;
    Span<const float> x;                    // as NormQuantiseArguments, of one row
    Span<const float> branch;
    Span<const float> weight;
    Span<float> stream;
    Span<float> norm;                       // empty: there is no norm in front
    Span<float> gated;                      // [outputs]: SwiGLU of two matrices, or empty
    Span<u32> arrivals;                     // [outputs / 256]: zeros before and after
    FixedPointOut fixed;                    // of the norm
    FixedPointOut gated_fixed;
    u32 outputs[WAVE_MATRICES];             // 0: there is no such matrix
    u32 width;
    u32 stride;                             // blocks of threads
    u32 pool_bytes;                         // of shared memory that were asked for
    u32 threads;                            // of a block: fewer where a long row takes the memory
    float epsilon;
};

/// What a block of threads has of a launch: it is number `place` of `stride` that share the tiles
/// of the matrices from `first` to `end`.
struct StreamShare {
    u32 place, stride, first, end;
};

INLINE u32 stream_waves(const ProductStreamArguments& a) { return a.threads / WAVE_LANES; }

// Pieces of four values that a thread fetches before it stores the first of them.
#define ROW_AHEAD 2u

/// The shared memory of a block, in this order.
template <typename Format, u32 DIGITS>
struct StreamShared {
    static constexpr u32 GROUPS = Format::HAS_MIN ? Format::VALUES / Format::GROUP : 0;
    static constexpr u32 STAGE = STREAM_OUTPUTS * Streamed<Format>::STRIDE;
    u8* ring;      // [waves][STAGES][16 rows][STRIDE]
    i8* digits;    // [DIGITS][width + 32], each digit in banks of its own
    float* scales; // [blocks], padded to four
    float* sums;   // [blocks][GROUPS]
    float* row;    // [width], its norm's weights [width], 256 partial sums; where there is a norm
    float* chunks; // [tiles of the block][chunks][16]

    template <typename Pool>
    INLINE_MEMBER void place(Pool& pool, const ProductStreamArguments& a, u32 tiles) {
        const u32 bytes = a.pool_bytes, width = a.width;
        const u32 blocks = width / Format::VALUES, padded = (blocks + 3) / 4 * 4;
        const u32 ring_bytes = stream_waves(a) * Streamed<Format>::STAGES * STAGE;
        const u32 digit_bytes = DIGITS * (width + 32);
        u32 at = 0;
        ring = pool_at(pool, bytes, at, ring_bytes), at += ring_bytes;
        digits = (i8*)pool_at(pool, bytes, at, digit_bytes), at += digit_bytes;
        scales = (float*)pool_at(pool, bytes, at, padded * 4), at += padded * 4;
        sums = (float*)pool_at(pool, bytes, at, blocks * GROUPS * 4), at += blocks * GROUPS * 4;
        const u32 row_bytes = a.norm.count != 0 ? (2 * width + BLOCK_THREADS) * 4 : 0;
        row = (float*)pool_at(pool, bytes, at, row_bytes), at += row_bytes;
        const u32 chunk_count = (blocks + STREAM_BLOCKS - 1) / STREAM_BLOCKS;
        chunks = (float*)pool_at(pool, bytes, at, tiles * chunk_count * STREAM_OUTPUTS * 4);
    }
};

/// Starts the copies of the activation row to shared memory.
template <typename Format, u32 DIGITS>
INLINE void stream_activation(const ProductStreamArguments& a,
                              const StreamShared<Format, DIGITS>& shared) {
    const u32 blocks = a.width / Format::VALUES, pieces = a.width / 16;
    for (u32 i = THREAD_X; i < DIGITS * pieces; i += a.threads) {
        const u32 digit = i / pieces, k = i % pieces * 16;
        copy16(shared.digits + digit * (a.width + 32) + k, a.digits.at(digit * a.width + k, 16));
    }
    constexpr u32 GROUPS = StreamShared<Format, DIGITS>::GROUPS;
    for (u32 i = THREAD_X; i < blocks * GROUPS / 4; i += a.threads) {
        copy16(shared.sums + i * 4, a.sums.at(i * 4, 4));
    }
    for (u32 i = THREAD_X; i < blocks; i += a.threads) {
        copy4(shared.scales + i, a.scales.at(i, 1));
    }
    copies_commit();
}

/// Starts the copies of the norm's weights, which the next group of copies takes along.
template <typename Format, u32 DIGITS>
INLINE void stream_weights(const ProductStreamArguments& a,
                           const StreamShared<Format, DIGITS>& shared) {
    for (u32 i = THREAD_X * 4; i < a.width; i += a.threads * 4) {
        copy16(shared.row + a.width + i, a.weight.at(i, 4));
    }
}

/// Whether a block of threads leaves a column in memory: those of the first matrix share the row in
/// runs of 256.
INLINE bool stream_keeps(StreamShare share, u32 column) {
    return share.first == 0 && column / 256 % share.stride == share.place;
}

/// The stream with its branch to shared memory, and to memory.
template <typename Format, u32 DIGITS>
INLINE void stream_row(const ProductStreamArguments& a, const StreamShared<Format, DIGITS>& shared,
                       StreamShare share) {
    const bool adds = a.branch.count != 0;
    const float* x = a.x.at(0, a.width);
    const float* branch = adds ? a.branch.at(0, a.width) : x;
    for (u32 first = THREAD_X * 4; first < a.width; first += ROW_AHEAD * a.threads * 4) {
        Word4 values[ROW_AHEAD], more[ROW_AHEAD];
        // Without a condition, so that all loads are under way at once.
        UNROLL
        for (u32 i = 0; i < ROW_AHEAD; ++i) {
            const u32 column = first + i * a.threads * 4;
            const u32 inside = column < a.width ? column : a.width - 4;
            values[i] = load16(x + inside);
            more[i] = load16(branch + inside);
        }
        UNROLL
        for (u32 i = 0; i < ROW_AHEAD; ++i) {
            const u32 column = first + i * a.threads * 4;
            if (column >= a.width) break;
            for (u32 k = 0; adds && k < 4; ++k) {
                values[i].words[k] =
                    to_bits(from_bits(values[i].words[k]) + from_bits(more[i].words[k]));
            }
            *(Word4*)(shared.row + column) = values[i];
            if (adds && stream_keeps(share, column)) {
                *(Word4*)a.stream.at(column, 4) = values[i];
            }
        }
    }
}

/// The factor of the norm, the same in all threads: squares in the contract's 256 partial sums, and
/// their tree, which every 32 lanes climb for themselves.
template <typename Format, u32 DIGITS>
INLINE float stream_factor(const ProductStreamArguments& a,
                           const StreamShared<Format, DIGITS>& shared) {
    float* partial = shared.row + 2 * a.width;
    if (THREAD_X < BLOCK_THREADS) {
        float squares = 0.0f;
        UNROLL_4
        for (u32 column = THREAD_X; column < a.width; column += BLOCK_THREADS) {
            squares = fma32(shared.row[column], shared.row[column], squares);
        }
        partial[THREAD_X] = squares;
    }
    BARRIER();
    float sums[8];
    UNROLL
    for (u32 i = 0; i < 8; ++i) sums[i] = partial[LANE % 32 + i * 32];
    UNROLL
    for (u32 half = 4; half > 0; half /= 2) {
        UNROLL
        for (u32 i = 0; i < half; ++i) sums[i] = sums[i] + sums[i + half];
    }
    float sum = sums[0];
    for (u32 mask = 16; mask > 0; mask /= 2) sum = sum + shuffle_xor(sum, mask);
    return 1.0f / sqrt32(sum / (float)a.width + a.epsilon);
}

/// Eight neighbours of a block of 256 in fixed point, as a lane of the block's wave has them.
template <u32 DIGITS>
struct EightFixed {
    u32 words[DIGITS][2];
    float scale;  // of the block
    float group;  // the sum of a group of 32, which four lanes have
};
template <u32 DIGITS>
INLINE EightFixed<DIGITS> fix_eight(const float (&values)[8]) {
    u32 largest = 0;
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        const u32 magnitude = fixed_magnitude(values[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    const FixedScale scale = fixed_scale(largest_of(largest), DIGITS);
    EightFixed<DIGITS> fixed = {};
    fixed.scale = scale.scale;
    u32 words[8];
    i32 sum = 0;
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        const i32 value = fixed_value(scale, values[i]);
        words[i] = fixed_digits(value);
        sum += value;
    }
    UNROLL
    for (u32 digit = 0; digit < DIGITS; ++digit) {
        fixed.words[digit][0] = bytes_of(&words[0], digit);
        fixed.words[digit][1] = bytes_of(&words[4], digit);
    }
    sum += shuffle_xor(sum, 1);
    sum += shuffle_xor(sum, 2);
    fixed.group = scale.scale * to_f32(sum);
    return fixed;
}
/// Leaves them in memory, at columns `column` and on of a row of `width`.
template <u32 DIGITS>
INLINE void keep_eight(const FixedPointOut& out, u32 width, u32 column,
                       const EightFixed<DIGITS>& fixed) {
    UNROLL
    for (u32 digit = 0; digit < DIGITS; ++digit) {
        const u32* words = fixed.words[digit];
        *(Word2*)out.digits.at(digit * width + column, 8) = {{words[0], words[1]}};
    }
    if (column % 32 == 0) out.sums[column / 32] = fixed.group;
    if (column % 256 == 0) out.scales[column / 256] = fixed.scale;
}

/// The row's norm in fixed point to shared memory, and to memory. A wave has a block of 256 values,
/// a lane eight that follow each other.
template <typename Format, u32 DIGITS>
INLINE void stream_norm(const ProductStreamArguments& a, const StreamShared<Format, DIGITS>& shared,
                        StreamShare share) {
    constexpr u32 EACH = 8;
    const float factor = stream_factor<Format, DIGITS>(a, shared);
    ROLL
    for (u32 block = WAVE; block < a.width / 256; block += stream_waves(a)) {
        const bool keeps = stream_keeps(share, block * 256);
        const u32 column = block * 256 + LANE * EACH;
        float values[EACH];
        UNROLL
        for (u32 i = 0; i < EACH; ++i) {
            values[i] = (shared.row[column + i] * factor) * shared.row[a.width + column + i];
        }
        const EightFixed<DIGITS> fixed = fix_eight<DIGITS>(values);
        UNROLL
        for (u32 digit = 0; digit < DIGITS; ++digit) {
            const u32* words = fixed.words[digit];
            *(Word2*)(shared.digits + digit * (a.width + 32) + column) = {{words[0], words[1]}};
        }
        if constexpr (Format::HAS_MIN) {
            if (LANE % 4 == 0) shared.sums[column / 32] = fixed.group;
        }
        if (LANE == 0) shared.scales[block] = fixed.scale;
        if (keeps) {
            keep_eight<DIGITS>(a.fixed, a.width, column, fixed);
            float* norm = a.norm.at(column, EACH);
            UNROLL
            for (u32 i = 0; i < EACH; ++i) norm[i] = values[i];
        }
    }
    BARRIER();
}
