// The end of a chunk of CONTRACT.md section 6 in product_tiles: it joins the total, in registers or
// in out, where registers are wanted otherwise.
#pragma once
#include "tile_steps.h"

/// The sums of a lane go to out, from `base` on.
INLINE void tiles_store(const ProductArguments& a, const TilesPlace& place, u64 base,
                        const float (&sums)[TILES_SUBTILES][TILES_HIGH][TILE_SUMS]) {
    const u32 rows = kept_here(a.rows), outputs = kept_here(a.outputs);
    UNROLL
    for (u32 s = 0; s < TILES_SUBTILES; ++s) {
        UNROLL
        for (u32 high = 0; high < TILES_HIGH; ++high) {
            UNROLL
            for (u32 i = 0; i < TILE_SUMS; ++i) {
                const u32 tile = WAVE * TILES_HIGH + high;
                const u32 output = place.first_output + tile * TILE_ROWS + tile_sum_row(i);
                const u32 row = place.first_row + s * TILE_COLUMNS + tile_sum_column(i);
                if (output < outputs && row < rows) {
                    a.out[base + (u64)row * outputs + output] = sums[s][high][i];
                }
            }
        }
    }
}

/// The end of a chunk: it joins the total, which is stored at the end or, of chunks that are to be
/// added later, each time.
template <typename Format>
INLINE void tiles_end_chunk(const ProductArguments& a, const TilesPlace& place, u32 step,
                            float (&chunk)[TILES_SUBTILES][TILES_HIGH][TILE_SUMS],
                            float (&total)[TILES_SUBTILES][TILES_HIGH][TILE_SUMS]) {
    const u32 steps = tiles_chunk_steps<Format>();
    const bool last = step + 1 == place.steps, alone = a.chunks != 0;
    if ((step + 1) % steps != 0 && !last) return;
    UNROLL
    for (u32 s = 0; s < TILES_SUBTILES; ++s) {
        UNROLL
        for (u32 high = 0; high < TILES_HIGH; ++high) {
            UNROLL
            for (u32 i = 0; i < TILE_SUMS; ++i) {
                total[s][high][i] = (alone ? 0.0f : total[s][high][i]) + chunk[s][high][i];
                chunk[s][high][i] = 0.0f;
            }
        }
    }
    if (alone || last) {
        const u64 part = alone ? step / steps : 0;
        tiles_store(a, place, part * a.rows * a.outputs, total);
    }
}

/// The end of a chunk: it joins the total in out, or is stored where chunks are added later. The
/// total would cost registers in every step, and is wanted once in four.
template <typename Format>
INLINE void tiles_end_chunk_in_out(const ProductArguments& a, const TilesPlace& place, u32 step,
                                   float (&chunk)[TILES_SUBTILES][TILES_HIGH][TILE_SUMS]) {
    const u32 steps = tiles_chunk_steps<Format>();
    const bool alone = kept_here(a.chunks) != 0, joins = !alone && step >= steps;
    const u32 output = place.first_output + WAVE * TILES_HIGH * TILE_ROWS + tile_sum_row(0);
    const u32 row = place.first_row + tile_sum_column(0);
    UNROLL
    for (u32 s = 0; s < TILES_SUBTILES; ++s) {
        const u32 rows = kept_here(a.rows), outputs = kept_here(a.outputs);
        const u64 start = ((alone ? (u64)(step / steps) * rows : 0) + row) * outputs + output;
        float total[TILES_HIGH][TILE_SUMS] = {};
        // All loads before the first store, so that they wait together.
        UNROLL
        for (u32 pass = 0; pass < 2; ++pass) {
            UNROLL
            for (u32 high = 0; high < TILES_HIGH; ++high) {
                UNROLL
                for (u32 i = 0; i < TILE_SUMS; ++i) {
                    const u32 down = high * TILE_ROWS + tile_sum_row(i) - tile_sum_row(0);
                    const u32 across = s * TILE_COLUMNS + tile_sum_column(i) - tile_sum_column(0);
                    const bool inside = output + down < outputs && row + across < rows;
                    const u64 at = start + (u64)across * outputs + down;
                    if (pass == 0 && joins && inside) total[high][i] = a.out[at];
                    if (pass == 1 && inside) a.out[at] = total[high][i] + chunk[s][high][i];
                    if (pass == 1) chunk[s][high][i] = 0.0f;
                }
            }
        }
    }
}
