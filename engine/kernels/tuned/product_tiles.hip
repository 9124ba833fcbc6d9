// product_tiles: replaces product for many rows, bit for bit, on the integer matrix cores.
// Grid: x = runs of 128 outputs, y = runs of 64 rows, or times parts of a.chunks chunks, which then
// go to out[chunk][row][output]. A wave has 16 or 32 outputs and all rows, in subtiles of 16. Steps
// of 256 values: a block of the K formats, a chunk of the others. In a step a wave turns weights
// into operands once (tile_formats.h), which meet all digits of all subtiles, from a shared ring
// (below) or stages of it (tile_stages.h).
// Order of summation: exact integers within a block, then f32 by CONTRACT.md section 6, blocks in
// order, chunks in order, by the lane that has the sum.
#include "tile_stages.h"

/// This thread's share of the scales of a subtile: one of a block of 256 values, or one scale or
/// sum of a block of 32.
template <typename Format>
INLINE float tiles_row_value(const ProductArguments& a, const TilesPlace& place, u32 step,
                             u32 subtile) {
    constexpr bool SMALL = Format::VALUES == 32;
    const u32 local = SMALL ? THREAD_X / 8 % TILE_COLUMNS : THREAD_X;
    const u32 block = SMALL ? step * 8 + THREAD_X % 8 : step;
    const u32 column = place.first_row + subtile * TILE_COLUMNS + local;
    const u64 at = (u64)(column < a.rows ? column : a.rows - 1) * place.blocks + block;
    if (block >= place.blocks) return 0.0f;
    if (THREAD_X < (SMALL ? TILE_COLUMNS * 8 : TILE_COLUMNS)) return a.scales[at];
    return SMALL && Format::HAS_MIN ? a.sums[at] : 0.0f;
}

template <typename Format>
INLINE TilesPlace tiles_here(const ProductArguments& a, u32 x, u32 y) {
    const u32 steps = (a.width + TILES_STEP - 1) / TILES_STEP;
    const u32 each = a.chunks == 0 ? steps : a.chunks * tiles_chunk_steps<Format>();
    const u32 parts = (steps + each - 1) / each;
    const u32 first_step = y % parts * each;
    const u32 last_step = steps - first_step < each ? steps : first_step + each;
    const u32 first_row = y / parts * TILES_SUBTILES * TILE_COLUMNS;
    const u32 subtiles = (a.rows - first_row + TILE_COLUMNS - 1) / TILE_COLUMNS;
    return {x * TILES_OUTPUTS, first_row, a.width / Format::VALUES, first_step, last_step,
            subtiles < TILES_SUBTILES ? subtiles : TILES_SUBTILES};
}

/// What is copied next, and where to: the ring has one slot for what is read meanwhile.
template <typename Format, u32 DIGITS>
struct TilesRing {
    static constexpr bool SMALL = TilesFactors<Format>::SMALL;
    static constexpr u32 MINS = TilesFactors<Format>::MINS;
    // One for what is read, the others for what is on its way; all of it fits 48 KiB.
    static constexpr u32 SLOTS = 3;
    // Of one slot, in chunks of 16 bytes: digits, and sums and scales.
    static constexpr u32 DIGIT_CHUNKS = DIGITS * TILES_CHUNKS;
    static constexpr u32 SCALES = SMALL ? 0 : TILE_COLUMNS * MINS / 4;
    static constexpr u32 ROW_CHUNKS = SMALL ? 64 : SCALES + TILE_COLUMNS / 4;
    Word4 *digits, *values;
    u32 step, subtile, slot;
    float waiting;

    INLINE_STATIC u32 after(u32 slot) { return slot + 1 == SLOTS ? 0 : slot + 1; }
    /// Starts what `end_copy` ends; in between there is time to wait.
    INLINE_MEMBER void begin_copy(const ProductArguments& a, const TilesPlace& place) {
        tiles_copy<Format, DIGITS>(a, place, step, subtile, digits + slot * DIGIT_CHUNKS,
                                   values + slot * ROW_CHUNKS);
        waiting = tiles_row_value<Format>(a, place, step, subtile);
    }
    INLINE_MEMBER void end_copy(const TilesPlace& place) {
        if (SMALL || THREAD_X < TILE_COLUMNS) {
            Word4* to = values + slot * ROW_CHUNKS + SCALES + THREAD_X / 4;
            to->words[THREAD_X % 4] = to_bits(waiting);
        }
        slot = after(slot);
        subtile = subtile + 1 == place.subtiles ? 0 : subtile + 1;
        step += subtile == 0 ? 1 : 0;
    }
};

template <typename Format, u32 DIGITS>
INLINE void product_tiles(const ProductArguments& a BLOCK_PARAMETERS) {
    typedef TilesRing<Format, DIGITS> Ring;
    SHARED(Word4, digits, Ring::SLOTS * Ring::DIGIT_CHUNKS);
    SHARED(Word4, values, Ring::SLOTS * Ring::ROW_CHUNKS);
    SHARED(float, factors, TilesFactors<Format>::ALL);
    const TilesPlace place = tiles_here<Format>(a, BLOCK_X, BLOCK_Y);
    const bool active = place.first_output + WAVE * TILES_HIGH * TILE_ROWS < a.outputs;
    const TilesRows rows = tiles_rows<Format>(a, place);
    float total[TILES_SUBTILES][TILES_HIGH][TILE_SUMS] = {};
    float chunk[TILES_SUBTILES][TILES_HIGH][TILE_SUMS] = {};
    u32 slot = 0;
    Ring ring = {&digits[0], &values[0], place.first_step, 0, 0, 0.0f};
    for (u32 i = 0; i < Ring::SLOTS - 1; ++i) {
        ring.begin_copy(a, place);
        ring.end_copy(place);
    }
    TilesRaw<Format> raw;
    tiles_load<Format>(rows, place.first_step, raw);
    for (u32 step = place.first_step; step < place.steps; ++step) {
        TilesOperands<Tiled<Format>::PLANES> operands;
        const u32 left = (place.blocks - step * 8) < 8 ? place.blocks - step * 8 : 8;
        if (active) tiles_operands<Format>(rows, step, left, raw, operands);
        if (step + 1 < place.steps) tiles_load<Format>(rows, step + 1, raw);
        // Nobody reads the factors of the step before any more.
        BARRIER();
        tiles_factors<Format>(a, place, step, &factors[0]);
        UNROLL
        for (u32 s = 0; s < TILES_SUBTILES; ++s) {
            if (s >= place.subtiles) break;
            copies_wait<Ring::SLOTS - 2>();
            BARRIER();
            ring.begin_copy(a, place);
            const Word4* from = ring.digits + slot * Ring::DIGIT_CHUNKS;
            const Word4* beside = ring.values + slot * Ring::ROW_CHUNKS;
            if (active) {
                if constexpr (Ring::SMALL) {
                    tiles_chunk<Format, DIGITS>(operands, from, (const float*)beside, &factors[0],
                                                left, chunk[s]);
                } else {
                    tiles_block<Format, DIGITS>(operands, from, beside, &factors[0],
                                                (const float*)(beside + Ring::SCALES), chunk[s]);
                }
            }
            ring.end_copy(place);
            slot = Ring::after(slot);
        }
        tiles_end_chunk<Format>(a, place, step, chunk, total);
    }
}

template <typename Format, u32 DIGITS>
INLINE void product_tiles_any(const ProductArguments& a BLOCK_PARAMETERS) {
    if constexpr (Tiled<Format>::STAGED) {
        typedef TilesStage<Format, DIGITS> Stage;
        SHARED(Word4, digits, 2 * Stage::CHUNKS);
        SHARED(Word4, values, 2 * Stage::VALUES);
        SHARED(float, factors, TilesFactors<Format>::ALL);
        const TilesPlace place = tiles_here<Format>(a, BLOCK_X, BLOCK_Y);
        stages_product<Format, DIGITS>(a, place, &digits[0], &values[0], &factors[0]);
    } else {
        product_tiles<Format, DIGITS>(a BLOCK_ARGUMENTS);
    }
}

// Blocks of threads on one multiprocessor.
#define PRODUCT_TILES_DENSE(Format, count) \
    (Tiled<Format>::STAGED ? TilesStage<Format, count>::DENSE : 1)
#define PRODUCT_TILES_DIGITS(suffix, Format, digits, count)                             \
    KERNEL_DENSE(PRODUCT_TILES_DENSE(Format, count), product_tiles_##suffix##_##digits, \
                 ProductArguments) {                                                    \
        product_tiles_any<Format, count>(a BLOCK_ARGUMENTS);                            \
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
