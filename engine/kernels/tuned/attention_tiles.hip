// attention_tiles: replaces the plain kernel attention for many rows, heads of 64 or 128 values.
// CONTRACT.md section 10. Grid: x = heads, y = blocks of 64 queries, those with the most
// keys first. A block walks the chunks of 64 positions: scores of 64 queries by 64 keys, 4 by 4 a
// thread; weights through shared memory; then the weighted sums, 4 queries by HEAD / 16 dimensions
// a thread. Queries, keys and values come 16 dimensions or positions at a time, the next ones under
// way. Dot products in order of d, l and a in order of position, accumulators f32; a key past a
// query's position is left out by a select, since adding its zero weight could change a bit.
#include "attention_parts.h"

#define TILE_QUERIES 64u
// Dimensions of a slice of queries and keys, positions of a slice of values.
#define SLICE_DEPTH 16u
// Rows of weights are a little longer than what they hold: different banks.
#define WEIGHT_STRIDE 68u
#define SLICE_VALUES (TILE_QUERIES * SLICE_DEPTH + SLICE_DEPTH * CHUNK_KEYS)
// In place of a factor: the query has no key in this chunk.
#define NO_KEYS 0xffffffffu

template <typename Element>
struct AttentionTilesArguments {
    Span<const float> q;       // [rows][heads][head_size]
    Span<const Element> keys;  // one layer: [kv_heads][context / 64][head_size][64]
    Span<const Element> values;
    Span<float> out;           // [rows][heads][head_size]
    Span<const u32> position;  // [1], of row 0
    u32 heads, kv_heads, head_size, rows, context;
    float scale;               // 1 / sqrt(head_size): one rounding each, the same on the host
};

/// What a thread holds of a slice of f16 on its way to shared memory; floats go there directly.
struct SliceShare {
    Word4 piece;

    INLINE_MEMBER void fetch(const float* source, u32 values, float* slice) {
        UNROLL for (u32 i = 0; i < values; i += BLOCK_THREADS * 4) {
            copy16(slice + i + THREAD_X * 4, source + i + THREAD_X * 4);
        }
    }
    INLINE_MEMBER void fetch(const u16* source, u32 values, float*) {
        piece = load16(source + (THREAD_X * 8 < values ? THREAD_X * 8 : 0));
    }
    INLINE_MEMBER void land(const float*, u32, float*) const {}
    INLINE_MEMBER void land(const u16* kind, u32 values, float* slice) const {
        if (THREAD_X * 8 < values) spread16(piece, kind, slice + THREAD_X * 8);
    }
};

/// A thread's four queries, and its four keys or dimensions, of 64 each. Two neighbouring threads
/// have the same columns: shared memory brings them in half the time that columns in every
/// sixteenth thread take.
INLINE u32 own_query() { return (THREAD_X / 32 * 2 + THREAD_X % 2) * 4; }
INLINE u32 own_column() { return THREAD_X % 32 / 2 * 4; }

/// Where four dimensions of a slice of a query lie: rows of one thread in turn, those of its
/// neighbour in different banks.
INLINE u32 query_place(u32 row, u32 four) { return row * SLICE_DEPTH + (four ^ row / 4 % 4) * 4; }

/// How many terms the four rows of a thread have; below one none. The last rows may be the same.
struct Counts {
    i32 first, last;
    INLINE_MEMBER i32 of(u32 row) const {
        return first + (i32)row < last ? first + (i32)row : last;
    }
};

template <u32 WIDE>
struct WordsOf {
    typedef Word2 Type;
};
template <>
struct WordsOf<1> {
    typedef Word4 Type;
};

/// sums[4][4 * WIDE] += rows . slice, in order of depth. Fours of a row are at `four ^ turn`. With
/// MASKED only the first counts.of(i) terms of row i.
template <u32 WIDE, bool MASKED>
INLINE void multiply_slice(float (&sums)[4][4 * WIDE], const float* rows, u32 stride,
                           u32 turn, const float* slice, const Counts& counts) {
    // Wide tiles have no registers for more.
    typedef typename WordsOf<WIDE>::Type Words;
    constexpr u32 STEP = sizeof(Words) / 4;
    ROLL for (u32 part = 0; part < SLICE_DEPTH; part += STEP) {
        Words left[4];
        const float* from = rows + (part ^ turn * 4);
        UNROLL for (u32 i = 0; i < 4; ++i) left[i] = *(const Words*)(from + i * stride);
        UNROLL for (u32 k = 0; k < STEP; ++k) {
            UNROLL for (u32 j = 0; j < WIDE; ++j) {
                const Word4 right = load16(slice + (part + k) * 64 * WIDE + j * 64);
                UNROLL for (u32 i = 0; i < 4; ++i) {
                    const float x = from_bits(left[i].words[k]);
                    UNROLL for (u32 n = 0; n < 4; ++n) {
                        float& sum = sums[i][j * 4 + n];
                        const float next = fma32(x, from_bits(right.words[n]), sum);
                        sum = !MASKED || (i32)(part + k) < counts.of(i) ? next : sum;
                    }
                }
            }
        }
    }
}

/// Scores to weights, and every query's maximum. A row's 64 scores are in every second of 32 lanes.
INLINE void weigh_scores(float (&scores)[4][4], float scale, const Counts& counts,
                         float* weights, float* maxima) {
    const i32 key = (i32)own_column();
    UNROLL for (u32 i = 0; i < 4; ++i) {
        float m = -infinity32();
        UNROLL for (u32 j = 0; j < 4; ++j) {
            scores[i][j] = scores[i][j] * scale;
            m = key + (i32)j < counts.of(i) ? larger(m, scores[i][j]) : m;
        }
        UNROLL for (u32 mask = 16; mask > 1; mask /= 2) m = larger(m, shuffle_xor(m, mask));
        Word4 row;
        UNROLL for (u32 j = 0; j < 4; ++j) row.words[j] = to_bits(exp32(scores[i][j] - m));
        const u32 query = own_query() + i;
        *(Word4*)(weights + query * WEIGHT_STRIDE + key) = row;
        if (key == 0) maxima[query] = m;
    }
}

/// M and L of one query after a chunk; the factor word that joins the chunk's sums.
INLINE u32 join_chunk(const float* weights, float m, i32 count, bool first, float& largest,
                      float& total) {
    if (count <= 0) return NO_KEYS;
    float l = 0.0f;
    i32 t = 0;
    ROLL for (; t + 4 <= count; t += 4) {
        const Word4 p = load16(weights + t);
        UNROLL for (u32 i = 0; i < 4; ++i) l = l + from_bits(p.words[i]);
    }
    ROLL for (; t < count; ++t) l = l + weights[t];
    if (first) {
        largest = m, total = l;
        return 0;
    }
    const u32 word = factor_word(largest, m);
    join(word, l, total);
    largest = larger(largest, m);
    return word;
}

template <u32 WIDE>
INLINE void join_sums(float (&sums)[4][4 * WIDE], const float (&parts)[4][4 * WIDE],
                      const u32* factors, bool first) {
    UNROLL for (u32 i = 0; i < 4; ++i) {
        const u32 word = factors[i];
        if (word == NO_KEYS) continue;
        UNROLL for (u32 j = 0; j < 4 * WIDE; ++j) {
            if (first) {
                sums[i][j] = parts[i][j];
            } else {
                join(word, parts[i][j], sums[i][j]);
            }
        }
    }
}

/// Where a block is.
struct TilePlace {
    u64 cache;     // first value of the KV head
    u32 head;
    u32 first_row;
    u32 last;      // row of the block, at most 63
    u32 position;  // of the first row
};

template <u32 HEAD, typename Element>
INLINE TilePlace find_tile(const AttentionTilesArguments<Element>& a BLOCK_PARAMETERS) {
    TilePlace place;
    const u32 blocks = (a.rows + TILE_QUERIES - 1) / TILE_QUERIES;
    place.head = BLOCK_X;
    place.first_row = (blocks - 1 - BLOCK_Y) * TILE_QUERIES;
    const u32 left = a.rows - place.first_row;
    place.last = (left < TILE_QUERIES ? left : TILE_QUERIES) - 1;
    place.position = a.position[0] + place.first_row;
    place.cache = (u64)(place.head / (a.heads / a.kv_heads)) * a.context * HEAD;
    return place;
}

/// Begins to fetch dimensions `slice * 16 ..` of the block's queries and of a chunk's keys.
template <u32 HEAD, typename Element>
INLINE void fetch_scores(const AttentionTilesArguments<Element>& a, const TilePlace& place,
                         u32 chunk, u32 slice, float* stage, SliceShare& share) {
    const u32 row = place.first_row + (THREAD_X / 4 < place.last ? THREAD_X / 4 : place.last);
    const u64 q = ((u64)row * a.heads + place.head) * HEAD + slice * SLICE_DEPTH + THREAD_X % 4 * 4;
    copy16(stage + query_place(THREAD_X / 4, THREAD_X % 4), a.q.at(q, 4));
    const u64 begin = place.cache + ((u64)chunk * HEAD + slice * SLICE_DEPTH) * CHUNK_KEYS;
    share.fetch(a.keys.at(begin, SLICE_DEPTH * CHUNK_KEYS), SLICE_DEPTH * CHUNK_KEYS,
                stage + TILE_QUERIES * SLICE_DEPTH);
}

/// Divides the sums by L.
template <u32 HEAD, typename Element>
INLINE void store_tile(const AttentionTilesArguments<Element>& a, const TilePlace& place,
                       const float (&sums)[4][HEAD / 16], const float* totals) {
    const u32 query = own_query(), column = own_column();
    UNROLL for (u32 i = 0; i < 4; ++i) {
        if (query + i > place.last) continue;
        const u32 row = place.first_row + query + i;
        const float divisor = totals[query + i];
        UNROLL for (u32 j = 0; j < HEAD / 64; ++j) {
            Word4 words;
            UNROLL for (u32 n = 0; n < 4; ++n) {
                words.words[n] = to_bits(sums[i][j * 4 + n] / divisor);
            }
            const u64 index = ((u64)row * a.heads + place.head) * HEAD + j * 64 + column;
            *(Word4*)a.out.at(index, 4) = words;
        }
    }
}

template <u32 HEAD, typename Element>
INLINE void attention_tiles(const AttentionTilesArguments<Element>& a BLOCK_PARAMETERS) {
    constexpr u32 WIDE = HEAD / 64;
    constexpr u32 SCORE_SLICES = HEAD / SLICE_DEPTH;
    constexpr u32 VALUE_SLICES = CHUNK_KEYS / SLICE_DEPTH;
    static_assert(SCORE_SLICES % 2 == 0 && VALUE_SLICES % 2 == 0, "the stages take turns");
    SHARED(float, stages, 2 * SLICE_VALUES);
    SHARED(float, weights, TILE_QUERIES * WEIGHT_STRIDE);
    SHARED(float, maxima, TILE_QUERIES);
    SHARED(u32, factors, TILE_QUERIES);
    // M of every query, then L.
    SHARED(float, states, 2 * TILE_QUERIES);
    const Element* kind = nullptr;
    const TilePlace place = find_tile<HEAD>(a BLOCK_ARGUMENTS);
    const u32 chunks = (place.position + place.last) / CHUNK_KEYS + 1;
    const u32 query = own_query(), column = own_column();
    const float* own_rows = &stages[query * SLICE_DEPTH];
    const float* own_keys = &stages[TILE_QUERIES * SLICE_DEPTH + column];
    const float* own_weights = &weights[query * WEIGHT_STRIDE];
    float sums[4][4 * WIDE] = {};
    SliceShare share;
    fetch_scores<HEAD>(a, place, 0, 0, &stages[0], share);
    copies_commit();
    share.land(kind, SLICE_DEPTH * CHUNK_KEYS, &stages[TILE_QUERIES * SLICE_DEPTH]);
    ROLL for (u32 chunk = 0; chunk < chunks; ++chunk) {
        const Element* values =
            a.values.at(place.cache + (u64)chunk * CHUNK_KEYS * HEAD, CHUNK_KEYS * HEAD);
        const i32 count = (i32)(place.position + 1) - (i32)(chunk * CHUNK_KEYS);
        const Counts counts = {count + (i32)query, count + (i32)place.last};
        // scores
        float scores[4][4] = {};
        ROLL for (u32 slice = 0; slice < SCORE_SLICES; ++slice) {
            const u32 now = slice % 2 * SLICE_VALUES;
            float* next = &stages[SLICE_VALUES - now];
            copies_wait<0>();
            BARRIER();
            const bool more = slice + 1 < SCORE_SLICES;
            if (more) {
                fetch_scores<HEAD>(a, place, chunk, slice + 1, next, share);
            } else {
                share.fetch(values, SLICE_DEPTH * HEAD, next);
            }
            copies_commit();
            multiply_slice<1, false>(scores, own_rows + now, SLICE_DEPTH, query / 4 % 4,
                                     own_keys + now, counts);
            share.land(kind, SLICE_DEPTH * (more ? CHUNK_KEYS : HEAD),
                       more ? next + TILE_QUERIES * SLICE_DEPTH : next);
        }
        weigh_scores(scores, a.scale, counts, &weights[0], &maxima[0]);
        // weighted sums
        const bool masked = place.position + 1 < (chunk + 1) * CHUNK_KEYS;
        float parts[4][4 * WIDE] = {};
        ROLL for (u32 slice = 0; slice < VALUE_SLICES; ++slice) {
            const u32 now = slice % 2 * SLICE_VALUES;
            float* next = &stages[SLICE_VALUES - now];
            copies_wait<0>();
            BARRIER();
            const bool more = slice + 1 < VALUE_SLICES;
            if (more) {
                share.fetch(values + (slice + 1) * SLICE_DEPTH * HEAD, SLICE_DEPTH * HEAD, next);
            } else if (chunk + 1 < chunks) {
                fetch_scores<HEAD>(a, place, chunk + 1, 0, next, share);
            }
            copies_commit();
            if (slice == 0 && THREAD_X < TILE_QUERIES) {
                const i32 own = Counts{count, counts.last}.of(THREAD_X);
                factors[THREAD_X] = join_chunk(
                    &weights[THREAD_X * WEIGHT_STRIDE], maxima[THREAD_X],
                    own < (i32)CHUNK_KEYS ? own : (i32)CHUNK_KEYS, chunk == 0,
                    states[THREAD_X], states[TILE_QUERIES + THREAD_X]);
            }
            const float* rows = own_weights + slice * SLICE_DEPTH;
            const float* columns = &stages[now + column];
            if (masked) {
                const i32 before = (i32)(slice * SLICE_DEPTH);
                const Counts ends = {counts.first - before, counts.last - before};
                multiply_slice<WIDE, true>(parts, rows, WEIGHT_STRIDE, 0, columns, ends);
            } else {
                multiply_slice<WIDE, false>(parts, rows, WEIGHT_STRIDE, 0, columns, counts);
            }
            share.land(kind, SLICE_DEPTH * (more ? HEAD : CHUNK_KEYS),
                       more ? next : next + TILE_QUERIES * SLICE_DEPTH);
        }
        join_sums<WIDE>(sums, parts, &factors[query], chunk == 0);
    }
    store_tile<HEAD>(a, place, sums, &states[TILE_QUERIES]);
}

#define ATTENTION_TILES(head, suffix, Element)                                              \
    KERNEL_DENSE(2, attention_tiles_##head##_##suffix, AttentionTilesArguments<Element>) {    \
        attention_tiles<head>(a BLOCK_ARGUMENTS);                                           \
    }
ATTENTION_TILES(64, f32, float)
ATTENTION_TILES(64, f16, u16)
ATTENTION_TILES(128, f32, float)
ATTENTION_TILES(128, f16, u16)
