// What a block of threads brings for a step of product_tiles: digits, operands, weights' floats.
#pragma once
#include "../arguments.h"
#include "tile_formats.h"

#define TILES_OUTPUTS 128u
#define TILES_SUBTILES 4u
#define TILES_STEP 256u
// Chunks of 16 bytes in one step of one row of digits, and of one subtile.
#define TILES_ROW_CHUNKS 16u
#define TILES_CHUNKS (TILE_COLUMNS * TILES_ROW_CHUNKS)
// Tiles above each other in a wave, and rows of the operands in one lane.
#define TILES_HIGH (TILES_OUTPUTS / TILE_ROWS / BLOCK_WAVES)
#define TILES_LANE_ROWS (TILE_WORDS / 2)

/// The quarter of a tile's k in this lane. Which k a word stands for is ours to choose, if it is
/// the same in both operands: here the words of a lane lie together in memory.
INLINE u32 tiles_quarter() { return tile_a_k(0) * TILE_WORDS / 16; }

/// Where chunk `chunk` of a row lies among the row's. Lanes that read at the same time are in two
/// rows beside each other, with the chunks of a piece, or in four with one pair of chunks: they
/// find them in different banks.
INLINE u32 tiles_place(u32 row, u32 chunk) {
    return row * TILES_ROW_CHUNKS + (chunk ^ row % 2 * 6 ^ (row & 2));
}

/// From the place of a chunk below 8 that of the one whose number has the bits `chunk` flipped, in
/// the lane's column `column`: eight rows further, which are placed alike. What is a constant is
/// added to the pointer, as a load has room for it.
INLINE const Word4* tiles_next(const Word4* digits, u32 place, u32 chunk, u32 column) {
    return digits + (place ^ (chunk & 7)) + ((chunk & 8) + column * 8 * TILES_ROW_CHUNKS);
}

/// Where sums 4 `piece` and on of a row of a subtile lie, of PIECES fours. Lanes that read at the
/// same time are in every second row.
template <u32 PIECES>
INLINE u32 tiles_sums_place(u32 row, u32 piece) {
    return row * PIECES + (piece ^ row * PIECES / 8 % PIECES);
}

/// Where a block of threads is. It takes the steps from `first_step` to `steps`.
struct TilesPlace {
    u32 first_output, first_row, blocks, first_step, steps, subtiles;
};

/// Steps of one chunk.
template <typename Format>
INLINE u32 tiles_chunk_steps() {
    return Format::CHUNK_BLOCKS * Format::VALUES / TILES_STEP;
}

/// The operands of a wave in one step: eight tiles' worth of k, in registers.
template <u32 PLANES>
struct TilesOperands {
    TileWords tiles[PLANES][TILES_HIGH][TILES_STEP / TILE_K];
};

/// The weight rows of a lane.
struct TilesRows {
    const u8* rows[TILES_HIGH][TILES_LANE_ROWS];
};

template <typename Format>
INLINE const u8* tiles_weights(const ProductArguments& a, const TilesPlace& place, u32 local) {
    const u64 bytes = (u64)place.blocks * Format::BYTES;
    const u32 output = place.first_output + local;
    return a.weights.at((output < a.outputs ? output : a.outputs - 1) * bytes, bytes);
}

/// Starts the copies of the digits of one step and subtile, and of the sums of a K format.
template <typename Format, u32 DIGITS>
INLINE void tiles_copy(const ProductArguments& a, const TilesPlace& place, u32 step, u32 subtile,
                       Word4* digits, Word4* sums) {
    const u32 first = place.first_row + subtile * TILE_COLUMNS;
    const u32 local = THREAD_X / TILES_ROW_CHUNKS, chunk = THREAD_X % TILES_ROW_CHUNKS;
    const u64 row = first + local < a.rows ? first + local : a.rows - 1;
    const u32 k = step * TILES_STEP + chunk * 16;
    if (step < place.steps && k < a.width) {
        UNROLL
        for (u32 digit = 0; digit < DIGITS; ++digit) {
            copy16(digits + digit * TILES_CHUNKS + tiles_place(local, chunk),
                   a.digits.at((row * DIGITS + digit) * a.width + k, 16));
        }
    }
    if constexpr (Format::HAS_MIN && Format::INTEGER_MINS) {
        constexpr u32 GROUPS = Format::VALUES / Format::GROUP, PIECES = GROUPS / 4;
        if (step < place.steps && THREAD_X < TILE_COLUMNS * PIECES) {
            const u32 column = first + THREAD_X / PIECES;
            const u64 from = column < a.rows ? column : a.rows - 1;
            const u32 piece = THREAD_X % PIECES;
            copy16(sums + tiles_sums_place<PIECES>(THREAD_X / PIECES, piece),
                   a.sums.at((from * place.blocks + step) * GROUPS + piece * 4, 4));
        }
    }
    copies_commit();
}

template <typename Format>
INLINE TilesRows tiles_rows(const ProductArguments& a, const TilesPlace& place) {
    TilesRows out;
    UNROLL
    for (u32 high = 0; high < TILES_HIGH; ++high) {
        UNROLL
        for (u32 r = 0; r < TILES_LANE_ROWS; ++r) {
            const u32 local = (WAVE * TILES_HIGH + high) * TILE_ROWS + tile_a_row(r);
            out.rows[high][r] = tiles_weights<Format>(a, place, local);
        }
    }
    return out;
}

/// What a lane has loaded of the weights of a step of a K format.
template <typename Format>
struct TilesRaw {
    u32 words[TILES_HIGH][TILES_LANE_ROWS][Tiled<Format>::RAW];
    // 2 where a block's address is no multiple of four.
    u32 odd[TILES_HIGH][TILES_LANE_ROWS];
};

/// Starts the loads of a step's weights. Blocks of 32 values are not loaded ahead.
template <typename Format>
INLINE void tiles_load(const TilesRows& rows, u32 step, TilesRaw<Format>& raw) {
    if constexpr (Format::VALUES != 32) {
        UNROLL
        for (u32 high = 0; high < TILES_HIGH; ++high) {
            UNROLL
            for (u32 r = 0; r < TILES_LANE_ROWS; ++r) {
                const u8* block = rows.rows[high][r] + (u64)step * Format::BYTES;
                raw.odd[high][r] = (u32)(u64)block & 2u;
                Tiled<Format>::load(block, tiles_quarter(), raw.words[high][r]);
            }
        }
    }
}

/// One 256-value block of every row of the wave as operands.
template <typename Format>
INLINE void tiles_operands_large(const TilesRaw<Format>& raw,
                                 TilesOperands<Tiled<Format>::PLANES>& out) {
    typedef Tiled<Format> Tile;
    const u32 quarter = tiles_quarter();
    UNROLL
    for (u32 high = 0; high < TILES_HIGH; ++high) {
        UNROLL
        for (u32 r = 0; r < TILES_LANE_ROWS; ++r) {
            const u32* words = raw.words[high][r];
            const u32 odd = raw.odd[high][r];
            const Word4 scales = Tile::scales(words, odd);
            UNROLL
            for (u32 piece = 0; piece < 4; ++piece) {
                const Word4 values = Tile::values(words, odd, piece, quarter);
                // Which word has the scale depends on the piece only.
                const u32 first = Tile::part(piece, 0) * 16 / Format::GROUP;
                const u32 group = Tile::part(piece, quarter) * 16 / Format::GROUP;
                const i32 scale = (i8)(scales.words[first / 4] >> group % 4 * 8);
                UNROLL
                for (u32 word = 0; word < 4; ++word) {
                    const u32 k = piece * 2 + word / 2, to = word % 2 * TILES_LANE_ROWS + r;
                    const Planes planes = scaled_planes(values.words[word], scale, Tile::OFFSET);
                    out.tiles[0][high][k].words[to] = planes.low;
                    if constexpr (Tile::PLANES == 2) {
                        out.tiles[1][high][k].words[to] = planes.high;
                    }
                }
            }
        }
    }
}

/// The same of up to eight blocks of 32 values.
template <typename Format>
INLINE void tiles_operands_small(const TilesRows& rows, u32 step, u32 count,
                                 TilesOperands<1>& out) {
    UNROLL
    for (u32 high = 0; high < TILES_HIGH; ++high) {
        UNROLL
        for (u32 r = 0; r < TILES_LANE_ROWS; ++r) {
            const u8* blocks = rows.rows[high][r] + (u64)step * 8 * Format::BYTES;
            UNROLL
            for (u32 k = 0; k < 8; ++k) {
                Word2 words = {};
                if (k < count) {
                    words = Tiled<Format>::weights(blocks + k * Format::BYTES, tiles_quarter());
                }
                UNROLL
                for (u32 half = 0; half < 2; ++half) {
                    out.tiles[0][high][k].words[half * TILES_LANE_ROWS + r] = words.words[half];
                }
            }
        }
    }
}

template <typename Format>
INLINE void tiles_operands(const TilesRows& rows, u32 step, u32 count,
                           const TilesRaw<Format>& raw,
                           TilesOperands<Tiled<Format>::PLANES>& out) {
    if constexpr (Format::VALUES == 32) {
        tiles_operands_small<Format>(rows, step, count, out);
    } else {
        tiles_operands_large<Format>(raw, out);
    }
}

/// Where the floats of a step's weights are: of each output d, dmin and mins, of which two share a
/// word, or eight d and m.
template <typename Format>
struct TilesFactors {
    static constexpr bool SMALL = Format::VALUES == 32;
    static constexpr u32 D = SMALL ? 8 : 1;
    static constexpr u32 MINS = !Format::HAS_MIN ? 0 : SMALL ? 8 : Format::VALUES / Format::GROUP;
    static constexpr u32 DMIN = Format::HAS_MIN && !SMALL ? 1 : 0;
    // Words of scales, four in each.
    static constexpr u32 SCALES = Tiled<Format>::GROUPED ? 2 : 0;
    static constexpr u32 MIN_WORDS = SMALL ? MINS : MINS / 2;
    static constexpr u32 ALL = TILES_OUTPUTS * (D + DMIN + MIN_WORDS + SCALES);
    // mins first, whose rows are read in fours.
    INLINE_STATIC u32 mins(u32 output) { return output * MIN_WORDS; }
    INLINE_STATIC u32 d(u32 output) { return TILES_OUTPUTS * MIN_WORDS + output * D; }
    INLINE_STATIC u32 scales(u32 output) {
        return TILES_OUTPUTS * (MIN_WORDS + D) + output * SCALES;
    }
    INLINE_STATIC u32 dmin(u32 output) {
        return TILES_OUTPUTS * (MIN_WORDS + D + SCALES) + output;
    }
};

/// Bytes 2 `i` and 2 `i` + 1 of a word as the upper halves of their floats, which have all of them:
/// half of what shared memory brings, and a float again by one instruction.
INLINE u32 two_floats(u32 bytes, u32 i) {
    const u32 low = to_bits(to_f32((i32)byte_of(bytes, i * 2)));
    return low >> 16 | to_bits(to_f32((i32)byte_of(bytes, i * 2 + 1)));
}
INLINE float one_float(u32 two, u32 i) {
    return from_bits(i % 2 == 0 ? two << 16 : two & 0xffff0000u);
}

/// Two threads an output write them.
template <typename Format>
INLINE void tiles_factors(const ProductArguments& a, const TilesPlace& place, u32 step,
                          float* factors) {
    typedef TilesFactors<Format> At;
    const u32 output = THREAD_X / 2, half = THREAD_X % 2;
    const u8* row = tiles_weights<Format>(a, place, output);
    if constexpr (At::SMALL) {
        UNROLL
        for (u32 i = half * 4; i < half * 4 + 4; ++i) {
            const u32 block = step * 8 + i;
            if (block < place.blocks) {
                const u8* at = row + (u64)block * Format::BYTES;
                factors[At::d(output) + i] = load_half(at);
                if constexpr (Format::HAS_MIN) factors[At::mins(output) + i] = load_half(at + 2);
            }
        }
    } else {
        const u8* at = row + (u64)step * Format::BYTES;
        if (half == 0) factors[At::d(output)] = load_half(at + Tiled<Format>::D);
        if constexpr (Format::HAS_MIN) {
            if (half == 1) factors[At::dmin(output)] = load_half(at + Tiled<Format>::DMIN);
            const Word4 mins = Tiled<Format>::mins(at);
            UNROLL
            for (u32 i = 0; i < At::MINS / 4; ++i) {
                // Both are there, so that no index depends on the thread.
                const u32 first = mins.words[i / 2], second = mins.words[At::MINS / 8 + i / 2];
                const u32 two = two_floats(half == 0 ? first : second, i % 2);
                factors[At::mins(output) + half * (At::MINS / 4) + i] = from_bits(two);
            }
        }
    }
}
