// product_tiles: what product computes, bit for bit, for many rows, on the integer matrix cores.
// Grid: x = runs of 128 outputs, y = runs of 64 rows. A wave has 16 or 32 of the outputs and all
// rows, in subtiles of 16. Steps of 256 values: a block of the K formats, a chunk of the others. In
// a step a wave turns its weights into operands once (tile_formats.h), which meet all digits of all
// subtiles; digits come through a ring in shared memory.
// Order of summation: exact integers within a block, then f32 by CONTRACT.md section 6, blocks in
// order, chunks in order, in the registers of the lane that has the sum.
#include "tile_steps.h"

/// One scale, or one sum, of a block of 32 values: this thread's share of what a subtile needs.
template <typename Format>
INLINE float tiles_row_value(const ProductArguments& a, const TilesPlace& place, u32 step,
                             u32 subtile) {
    const u32 block = step * 8 + THREAD_X % 8;
    const u32 column = place.first_row + subtile * TILE_COLUMNS + THREAD_X / 8 % TILE_COLUMNS;
    const u64 at = (u64)(column < a.rows ? column : a.rows - 1) * place.blocks + block;
    if (block >= place.blocks) return 0.0f;
    if (THREAD_X < TILE_COLUMNS * 8) return a.scales[at];
    return Format::HAS_MIN ? a.sums[at] : 0.0f;
}

/// The scales of this lane's columns in one 256-value block.
INLINE void tiles_scales(const ProductArguments& a, const TilesPlace& place, u32 step,
                         u32 subtile, float (&scales)[TILE_SUMS]) {
    UNROLL
    for (u32 i = 0; i < TILE_SUMS; ++i) {
        const u32 column = place.first_row + subtile * TILE_COLUMNS + tile_sum_column(i);
        scales[i] = a.scales[(u64)(column < a.rows ? column : a.rows - 1) * place.blocks + step];
    }
}

INLINE void tiles_store(const ProductArguments& a, const TilesPlace& place,
                        const float (&total)[TILES_SUBTILES][TILES_HIGH][TILE_SUMS]) {
    UNROLL
    for (u32 s = 0; s < TILES_SUBTILES; ++s) {
        UNROLL
        for (u32 high = 0; high < TILES_HIGH; ++high) {
            UNROLL
            for (u32 i = 0; i < TILE_SUMS; ++i) {
                const u32 tile = WAVE * TILES_HIGH + high;
                const u32 output = place.first_output + tile * TILE_ROWS + tile_sum_row(i);
                const u32 row = place.first_row + s * TILE_COLUMNS + tile_sum_column(i);
                if (output < a.outputs && row < a.rows) {
                    a.out[(u64)row * a.outputs + output] = total[s][high][i];
                }
            }
        }
    }
}

INLINE TilesPlace tiles_here(const ProductArguments& a, u32 values, u32 x, u32 y) {
    const u32 first_row = y * TILES_SUBTILES * TILE_COLUMNS;
    const u32 subtiles = (a.rows - first_row + TILE_COLUMNS - 1) / TILE_COLUMNS;
    return {x * TILES_OUTPUTS, first_row, a.width / values,
            (a.width + TILES_STEP - 1) / TILES_STEP,
            subtiles < TILES_SUBTILES ? subtiles : TILES_SUBTILES};
}

template <typename Format, u32 DIGITS>
INLINE void product_tiles(const ProductArguments& a BLOCK_PARAMETERS) {
    typedef TilesFactors<Format> At;
    constexpr bool SMALL = At::SMALL;
    // Of one slot, in chunks of 16 bytes.
    constexpr u32 DIGIT_CHUNKS = DIGITS * TILES_CHUNKS;
    constexpr u32 ROW_CHUNKS = SMALL ? 64 : At::MINS == 0 ? 1 : TILE_COLUMNS * At::MINS / 4;
    SHARED(Word4, digits, TILES_RING * DIGIT_CHUNKS);
    SHARED(Word4, values, TILES_RING * ROW_CHUNKS);
    SHARED(float, factors, At::ALL);
    const TilesPlace place = tiles_here(a, Format::VALUES, BLOCK_X, BLOCK_Y);
    const u32 wave_output = WAVE * TILES_HIGH * TILE_ROWS;
    const bool active = place.first_output + wave_output < a.outputs;
    TilesRows rows;
    UNROLL
    for (u32 high = 0; high < TILES_HIGH; ++high) {
        UNROLL
        for (u32 r = 0; r < TILES_LANE_ROWS; ++r) {
            const u32 local = wave_output + high * TILE_ROWS + tile_a_row(r);
            rows.rows[high][r] = tiles_weights<Format>(a, place, local);
        }
    }
    float total[TILES_SUBTILES][TILES_HIGH][TILE_SUMS] = {};
    float chunk[TILES_SUBTILES][TILES_HIGH][TILE_SUMS] = {};
    // What is copied next, and where to; the ring has one slot for what is read meanwhile.
    u32 next_step = 0, next_subtile = 0, next_slot = 0, slot = 0;
    float waiting = 0.0f;
    const auto copy = [&] {
        tiles_copy<Format, DIGITS>(a, place, next_step, next_subtile,
                                   &digits[0] + next_slot * DIGIT_CHUNKS,
                                   &values[0] + next_slot * ROW_CHUNKS);
        if constexpr (SMALL) waiting = tiles_row_value<Format>(a, place, next_step, next_subtile);
    };
    const auto copied = [&] {
        if constexpr (SMALL) values[next_slot * ROW_CHUNKS + THREAD_X / 4].words[THREAD_X % 4] =
            to_bits(waiting);
        next_slot = next_slot + 1 == TILES_RING ? 0 : next_slot + 1;
        next_subtile += 1;
        if (next_subtile == place.subtiles) next_subtile = 0, next_step += 1;
    };
    UNROLL
    for (u32 i = 0; i < TILES_RING - 1; ++i) copy(), copied();
    for (u32 step = 0; step < place.steps; ++step) {
        TilesOperands<Tiled<Format>::PLANES> operands;
        const u32 count = SMALL && place.blocks - step * 8 < 8 ? place.blocks - step * 8 : 8;
        if (active) {
            if constexpr (SMALL) tiles_operands_small<Format>(rows, step, count, operands);
            else tiles_operands<Format>(rows, step, operands);
        }
        // Nobody reads the factors of the step before any more.
        BARRIER();
        tiles_factors<Format>(a, place, step, &factors[0]);
        UNROLL
        for (u32 s = 0; s < TILES_SUBTILES; ++s) {
            if (s >= place.subtiles) break;
            float scales[TILE_SUMS];
            if constexpr (!SMALL) tiles_scales(a, place, step, s, scales);
            copies_wait<TILES_RING - 2>();
            BARRIER();
            copy();
            const Word4* from = &digits[0] + slot * DIGIT_CHUNKS;
            const Word4* beside = &values[0] + slot * ROW_CHUNKS;
            if (active) {
                if constexpr (SMALL) {
                    tiles_chunk<Format, DIGITS>(operands, from, (const float*)beside, &factors[0],
                                                count, total[s]);
                } else {
                    tiles_block<Format, DIGITS>(operands, from, beside, &factors[0], scales,
                                                chunk[s]);
                }
            }
            copied();
            slot = slot + 1 == TILES_RING ? 0 : slot + 1;
        }
        if (!SMALL && ((step + 1) % Format::CHUNK_BLOCKS == 0 || step + 1 == place.steps)) {
            UNROLL
            for (u32 s = 0; s < TILES_SUBTILES; ++s) {
                UNROLL
                for (u32 high = 0; high < TILES_HIGH; ++high) {
                    UNROLL
                    for (u32 i = 0; i < TILE_SUMS; ++i) {
                        total[s][high][i] = total[s][high][i] + chunk[s][high][i];
                        chunk[s][high][i] = 0.0f;
                    }
                }
            }
        }
    }
    tiles_store(a, place, total);
}

#define PRODUCT_TILES_DIGITS(suffix, Format, digits, count)               \
    KERNEL(product_tiles_##suffix##_##digits, ProductArguments) {         \
        product_tiles<Format, count>(a BLOCK_ARGUMENTS);                  \
    }
#define PRODUCT_TILES(suffix, Format)              \
    PRODUCT_TILES_DIGITS(suffix, Format, i8, 1)    \
    PRODUCT_TILES_DIGITS(suffix, Format, i16, 2)   \
    PRODUCT_TILES_DIGITS(suffix, Format, i24, 3)

#if defined(LOCKSTEP_FORMAT)
// A compilation at run time wants one format only.
PRODUCT_TILES(LOCKSTEP_SUFFIX, LOCKSTEP_FORMAT)
#else
PRODUCT_TILES(q4_0, Q4_0)
PRODUCT_TILES(q4_1, Q4_1)
PRODUCT_TILES(q5_0, Q5_0)
PRODUCT_TILES(q5_1, Q5_1)
PRODUCT_TILES(q8_0, Q8_0)
PRODUCT_TILES(q2_k, Q2_K)
PRODUCT_TILES(q3_k, Q3_K)
PRODUCT_TILES(q4_k, Q4_K)
PRODUCT_TILES(q5_k, Q5_K)
PRODUCT_TILES(q6_k, Q6_K)
#endif
