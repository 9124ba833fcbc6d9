// What a wave computes of one subtile for GROUPED formats (tile_formats.h): weights without their
// scales are operands, one plane of them, and the sum of each group meets its scale as an integer.
#pragma once
#include "tile_sums.h"

// Chunks of 16 bytes from row to row of the digits of a step, and of one subtile. Lanes that read
// at the same time, 32 bytes of four rows, find them in different banks, and what a lane reads lies
// at constant distances.
#define GROUPS_ROW (TILES_ROW_CHUNKS + 2)
#define GROUPS_SUBTILE (TILE_COLUMNS * GROUPS_ROW)

/// Operands are weights without a scale, each of one group.
template <typename Format>
INLINE void groups_operands(const TilesRaw<Format>& raw, TilesOperands<1>& out) {
    UNROLL
    for (u32 high = 0; high < TILES_HIGH; ++high) {
        UNROLL
        for (u32 r = 0; r < TILES_LANE_ROWS; ++r) {
            UNROLL
            for (u32 k = 0; k < 8; ++k) {
                UNROLL
                for (u32 half = 0; half < 2; ++half) {
                    out.tiles[0][high][k].words[half * TILES_LANE_ROWS + r] =
                        Tiled<Format>::word(raw.words[high][r], k, half);
                }
            }
        }
    }
}

// Unrolled, a digit's loads overlap the products of the one before (i24 with two blocks of threads:
// 1255 us, 1487 us rolled, measured as in tile_stages.h). AMD's compiler has no scalar registers
// for that.
#if defined(__HIP__)
#define EACH_DIGIT ROLL
#else
#define EACH_DIGIT UNROLL
#endif

/// T of section 6: the sums of the groups, one tile each, meet their scales as integers; all fit
/// i32. `digits` are the subtile's, `scales` those of the lane's first sum.
template <u32 DIGITS>
INLINE void groups_meet(const TilesOperands<1>& operands, const Word4* digits, const float* scales,
                        float (&t)[TILES_HIGH][TILE_SUMS]) {
    // Where the lane's pair of words of group 0 lies.
    const u32 lane = tile_b_column(0) * GROUPS_ROW * 2 + tiles_quarter();
    float power = 1.0f;
    EACH_DIGIT
    for (u32 digit = 0; digit < DIGITS; ++digit, power *= 256.0f) {
        Word2 packed[TILES_HIGH][TILE_SUMS];
        i32 whole[TILES_HIGH][TILE_SUMS] = {};
        const Word2* pairs = (const Word2*)(digits + digit * GROUPS_SUBTILE) + lane;
        UNROLL
        for (u32 high = 0; high < TILES_HIGH; ++high) {
            UNROLL
            for (u32 i = 0; i < TILE_SUMS; ++i) {
                const u32 down = high * TILE_ROWS + tile_sum_row(i) - tile_sum_row(0);
                packed[high][i] = load8(scales + down * 2);
            }
        }
        UNROLL
        for (u32 k = 0; k < 8; ++k) {
            TileWords b;
            UNROLL
            for (u32 c = 0; c < TILES_LANE_ROWS; ++c) {
                const Word2 pair = pairs[k * 4 + c * 16 * GROUPS_ROW];
                b.words[c * 2] = pair.words[0];
                b.words[c * 2 + 1] = pair.words[1];
            }
            UNROLL
            for (u32 high = 0; high < TILES_HIGH; ++high) {
                TileSums sums = {};
                tile_multiply(sums, operands.tiles[0][high][k], b);
                UNROLL
                for (u32 i = 0; i < TILE_SUMS; ++i) {
                    const u32 scale = byte_of(packed[high][i].words[k / 4], k % 4);
                    whole[high][i] += sums.sums[i] * (i32)scale;
                }
            }
        }
        UNROLL
        for (u32 high = 0; high < TILES_HIGH; ++high) {
            UNROLL
            for (u32 i = 0; i < TILE_SUMS; ++i) {
                const float sum = to_f32(whole[high][i]);
                t[high][i] = DIGITS == 1 || digit == 0 ? sum : fma32(sum, power, t[high][i]);
            }
        }
    }
}
