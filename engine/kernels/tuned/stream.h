// Products of one row, whose weights come through shared memory: what product_stream and
// product_stream_mixed have a block of threads do. CONTRACT.md section 6.
// A wave has the next weights under way to shared memory while it multiplies (streamed.h), and asks
// for the first before the launch in front of it has ended.
// A wave takes a chunk of 16 outputs at a time: its blocks are added in order by four lanes, the
// chunks in order at the end; the digits' sums are exact.
// Where a norm is given, every block of threads makes the row itself (stream_row.h), and leaves a
// part of it in memory. Where two matrices are gate and up, SwiGLU follows (stream_gate.h).
#pragma once
#include "stream_gate.h"

static_assert(STREAM_EARLY > 0, "the first stage takes the norm's weights along");

/// Where a wave is among its chunks. A block of threads takes every stride-th tile of its matrices,
/// and its waves the chunks of these tiles in turn.
template <typename Format>
struct StreamWalk {
    u32 item, chunk, block, blocks;
    const u8* weights;  // of row 0 of the tile, from block 0
    u32 rows;           // of the tile
};

template <typename Format>
INLINE u32 stream_chunks(const ProductStreamArguments& a) {
    const u32 blocks = a.width / Format::VALUES;
    return (blocks + STREAM_BLOCKS - 1) / STREAM_BLOCKS;
}

/// A tile's matrix, and its number there.
struct StreamTile {
    u32 matrix, tile;
};

/// The tile in slot `slot` of a block of threads. Gate and up take turns, so that a block has both
/// values of a column.
INLINE StreamTile stream_tile(const ProductStreamArguments& a, StreamShare share, u32 slot) {
    if (a.gated.count != 0) return {slot % 2, share.place + slot / 2 * share.stride};
    StreamTile at = {share.first, share.place + slot * share.stride};
    while (at.matrix + 1 < share.end) {
        const u32 tiles = (a.outputs[at.matrix] + STREAM_OUTPUTS - 1) / STREAM_OUTPUTS;
        if (at.tile < tiles) break;
        at.tile -= tiles;
        ++at.matrix;
    }
    return at;
}

/// Slots of a block of threads.
INLINE u32 stream_slots(const ProductStreamArguments& a, StreamShare share) {
    const u32 each = a.gated.count != 0 ? 2 : 1;
    u32 all = 0;
    for (u32 m = share.first; m < share.end; ++m) {
        all += (a.outputs[m] + STREAM_OUTPUTS - 1) / STREAM_OUTPUTS;
    }
    return (all / each - share.place + share.stride - 1) / share.stride * each;
}

/// The walk at `item`, if there is one.
template <typename Format>
INLINE void stream_enter(const ProductStreamArguments& a, StreamShare share, u32 items,
                         u32 item, StreamWalk<Format>& walk) {
    const u32 chunks = stream_chunks<Format>(a), blocks = a.width / Format::VALUES;
    walk.item = item;
    walk.block = 0;
    if (item >= items) return;
    const StreamTile at = stream_tile(a, share, item / chunks);
    walk.chunk = item % chunks;
    const u32 left = blocks - walk.chunk * STREAM_BLOCKS;
    walk.blocks = left < STREAM_BLOCKS ? left : STREAM_BLOCKS;
    const u64 row_bytes = (u64)blocks * Format::BYTES;
    const u32 output = at.tile * STREAM_OUTPUTS, rest = a.outputs[at.matrix] - output;
    walk.rows = rest < STREAM_OUTPUTS ? rest : STREAM_OUTPUTS;
    walk.weights = a.weights[at.matrix].at(output * row_bytes, walk.rows * row_bytes);
}

/// Copies up to LANES pieces of 16 bytes of every row, from `first + OFFSET` to `end`.
template <typename Format, u32 LANES, u32 OFFSET>
INLINE void stream_rows(const StreamWalk<Format>& walk, u32 row_bytes, u32 first, u32 end,
                        u8* stage) {
    constexpr u32 ROWS = WAVE_LANES / LANES, STRIDE = Streamed<Format>::STRIDE;
    const u32 row = LANE / LANES, piece = OFFSET + LANE % LANES * 16;
    const u8* source = walk.weights + ((u64)row * row_bytes + first + piece);
    // Found once: it would be found again for every copy.
    u8* const target = stage + kept_here(row * STRIDE + piece);
    // Rows past the matrix keep what is there: nobody asks for their sums.
    const u32 rows = first + piece < end && row < walk.rows ? walk.rows - row : 0;
    UNROLL
    for (u32 i = 0; i < STREAM_OUTPUTS; i += ROWS) {
        if (i < rows) copy16(target + i * STRIDE, source);
        source += (u64)ROWS * row_bytes;
    }
}

/// Starts the copies of the walk's next blocks into `stage`, and steps on.
template <typename Format>
INLINE void stream_copy(const ProductStreamArguments& a, StreamShare share, u32 items,
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
            stream_enter(a, share, items, walk.item + stream_waves(a), walk);
        }
    }
    copies_commit();
}

/// What a lane has of the chunk's blocks: a lane of four finishes one.
template <u32 DIGITS>
struct StreamOwn {
    i32 sums[2][DIGITS];  // of both rows
    StreamFloats floats;
};

/// Gives the sums of block `b`, whose columns lie in four lanes, to the one that finishes it.
template <typename Format, u32 DIGITS>
INLINE void stream_hand_over(const i32 (&sums)[4], u32 b, StreamOwn<DIGITS>& own) {
    const u32 q = stream_quarter(), quad = LANE % 32 / 4 * 4;
    UNROLL
    for (u32 r = 0; r < 2; ++r) {
        UNROLL
        for (u32 digit = 0; digit < DIGITS; ++digit) {
            const u32 sum = Streamed<Format>::PAIRED
                                ? shuffle_from((u32)sums[r], quad + digit)
                                : shuffle_from((u32)sums[r * 2 + digit % 2], quad + digit / 2);
            own.sums[r][digit] = q == b ? (i32)sum : own.sums[r][digit];
        }
    }
}

/// The chunk's sum for both rows of this lane.
template <typename Format, u32 DIGITS>
INLINE void stream_chunk(const StreamShared<Format, DIGITS>& shared, u32 first, u32 count,
                         const StreamOwn<DIGITS>& own, float* chunk) {
    const u32 q = stream_quarter(), quad = LANE % 32 / 4 * 4;
    const u32 block = first + (q < count ? q : count - 1);
    UNROLL
    for (u32 r = 0; r < 2; ++r) {
        const float t = meet<DIGITS>(own.sums[r]);
        const float scale = half_to_f32((u16)own.floats.d[r]) * shared.scales[block];
        float n = 0.0f, minus = 0.0f;
        if constexpr (Format::HAS_MIN) {
            const float* u = shared.sums + block * 8;
            UNROLL
            for (u32 g = 0; g < 8; ++g) {
                n = fma32(to_f32((i32)byte_of(own.floats.mins[r][g / 4], g % 4)), u[g], n);
            }
            minus = -half_to_f32((u16)(own.floats.d[r] >> 16));
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

/// A wave's ring of stages, and the digits of this lane's column of a tile.
struct StreamPlace {
    u8* ring;
    const i8* digits;
    StreamShare share;
    u32 items, stage;
};

/// One chunk of a tile, whose blocks come through the ring while the next ones are asked for. The
/// loop stays one: a wave has few chunks, and its code comes from memory like its weights.
template <typename Format, u32 DIGITS>
INLINE void stream_item(const ProductStreamArguments& a, const StreamShared<Format, DIGITS>& shared,
                        const StreamWalk<Format>& walk, StreamWalk<Format>& ahead,
                        StreamPlace& at) {
    typedef Streamed<Format> Stage;
    constexpr u32 STAGE_BYTES = StreamShared<Format, DIGITS>::STAGE;
    const u32 row = stream_row_of_lane(), q = stream_quarter();
    StreamOwn<DIGITS> own = {};
    ROLL
    for (u32 step = 0; step < walk.blocks; step += Stage::STEP) {
        copies_wait<Stage::STAGES - 1>();
        wave_barrier();
        u8* const bytes = at.ring + at.stage * STAGE_BYTES;
        const u32 first = walk.chunk * STREAM_BLOCKS + step;
        const u8* one = bytes + first * Format::BYTES % 16 + row * Stage::STRIDE;
        const u32 left = walk.blocks - step, count = left < Stage::STEP ? left : Stage::STEP;
        ROLL
        for (u32 b = 0; b < count; ++b, one += Format::BYTES) {
            const u8* two = one + 8 * Stage::STRIDE;
            const u32 block = first + b;
            const i8* digits = at.digits + block * Format::VALUES;
            if constexpr (DIGITS == 1 && Stage::HAS_ONE) {
                i32 sums[2];
                Stage::sums_of_one(one, two, digits, sums);
                UNROLL
                for (u32 r = 0; r < 2; ++r) {
                    own.sums[r][0] = q == step + b ? sums[r] : own.sums[r][0];
                }
            } else {
                i32 sums[4] = {};
                Stage::sums(one, two, digits, sums);
                stream_hand_over<Format, DIGITS>(sums, step + b, own);
            }
            if (q == step + b) {
                Stage::keep(one, 0, own.floats);
                Stage::keep(two, 1, own.floats);
            }
        }
        wave_barrier();
        stream_copy(a, at.share, at.items, ahead, bytes);
        at.stage = at.stage + 1 < Stage::STAGES ? at.stage + 1 : 0;
    }
    float chunk[2];
    stream_chunk<Format, DIGITS>(shared, walk.chunk * STREAM_BLOCKS, walk.blocks, own, chunk);
    if (q == 0) {
        float* out = shared.chunks + walk.item * STREAM_OUTPUTS + row;
        out[0] = chunk[0];
        out[8] = chunk[1];
    }
}

/// The chunks of every output in order, and SwiGLU of two that belong together.
template <typename Format, u32 DIGITS>
INLINE void stream_totals(const ProductStreamArguments& a,
                          const StreamShared<Format, DIGITS>& shared, StreamShare share,
                          u32 slots) {
    const u32 chunks = stream_chunks<Format>(a), each = a.gated.count != 0 ? 2 : 1;
    for (u32 i = THREAD_X; i < slots / each * STREAM_OUTPUTS; i += a.threads) {
        const u32 first = i / STREAM_OUTPUTS * each, row = i % STREAM_OUTPUTS;
        float gate = 0.0f;
        ROLL
        for (u32 slot = first; slot < first + each; ++slot) {
            const StreamTile at = stream_tile(a, share, slot);
            const u32 output = at.tile * STREAM_OUTPUTS + row;
            float total = 0.0f;
            UNROLL_4
            for (u32 chunk = 0; chunk < chunks; ++chunk) {
                total = total + shared.chunks[(slot * chunks + chunk) * STREAM_OUTPUTS + row];
            }
            if (output < a.outputs[at.matrix]) a.out[at.matrix][output] = total;
            if (slot > first) a.gated[output] = swiglu32(gate, total);
            gate = total;
        }
    }
}

/// What a block of threads does.
template <typename Format, u32 DIGITS>
INLINE void stream_products(const ProductStreamArguments& a, StreamShare share) {
    typedef StreamShared<Format, DIGITS> Shared;
    constexpr u32 STAGES = Streamed<Format>::STAGES;
    SHARED_POOL(pool);
    const u32 slots = stream_slots(a, share), items = slots * stream_chunks<Format>(a);
    Shared shared;
    shared.place(pool, a, slots);
    const bool has_norm = a.norm.count != 0;
    if (has_norm) stream_weights(a, shared);
    u8* const ring = shared.ring + kept_here(WAVE * STAGES * Shared::STAGE);
    StreamPlace at = {ring, nullptr, share, items, 0};
    StreamWalk<Format> ahead = {};
    stream_enter(a, share, items, WAVE, ahead);
    StreamWalk<Format> walk = ahead;
    ROLL
    for (u32 s = 0; s < STAGES; ++s) {
        if (s == STREAM_EARLY) {
            inputs_ready();
            // The row first, which everything waits for.
            if (has_norm) {
                stream_row<Format, DIGITS>(a, shared, share);
            } else {
                stream_activation<Format, DIGITS>(a, shared);
            }
        }
        stream_copy(a, share, items, ahead, at.ring + s * Shared::STAGE);
    }
    copies_wait<STAGES - STREAM_EARLY>();
    BARRIER();
    if (has_norm) stream_norm<Format, DIGITS>(a, shared, share);
    const u32 column = LANE % 32 / 4, own = Streamed<Format>::PAIRED ? column / 2 : column;
    const u32 plane = own < DIGITS ? own : 0;
    at.digits = shared.digits + plane * (a.width + 32) + stream_quarter() * 8;
    while (walk.item < items) {
        // Not before the end: what the launch behind asks for early stands in line before this.
        if (walk.item + stream_waves(a) >= items) next_may_begin();
        stream_item<Format, DIGITS>(a, shared, walk, ahead, at);
        stream_enter(a, share, items, walk.item + stream_waves(a), walk);
    }
    BARRIER();
    stream_totals<Format, DIGITS>(a, shared, share, slots);
    if (a.gated.count != 0) stream_gate<DIGITS>(a, share.place, slots / 2, (u32*)shared.chunks);
}
