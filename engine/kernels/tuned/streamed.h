// How product_stream (product_stream.hip) takes a K block from shared memory to the integer matrix
// cores: 16 outputs are the rows of a tile, the digits of one activation row its columns.
//
// A tile's k is 32 neighbours in the block, eight of them in each quarter of the lanes. Where a
// group of weights has 32 values, column n is digit n, and the sum of each tile meets its scale as
// an integer. Where it has 16, a tile is two groups: column n is digit n % DIGITS of group
// n / DIGITS, with zeros in the other group's half.
#pragma once
#include "slices.h"
#include "tile_formats.h"

// Rows and columns of a tile, and blocks of a chunk.
#define STREAM_OUTPUTS 16u
#define STREAM_COLUMNS 8u
#define STREAM_BLOCKS 4u
// Tiles' worth of k in a block.
#define STREAM_TILES 8u
// Stages that a wave asks for before its inputs are there. What is under way then stands in line
// before the small launches' own reads: with two 87.4 us a layer of llama3-8b, with one 85.0, with
// none 89.8 (an H100, 384 threads; 256 threads 88.0, and three or four stages are no better).
#define STREAM_EARLY 1u

/// A lane's place in a tile: row `LANE / 4` and the one eight below, quarter `LANE % 4` of k.
INLINE u32 stream_row_of_lane() { return LANE / 4; }
INLINE u32 stream_quarter() { return LANE % 4; }

/// What lane `block` of four keeps of the block that it finishes, for each of its two rows.
struct StreamFloats {
    u32 d[2];        // d, and dmin above it where there is one
    u32 mins[2][2];  // bytes in the order of groups
};

/// `Streamed<Format>`: STRIDE, from row to row of a stage of shared memory, so that the lanes that
/// read at once find different banks; STAGES that a wave has under way; `sums` adds a block's
/// integer sums to columns 2q and 2q + 1 of both rows; `keep` reads the block's floats.
template <typename Format>
struct Streamed;

/// The digits of one tile as this lane has them, eight bytes from `digits`.
INLINE void stream_digits(const i8* digits, u32 mask, u32* out) {
    const Word2 words = load8(digits);
    out[0] = words.words[0] & mask;
    out[1] = words.words[1] & mask;
}

/// Q4_K and Q5_K: groups of 32.
template <typename Format, u32 NIBBLES>
struct StreamedNibbles {
    static constexpr bool PAIRED = false;

    INLINE_STATIC void keep(const u8* block, u32 row, StreamFloats& out) {
        const Word4 head = load16(block);
        const Word4 mins = Tiled<Format>::mins(head);
        out.d[row] = head.words[0];
        out.mins[row][0] = mins.words[0];
        out.mins[row][1] = mins.words[1];
    }
    INLINE_STATIC void sums(const u8* one, const u8* two, const i8* digits, u32, const i32*,
                            i32* out) {
        const u32 q = stream_quarter();
        const u8* const rows[2] = {one, two};
        Word4 scales[2];
        u32 raw[2][Tiled<Format>::RAW];
        UNROLL
        for (u32 r = 0; r < 2; ++r) {
            scales[r] = Tiled<Format>::scales(load16(rows[r]));
            Tiled<Format>::load(rows[r], q, raw[r]);
        }
        UNROLL
        for (u32 tile = 0; tile < STREAM_TILES; ++tile) {
            u32 a[4], b[2];
            UNROLL
            for (u32 i = 0; i < 4; ++i) a[i] = Tiled<Format>::word(raw[i % 2], tile, i / 2);
            stream_digits(digits + tile * TILE_K, ~0u, b);
            i32 dots[4] = {};
            few_multiply(dots, a, b);
            UNROLL
            for (u32 i = 0; i < 4; ++i) {
                out[i] += (i32)byte_of(scales[i / 2].words[tile / 4], tile % 4) * dots[i];
            }
        }
    }
};

template <>
struct Streamed<Q4_K> : StreamedNibbles<Q4_K, 16> {
    static constexpr u32 STEP = 2, STRIDE = 288, STAGES = 2, SKIP = 0;
};
template <>
struct Streamed<Q5_K> : StreamedNibbles<Q5_K, 48> {
    static constexpr u32 STEP = 2, STRIDE = 352, STAGES = 2, SKIP = 0;
};

/// Q6_K: groups of 16, and weights that begin at -32. A tile's sums begin with -32 times those of
/// its digits, `starts`, so that weights from 0 to 63 are operands as they are.
template <>
struct Streamed<Q6_K> {
    static constexpr bool PAIRED = true;
    static constexpr u32 STEP = 1, STRIDE = 224, STAGES = 2, SKIP = 14;

    INLINE_STATIC void keep(const u8* block, u32 row, StreamFloats& out) {
        out.d[row] = *(const u16*)(block + 208);
    }
    /// What a lane has of half `half` of a block.
    struct Half {
        u32 low[2][2], high[2];
        INLINE_MEMBER void load(const u8* block, u32 half, u32 q) {
            load_words<2, 2>(block + half * 64 + q * 8, low[0]);
            load_words<2, 2>(block + half * 64 + 32 + q * 8, low[1]);
            load_words<2, 2>(block + 128 + half * 32 + q * 8, high);
        }
        /// Word i of quarter `quarter` of the half.
        INLINE_MEMBER u32 word(u32 quarter, u32 i) const {
            const u32 nibbles = low[quarter % 2][i] >> quarter / 2 * 4 & 0x0f0f0f0fu;
            return nibbles | (high[i] >> quarter * 2 & 0x03030303u) << 4;
        }
    };
    INLINE_STATIC void sums(const u8* one, const u8* two, const i8* digits, u32 digit_count,
                            const i32* starts, i32* out) {
        const u32 q = stream_quarter(), column = LANE / 4;
        const u8* const rows[2] = {one, two};
        // A column's digits are of one group of the two: zeros for the lanes of the other.
        const u32 mask = column / digit_count == q / 2 ? ~0u : 0u;
        // Which of a tile's two scales the lane's two columns take.
        const u32 group[2] = {(2 * q) / digit_count != 0, (2 * q + 1) / digit_count != 0};
        Word4 scales[2];
        UNROLL
        for (u32 r = 0; r < 2; ++r) load_words<2, 4>(rows[r] + 192, scales[r].words);
        UNROLL
        for (u32 half = 0; half < 2; ++half) {
            Half raw[2];
            UNROLL
            for (u32 r = 0; r < 2; ++r) raw[r].load(rows[r], half, q);
            UNROLL
            for (u32 quarter = 0; quarter < 4; ++quarter) {
                const u32 tile = half * 4 + quarter;
                u32 a[4], b[2];
                UNROLL
                for (u32 i = 0; i < 4; ++i) a[i] = raw[i % 2].word(quarter, i / 2);
                stream_digits(digits + tile * TILE_K, mask, b);
                const Word2 start = load8(starts + tile * STREAM_COLUMNS + 2 * q);
                i32 dots[4];
                UNROLL
                for (u32 i = 0; i < 4; ++i) dots[i] = (i32)start.words[i % 2];
                few_multiply(dots, a, b);
                UNROLL
                for (u32 i = 0; i < 4; ++i) {
                    const u32 word = scales[i / 2].words[tile / 2] >> tile % 2 * 16;
                    out[i] += (i32)(i8)(word >> group[i % 2] * 8) * dots[i];
                }
            }
        }
    }
};
