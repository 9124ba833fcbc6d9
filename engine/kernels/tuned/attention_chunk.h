// attention_split's part for one chunk of 64 positions: steps 1 and 2 of CONTRACT.md section 10.
// Keys and values come to registers together and go to shared memory one after the other.
// Dot products in order of d, l and a in order of position, accumulators f32.
#pragma once
#include "attention_parts.h"
#include "fixed_point.h"

// Values of the cache that shared memory holds: 64 positions of 128 dimensions.
#define STAGE_VALUES 8192u
#define STAGE_DIMENSIONS 128u
#define STAGE_HEADS 8u
// The largest head.
#define HEAD_VALUES 256u
// Rows of a launch.
#define SPLIT_ROWS 2u

template <typename Element>
struct AttentionSplitArguments {
    Span<const float> q;       // [rows][heads][head_size]; rotated where there is no k
    Span<const float> k;       // [rows][kv_heads][head_size], or empty: the cache has it
    Span<const float> v;
    Span<const float> cosine;  // [context][rotated / 2]
    Span<const float> sine;
    Span<float> q_rope;        // [rows][heads][head_size]
    Span<float> k_rope;        // [rows][kv_heads][head_size]
    Span<Element> keys;        // one layer: [kv_heads][context / 64][head_size][64]
    Span<Element> values;      // one layer: [kv_heads][context][head_size]
    Span<float> maxima;        // [rows][heads][chunks]: m of every chunk
    Span<float> totals;        // [rows][heads][chunks]: l
    Span<float> sums;          // [rows][heads][chunks][head_size]: a
    Span<u32> arrivals;        // [rows][slices]: zeros before and after
    Span<float> out;           // [rows][heads][head_size]
    Span<const u32> position;  // [1], of row 0
    FixedPointOut fixed;       // a row being all heads; nothing where digit_count is 0
    u32 heads, kv_heads, head_size, rotated, rows, context, chunks;
    u32 stride;                // chunks that are in hand at once
    float scale;               // 1 / sqrt(head_size): one rounding each, the same on the host
    u32 head_inverse;          // 2^32 / head_size, rounded up
};

/// index / head_size, for an index below 2^24.
template <typename Arguments>
INLINE u32 head_of(const Arguments& a, u32 index) {
    return (u32)(((u64)index * a.head_inverse) >> 32);
}

/// The shared memory of a block.
struct SplitShared {
    float* stage;    // STAGE_VALUES of the cache; what joins chunks begins here
    float* queries;  // [heads in hand][head_size]
    float* weights;  // [heads in hand][64]
    float* fresh;    // [rows][k, v][head_size]: what this launch adds to the cache, as it is there
};

/// One thread's share of a stage, on its way from memory.
template <typename Element>
struct StageShare {
    static constexpr u32 VALUES = 16 / sizeof(Element);
    static constexpr u32 PIECES = STAGE_VALUES / VALUES / BLOCK_THREADS;
    Word4 pieces[PIECES];

    /// Of each 64 values the first `used`: positions of a dimension, or all.
    INLINE_MEMBER void load(const Element* source, u32 values, u32 used) {
        UNROLL for (u32 i = 0; i < PIECES; ++i) {
            const u32 value = (THREAD_X + i * BLOCK_THREADS) * VALUES;
            // Without a condition, so that no register outlives the share.
            const bool counts = value < values && value % CHUNK_KEYS < used;
            pieces[i] = load16(source + (counts ? value : 0));
        }
    }
    INLINE_MEMBER void store(float* stage, u32 values) const {
        UNROLL for (u32 i = 0; i < PIECES; ++i) {
            const u32 value = (THREAD_X + i * BLOCK_THREADS) * VALUES;
            if (value < values) spread16(pieces[i], (const Element*)nullptr, stage + value);
        }
    }
};

// Dimensions whose operands a thread has in hand at once.
#define SCORE_STEP 8u

/// Operands of SCORE_STEP dimensions: of a key, and of two queries.
struct ScoreStep {
    float key[SCORE_STEP];
    Word4 x[SCORE_STEP / 4], y[SCORE_STEP / 4];

    INLINE_MEMBER void load(const float* one, const float* two, const float* keys) {
        UNROLL for (u32 i = 0; i < SCORE_STEP; ++i) key[i] = keys[i * CHUNK_KEYS];
        UNROLL for (u32 i = 0; i < SCORE_STEP / 4; ++i) {
            x[i] = load16(one + i * 4);
            y[i] = load16(two + i * 4);
        }
    }
    INLINE_MEMBER void add(float& first, float& second) const {
        UNROLL for (u32 i = 0; i < SCORE_STEP; ++i) {
            first = fma32(from_bits(x[i / 4].words[i % 4]), key[i], first);
            second = fma32(from_bits(y[i / 4].words[i % 4]), key[i], second);
        }
    }
};

/// Adds `count` dimensions to the scores of two heads at one position.
INLINE void score_two(const float* one, const float* two, const float* keys, u32 count,
                      bool aligned, float* scores) {
    float first = scores[0], second = scores[1];
    u32 d = 0;
    if (aligned && count >= 2 * SCORE_STEP) {
        // The next operands are on their way while these are added.
        ScoreStep even, odd;
        even.load(one, two, keys);
        ROLL for (; d + 2 * SCORE_STEP <= count; d += 2 * SCORE_STEP) {
            const u32 middle = d + SCORE_STEP;
            odd.load(one + middle, two + middle, keys + middle * CHUNK_KEYS);
            even.add(first, second);
            // Behind the last ones, these again.
            const u32 next = d + 4 * SCORE_STEP <= count ? d + 2 * SCORE_STEP : d;
            even.load(one + next, two + next, keys + next * CHUNK_KEYS);
            odd.add(first, second);
        }
    }
    ROLL for (; d < count; ++d) {
        const float key = keys[d * CHUNK_KEYS];
        first = fma32(one[d], key, first);
        second = fma32(two[d], key, second);
    }
    scores[0] = first, scores[1] = second;
}

/// Adds `count` positions to l and to one dimension of a, for HEADS heads whose weights lie
/// `stride` apart.
template <u32 HEADS>
INLINE void weigh(const float* weights, u32 stride, const float* values, u32 head_size, u32 count,
                  float (&totals)[HEADS], float (&sums)[HEADS]) {
    constexpr u32 STEP = HEADS > 2 ? 4 : 8;
    u32 t = 0;
    ROLL for (; t + STEP <= count; t += STEP) {
        float value[STEP];
        UNROLL for (u32 i = 0; i < STEP; ++i) value[i] = values[(t + i) * head_size];
        UNROLL for (u32 head = 0; head < HEADS; ++head) {
            UNROLL for (u32 part = 0; part < STEP; part += 4) {
                const Word4 p = load16(weights + head * stride + t + part);
                UNROLL for (u32 i = 0; i < 4; ++i) {
                    totals[head] = totals[head] + from_bits(p.words[i]);
                    sums[head] = fma32(from_bits(p.words[i]), value[part + i], sums[head]);
                }
            }
        }
    }
    ROLL for (; t < count; ++t) {
        const float value = values[t * head_size];
        UNROLL for (u32 head = 0; head < HEADS; ++head) {
            const float p = weights[head * stride + t];
            totals[head] = totals[head] + p;
            sums[head] = fma32(p, value, sums[head]);
        }
    }
}

/// What of a head a stage holds: dimensions of its keys, positions of its values.
template <typename Element>
INLINE u32 stage_dimensions(const AttentionSplitArguments<Element>& a) {
    return a.head_size < STAGE_DIMENSIONS ? a.head_size : STAGE_DIMENSIONS;
}
template <typename Element>
INLINE u32 stage_positions(const AttentionSplitArguments<Element>& a) {
    return a.head_size <= STAGE_DIMENSIONS ? CHUNK_KEYS : CHUNK_KEYS / 2;
}

/// Where a block is: the chunk, its keys and the heads in hand.
struct AttentionPlace {
    u64 cache;       // first value of the chunk in keys and in values
    u64 output;      // first head in hand, of [rows][heads]
    u32 chunk;
    u32 count;       // positions
    u32 heads;       // in hand, at most STAGE_HEADS
    u32 row;
    u32 position;    // of row 0
    u32 keys;        // that the row attends to
    bool is_fresh;   // some of the chunk's positions are of this launch
};

/// Puts dimensions `first` and on of the keys that this launch adds where the stage has what was
/// there before.
template <typename Element>
INLINE void freshen_keys(const AttentionSplitArguments<Element>& a, const AttentionPlace& place,
                         const SplitShared& shared, u32 first, u32 count) {
    ROLL for (u32 row = 0; row <= place.row; ++row) {
        const u32 t = place.position + row - place.chunk * CHUNK_KEYS;
        if (t >= CHUNK_KEYS) continue;
        const float* key = shared.fresh + row * 2 * a.head_size + first;
        ROLL EACH_THREAD(d, count) { shared.stage[d * CHUNK_KEYS + t] = key[d]; }
    }
    BARRIER();
}

/// The same for the values of positions `first` and on.
template <typename Element>
INLINE void freshen_values(const AttentionSplitArguments<Element>& a, const AttentionPlace& place,
                           const SplitShared& shared, u32 first) {
    ROLL for (u32 row = 0; row <= place.row; ++row) {
        const u32 t = place.position + row - place.chunk * CHUNK_KEYS - first;
        if (t >= stage_positions(a)) continue;
        const float* value = shared.fresh + (row * 2 + 1) * a.head_size;
        ROLL EACH_THREAD(d, a.head_size) { shared.stage[t * a.head_size + d] = value[d]; }
    }
    BARRIER();
}

/// Starts the loads of a chunk's first stage of keys, and of values.
template <typename Element>
INLINE void load_chunk(const AttentionSplitArguments<Element>& a, const AttentionPlace& place,
                       StageShare<Element>& keys, StageShare<Element>& values) {
    const u32 run = stage_dimensions(a) * CHUNK_KEYS, most = stage_positions(a);
    keys.load(a.keys.at(place.cache, run), run, place.count);
    // Whole pieces: rows are of an even number of values.
    const u32 used = (place.count < most ? (place.count + 7) / 8 * 8 : most) * a.head_size;
    values.load(a.values.at(place.cache, used), used, CHUNK_KEYS);
}

/// Brings a later stage, which few heads have, in the place of the one before.
template <typename Element>
INLINE void refill(const Element* source, u32 values, float* stage) {
    constexpr u32 PIECE = StageShare<Element>::VALUES;
    BARRIER();
    ROLL for (u32 i = THREAD_X * PIECE; i < values; i += BLOCK_THREADS * PIECE) {
        spread16(load16(source + i), source, stage + i);
    }
}

/// Scores of the heads in hand to `weights`. The first stage of keys is in its place but for a
/// barrier.
template <typename Element>
INLINE void score_keys(const AttentionSplitArguments<Element>& a, const AttentionPlace& place,
                       const SplitShared& shared) {
    const u32 t = THREAD_X % CHUNK_KEYS;
    const u32 one = THREAD_X / CHUNK_KEYS * 2;
    const u32 two = one + 1 < place.heads ? one + 1 : one;
    float scores[2] = {0.0f, 0.0f};
    ROLL for (u32 first = 0; first < a.head_size; first += STAGE_DIMENSIONS) {
        const u32 left = a.head_size - first, most = stage_dimensions(a);
        const u32 count = left < most ? left : most;
        if (first > 0) {
            const u64 start = place.cache + (u64)first * CHUNK_KEYS;
            refill(a.keys.at(start, count * CHUNK_KEYS), count * CHUNK_KEYS, shared.stage);
        }
        BARRIER();
        if (place.is_fresh) freshen_keys(a, place, shared, first, count);
        if (one < place.heads) {
            const float* queries = shared.queries + first;
            score_two(queries + one * a.head_size, queries + two * a.head_size, shared.stage + t,
                      count, a.head_size % 4 == 0, scores);
        }
    }
    if (one < place.heads) shared.weights[one * CHUNK_KEYS + t] = scores[0] * a.scale;
    if (one + 1 < place.heads) shared.weights[two * CHUNK_KEYS + t] = scores[1] * a.scale;
}

/// Scores to weights: 32 lanes a head, two positions each.
template <typename Element>
INLINE void weigh_keys(const AttentionSplitArguments<Element>& a, const AttentionPlace& place,
                       float* weights) {
    const u32 head = THREAD_X / 32;
    const u32 t = THREAD_X % 32;
    const bool one = head < place.heads && t < place.count;
    const bool two = head < place.heads && t + 32 < place.count;
    float* own = weights + (head < place.heads ? head : 0) * CHUNK_KEYS;
    const float first = one ? own[t] : -infinity32();
    const float second = two ? own[t + 32] : -infinity32();
    float m = larger(larger(-infinity32(), first), second);
    UNROLL for (u32 mask = 16; mask > 0; mask /= 2) m = larger(m, shuffle_xor(m, mask));
    if (one) own[t] = exp32(first - m);
    if (two) own[t + 32] = exp32(second - m);
    if (one && t == 0) a.maxima[(place.output + head) * a.chunks + place.chunk] = m;
}

/// l and a of the heads in hand. The first stage of values is in its place.
template <u32 HEADS, typename Element>
INLINE void sum_values(const AttentionSplitArguments<Element>& a, const AttentionPlace& place,
                       const SplitShared& shared) {
    // Eight heads fall to a thread only where there is one lane a dimension.
    const u32 lanes = HEADS == STAGE_HEADS ? 1 : head_of(a, BLOCK_THREADS);
    const u32 lane = head_of(a, THREAD_X);
    const u32 d = THREAD_X - lane * a.head_size;
    const bool works = lane < lanes && lane < place.heads;
    float totals[HEADS], sums[HEADS];
    UNROLL for (u32 i = 0; i < HEADS; ++i) totals[i] = 0.0f, sums[i] = 0.0f;
    const u32 most = stage_positions(a);
    ROLL for (u32 first = 0; first < place.count; first += most) {
        const u32 left = place.count - first;
        if (first > 0) {
            const u64 start = place.cache + (u64)first * a.head_size;
            refill(a.values.at(start, most * a.head_size), most * a.head_size, shared.stage);
            BARRIER();
            if (place.is_fresh) freshen_values(a, place, shared, first);
        }
        if (works) {
            weigh<HEADS>(shared.weights + lane * CHUNK_KEYS + first, lanes * CHUNK_KEYS,
                         shared.stage + d, a.head_size, left < most ? left : most, totals, sums);
        }
    }
    UNROLL for (u32 i = 0; i < HEADS; ++i) {
        const u32 head = lane + i * lanes;
        if (!works || head >= place.heads) continue;
        const u64 index = (place.output + head) * a.chunks + place.chunk;
        a.sums[index * a.head_size + d] = sums[i];
        if (d == 0) a.totals[index] = totals[i];
    }
}

template <typename Element>
INLINE void sum_values_of(const AttentionSplitArguments<Element>& a, const AttentionPlace& place,
                          const SplitShared& shared) {
    const u32 lanes = head_of(a, BLOCK_THREADS);
    if (place.heads <= lanes) {
        sum_values<1>(a, place, shared);
    } else if (place.heads <= 2 * lanes) {
        sum_values<2>(a, place, shared);
    } else if (place.heads <= 4 * lanes) {
        sum_values<4>(a, place, shared);
    } else {
        sum_values<8>(a, place, shared);
    }
}
