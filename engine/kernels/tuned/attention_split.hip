// attention_split: rope of q and k, kv_write, attention and the fixed point of its result, in one
// launch for a row or two. CONTRACT.md sections 8, 9, 10 and 5.
// Replaces rope (twice), kv_write, attention and quantise; without k, attention and quantise.
// Grid: x = chunks in hand at once, y = rows times KV heads times runs of eight of their heads. A
// block takes every stride-th chunk up to the row's position, so that a launch for a long context
// costs nothing at its begin, and reads keys and values once for its heads (attention_chunk.h). It
// makes the queries and the new keys that it needs itself; whose first chunk is the context's, or
// the new key's, leaves them in memory.
// The last block to leave chunks of a slice of 512 columns joins them (attention_join.h).
#include "attention_join.h"

/// A pair of a new key and of its value, on their way from memory.
struct FreshPair {
    Turning key;
    Word2 value;
};
template <typename Element>
INLINE FreshPair fetch_fresh(const AttentionSplitArguments<Element>& a, u32 kv_head, u32 row,
                             u32 position, u32 d) {
    const u64 from = ((u64)row * a.kv_heads + kv_head) * a.head_size + d;
    const u64 angle = (u64)position * (a.rotated / 2) + d / 2;
    return {fetch_pair(a.k, from, a.cosine, a.sine, angle, d < a.rotated), load8(a.v.at(from, 2))};
}

/// The pair to shared memory, as the cache has it, and to the cache where that is to be.
template <typename Element>
INLINE void store_fresh(const AttentionSplitArguments<Element>& a, const FreshPair& pair,
                        u32 kv_head, u32 row, u32 position, u32 d, bool keeps,
                        const SplitShared& shared) {
    const Word2 key = turn(pair.key, d < a.rotated);
    float* const fresh = shared.fresh + row * 2 * a.head_size + d;
    Element keys[2], values[2];
    UNROLL for (u32 i = 0; i < 2; ++i) {
        cache_store(from_bits(key.words[i]), keys + i);
        cache_store(from_bits(pair.value.words[i]), values + i);
        fresh[i] = cache_value(keys[i]);
        fresh[a.head_size + i] = cache_value(values[i]);
    }
    if (!keeps) return;
    *(Word2*)a.k_rope.at(((u64)row * a.kv_heads + kv_head) * a.head_size + d, 2) = key;
    const u64 cache = (u64)kv_head * a.context * a.head_size;
    UNROLL for (u32 i = 0; i < 2; ++i) {
        a.keys[cache + key_index(position, d + i, a.head_size)] = keys[i];
        a.values[cache + (u64)position * a.head_size + d + i] = values[i];
    }
}

/// What a thread has of the queries of the heads in hand, and of the key and the value of the
/// block's row.
struct RowShare {
    Turning query;
    FreshPair fresh;
};

/// Whether a block has the chunk of a position, and whether the thread has a pair of its key.
template <typename Element>
INLINE bool has_fresh(const AttentionSplitArguments<Element>& a, const AttentionPlace& place,
                      u32 position) {
    const u32 chunk = position / CHUNK_KEYS;
    const bool is_own = chunk >= place.chunk && (chunk - place.chunk) % a.stride == 0;
    return a.k.count != 0 && is_own && 2 * THREAD_X < a.head_size;
}

/// The query's pair at `i` of the heads in hand.
template <typename Element>
INLINE Turning fetch_query(const AttentionSplitArguments<Element>& a, const AttentionPlace& place,
                           u32 i) {
    const u32 d = i - head_of(a, i) * a.head_size;
    const u64 angle = (u64)(place.position + place.row) * (a.rotated / 2) + d / 2;
    return fetch_pair(a.q, place.output * a.head_size + i, a.cosine, a.sine, angle,
                      a.k.count != 0 && d < a.rotated);
}

/// Starts the loads of what most blocks have all of.
template <typename Element>
INLINE RowShare fetch_row(const AttentionSplitArguments<Element>& a, const AttentionPlace& place,
                          u32 kv_head) {
    const u32 own = 2 * THREAD_X, position = place.position + place.row;
    RowShare share = {};
    if (own < place.heads * a.head_size) share.query = fetch_query(a, place, own);
    if (has_fresh(a, place, position)) {
        share.fresh = fetch_fresh(a, kv_head, place.row, position, own);
    }
    return share;
}

/// Queries of the heads in hand, and keys and values of this launch's rows up to that of the block
/// where it has their chunk, to shared memory. In memory the block with the first chunk leaves the
/// queries, and that with the row's own position the rest, once (`keeps_own`).
template <typename Element>
INLINE void store_row(const AttentionSplitArguments<Element>& a, const AttentionPlace& place,
                      const RowShare& share, u32 kv_head, bool keeps_own,
                      const SplitShared& shared) {
    const bool rotates = a.k.count != 0;
    const u32 own = 2 * THREAD_X, position = place.position + place.row;
    ROLL for (u32 i = own; i < place.heads * a.head_size; i += 2 * BLOCK_THREADS) {
        const u32 d = i - head_of(a, i) * a.head_size;
        const Turning query = i == own ? share.query : fetch_query(a, place, i);
        Word2 pair = turn(query, rotates && d < a.rotated);
        const u64 index = place.output * a.head_size + i;
        *(Word2*)(shared.queries + i) = pair;
        if (rotates && place.chunk == 0) *(Word2*)a.q_rope.at(index, 2) = pair;
    }
    if (has_fresh(a, place, position)) {
        store_fresh(a, share.fresh, kv_head, place.row, position, own, keeps_own, shared);
    }
    ROLL for (u32 row = 0; row < place.row; ++row) {
        const u32 earlier = place.position + row;
        if (!has_fresh(a, place, earlier)) continue;
        const FreshPair fresh = fetch_fresh(a, kv_head, row, earlier, own);
        store_fresh(a, fresh, kv_head, row, earlier, own, false, shared);
    }
}

// Slices that the heads of a block can touch.
#define SLICES (STAGE_HEADS * HEAD_VALUES / SLICE + 1)

/// The slices of columns that a block has heads of, and how many blocks have some of those of
/// slice THREAD_X, for each of its chunks.
struct SplitSlices {
    u32 first, count, all;
    u32 due;
};

template <typename Element>
INLINE SplitSlices split_slices(const AttentionSplitArguments<Element>& a, u32 head, u32 heads,
                                u32 runs) {
    const u32 width = a.heads * a.head_size, group = a.heads / a.kv_heads;
    SplitSlices slices;
    slices.all = (width + SLICE - 1) / SLICE;
    slices.first = head * a.head_size / SLICE;
    slices.count = ((head + heads) * a.head_size - 1) / SLICE - slices.first + 1;
    const u32 start = (slices.first + THREAD_X) * SLICE;
    const u32 end = width - start < SLICE ? width : start + SLICE;
    // Runs of heads are numbered in the order of their columns.
    const u32 one = head_of(a, start), last = head_of(a, end - 1);
    const u32 run = one / group * runs + one % group / STAGE_HEADS;
    slices.due = last / group * runs + last % group / STAGE_HEADS - run + 1;
    return slices;
}

/// Counts this block for its slices, and joins those that are complete.
template <typename Element>
INLINE void join_complete(const AttentionSplitArguments<Element>& a, u32 row, u32 chunks,
                          const SplitSlices& slices, const SplitShared& shared) {
    // Behind what joins chunks takes, from `stage` on.
    static_assert(SLICES + BLOCK_THREADS / 32 <= STAGE_HEADS * CHUNK_KEYS, "weights have room");
    u32* const complete = (u32*)shared.weights;
    u32* maxima = complete + SLICES;
    if (THREAD_X < slices.count) {
        const u32 due = slices.due * (chunks < a.stride ? chunks : a.stride);
        u32* const counter = a.arrivals.at(row * slices.all + slices.first + THREAD_X, 1);
        const bool is_last = due == 1 || arrive(counter) + 1 == due;
        if (is_last) *counter = 0;
        complete[THREAD_X] = is_last;
    }
    BARRIER();
    ROLL for (u32 i = 0; i < slices.count; ++i) {
        if (complete[i] != 0) join_slice(a, row, chunks, slices.first + i, shared.stage, maxima);
        BARRIER();
    }
}

/// The place at a chunk, which is one of the row's.
template <typename Element>
INLINE void enter_chunk(const AttentionSplitArguments<Element>& a, u64 kv_cache, u32 chunk,
                        AttentionPlace& place) {
    const u32 start = chunk * CHUNK_KEYS, left = place.keys - start;
    place.chunk = chunk;
    place.cache = kv_cache + (u64)start * a.head_size;
    place.count = left < CHUNK_KEYS ? left : CHUNK_KEYS;
    place.is_fresh = a.k.count != 0 && place.position < start + CHUNK_KEYS;
}

template <typename Element>
INLINE void attention_split(const AttentionSplitArguments<Element>& a BLOCK_PARAMETERS) {
    // Twice as many weights as there are: the last heads of a thread may be none, and are not
    // stored.
    constexpr u32 QUERIES = STAGE_HEADS * HEAD_VALUES, WEIGHTS = 2 * STAGE_HEADS * CHUNK_KEYS;
    constexpr u32 FRESH = SPLIT_ROWS * 2 * HEAD_VALUES;
    SHARED(float, space, STAGE_VALUES + QUERIES + WEIGHTS + FRESH);
    static_assert(JOIN_SHARED <= STAGE_VALUES + QUERIES, "what joins chunks takes their place");
    SplitShared shared;
    shared.stage = shared_at(space, 0, STAGE_VALUES);
    shared.queries = shared_at(space, STAGE_VALUES, QUERIES);
    shared.weights = shared_at(space, STAGE_VALUES + QUERIES, WEIGHTS);
    shared.fresh = shared_at(space, STAGE_VALUES + QUERIES + WEIGHTS, FRESH);
    const u32 group = a.heads / a.kv_heads, runs = (group + STAGE_HEADS - 1) / STAGE_HEADS;
    const u32 run = BLOCK_Y % runs, kv_head = BLOCK_Y / runs % a.kv_heads;
    const u32 head = run * STAGE_HEADS;
    AttentionPlace place;
    place.row = BLOCK_Y / runs / a.kv_heads;
    place.heads = group - head < STAGE_HEADS ? group - head : STAGE_HEADS;
    place.output = (u64)place.row * a.heads + kv_head * group + head;
    place.chunk = BLOCK_X;
    const SplitSlices slices = split_slices(a, kv_head * group + head, place.heads, runs);
    const u64 kv_cache = (u64)kv_head * a.context * a.head_size;
    // The position, and what the cache has from passes before, are of launches before the one in
    // front; keys of this pass are in the cache where they are not among the arguments.
    if (a.k.count == 0) inputs_ready();
    place.position = a.position[0];
    place.keys = place.position + place.row + 1;
    if (BLOCK_X * CHUNK_KEYS >= place.keys) return;
    ROLL for (u32 chunk = BLOCK_X; chunk * CHUNK_KEYS < place.keys; chunk += a.stride) {
        enter_chunk(a, kv_cache, chunk, place);
        StageShare<Element> keys, values;
        load_chunk(a, place, keys, values);
        if (chunk == BLOCK_X) {
            inputs_ready();
            next_may_begin();
            const RowShare share = fetch_row(a, place, kv_head);
            store_row(a, place, share, kv_head, run == 0, shared);
        }
        keys.store(shared.stage, stage_dimensions(a) * CHUNK_KEYS);
        score_keys(a, place, shared);
        BARRIER();
        values.store(shared.stage, stage_positions(a) * a.head_size);
        weigh_keys(a, place, shared.weights);
        BARRIER();
        if (place.is_fresh) freshen_values(a, place, shared, 0);
        sum_values_of(a, place, shared);
        BARRIER();
    }
    join_complete(a, place.row, (place.keys + CHUNK_KEYS - 1) / CHUNK_KEYS, slices, shared);
}

KERNEL_AHEAD(2, attention_split_f32, AttentionSplitArguments<float>) {
    attention_split(a BLOCK_ARGUMENTS);
}
KERNEL_AHEAD(2, attention_split_f16, AttentionSplitArguments<u16>) {
    attention_split(a BLOCK_ARGUMENTS);
}
