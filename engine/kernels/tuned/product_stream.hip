// product_stream: out[output] = weights[output] . x for one row, up to three matrices in one launch,
// for memory that is faster than registers can be filled. Replaces product. CONTRACT.md section 6.
// Grid: x = blocks of threads that share the tiles of 16 outputs, at most as many as run at once.
// A wave has the next blocks of weights under way to shared memory while it multiplies (streamed.h),
// and asks for the first before the launch in front of it has ended.
// A wave takes a chunk of 16 outputs at a time: its blocks are added in order by four lanes, the
// chunks in order at the end; the digits' sums are exact.
#include "few_rows.h"
#include "streamed.h"

/// Where a wave is among its chunks. The block takes every stride-th tile, its waves every eighth of
/// the tiles' chunks.
template <typename Format>
struct StreamWalk {
    u32 item, chunk, block, blocks;
    const u8* weights;  // of row 0 of the tile, from block 0
    u32 last_row;       // of the tile
};

template <typename Format>
INLINE u32 stream_chunks(const ProductWaveArguments& a) {
    const u32 blocks = a.width / Format::VALUES;
    return (blocks + STREAM_BLOCKS - 1) / STREAM_BLOCKS;
}

/// Which matrix a tile is in; `tile` becomes its number there.
INLINE u32 stream_matrix(const ProductWaveArguments& a, u32& tile) {
    u32 matrix = 0;
    while (matrix + 1 < WAVE_MATRICES) {
        const u32 tiles = (a.outputs[matrix] + STREAM_OUTPUTS - 1) / STREAM_OUTPUTS;
        if (tile < tiles) break;
        tile -= tiles;
        ++matrix;
    }
    return matrix;
}

/// The walk at `item`, if there is one.
template <typename Format>
INLINE void stream_enter(const ProductWaveArguments& a, u32 first_tile, u32 items, u32 item,
                         StreamWalk<Format>& walk) {
    const u32 chunks = stream_chunks<Format>(a), blocks = a.width / Format::VALUES;
    walk.item = item;
    walk.block = 0;
    if (item >= items) return;
    u32 tile = first_tile + item / chunks * a.stride;
    walk.chunk = item % chunks;
    const u32 left = blocks - walk.chunk * STREAM_BLOCKS;
    walk.blocks = left < STREAM_BLOCKS ? left : STREAM_BLOCKS;
    const u32 matrix = stream_matrix(a, tile);
    const u64 row_bytes = (u64)blocks * Format::BYTES;
    const u32 output = tile * STREAM_OUTPUTS, rest = a.outputs[matrix] - output;
    const u32 rows = rest < STREAM_OUTPUTS ? rest : STREAM_OUTPUTS;
    walk.weights = a.weights[matrix].at(output * row_bytes, rows * row_bytes);
    walk.last_row = rows - 1;
}

/// Copies up to LANES pieces of 16 bytes of every row, from `first + OFFSET` to `end`.
template <typename Format, u32 LANES, u32 OFFSET>
INLINE void stream_rows(const StreamWalk<Format>& walk, u32 row_bytes, u32 first, u32 end,
                        u8* stage) {
    constexpr u32 ROWS = WAVE_LANES / LANES, STRIDE = Streamed<Format>::STRIDE;
    const u32 row = LANE / LANES, piece = OFFSET + LANE % LANES * 16;
    const u8* source = walk.weights + ((u64)row * row_bytes + first + piece);
    u8* target = stage + row * STRIDE + piece;
    const bool inside = first + piece < end;
    UNROLL
    for (u32 i = 0; i < STREAM_OUTPUTS; i += ROWS) {
        // Rows past the matrix keep what is there: nobody asks for their sums.
        if (inside && i + row <= walk.last_row) copy16(target + i * STRIDE, source);
        source += (u64)ROWS * row_bytes;
    }
}

/// Starts the copies of the walk's next blocks into `stage`, and steps on.
template <typename Format>
INLINE void stream_copy(const ProductWaveArguments& a, u32 first_tile, u32 items,
                        StreamWalk<Format>& walk, u8* stage) {
    if (walk.item < items) {
        const u32 row_bytes = a.width / Format::VALUES * Format::BYTES;
        const u32 left = walk.blocks - walk.block;
        const u32 count = left < Streamed<Format>::STEP ? left : Streamed<Format>::STEP;
        // Whole pieces of 16 bytes; what blocks begin and end with in the middle of one is of the
        // same row, whose length is a multiple of 16.
        const u32 start = (walk.chunk * STREAM_BLOCKS + walk.block) * Format::BYTES;
        const u32 end = start + count * Format::BYTES, first = start / 16 * 16;
        // Sixteen lanes a row, and as many as are needed for the rest of each row.
        constexpr u32 PIECES =
            (Streamed<Format>::STEP * Format::BYTES + Streamed<Format>::SKIP + 15) / 16;
        stream_rows<Format, 16, 0>(walk, row_bytes, first, end, stage);
        if constexpr (PIECES > 16) {
            constexpr u32 REST = PIECES - 16;
            constexpr u32 LANES = REST <= 2 ? 2 : REST <= 4 ? 4 : REST <= 8 ? 8 : 16;
            static_assert(REST <= LANES, "a row is copied in two runs");
            stream_rows<Format, LANES, 256>(walk, row_bytes, first, end, stage);
        }
        walk.block += count;
        if (walk.block == walk.blocks) {
            stream_enter(a, first_tile, items, walk.item + WIDE_WAVES, walk);
        }
    }
    copies_commit();
}

/// The shared memory of a block, in this order.
template <typename Format, u32 DIGITS>
struct StreamShared {
    static constexpr u32 GROUPS = Format::HAS_MIN ? Format::VALUES / Format::GROUP : 0;
    static constexpr u32 STAGE = STREAM_OUTPUTS * Streamed<Format>::STRIDE;
    u8* ring;      // [waves][STAGES][16 rows][STRIDE]
    i8* digits;    // [DIGITS][width + 32]: a column's digits lie in other banks than its neighbour's
    float* scales; // [blocks], padded to four
    float* sums;   // [blocks][GROUPS]
    i32* starts;   // [blocks][8 tiles][8 columns], where groups are paired
    float* chunks; // [tiles of the block][chunks][16]

    template <typename Pool>
    INLINE_MEMBER void place(Pool& pool, u32 bytes, u32 width, u32 tiles) {
        const u32 blocks = width / Format::VALUES, padded = (blocks + 3) / 4 * 4;
        const u32 ring_bytes = WIDE_WAVES * Streamed<Format>::STAGES * STAGE;
        const u32 digit_bytes = DIGITS * (width + 32);
        u32 at = 0;
        ring = pool_at(pool, bytes, at, ring_bytes), at += ring_bytes;
        digits = (i8*)pool_at(pool, bytes, at, digit_bytes), at += digit_bytes;
        scales = (float*)pool_at(pool, bytes, at, padded * 4), at += padded * 4;
        sums = (float*)pool_at(pool, bytes, at, blocks * GROUPS * 4), at += blocks * GROUPS * 4;
        const u32 start_bytes = Streamed<Format>::PAIRED ? blocks * STREAM_TILES * 32 : 0;
        starts = (i32*)pool_at(pool, bytes, at, start_bytes), at += start_bytes;
        const u32 chunk_count = (blocks + STREAM_BLOCKS - 1) / STREAM_BLOCKS;
        chunks = (float*)pool_at(pool, bytes, at, tiles * chunk_count * STREAM_OUTPUTS * 4);
    }
};

/// Starts the copies of the activation row to shared memory.
template <typename Format, u32 DIGITS>
INLINE void stream_activation(const ProductWaveArguments& a,
                              const StreamShared<Format, DIGITS>& shared) {
    const u32 blocks = a.width / Format::VALUES, pieces = a.width / 16;
    for (u32 i = THREAD_X; i < DIGITS * pieces; i += WIDE_THREADS) {
        const u32 digit = i / pieces, k = i % pieces * 16;
        copy16(shared.digits + digit * (a.width + 32) + k, a.digits.at(digit * a.width + k, 16));
    }
    constexpr u32 GROUPS = StreamShared<Format, DIGITS>::GROUPS;
    for (u32 i = THREAD_X; i < blocks * GROUPS / 4; i += WIDE_THREADS) {
        copy16(shared.sums + i * 4, a.sums.at(i * 4, 4));
    }
    for (u32 i = THREAD_X; i < blocks; i += WIDE_THREADS) {
        copy4(shared.scales + i, a.scales.at(i, 1));
    }
    copies_commit();
}

/// What a tile's sums begin with, where its weights are taken without their offset.
template <typename Format, u32 DIGITS>
INLINE void stream_starts(u32 width, const StreamShared<Format, DIGITS>& shared) {
    if constexpr (Streamed<Format>::PAIRED) {
        const u32 count = width / Format::VALUES * STREAM_TILES * STREAM_COLUMNS;
        for (u32 i = THREAD_X; i < count; i += WIDE_THREADS) {
            const u32 tile = i / STREAM_COLUMNS, column = i % STREAM_COLUMNS;
            i32 sum = 0;
            if (column < 2 * DIGITS) {
                const u32 k = tile * TILE_K + column / DIGITS * 16;
                const Word4 words = load16(shared.digits + column % DIGITS * (width + 32) + k);
                for (u32 word : words.words) sum = dot4(word, 0x01010101u, sum);
            }
            shared.starts[i] = -32 * sum;
        }
        BARRIER();
    }
}

/// The chunk's sum for both rows of this lane, from the sums of its blocks; a lane of four finishes
/// one block.
template <typename Format, u32 DIGITS>
INLINE void stream_chunk(const StreamShared<Format, DIGITS>& shared, u32 first, u32 count,
                         const i32 (&sums)[STREAM_BLOCKS][4], const StreamFloats& floats,
                         float* chunk) {
    const u32 q = stream_quarter(), quad = LANE % 32 / 4 * 4;
    i32 own[2][DIGITS] = {};
    UNROLL
    for (u32 b = 0; b < STREAM_BLOCKS; ++b) {
        UNROLL
        for (u32 r = 0; r < 2; ++r) {
            UNROLL
            for (u32 digit = 0; digit < DIGITS; ++digit) {
                u32 sum = shuffle_from((u32)sums[b][r * 2 + digit % 2], quad + digit / 2);
                if constexpr (Streamed<Format>::PAIRED) {
                    const u32 other = digit + DIGITS;
                    sum += shuffle_from((u32)sums[b][r * 2 + other % 2], quad + other / 2);
                }
                own[r][digit] = q == b ? (i32)sum : own[r][digit];
            }
        }
    }
    const u32 block = first + (q < count ? q : count - 1);
    UNROLL
    for (u32 r = 0; r < 2; ++r) {
        const float t = meet<DIGITS>(own[r]);
        const float scale = half_to_f32((u16)floats.d[r]) * shared.scales[block];
        float n = 0.0f, minus = 0.0f;
        if constexpr (Format::HAS_MIN) {
            const float* u = shared.sums + block * 8;
            UNROLL
            for (u32 g = 0; g < 8; ++g) {
                n = fma32(to_f32((i32)byte_of(floats.mins[r][g / 4], g % 4)), u[g], n);
            }
            minus = -half_to_f32((u16)(floats.d[r] >> 16));
        }
        float sum = 0.0f;
        UNROLL
        for (u32 b = 0; b < STREAM_BLOCKS; ++b) {
            float next = fma32(scale, t, sum);
            if constexpr (Format::HAS_MIN) next = fma32(minus, n, next);
            next = shuffle_from(next, quad + b);
            sum = b < count ? next : sum;
        }
        chunk[r] = sum;
    }
}

template <typename Format, u32 DIGITS>
INLINE void product_stream(const ProductWaveArguments& a, u32 place) {
    typedef StreamShared<Format, DIGITS> Shared;
    constexpr u32 STAGES = Streamed<Format>::STAGES;
    SHARED_POOL(pool);
    next_may_begin();
    u32 all = 0;
    for (u32 m = 0; m < WAVE_MATRICES; ++m) {
        all += (a.outputs[m] + STREAM_OUTPUTS - 1) / STREAM_OUTPUTS;
    }
    const u32 tiles = (all - place + a.stride - 1) / a.stride;
    const u32 chunks = stream_chunks<Format>(a), items = tiles * chunks;
    Shared shared;
    shared.place(pool, a.pool_bytes, a.width, tiles);
    u8* const ring = shared.ring + WAVE * STAGES * Shared::STAGE;
    StreamWalk<Format> ahead = {}, walk = {};
    stream_enter(a, place, items, WAVE, ahead);
    stream_enter(a, place, items, WAVE, walk);
    for (u32 s = 0; s < STREAM_EARLY; ++s) stream_copy(a, place, items, ahead, ring + s * Shared::STAGE);
    inputs_ready();
    // The activation first, which everything waits for.
    stream_activation<Format, DIGITS>(a, shared);
    for (u32 s = STREAM_EARLY; s < STAGES; ++s) {
        stream_copy(a, place, items, ahead, ring + s * Shared::STAGE);
    }
    copies_wait<STAGES - STREAM_EARLY>();
    BARRIER();
    stream_starts<Format, DIGITS>(a.width, shared);
    const u32 row = stream_row(), q = stream_quarter(), column = LANE % 32 / 4;
    const u32 planes = Streamed<Format>::PAIRED ? 2 * DIGITS : DIGITS;
    const u32 plane = column < planes ? column % DIGITS : 0;
    const i8* const digits = shared.digits + plane * (a.width + 32) + q * 8;
    u32 stage = 0;
    while (walk.item < items) {
        i32 sums[STREAM_BLOCKS][4] = {};
        StreamFloats floats = {};
        UNROLL
        for (u32 step = 0; step < STREAM_BLOCKS; step += Streamed<Format>::STEP) {
            if (step >= walk.blocks) break;
            copies_wait<STAGES - 1>();
            wave_barrier();
            u8* const bytes = ring + stage * Shared::STAGE;
            const u32 first = walk.chunk * STREAM_BLOCKS + step;
            const u8* one = bytes + first * Format::BYTES % 16 + row * Streamed<Format>::STRIDE;
            UNROLL
            for (u32 b = 0; b < Streamed<Format>::STEP; ++b, one += Format::BYTES) {
                if (step + b >= walk.blocks) break;
                const u8* two = one + 8 * Streamed<Format>::STRIDE;
                const u32 block = first + b;
                Streamed<Format>::sums(one, two, digits + block * Format::VALUES, DIGITS,
                                       shared.starts + block * (STREAM_TILES * STREAM_COLUMNS),
                                       sums[step + b]);
                if (q == step + b) {
                    Streamed<Format>::keep(one, 0, floats);
                    Streamed<Format>::keep(two, 1, floats);
                }
            }
            wave_barrier();
            stream_copy(a, place, items, ahead, bytes);
            stage = stage + 1 < STAGES ? stage + 1 : 0;
        }
        float chunk[2];
        stream_chunk<Format, DIGITS>(shared, walk.chunk * STREAM_BLOCKS, walk.blocks, sums, floats,
                                     chunk);
        if (q == 0) {
            float* out = shared.chunks + walk.item * STREAM_OUTPUTS + row;
            out[0] = chunk[0];
            out[8] = chunk[1];
        }
        stream_enter(a, place, items, walk.item + WIDE_WAVES, walk);
    }
    BARRIER();
    for (u32 i = THREAD_X; i < tiles * STREAM_OUTPUTS; i += WIDE_THREADS) {
        u32 tile = place + i / STREAM_OUTPUTS * a.stride;
        const u32 matrix = stream_matrix(a, tile);
        const u32 output = tile * STREAM_OUTPUTS + i % STREAM_OUTPUTS;
        float total = 0.0f;
        for (u32 chunk = 0; chunk < chunks; ++chunk) {
            const u32 item = i / STREAM_OUTPUTS * chunks + chunk;
            total = total + shared.chunks[item * STREAM_OUTPUTS + i % STREAM_OUTPUTS];
        }
        if (output < a.outputs[matrix]) a.out[matrix][output] = total;
    }
}

#define PRODUCT_STREAM(suffix, Format) PRODUCT_STREAM_OF(suffix, Format)
#define PRODUCT_STREAM_OF(suffix, Format)                        \
    PRODUCT_STREAM_WITH(product_stream_##suffix##_i8, Format, 1)   \
    PRODUCT_STREAM_WITH(product_stream_##suffix##_i16, Format, 2)  \
    PRODUCT_STREAM_WITH(product_stream_##suffix##_i24, Format, 3)
#define PRODUCT_STREAM_WITH(name, Format, digits)          \
    KERNEL_WIDE(name, ProductWaveArguments) {              \
        product_stream<Format, digits>(a, BLOCK_X); \
    }

#if defined(LOCKSTEP_FORMAT)
PRODUCT_STREAM(LOCKSTEP_SUFFIX, LOCKSTEP_FORMAT)
#else
PRODUCT_STREAM(q4_k, Q4_K)
PRODUCT_STREAM(q5_k, Q5_K)
PRODUCT_STREAM(q6_k, Q6_K)
#endif
