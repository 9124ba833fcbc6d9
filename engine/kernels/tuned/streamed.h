// How product_stream (product_stream.hip) takes a K block from shared memory to the integer matrix
// cores: 16 outputs are the rows of a tile, the digits of one activation row its columns.
//
// A tile's k is 32 neighbours in the block, eight of them in each quarter of the lanes. Where a
// group of weights has 32 values and a tile to itself, column n is digit n, and the sum of each
// tile meets its scale as an integer. Otherwise a tile has two groups: column n is digit n / 2 of
// group n % 2. These are neighbours in k with 16 values each (Q6_K, with zeros in the other group's
// half, so that a lane's two columns come to one sum), or the lower and upper nibbles of the same
// bytes (Q4_K).
#pragma once
#include "slices.h"
#include "tile_formats.h"

// Rows of a tile, and blocks of a chunk.
#define STREAM_OUTPUTS 16u
#define STREAM_BLOCKS 4u
// Tiles' worth of k in a block.
#define STREAM_TILES 8u
// Stages that a wave asks for before its inputs are there. What is under way then stands in line
// before the small launches' own reads, and what is not comes late: with one 69 us a layer of
// llama3-8b, with two 73 (an H100, 512 threads), with none as many (with 384).
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
/// read at once find different banks; STAGES that a wave has under way; `sums` are those of a
/// block, integers: of both rows two columns, 2q and 2q + 1, or where groups are paired the one
/// that these make; `sums_of_one`, where there is one, has all of them if there is but one digit;
/// `keep` reads the block's floats.
template <typename Format>
struct Streamed;

/// The digits of one tile as this lane has them, eight bytes from `digits`.
INLINE void stream_digits(const i8* digits, u32 mask, u32* out) {
    const Word2 words = load8(digits);
    out[0] = words.words[0] & mask;
    out[1] = words.words[1] & mask;
}

/// Q4_K and Q5_K: groups of 32, with minima.
template <typename Format>
struct StreamedNibbles {
    static constexpr bool HAS_ONE = false;

    INLINE_STATIC void keep(const u8* block, u32 row, StreamFloats& out) {
        const Word4 head = load16(block);
        const Word4 mins = Tiled<Format>::mins(head);
        out.d[row] = head.words[0];
        out.mins[row][0] = mins.words[0];
        out.mins[row][1] = mins.words[1];
    }
};

/// Q4_K: bytes are operands as they are, w + 16 v of two groups, and once more without their lower
/// nibbles. What the first product has more than the second is the lower group's sum; the second's
/// own, of the upper group, is sixteen times as large, and divided at the end (below 2^28 in all).
template <>
struct Streamed<Q4_K> : StreamedNibbles<Q4_K> {
    static constexpr bool PAIRED = true;
    static constexpr u32 STEP = 2, STRIDE = 288, STAGES = 2, SKIP = 0;

    INLINE_STATIC void sums(const u8* one, const u8* two, const i8* digits, i32 (&out)[4]) {
        const u32 q = stream_quarter(), column = LANE % 32 / 4;
        const u8* const rows[2] = {one, two};
        Word4 scales[2];
        u32 raw[2][Tiled<Q4_K>::RAW];
        UNROLL
        for (u32 r = 0; r < 2; ++r) {
            scales[r] = Tiled<Q4_K>::scales(load16(rows[r]));
            Tiled<Q4_K>::load(rows[r], q, raw[r]);
        }
        digits += column % 2 * TILE_K;
        i32 sixteenfold[2] = {};
        UNROLL
        for (u32 pair = 0; pair < STREAM_TILES / 2; ++pair) {
            u32 bytes[4], upper[4], b[2];
            UNROLL
            for (u32 i = 0; i < 4; ++i) {
                bytes[i] = raw[i % 2][pair * 2 + i / 2];
                upper[i] = bytes[i] & 0xf0f0f0f0u;
            }
            stream_digits(digits + pair * 2 * TILE_K, ~0u, b);
            i32 all[4] = {}, high[4] = {};
            few_multiply<false>(all, bytes, b);
            few_multiply<false>(high, upper, b);
            UNROLL
            for (u32 r = 0; r < 2; ++r) {
                const u32 both = scales[r].words[pair / 2] >> pair % 2 * 16;
                out[r] += (i32)byte_of(both, 0) * (all[r * 2] - high[r * 2]);
                sixteenfold[r] += (i32)byte_of(both, 1) * high[r * 2 + 1];
            }
        }
        out[0] += sixteenfold[0] >> 4;
        out[1] += sixteenfold[1] >> 4;
    }
};

template <>
struct Streamed<Q5_K> : StreamedNibbles<Q5_K> {
    static constexpr bool PAIRED = false;
    static constexpr u32 STEP = 2, STRIDE = 352, STAGES = 2, SKIP = 0;

    INLINE_STATIC void sums(const u8* one, const u8* two, const i8* digits, i32 (&out)[4]) {
        const u32 q = stream_quarter();
        const u8* const rows[2] = {one, two};
        Word4 scales[2];
        u32 raw[2][Tiled<Q5_K>::RAW];
        UNROLL
        for (u32 r = 0; r < 2; ++r) {
            scales[r] = Tiled<Q5_K>::scales(load16(rows[r]));
            Tiled<Q5_K>::load(rows[r], q, raw[r]);
        }
        UNROLL
        for (u32 tile = 0; tile < STREAM_TILES; ++tile) {
            u32 a[4], b[2];
            UNROLL
            for (u32 i = 0; i < 4; ++i) a[i] = Tiled<Q5_K>::word(raw[i % 2], tile, i / 2);
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

/// Q6_K: groups of 16. An operand is four times its weight, which puts six bits where a byte has
/// its sign, so that -32 costs no more than a bit that is turned; sums are divided at the end.
template <>
struct Streamed<Q6_K> {
    static constexpr bool PAIRED = true, HAS_ONE = true;
    static constexpr u32 STEP = 1, STRIDE = 224, STAGES = 2, SKIP = 14;

    INLINE_STATIC void keep(const u8* block, u32 row, StreamFloats& out) {
        out.d[row] = *(const u16*)(block + 208);
    }
    /// COUNT words from `offset` of the block that begins `odd`, 0 or 2, behind `base`. What is
    /// read on both sides is of the row's stage.
    template <u32 COUNT>
    INLINE_STATIC void load(const u8* base, u32 odd, u32 offset, u32* words) {
        u32 raw[COUNT + 1];
        UNROLL
        for (u32 i = 0; i <= COUNT; ++i) raw[i] = load4(base + offset + i * 4);
        words_of<2, COUNT>(raw, odd, words);
    }
    /// What a lane has of half `half` of a block.
    struct Half {
        u32 low[2][2], high[2];
        INLINE_MEMBER void fetch(const u8* base, u32 odd, u32 half, u32 q) {
            load<2>(base, odd, half * 64 + q * 8, low[0]);
            load<2>(base, odd, half * 64 + 32 + q * 8, low[1]);
            load<2>(base, odd, 128 + half * 32 + q * 8, high);
            // The upper bit of every pair: 4 w - 128 has it turned. Kept, as the compiler would
            // load it for every word.
            UNROLL
            for (u32& word : high) word ^= kept_here(0xaaaaaaaau);
        }
        /// Word i of quarter `quarter` of the half: 4 (w - 32) for w from 0 to 63.
        INLINE_MEMBER u32 word(u32 quarter, u32 i) const {
            const u32 nibbles = low[quarter % 2][i], pairs = high[i] << (6 - quarter * 2);
            const u32 four = quarter < 2 ? nibbles << 2 : nibbles >> 2;
            return (four & 0x3c3c3c3cu) | (pairs & 0xc0c0c0c0u);
        }
    };
    INLINE_STATIC void sums(const u8* one, const u8* two, const i8* digits, i32 (&out)[4]) {
        const u32 q = stream_quarter(), column = LANE % 32 / 4;
        const u32 odd = (u32)(u64)one & 2u;  // both rows alike
        const u8* const rows[2] = {one - odd, two - odd};
        // A column's digits are of one group of the two: zeros for the lanes of the other.
        const u32 mask = column % 2 == q / 2 ? ~0u : 0u;
        Word4 scales[2];
        UNROLL
        for (u32 r = 0; r < 2; ++r) load<4>(rows[r], odd, 192, scales[r].words);
        UNROLL
        for (u32 half = 0; half < 2; ++half) {
            Half raw[2];
            UNROLL
            for (u32 r = 0; r < 2; ++r) raw[r].fetch(rows[r], odd, half, q);
            UNROLL
            for (u32 quarter = 0; quarter < 4; ++quarter) {
                const u32 tile = half * 4 + quarter;
                u32 a[4], b[2];
                UNROLL
                for (u32 i = 0; i < 4; ++i) a[i] = raw[i % 2].word(quarter, i / 2);
                stream_digits(digits + tile * TILE_K, mask, b);
                i32 dots[4] = {};
                few_multiply(dots, a, b);
                UNROLL
                for (u32 i = 0; i < 4; ++i) {
                    const u32 word = scales[i / 2].words[tile / 2];
                    out[i / 2] += signed_byte_of(word, tile % 2 * 2 + i % 2) * dots[i];
                }
            }
        }
        out[0] >>= 2;
        out[1] >>= 2;
    }
    /// One digit leaves columns free: column n is group n of the half, with zeros in the three
    /// tiles that the group is not in. So a half has one sum for each group, which meet their
    /// scales at once.
    INLINE_STATIC void sums_of_one(const u8* one, const u8* two, const i8* digits, i32 (&out)[2]) {
        const u32 q = stream_quarter(), column = LANE % 32 / 4;
        const u32 odd = (u32)(u64)one & 2u;  // both rows alike
        const u8* const rows[2] = {one - odd, two - odd};
        const u8* const scales[2] = {one + 192 + q * 2, two + 192 + q * 2};
        const u32 mask = column % 2 == q / 2 ? ~0u : 0u;
        out[0] = out[1] = 0;
        UNROLL
        for (u32 half = 0; half < 2; ++half) {
            Half raw[2];
            UNROLL
            for (u32 r = 0; r < 2; ++r) raw[r].fetch(rows[r], odd, half, q);
            u32 own[2];
            stream_digits(digits + (half * 4 + column / 2) * TILE_K, mask, own);
            i32 dots[4] = {};
            UNROLL
            for (u32 quarter = 0; quarter < 4; ++quarter) {
                u32 a[4];
                UNROLL
                for (u32 i = 0; i < 4; ++i) a[i] = raw[i % 2].word(quarter, i / 2);
                const bool is_own = column / 2 == quarter;
                const u32 b[2] = {is_own ? own[0] : 0, is_own ? own[1] : 0};
                few_multiply(dots, a, b);
            }
            UNROLL
            for (u32 r = 0; r < 2; ++r) {
                const u32 pair = *(const u16*)(scales[r] + half * 8);
                out[r] += signed_byte_of(pair, 0) * dots[r * 2];
                out[r] += signed_byte_of(pair, 1) * dots[r * 2 + 1];
            }
        }
        UNROLL
        for (u32 r = 0; r < 2; ++r) {
            out[r] += shuffle_xor(out[r], 1);
            out[r] = (out[r] + shuffle_xor(out[r], 2)) >> 2;
        }
    }
};
