// product_stream's end where its two matrices are gate and up. Their products' SwiGLU (CONTRACT.md
// section 11) is in memory; whichever block of threads is the last to leave values of a block of
// 256 brings it to fixed point (section 5). This replaces swiglu_quantise as well.
#pragma once
#include "stream_row.h"

// Tiles of one matrix that a block of 256 values has.
#define GATED_TILES (256u / STREAM_OUTPUTS)

/// Counts this block of threads for the blocks of 256 values that it has a tile of, and brings
/// those that are complete to fixed point, a wave each. `pairs` tiles of both matrices are its own;
/// `complete` has a word of shared memory for each.
template <u32 DIGITS>
INLINE void stream_gate(const ProductStreamArguments& a, u32 place, u32 pairs, u32* complete) {
    constexpr u32 EACH = 8, NONE = ~0u;
    // All values are written, and what `complete` takes the place of is read.
    BARRIER();
    for (u32 i = THREAD_X; i < pairs; i += a.threads) {
        const u32 block = (place + i * a.stride) / GATED_TILES;
        u32* const counter = a.arrivals.at(block, 1);
        const bool is_last = arrive(counter) + 1 == GATED_TILES;
        if (is_last) *counter = 0;
        complete[i] = is_last ? block : NONE;
    }
    BARRIER();
    ROLL
    for (u32 i = WAVE; i < pairs; i += stream_waves(a)) {
        const u32 block = complete[i], column = block * 256 + LANE * EACH;
        if (block == NONE) continue;
        const float* gated = a.gated.at(column, EACH);
        float values[EACH];
        UNROLL
        for (u32 k = 0; k < EACH; k += 4) {
            const Word4 four = load16(gated + k);
            UNROLL
            for (u32 j = 0; j < 4; ++j) values[k + j] = from_bits(four.words[j]);
        }
        keep_eight<DIGITS>(a.gated_fixed, a.outputs[0], column, fix_eight<DIGITS>(values));
    }
}
