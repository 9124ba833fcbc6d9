// The body of product_tiles for GROUPED formats (tile_formats.h): weights without their scales are
// operands, one plane of them, and the sum of each group meets its scale as an integer.
//
// Digits come in stages of a few subtiles, sums and scales of all rows once a step, both into the
// half of a ring that nobody reads. Times are of 28672 x 4096 in Q4_K with 512 rows on an H100 80GB
// HBM3, driver 580.159.04, CUDA 13.0.
#pragma once
#include "tile_sums.h"

// Chunks of 16 bytes from row to row of the digits of a step, and of one subtile. Lanes that read
// at the same time, 32 bytes of four rows, find them in different banks, and what a lane reads lies
// at constant distances.
#define GROUPS_ROW (TILES_ROW_CHUNKS + 2)
#define GROUPS_SUBTILE (TILE_COLUMNS * GROUPS_ROW)

template <u32 DIGITS>
struct GroupsStage {
    // Blocks of threads on one multiprocessor. Two hide each other's waits: i8 takes 687 us with
    // two and 809 us with one. Several digits spill with registers for two (i24: 1188 us, 1301 us
    // with one and without spills).
    static constexpr u32 DENSE = DIGITS == 1 ? 2 : 1;
    // What fits 48 KiB beside the rest, twice.
    static constexpr u32 SUBTILES = DIGITS == 1 ? 4 : 1;
    static constexpr u32 CHUNKS = SUBTILES * DIGITS * GROUPS_SUBTILE;
    // Of sums, and of sums and scales: of all rows in one step.
    static constexpr u32 ROWS = TILES_SUBTILES * TILE_COLUMNS;
    static constexpr u32 SUMS = ROWS * 2, VALUES = SUMS + ROWS / 4;
};

/// The row of the inputs for row `local` of the block of threads; the last stands in for missing
/// ones.
INLINE u32 groups_row(const ProductArguments& a, const TilesPlace& place, u32 local) {
    const u32 row = place.first_row + local;
    return row < a.rows ? row : a.rows - 1;
}

/// Starts the copies of a step's digits, of the subtiles from `first` on.
template <u32 DIGITS>
INLINE void groups_copy_digits(const ProductArguments& a, const TilesPlace& place, u32 step,
                               u32 first, Word4* digits) {
    const u32 local = THREAD_X / TILES_ROW_CHUNKS, chunk = THREAD_X % TILES_ROW_CHUNKS;
    Word4* to = digits + local * GROUPS_ROW + chunk;
    UNROLL
    for (u32 s = 0; s < GroupsStage<DIGITS>::SUBTILES; ++s) {
        if (first + s >= place.subtiles) break;
        const u32 row = groups_row(a, place, (first + s) * TILE_COLUMNS + local);
        const u64 at = (u64)row * (DIGITS * a.width) + (step * TILES_STEP + chunk * 16);
        UNROLL
        for (u32 digit = 0; digit < DIGITS; ++digit) {
            copy16(to + (s * DIGITS + digit) * GROUPS_SUBTILE,
                   a.digits.at(at + digit * a.width, 16));
        }
    }
}

/// Starts the copies of a step's sums, eight of each row, and scales.
template <u32 DIGITS>
INLINE void groups_copy_values(const ProductArguments& a, const TilesPlace& place, u32 step,
                               Word4* values) {
    typedef GroupsStage<DIGITS> Stage;
    const bool sums = THREAD_X < Stage::SUMS;
    const u32 local = sums ? THREAD_X / 2 : THREAD_X % Stage::ROWS;
    const u64 block = (u64)groups_row(a, place, local) * place.blocks + step;
    if (sums) {
        copy16(values + tiles_sums_place<2>(local, THREAD_X % 2),
               a.sums.at(block * 8 + THREAD_X % 2 * 4, 4));
    } else if (THREAD_X < Stage::SUMS + Stage::ROWS) {
        copy4((float*)(values + Stage::SUMS) + local, a.scales.at(block, 1));
    }
}

/// Starts the copies of a stage, which begins with subtile `first`, into `digits`.
template <u32 DIGITS>
INLINE void groups_copy(const ProductArguments& a, const TilesPlace& place, u32 step, u32 first,
                        Word4* digits, Word4* values) {
    typedef GroupsStage<DIGITS> Stage;
    if (step < place.steps) {
        groups_copy_digits<DIGITS>(a, place, step, first, digits);
        if (first == 0) {
            groups_copy_values<DIGITS>(a, place, step, values + step % 2 * Stage::VALUES);
        }
    }
    copies_commit();
}

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

/// The factors of the outputs of a wave: a lane has the first 16 bytes of a block of one of its two
/// rows, and writes half of what is in them.
template <typename Format>
INLINE void groups_factors(const Word4& header, float* factors) {
    typedef TilesFactors<Format> At;
    const u32 own = tiles_quarter() / 2, half = tiles_quarter() % 2;
    const u32 local = own / TILES_LANE_ROWS * TILE_ROWS + tile_a_row(0) +
                      own % TILES_LANE_ROWS * (tile_a_row(1) - tile_a_row(0));
    const u32 output = WAVE * TILES_HIGH * TILE_ROWS + local;
    const u16 scale = (u16)(header.words[0] >> half * 16);
    factors[half == 0 ? At::d(output) : At::dmin(output)] = half_to_f32(scale);
    const Word4 scales = Tiled<Format>::scales(header), mins = Tiled<Format>::mins(header);
    // Both halves are there, so that no index depends on the lane.
    factors[At::scales(output) + half] = from_bits(half == 0 ? scales.words[0] : scales.words[1]);
    const u32 four = half == 0 ? mins.words[0] : mins.words[1];
    *(Word2*)(factors + At::mins(output) + half * 2) = {two_floats(four, 0), two_floats(four, 1)};
}

// Unrolled, a digit's loads overlap the products of the one before (i24 with two blocks of threads:
// 1255 us, 1487 us rolled). AMD's compiler has no scalar registers for that.
#if defined(__HIP__)
#define EACH_DIGIT ROLL
#else
#define EACH_DIGIT UNROLL
#endif

/// T of section 6: the sums of the groups, one tile each, meet their scales as integers; all fit
/// i32. `digits` are the subtile's, `lane` is where in them the lane's pair of words of group 0
/// lies, `scales` are those of the lane's first sum.
template <u32 DIGITS>
INLINE void groups_meet(const TilesOperands<1>& operands, const Word4* digits, u32 lane,
                        const float* scales, float (&t)[TILES_HIGH][TILE_SUMS]) {
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

/// One block joins the chunk. `sums` and `scales` are those of the subtile's rows.
template <typename Format, u32 DIGITS>
INLINE void groups_block(const TilesOperands<1>& operands, const Word4* digits, u32 lane,
                         const Word4* sums, const float* factors, const float* scales,
                         float (&chunk)[TILES_HIGH][TILE_SUMS]) {
    typedef TilesFactors<Format> At;
    const u32 output = WAVE * TILES_HIGH * TILE_ROWS + tile_sum_row(0);
    float t[TILES_HIGH][TILE_SUMS] = {};
    groups_meet<DIGITS>(operands, digits, lane, factors + At::scales(output), t);
    tiles_join<Format>(t, sums, factors, scales, chunk);
}

/// The end of a chunk: it joins the total in out, or is stored where chunks are added later. The
/// total would cost registers in every step, and is wanted once in four.
template <typename Format>
INLINE void groups_end_chunk(const ProductArguments& a, const TilesPlace& place, u32 step,
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

/// What a lane loads of a step's weights.
template <typename Format>
struct GroupsWeights {
    TilesRaw<Format> raw;
    Word4 header;
};
template <typename Format>
INLINE GroupsWeights<Format> groups_load(const ProductArguments& a, const TilesPlace& place,
                                         u32 step) {
    // So that the addresses of rows do not take registers from one step to the next.
    TilesPlace here = place;
    here.blocks = kept_here(place.blocks);
    const TilesRows rows = tiles_rows<Format>(a, here);
    GroupsWeights<Format> out;
    tiles_load<Format>(rows, step, out.raw);
    const u8* second = rows.rows[TILES_HIGH - 1][TILES_LANE_ROWS - 1];
    const u8* headers = tiles_quarter() / 2 == 0 ? rows.rows[0][0] : second;
    out.header = load16(headers + (u64)step * Format::BYTES);
    return out;
}

/// The arrays are shared: digits and values two halves each, factors of one step.
template <typename Format, u32 DIGITS>
INLINE void groups_product(const ProductArguments& a, const TilesPlace& place, Word4* digits,
                           Word4* values, float* factors) {
    typedef GroupsStage<DIGITS> Stage;
    const bool active = place.first_output + WAVE * TILES_HIGH * TILE_ROWS < a.outputs;
    const u32 lane = tile_b_column(0) * GROUPS_ROW * 2 + tiles_quarter();
    float chunk[TILES_SUBTILES][TILES_HIGH][TILE_SUMS] = {};
    // Where nobody else uses the time in which weights come, they are loaded a step ahead.
    constexpr bool AHEAD = Stage::DENSE == 1;
    GroupsWeights<Format> weights;
    if (AHEAD) weights = groups_load<Format>(a, place, place.first_step);
    u32 turn = 0;
    groups_copy<DIGITS>(a, place, place.first_step, 0, digits, values);
    for (u32 step = place.first_step; step < place.steps; ++step) {
        if (!AHEAD) weights = groups_load<Format>(a, place, step);
        // A wave has its own factors; no lane reads those of the step before any more.
        wave_barrier();
        groups_factors<Format>(weights.header, factors);
        TilesOperands<1> operands;
        groups_operands<Format>(weights.raw, operands);
        if (AHEAD && step + 1 < place.steps) weights = groups_load<Format>(a, place, step + 1);
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
                groups_copy<DIGITS>(a, place, more ? step : step + 1, more ? next : 0,
                                    digits + turn * Stage::CHUNKS, values);
            }
            const Word4* from = digits + (turn ^ 1) * Stage::CHUNKS +
                                s % Stage::SUBTILES * DIGITS * GROUPS_SUBTILE;
            if (active) {
                groups_block<Format, DIGITS>(operands, from, lane, sums + s * TILE_COLUMNS * 2,
                                             factors, scales + s * TILE_COLUMNS, chunk[s]);
            }
        }
        if ((step + 1) % tiles_chunk_steps<Format>() == 0 || step + 1 == place.steps) {
            groups_end_chunk<Format>(a, place, step, chunk);
        }
    }
}
