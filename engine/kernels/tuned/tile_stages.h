// The body of product_tiles for STAGED formats (tile_formats.h): digits come in stages of a few
// subtiles, sums and scales of all rows once a step, both into the half of a ring that nobody
// reads. Times are of 28672 x 4096 in Q4_K with 512 rows on an H100 80GB HBM3, driver 580.159.04,
// CUDA 13.0.
#pragma once
#include "tile_ends.h"
#include "tile_groups.h"

template <typename Format, u32 DIGITS>
struct TilesStage {
    static constexpr bool GROUPED = Tiled<Format>::GROUPED;
    // Blocks of threads on one multiprocessor. Two hide each other's waits: i8 takes 687 us with
    // two and 809 us with one. Several digits spill with registers for two (i24: 1188 us, 1301 us
    // with one and without spills), and so do two planes. Q3_K has not been measured with two.
    static constexpr u32 DENSE = GROUPED && DIGITS == 1 ? 2 : 1;
    // What fits 48 KiB beside the rest, twice.
    static constexpr u32 SUBTILES = DIGITS == 1 ? 4 : 1;
    static constexpr u32 SUBTILE = GROUPED ? GROUPS_SUBTILE : TILES_CHUNKS;
    static constexpr u32 CHUNKS = SUBTILES * DIGITS * SUBTILE;
    // Of sums, and of sums and scales: of all rows in one step.
    static constexpr u32 ROWS = TILES_SUBTILES * TILE_COLUMNS;
    static constexpr u32 SUMS = Format::HAS_MIN ? ROWS * 2 : 0, VALUES = SUMS + ROWS / 4;

    /// Where a chunk of a subtile's row lies.
    INLINE_STATIC u32 place(u32 row, u32 chunk) {
        return GROUPED ? row * GROUPS_ROW + chunk : tiles_place(row, chunk);
    }
};

/// The row of the inputs for row `local` of the block of threads; the last stands in for missing
/// ones.
INLINE u32 stages_row(const ProductArguments& a, const TilesPlace& place, u32 local) {
    const u32 row = place.first_row + local;
    return row < a.rows ? row : a.rows - 1;
}

/// Starts the copies of a step's digits, of the subtiles from `first` on.
template <typename Format, u32 DIGITS>
INLINE void stages_copy_digits(const ProductArguments& a, const TilesPlace& place, u32 step,
                               u32 first, Word4* digits) {
    typedef TilesStage<Format, DIGITS> Stage;
    const u32 local = THREAD_X / TILES_ROW_CHUNKS, chunk = THREAD_X % TILES_ROW_CHUNKS;
    Word4* to = digits + Stage::place(local, chunk);
    UNROLL
    for (u32 s = 0; s < Stage::SUBTILES; ++s) {
        if (first + s >= place.subtiles) break;
        const u32 row = stages_row(a, place, (first + s) * TILE_COLUMNS + local);
        const u64 at = (u64)row * (DIGITS * a.width) + (step * TILES_STEP + chunk * 16);
        UNROLL
        for (u32 digit = 0; digit < DIGITS; ++digit) {
            copy16(to + (s * DIGITS + digit) * Stage::SUBTILE,
                   a.digits.at(at + digit * a.width, 16));
        }
    }
}

/// Starts the copies of a step's scales, and of sums, eight of each row.
template <typename Format, u32 DIGITS>
INLINE void stages_copy_values(const ProductArguments& a, const TilesPlace& place, u32 step,
                               Word4* values) {
    typedef TilesStage<Format, DIGITS> Stage;
    const bool sums = THREAD_X < Stage::SUMS;
    const u32 local = sums ? THREAD_X / 2 : THREAD_X % Stage::ROWS;
    const u64 block = (u64)stages_row(a, place, local) * place.blocks + step;
    if (sums) {
        copy16(values + tiles_sums_place<2>(local, THREAD_X % 2),
               a.sums.at(block * 8 + THREAD_X % 2 * 4, 4));
    } else if (THREAD_X < Stage::SUMS + Stage::ROWS) {
        copy4((float*)(values + Stage::SUMS) + local, a.scales.at(block, 1));
    }
}

/// Starts the copies of a stage, which begins with subtile `first`, into `digits`.
template <typename Format, u32 DIGITS>
INLINE void stages_copy(const ProductArguments& a, const TilesPlace& place, u32 step, u32 first,
                        Word4* digits, Word4* values) {
    typedef TilesStage<Format, DIGITS> Stage;
    if (step < place.steps) {
        stages_copy_digits<Format, DIGITS>(a, place, step, first, digits);
        if (first == 0) {
            stages_copy_values<Format, DIGITS>(a, place, step, values + step % 2 * Stage::VALUES);
        }
    }
    copies_commit();
}

/// The factors of the outputs of a wave. GROUPED: a lane has the first 16 bytes of a block of one
/// of its two rows, and writes half of what is in them. Otherwise it has d.
template <typename Format>
INLINE void stages_factors(const Word4& header, float* factors) {
    typedef TilesFactors<Format> At;
    const u32 own = tiles_quarter() / 2, half = tiles_quarter() % 2;
    const u32 local = own / TILES_LANE_ROWS * TILE_ROWS + tile_a_row(0) +
                      own % TILES_LANE_ROWS * (tile_a_row(1) - tile_a_row(0));
    const u32 output = WAVE * TILES_HIGH * TILE_ROWS + local;
    if constexpr (!Tiled<Format>::GROUPED) {
        if (half == 0) factors[At::d(output)] = half_to_f32((u16)header.words[0]);
    } else {
        const u16 scale = (u16)(header.words[0] >> half * 16);
        factors[half == 0 ? At::d(output) : At::dmin(output)] = half_to_f32(scale);
        const Word4 scales = Tiled<Format>::scales(header), mins = Tiled<Format>::mins(header);
        // Both halves are there, so that no index depends on the lane.
        const u32 first = half == 0 ? scales.words[0] : scales.words[1];
        const u32 four = half == 0 ? mins.words[0] : mins.words[1];
        factors[At::scales(output) + half] = from_bits(first);
        Word2* to = (Word2*)(factors + At::mins(output) + half * 2);
        *to = {two_floats(four, 0), two_floats(four, 1)};
    }
}

/// One block joins the chunk. `sums` and `scales` are those of the subtile's rows.
template <typename Format, u32 DIGITS>
INLINE void stages_block(const TilesOperands<Tiled<Format>::PLANES>& operands,
                         const Word4* digits, const Word4* sums, const float* factors,
                         const float* scales, float (&chunk)[TILES_HIGH][TILE_SUMS]) {
    float t[TILES_HIGH][TILE_SUMS];
    if constexpr (Tiled<Format>::GROUPED) {
        const u32 output = WAVE * TILES_HIGH * TILE_ROWS + tile_sum_row(0);
        const float* groups = factors + TilesFactors<Format>::scales(output);
        groups_meet<DIGITS>(operands, digits, groups, t);
    } else {
        tiles_meet<Format, DIGITS>(operands, digits, t);
    }
    tiles_join<Format>(t, sums, factors, scales, chunk);
}

/// What a lane loads of a step's weights.
template <typename Format>
struct StagesWeights {
    TilesRaw<Format> raw;
    // As stages_factors takes it.
    Word4 header;
};
template <typename Format>
INLINE StagesWeights<Format> stages_load(const ProductArguments& a, const TilesPlace& place,
                                         u32 step) {
    // So that the addresses of rows do not take registers from one step to the next.
    TilesPlace here = place;
    here.blocks = kept_here(place.blocks);
    const TilesRows rows = tiles_rows<Format>(a, here);
    StagesWeights<Format> out;
    tiles_load<Format>(rows, step, out.raw);
    const u8* second = rows.rows[TILES_HIGH - 1][TILES_LANE_ROWS - 1];
    const u8* block = (tiles_quarter() / 2 == 0 ? rows.rows[0][0] : second) +
                      (u64)step * Format::BYTES;
    if constexpr (Tiled<Format>::GROUPED) {
        out.header = load16(block);
    } else {
        out.header.words[0] = *(const u16*)(block + Tiled<Format>::D);
    }
    return out;
}

/// The arrays are shared: digits and values two halves each, factors of one step.
template <typename Format, u32 DIGITS>
INLINE void stages_product(const ProductArguments& a, const TilesPlace& place, Word4* digits,
                           Word4* values, float* factors) {
    typedef TilesStage<Format, DIGITS> Stage;
    const bool active = place.first_output + WAVE * TILES_HIGH * TILE_ROWS < a.outputs;
    float chunk[TILES_SUBTILES][TILES_HIGH][TILE_SUMS] = {};
    float total[TILES_SUBTILES][TILES_HIGH][TILE_SUMS] = {};
    // Where nobody else uses the time in which weights come, they are loaded a step ahead.
    constexpr bool AHEAD = Stage::DENSE == 1;
    StagesWeights<Format> weights;
    if (AHEAD) weights = stages_load<Format>(a, place, place.first_step);
    u32 turn = 0;
    stages_copy<Format, DIGITS>(a, place, place.first_step, 0, digits, values);
    for (u32 step = place.first_step; step < place.steps; ++step) {
        if (!AHEAD) weights = stages_load<Format>(a, place, step);
        // A wave has its own factors; no lane reads those of the step before any more.
        wave_barrier();
        stages_factors<Format>(weights.header, factors);
        TilesOperands<Tiled<Format>::PLANES> operands;
        if constexpr (Stage::GROUPED) {
            groups_operands<Format>(weights.raw, operands);
        } else {
            tiles_operands_large<Format>(weights.raw, operands);
        }
        if (AHEAD && step + 1 < place.steps) weights = stages_load<Format>(a, place, step + 1);
        const Word4* sums = values + step % 2 * Stage::VALUES;
        const float* scales = (const float*)(sums + Stage::SUMS);
        UNROLL
        for (u32 s = 0; s < TILES_SUBTILES; ++s) {
            if (s >= place.subtiles) break;
            if (s % Stage::SUBTILES == 0) {
                copies_wait<0>();
                BARRIER();
                turn ^= 1;
                const u32 next = s + Stage::SUBTILES;
                const bool more = next < TILES_SUBTILES && next < place.subtiles;
                stages_copy<Format, DIGITS>(a, place, more ? step : step + 1, more ? next : 0,
                                            digits + turn * Stage::CHUNKS, values);
            }
            const Word4* from = digits + (turn ^ 1) * Stage::CHUNKS +
                                s % Stage::SUBTILES * DIGITS * Stage::SUBTILE;
            if (active) {
                const Word4* own = sums + s * (Stage::SUMS / TILES_SUBTILES);
                stages_block<Format, DIGITS>(operands, from, own, factors,
                                             scales + s * TILE_COLUMNS, chunk[s]);
            }
        }
        if constexpr (!Stage::GROUPED) {
            tiles_end_chunk<Format>(a, place, step, chunk, total);
        } else if ((step + 1) % tiles_chunk_steps<Format>() == 0 || step + 1 == place.steps) {
            tiles_end_chunk_in_out<Format>(a, place, step, chunk);
        }
    }
}
