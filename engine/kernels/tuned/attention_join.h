// attention_split's end: steps 3 and 4 of CONTRACT.md section 10 over the chunks that its blocks
// left, for a slice of 512 columns of a row, and section 5.
// A thread has two values, chunks in order; M is a running maximum, so that the factors of many
// chunks are known at once. Integer sums are exact.
// One block does this while the others are done: what counts is how few instructions follow each
// other.
#pragma once
#include "attention_chunk.h"

// Columns that a block joins at once.
#define SLICE (2 * BLOCK_THREADS)
// Heads that a slice can touch: of two values each, and one at either end.
#define JOINED_HEADS (SLICE / 2 + 2)
// Chunks under way from memory, and those that are added at a time.
#define JOIN_AHEAD 16u
#define JOIN_RUN 8u
// -0: added to a sum it changes nothing, and times a factor of +0 it stays -0. So it stands for
// chunks behind the last, and is what the first chunk is added to.
#define NOTHING 0x80000000u
// Values that a lane has under way at once for its head's factors; 32 lanes have 128 chunks.
#define FACTORS_AHEAD 4u
// Factors that shared memory holds, for all heads of a slice.
#define FACTORS (JOINED_HEADS * JOIN_AHEAD)
// Floats of shared memory: factors, l of the same chunks, M before all of them.
#define JOIN_SHARED (2 * FACTORS + JOINED_HEADS)

/// Factors and l of `count` chunks of `heads` heads, whose first has its m and l at `maxima` and
/// `totals`, to rows of `stride` in shared memory; `carried` goes from M before the chunks to M
/// behind them. 32 lanes a head, each with neighbouring chunks. Rows end in whole JOIN_AHEAD.
/// `begins`: the first of them is the context's, whose factor falls on what is in front of it.
INLINE void find_factors(const float* maxima, const float* totals, u32 heads, u32 chunks, u32 count,
                         u32 stride, bool begins, float* carried, float* factors, float* parts) {
    const u32 whole = (count + JOIN_AHEAD - 1) / JOIN_AHEAD * JOIN_AHEAD;
    const u32 lane = THREAD_X % 32;
    const u32 share = (count + 31) / 32;
    const u32 begin = lane * share < count ? lane * share : count;
    const u32 end = begin + share < count ? begin + share : count;
    for (u32 head = THREAD_X / 32; head < (heads + 7) / 8 * 8; head += BLOCK_THREADS / 32) {
        const bool works = head < heads;
        float* const own = factors + (works ? head * stride : 0);
        ROLL for (u32 first = lane; works && first < whole; first += 32 * FACTORS_AHEAD) {
            float m[FACTORS_AHEAD], l[FACTORS_AHEAD];
            UNROLL for (u32 k = 0; k < FACTORS_AHEAD; ++k) {
                const u32 i = first + k * 32;
                m[k] = i < count ? maxima[head * chunks + i] : 0.0f;
                l[k] = i < count ? totals[head * chunks + i] : from_bits(NOTHING);
            }
            UNROLL for (u32 k = 0; k < FACTORS_AHEAD; ++k) {
                const u32 i = first + k * 32;
                if (i < whole) own[i] = m[k], parts[head * stride + i] = l[k];
            }
        }
        wave_barrier();
        // Before the shuffles, behind which it is written again; by the lanes of its head only.
        const float earlier = works ? carried[head] : -infinity32();
        float m = -infinity32();
        ROLL for (u32 i = begin; works && i < end; ++i) m = larger(m, own[i]);
        // The maximum of this lane and those before it.
        UNROLL for (u32 step = 1; step < 32; step *= 2) {
            const float other = shuffle_from(m, lane >= step ? lane - step : lane);
            m = larger(m, other);
        }
        const float before = shuffle_from(m, lane > 0 ? lane - 1 : 0);
        if (!works) continue;
        float running = larger(earlier, lane > 0 ? before : -infinity32());
        ROLL for (u32 i = begin; i < end; ++i) {
            const float next = own[i];
            // A factor of +0, and the sign that puts it on what is earlier.
            own[i] = from_bits(begins && i == 0 ? 0x80000000u : factor_word(running, next));
            running = larger(running, next);
        }
        if (lane == 31) carried[head] = larger(earlier, m);
    }
}

/// Adds JOIN_RUN chunks to L and to two neighbours of A. No branch, and no condition but the
/// factor's: what there is no chunk of changes nothing (find_factors, fetch_run).
INLINE void join_run(const float* factors, const float* totals, const Word2* sums, float& total,
                     float (&sum)[2]) {
    UNROLL for (u32 i = 0; i < JOIN_RUN; i += 4) {
        const Word4 words = load16(factors + i);
        const Word4 parts = load16(totals + i);
        UNROLL for (u32 j = 0; j < 4; ++j) {
            const Word2 own = sums[i + j];
            join(words.words[j], from_bits(parts.words[j]), total);
            UNROLL for (u32 k = 0; k < 2; ++k) {
                join(words.words[j], from_bits(own.words[k]), sum[k]);
            }
        }
    }
}

/// Fetches up to JOIN_RUN of `left` chunks' sums; the rest are NOTHING.
INLINE void fetch_run(const float* sums, u32 head_size, u32 left, Word2* out) {
    UNROLL for (u32 i = 0; i < JOIN_RUN; ++i) {
        out[i] = {{NOTHING, NOTHING}};
        if (i < left) out[i] = load8(sums + i * head_size);
    }
}

/// Columns `index` and the next of row `row`, of whose `chunks` chunks the slice has the columns
/// `start` to `last`; `shared` has room for JOIN_SHARED floats.
template <typename Element>
INLINE void join_chunks(const AttentionSplitArguments<Element>& a, u32 row, u32 chunks, u32 start,
                        u32 last, u32 index, float* shared, float (&out)[2]) {
    float* const factors = shared;
    float* const parts = shared + FACTORS;
    float* const carried = shared + 2 * FACTORS;
    const u32 first_head = head_of(a, start), own_head = head_of(a, index) - first_head;
    const u32 heads = head_of(a, last) - first_head + 1;
    const u64 head = ((u64)row * a.heads + first_head) * a.chunks;
    const float* maxima = a.maxima.at(head, heads * a.chunks);
    const float* totals = a.totals.at(head, heads * a.chunks);
    const u64 own_chunks = head + own_head * a.chunks;
    const u32 dimension = index - (first_head + own_head) * a.head_size;
    const float* sums = a.sums.at(own_chunks * a.head_size, (u64)chunks * a.head_size) + dimension;
    const u32 step = JOIN_RUN * a.head_size;
    Word2 ahead[JOIN_AHEAD];
    UNROLL for (u32 run = 0; run < JOIN_AHEAD; run += JOIN_RUN, sums += step) {
        fetch_run(sums, a.head_size, run < chunks ? chunks - run : 0, ahead + run);
    }
    EACH_THREAD(i, heads) { carried[i] = -infinity32(); }
    // A multiple of what is under way, so that no part belongs to the next round of factors.
    const u32 most = FACTORS / JOIN_AHEAD / heads * JOIN_AHEAD;
    const u32 stride = chunks < most ? (chunks + JOIN_AHEAD - 1) / JOIN_AHEAD * JOIN_AHEAD : most;
    float total = from_bits(NOTHING);
    out[0] = out[1] = total;
    ROLL for (u32 first = 0; first < chunks; first += stride) {
        const u32 count = chunks - first < stride ? chunks - first : stride;
        BARRIER();
        find_factors(maxima + first, totals + first, heads, a.chunks, count, stride,
                     first == 0, carried, factors, parts);
        BARRIER();
        const u32 own = own_head * stride;
        ROLL for (u32 at = 0; at < count; at += JOIN_AHEAD) {
            UNROLL for (u32 run = 0; run < JOIN_AHEAD; run += JOIN_RUN, sums += step) {
                const u32 next = first + at + run + JOIN_AHEAD;
                join_run(factors + own + at + run, parts + own + at + run, ahead + run, total, out);
                fetch_run(sums, a.head_size, next < chunks ? chunks - next : 0, ahead + run);
            }
        }
    }
    out[0] = out[0] / total;
    out[1] = out[1] / total;
}

/// Writes a slice of a row, and the same in fixed point where that is wanted.
template <typename Element, typename Maxima>
INLINE void join_slice(const AttentionSplitArguments<Element>& a, u32 row, u32 chunks, u32 slice,
                       float* shared, Maxima& maxima) {
    const u32 width = a.heads * a.head_size, start = slice * SLICE;
    const u32 end = width - start < SLICE ? width : start + SLICE;
    const u32 index = start + 2 * THREAD_X;
    const bool inside = index < end;
    float x[2];
    // A thread beyond the row repeats the last values.
    join_chunks(a, row, chunks, start, end - 1, inside ? index : end - 2, shared, x);
    if (inside) *(Word2*)a.out.at((u64)row * width + index, 2) = {{to_bits(x[0]), to_bits(x[1])}};
    if (a.fixed.digit_count != 0) {
        fixed_point_write(a.fixed, width, row, index, inside, x, maxima);
    }
}
