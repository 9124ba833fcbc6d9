// attention_chunks: steps 1 and 2 of CONTRACT.md section 10, every chunk of 64 positions by itself.
// With attention_combine it replaces the plain kernel attention.
// Grid: x = chunks in hand at once times KV heads times runs of eight of their heads, y = rows. A
// block takes every stride-th chunk up to the row's position, so that a launch for a long context
// costs nothing at its begin, and reads keys and values once for its heads. Keys lie in shared
// memory; values stay in registers until keys are done.
// Dot products in order of d, l and a in order of position, accumulators f32.
#include "attention_parts.h"

// Values of the cache that shared memory holds: 64 positions of 128 dimensions.
#define STAGE_VALUES 8192u
#define STAGE_DIMENSIONS 128u
#define STAGE_HEADS 8u
// Values of a head, at most as many as a block has threads.
#define QUERY_VALUES BLOCK_THREADS

template <typename Element>
struct AttentionChunksArguments {
    Span<const float> q;       // [rows][heads][head_size]
    Span<const Element> keys;  // one layer: [kv_heads][context / 64][head_size][64]
    Span<const Element> values;
    Span<float> maxima;        // [rows][heads][chunks]: m of every chunk
    Span<float> totals;        // [rows][heads][chunks]: l
    Span<float> sums;          // [rows][heads][chunks][head_size]: a
    Span<const u32> position;  // [1], of row 0
    u32 heads, kv_heads, head_size, rows, context, chunks;
    float scale;               // 1 / sqrt(head_size): one rounding each, the same on the host
    u32 stride;                // chunks that are in hand at once
};

/// One thread's share of a stage, on its way from memory.
template <typename Element>
struct StageShare {
    static constexpr u32 VALUES = 16 / sizeof(Element);
    static constexpr u32 PIECES = STAGE_VALUES / VALUES / BLOCK_THREADS;
    Word4 pieces[PIECES];

    INLINE_MEMBER void load(const Element* source, u32 values) {
        UNROLL for (u32 i = 0; i < PIECES; ++i) {
            const u32 value = (THREAD_X + i * BLOCK_THREADS) * VALUES;
            // Without a condition, so that no register outlives the share.
            pieces[i] = load16(source + (value < values ? value : 0));
        }
    }
    INLINE_MEMBER void store(float* stage, u32 values) const {
        UNROLL for (u32 i = 0; i < PIECES; ++i) {
            const u32 value = (THREAD_X + i * BLOCK_THREADS) * VALUES;
            if (value < values) spread16(pieces[i], (const Element*)nullptr, stage + value);
        }
    }
};

/// Keys of float go to shared memory without a stop.
struct KeysDirect {
    INLINE_MEMBER void load(const float* source, u32 values, float* stage) {
        UNROLL for (u32 i = 0; i < STAGE_VALUES / 4 / BLOCK_THREADS; ++i) {
            const u32 value = (THREAD_X + i * BLOCK_THREADS) * 4;
            if (value < values) copy16(stage + value, source + value);
        }
        copies_commit();
    }
    INLINE_MEMBER void store(float*, u32) const { copies_wait<0>(); }
};
/// Keys of f16 are widened on the way.
struct KeysWidened {
    StageShare<u16> share;
    INLINE_MEMBER void load(const u16* source, u32 values, float*) { share.load(source, values); }
    INLINE_MEMBER void store(float* stage, u32 values) const { share.store(stage, values); }
};
template <typename Element>
struct KeysOf {
    typedef KeysDirect Type;
};
template <>
struct KeysOf<u16> {
    typedef KeysWidened Type;
};

/// Adds `count` dimensions to the scores of two heads at one position.
INLINE void score_two(const float* one, const float* two, const float* keys, u32 count,
                      bool aligned, float* scores) {
    float first = scores[0], second = scores[1];
    u32 d = 0;
    ROLL for (; aligned && d + 8 <= count; d += 8) {
        UNROLL for (u32 part = 0; part < 8; part += 4) {
            const Word4 x = load16(one + d + part);
            const Word4 y = load16(two + d + part);
            UNROLL for (u32 i = 0; i < 4; ++i) {
                const float key = keys[(d + part + i) * CHUNK_KEYS];
                first = fma32(from_bits(x.words[i]), key, first);
                second = fma32(from_bits(y.words[i]), key, second);
            }
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

/// Where a block is: the chunk, its keys and the heads in hand.
struct AttentionPlace {
    u64 cache;       // first value of the chunk in keys and in values
    u64 output;      // first head in hand, of [rows][heads]
    u32 chunk;
    u32 count;       // positions
    u32 heads;       // in hand, at most STAGE_HEADS
};

/// l and a of the heads in hand. The share holds the first stage of values, which is stored.
template <u32 HEADS, typename Element>
INLINE void sum_values(const AttentionChunksArguments<Element>& a, const AttentionPlace& place,
                       const float* weights, float* stage) {
    // Eight heads fall to a thread only where there is one lane a dimension.
    const u32 lanes = HEADS == STAGE_HEADS ? 1 : BLOCK_THREADS / a.head_size;
    const u32 d = THREAD_X % a.head_size;
    const u32 lane = THREAD_X / a.head_size;
    const bool works = lane < lanes && lane < place.heads;
    const u32 stage_rows = a.head_size <= STAGE_DIMENSIONS ? CHUNK_KEYS : CHUNK_KEYS / 2;
    float totals[HEADS], sums[HEADS];
    UNROLL for (u32 i = 0; i < HEADS; ++i) totals[i] = 0.0f, sums[i] = 0.0f;
    ROLL for (u32 first = 0; first < place.count; first += stage_rows) {
        const u32 left = place.count - first;
        const u32 count = left < stage_rows ? left : stage_rows;
        if (first > 0) {
            const u64 start = place.cache + (u64)first * a.head_size;
            const u32 run = stage_rows * a.head_size;
            const Element* source = a.values.at(start, run);
            constexpr u32 PIECE = StageShare<Element>::VALUES;
            BARRIER();
            ROLL for (u32 i = THREAD_X * PIECE; i < run; i += BLOCK_THREADS * PIECE) {
                spread16(load16(source + i), source, stage + i);
            }
            BARRIER();
        }
        if (works) {
            weigh<HEADS>(weights + lane * CHUNK_KEYS + first, lanes * CHUNK_KEYS, stage + d,
                         a.head_size, count, totals, sums);
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

/// Scores of the heads in hand, [head][64] in `weights`; `keys` has the first stage under way.
template <typename Element>
INLINE void score_keys(const AttentionChunksArguments<Element>& a, const AttentionPlace& place,
                       typename KeysOf<Element>::Type& keys, const float* queries, float* weights,
                       float* stage) {
    const u32 t = THREAD_X % CHUNK_KEYS;
    const u32 one = THREAD_X / CHUNK_KEYS * 2;
    const u32 two = one + 1 < place.heads ? one + 1 : one;
    float scores[2] = {0.0f, 0.0f};
    ROLL for (u32 first = 0; first < a.head_size; first += STAGE_DIMENSIONS) {
        const u32 left = a.head_size - first;
        const u32 count = left < STAGE_DIMENSIONS ? left : STAGE_DIMENSIONS;
        const u32 run = count * CHUNK_KEYS;
        if (first > 0) {
            BARRIER();
            keys.load(a.keys.at(place.cache + (u64)first * CHUNK_KEYS, run), run, stage);
        }
        keys.store(stage, run);
        BARRIER();
        if (one < place.heads) {
            score_two(queries + one * a.head_size + first, queries + two * a.head_size + first,
                      stage + t, count, a.head_size % 4 == 0, scores);
        }
    }
    if (one < place.heads) weights[one * CHUNK_KEYS + t] = scores[0] * a.scale;
    if (one + 1 < place.heads) weights[two * CHUNK_KEYS + t] = scores[1] * a.scale;
}

/// Scores to weights: 32 lanes a head, two positions each.
template <typename Element>
INLINE void weigh_keys(const AttentionChunksArguments<Element>& a, const AttentionPlace& place,
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

/// [head][head_size] of the heads in hand.
template <typename Element>
INLINE void load_queries(const AttentionChunksArguments<Element>& a, const AttentionPlace& place,
                         float* queries) {
    const u32 count = place.heads * a.head_size;
    const float* q = a.q.at(place.output * a.head_size, count);
    UNROLL for (u32 i = 0; i < STAGE_HEADS; ++i) {
        const u32 index = THREAD_X + i * BLOCK_THREADS;
        if (index < count) queries[index] = q[index];
    }
}

template <typename Element>
INLINE void one_chunk(const AttentionChunksArguments<Element>& a, const AttentionPlace& place,
                      float* queries, float* weights, float* stage) {
    const bool whole = a.head_size <= STAGE_DIMENSIONS;
    const u32 keys_run = (whole ? a.head_size : STAGE_DIMENSIONS) * CHUNK_KEYS;
    const u32 values_run = (whole ? CHUNK_KEYS : CHUNK_KEYS / 2) * a.head_size;
    typename KeysOf<Element>::Type keys;
    StageShare<Element> values;
    keys.load(a.keys.at(place.cache, keys_run), keys_run, stage);
    values.load(a.values.at(place.cache, values_run), values_run);
    load_queries(a, place, queries);
    score_keys(a, place, keys, queries, weights, stage);
    BARRIER();
    values.store(stage, values_run);
    weigh_keys(a, place, weights);
    BARRIER();
    const u32 lanes = BLOCK_THREADS / a.head_size;
    if (place.heads <= lanes) {
        sum_values<1>(a, place, weights, stage);
    } else if (place.heads <= 2 * lanes) {
        sum_values<2>(a, place, weights, stage);
    } else if (place.heads <= 4 * lanes) {
        sum_values<4>(a, place, weights, stage);
    } else {
        sum_values<8>(a, place, weights, stage);
    }
}

template <typename Element>
INLINE void attention_chunks(const AttentionChunksArguments<Element>& a BLOCK_PARAMETERS) {
    SHARED(float, stage, STAGE_VALUES);
    SHARED(float, queries, STAGE_HEADS * QUERY_VALUES);
    // Twice as many as have weights: the last heads of a thread may be none, and are not stored.
    SHARED(float, weights, 2 * STAGE_HEADS * CHUNK_KEYS);
    next_may_begin();
    const u32 group = a.heads / a.kv_heads;
    const u32 runs = (group + STAGE_HEADS - 1) / STAGE_HEADS;
    const u32 kv_head = BLOCK_X % a.kv_heads;
    const u32 head = BLOCK_X / a.kv_heads % runs * STAGE_HEADS;
    const u32 keys_count = a.position[0] + BLOCK_Y + 1;
    AttentionPlace place;
    place.output = (u64)BLOCK_Y * a.heads + kv_head * group + head;
    place.heads = group - head < STAGE_HEADS ? group - head : STAGE_HEADS;
    place.chunk = BLOCK_X / a.kv_heads / runs;
    ROLL for (; place.chunk * CHUNK_KEYS < keys_count; place.chunk += a.stride) {
        const u32 start = place.chunk * CHUNK_KEYS;
        const u32 left = keys_count - start;
        place.cache = ((u64)kv_head * a.context + start) * a.head_size;
        place.count = left < CHUNK_KEYS ? left : CHUNK_KEYS;
        one_chunk(a, place, &queries[0], &weights[0], &stage[0]);
        BARRIER();
    }
}

KERNEL_DENSE(4, attention_chunks_f32, AttentionChunksArguments<float>) {
    attention_chunks(a BLOCK_ARGUMENTS);
}
KERNEL_DENSE(4, attention_chunks_f16, AttentionChunksArguments<u16>) {
    attention_chunks(a BLOCK_ARGUMENTS);
}
