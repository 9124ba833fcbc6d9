// What a wave computes of one subtile in a step of product_tiles: exact sums, and the f32 steps of
// CONTRACT.md section 6 in their order.
#pragma once
#include "tile_steps.h"

// Sums begin at 1.5 * 2^23 as an integer: while they stay within 2^22 of it, and 32 products of
// bytes do, the bits of the integer are those of the float 1.5 * 2^23 + sum.
#define TILES_ZERO 0x4b400000

INLINE void tiles_clear(TileSums& sums) {
    UNROLL
    for (u32 i = 0; i < TILE_SUMS; ++i) sums.sums[i] = TILES_ZERO;
}
/// f(sum), exact: magnitudes are at most 2^22.
INLINE float tiles_float(i32 sum) { return from_bits((u32)sum) - from_bits(TILES_ZERO); }

/// The words of b for the 32 values of group `k`; `lane` is where the lane's chunk of group 0 lies.
INLINE TileWords tiles_pairs(const Word4* digits, u32 lane, u32 k) {
    TileWords b;
    UNROLL
    for (u32 c = 0; c < TILES_LANE_ROWS; ++c) {
        const Word4* from = tiles_next(digits, lane, k * 2, c);
        const Word2 pair = load8(from->words + tiles_quarter() % 2 * 2);
        b.words[c * 2] = pair.words[0];
        b.words[c * 2 + 1] = pair.words[1];
    }
    return b;
}

/// T of section 6 over a 256-value block, for the sums of one subtile; all fit i32.
template <typename Format, u32 DIGITS>
INLINE void tiles_meet(const TilesOperands<Tiled<Format>::PLANES>& operands, const Word4* digits,
                       float (&t)[TILES_HIGH][TILE_SUMS]) {
    typedef Tiled<Format> Tile;
    // The quarter's bits of a part and the piece's are different ones.
    const u32 lane = tiles_place(tile_b_column(0), Tile::part(0, tiles_quarter()));
    UNROLL
    for (u32 high = 0; high < TILES_HIGH; ++high) {
        UNROLL
        for (u32 i = 0; i < TILE_SUMS; ++i) t[high][i] = 0.0f;
    }
    float power = 1.0f;
    ROLL
    for (u32 digit = 0; digit < DIGITS; ++digit, power *= 256.0f) {
        TileSums sums[Tile::PLANES][TILES_HIGH] = {};
        UNROLL
        for (u32 piece = 0; piece < 4; ++piece) {
            Word4 chunks[TILES_LANE_ROWS];
            UNROLL
            for (u32 c = 0; c < TILES_LANE_ROWS; ++c) {
                const Word4* from = digits + digit * TILES_CHUNKS;
                chunks[c] = *tiles_next(from, lane, Tile::part(piece, 0), c);
            }
            UNROLL
            for (u32 k = 0; k < 2; ++k) {
                TileWords b;
                UNROLL
                for (u32 c = 0; c < TILES_LANE_ROWS; ++c) {
                    b.words[c * 2] = chunks[c].words[k * 2];
                    b.words[c * 2 + 1] = chunks[c].words[k * 2 + 1];
                }
                UNROLL
                for (u32 plane = 0; plane < Tile::PLANES; ++plane) {
                    UNROLL
                    for (u32 high = 0; high < TILES_HIGH; ++high) {
                        const TileWords& tile = operands.tiles[plane][high][piece * 2 + k];
                        tile_multiply(sums[plane][high], tile, b);
                    }
                }
            }
        }
        UNROLL
        for (u32 high = 0; high < TILES_HIGH; ++high) {
            UNROLL
            for (u32 i = 0; i < TILE_SUMS; ++i) {
                i32 whole = sums[0][high].sums[i];
                if constexpr (Tile::PLANES == 2) whole += sums[1][high].sums[i] * 256;
                const float sum = to_f32(Tile::NEGATED ? -whole : whole);
                t[high][i] = fma32(sum, power, t[high][i]);
            }
        }
    }
}

/// One block of a K format, of which `t` is T, joins the chunk. `scales` are those of the subtile's
/// rows.
template <typename Format>
INLINE void tiles_join(const float (&t)[TILES_HIGH][TILE_SUMS], const Word4* sums,
                       const float* factors, const float* scales,
                       float (&chunk)[TILES_HIGH][TILE_SUMS]) {
    typedef TilesFactors<Format> At;
    // Where the lane's first sum has its factors; the others have theirs at constant distances.
    const u32 output = WAVE * TILES_HIGH * TILE_ROWS + tile_sum_row(0);
    const float *d = factors + At::d(output), *mins = factors + At::mins(output);
    const float* dmin = factors + At::dmin(output);
    const float* lane_scales = scales + tile_sum_column(0);
    UNROLL
    for (u32 high = 0; high < TILES_HIGH; ++high) {
        UNROLL
        for (u32 i = 0; i < TILE_SUMS; ++i) {
            const u32 down = high * TILE_ROWS + tile_sum_row(i) - tile_sum_row(0);
            const u32 across = tile_sum_column(i) - tile_sum_column(0);
            float& sum = chunk[high][i];
            sum = fma32(d[down] * lane_scales[across], t[high][i], sum);
            if constexpr (Format::HAS_MIN) {
                constexpr u32 PIECES = At::MINS / 4;
                float n = 0.0f;
                UNROLL
                for (u32 piece = 0; piece < PIECES; ++piece) {
                    const Word4 m = load16(mins + down * At::MIN_WORDS + piece / 2 * 4);
                    // Columns that a lane has are placed alike.
                    const u32 from = tiles_sums_place<PIECES>(tile_sum_column(0), piece);
                    const Word4 u = sums[from + across * PIECES];
                    UNROLL
                    for (u32 g = 0; g < 4; ++g) {
                        const float min = one_float(m.words[piece % 2 * 2 + g / 2], g);
                        n = fma32(min, from_bits(u.words[g]), n);
                    }
                }
                sum = fma32(-dmin[down], n, sum);
            }
        }
    }
}

template <typename Format, u32 DIGITS>
INLINE void tiles_block(const TilesOperands<Tiled<Format>::PLANES>& operands, const Word4* digits,
                        const Word4* sums, const float* factors, const float* scales,
                        float (&chunk)[TILES_HIGH][TILE_SUMS]) {
    float t[TILES_HIGH][TILE_SUMS];
    tiles_meet<Format, DIGITS>(operands, digits, t);
    tiles_join<Format>(t, sums, factors, scales, chunk);
}

/// One chunk of blocks of 32 values as a sum. `rows` has eight scales of each row of the
/// subtile, then eight sums of each.
template <typename Format, u32 DIGITS>
INLINE void tiles_chunk(const TilesOperands<1>& operands, const Word4* digits, const float* rows,
                        const float* factors, u32 count, float (&chunk)[TILES_HIGH][TILE_SUMS]) {
    typedef TilesFactors<Format> At;
    const u32 quarter = tiles_quarter();
    const u32 lane = tiles_place(tile_b_column(0), quarter / 2);
    const u32 output = WAVE * TILES_HIGH * TILE_ROWS + tile_sum_row(0);
    const float *d = factors + At::d(output), *mins = factors + At::mins(output);
    const float* lane_rows = rows + tile_sum_column(0) * 8;
    UNROLL
    for (u32 k = 0; k < 8; ++k) {
        if (k >= count) break;
        float t[TILES_HIGH][TILE_SUMS] = {};
        float power = 1.0f;
        ROLL
        for (u32 digit = 0; digit < DIGITS; ++digit, power *= 256.0f) {
            const TileWords b = tiles_pairs(digits + digit * TILES_CHUNKS, lane, k);
            UNROLL
            for (u32 high = 0; high < TILES_HIGH; ++high) {
                TileSums sums;
                tiles_clear(sums);
                tile_multiply(sums, operands.tiles[0][high][k], b);
                UNROLL
                for (u32 i = 0; i < TILE_SUMS; ++i) {
                    t[high][i] = fma32(tiles_float(sums.sums[i]), power, t[high][i]);
                }
            }
        }
        UNROLL
        for (u32 high = 0; high < TILES_HIGH; ++high) {
            UNROLL
            for (u32 i = 0; i < TILE_SUMS; ++i) {
                const u32 down = high * TILE_ROWS + tile_sum_row(i) - tile_sum_row(0);
                const u32 across = tile_sum_column(i) - tile_sum_column(0);
                float& sum = chunk[high][i];
                const float scale = d[down * 8 + k] * lane_rows[across * 8 + k];
                sum = fma32(scale, t[high][i], sum);
                if constexpr (Format::HAS_MIN) {
                    const float u = lane_rows[(TILE_COLUMNS + across) * 8 + k];
                    sum = fma32(mins[down * 8 + k], u, sum);
                }
            }
        }
    }
}
