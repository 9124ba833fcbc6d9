// attention_combine: steps 3 and 4 of CONTRACT.md section 10 over what attention_chunks left.
// attention_combine_quantise brings the result into fixed point as well, section 5; with the chunks
// it replaces the plain kernels attention and quantise.
// Grid: x = 256 values of a row, y = rows. One thread a value, chunks in order; M is a running
// maximum, so that the factors of many chunks are known at once. Integer sums are exact.
#include "attention_parts.h"
#include "fixed_point.h"

// Heads that 256 values can touch: of two values each, and one at either end.
#define COMBINED_HEADS 130u
// Chunks under way from memory.
#define COMBINE_AHEAD 32u
#define COMBINE_RUN 8u
// Factors that shared memory holds, for all heads of a block.
#define FACTORS (COMBINED_HEADS * COMBINE_AHEAD)

struct AttentionCombineArguments {
    Span<const float> maxima;  // as AttentionChunksArguments
    Span<const float> totals;
    Span<const float> sums;
    Span<float> out;           // [rows][heads][head_size]
    Span<const u32> position;  // [1], of row 0
    u32 heads, head_size, rows, chunks;
};

struct AttentionCombineQuantiseArguments {
    Span<const float> maxima;
    Span<const float> totals;
    Span<const float> sums;
    Span<float> out;
    Span<const u32> position;
    FixedPointOut fixed;       // a row being all heads
    u32 heads, head_size, rows, chunks;
};

/// Factors of `count` chunks for the heads of a block; `carried` has M before them, and gets M
/// after them behind the heads. 32 lanes a head, each with neighbouring chunks.
INLINE void find_factors(const Span<const float>& maxima, u64 head, u32 heads, u32 chunks,
                         u32 first, u32 count, u32 stride, float* carried, u32* factors) {
    const u32 lane = THREAD_X % 32;
    const u32 share = (count + 31) / 32;
    const u32 begin = lane * share < count ? lane * share : count;
    const u32 end = begin + share < count ? begin + share : count;
    for (u32 round = 0; round < heads; round += BLOCK_THREADS / 32) {
        const u32 own_head = round + THREAD_X / 32;
        const bool works = own_head < heads;
        const u64 row = (head + (works ? own_head : 0)) * chunks + first;
        float m = -infinity32();
        for (u32 i = begin; i < end; ++i) m = larger(m, maxima[row + i]);
        // The maximum of this lane and those before it.
        UNROLL for (u32 step = 1; step < 32; step *= 2) {
            const float other = shuffle_from(m, lane >= step ? lane - step : lane);
            m = larger(m, other);
        }
        const float before = shuffle_from(m, lane > 0 ? lane - 1 : 0);
        if (!works) continue;
        float running = larger(carried[own_head], lane > 0 ? before : -infinity32());
        const float last = larger(carried[own_head], m);
        for (u32 i = begin; i < end; ++i) {
            const float own = maxima[row + i];
            factors[own_head * stride + i] = factor_word(running, own);
            running = larger(running, own);
        }
        if (lane == 31) carried[COMBINED_HEADS + own_head] = last;
    }
}

/// Adds COMBINE_RUN chunks, or the `left` there are, to L and A.
INLINE void join_run(const u32* factors, const float* totals, const float* sums, u32 chunk,
                     u32 left, float& total, float& sum) {
    UNROLL for (u32 i = 0; i < COMBINE_RUN; i += 4) {
        const Word4 words = load16(factors + i);
        const Word4 parts = load16(totals + i);
        UNROLL for (u32 j = 0; j < 4; ++j) {
            const float factor = factor_of(words.words[j]);
            const bool rises = rises_of(words.words[j]);
            const float l = from_bits(parts.words[j]);
            const bool sets = chunk + i + j == 0;
            const bool counts = i + j < left;
            const float new_total = sets ? l : joined(total, l, factor, rises);
            const float new_sum = sets ? sums[i + j] : joined(sum, sums[i + j], factor, rises);
            total = counts ? new_total : total;
            sum = counts ? new_sum : sum;
        }
    }
}

/// The value of this thread; one beyond the row repeats the last.
template <typename Arguments>
INLINE float combine(const Arguments& a BLOCK_PARAMETERS) {
    SHARED(u32, factors, FACTORS);
    SHARED(float, parts, FACTORS);
    SHARED(float, carried, 2 * COMBINED_HEADS);
    const u32 width = a.heads * a.head_size;
    const u32 start = BLOCK_X * BLOCK_THREADS;
    const u32 last = width - start < BLOCK_THREADS ? width - 1 : start + BLOCK_THREADS - 1;
    const u32 index = start + THREAD_X < width ? start + THREAD_X : last;
    const u32 first_head = start / a.head_size;
    const u32 heads = last / a.head_size - first_head + 1;
    const u32 chunks_used = (a.position[0] + BLOCK_Y) / CHUNK_KEYS + 1;
    // A multiple of what is under way, so that no part belongs to the next round of factors.
    const u32 stride = FACTORS / heads / COMBINE_AHEAD * COMBINE_AHEAD;
    const u64 head = (u64)BLOCK_Y * a.heads + first_head;
    const u32 own_head = index / a.head_size - first_head;
    const u64 column = ((head + own_head) * a.chunks) * a.head_size + index % a.head_size;
    float ahead[COMBINE_AHEAD];
    UNROLL for (u32 i = 0; i < COMBINE_AHEAD; ++i) {
        if (i < chunks_used) ahead[i] = a.sums[column + (u64)i * a.head_size];
    }
    EACH_THREAD(i, heads) { carried[i] = -infinity32(); }
    float total = 0.0f, sum = 0.0f;
    ROLL for (u32 first = 0; first < chunks_used; first += stride) {
        const u32 left = chunks_used - first;
        const u32 count = left < stride ? left : stride;
        BARRIER();
        find_factors(a.maxima, head, heads, a.chunks, first, count, stride, &carried[0],
                     &factors[0]);
        EACH_THREAD(i, heads * count) {
            const u64 row = (head + i / count) * a.chunks;
            parts[i / count * stride + i % count] = a.totals[row + first + i % count];
        }
        BARRIER();
        EACH_THREAD(i, heads) { carried[i] = carried[COMBINED_HEADS + i]; }
        ROLL for (u32 at = 0; at < count; at += COMBINE_AHEAD) {
            float part[COMBINE_AHEAD];
            UNROLL for (u32 i = 0; i < COMBINE_AHEAD; ++i) {
                part[i] = ahead[i];
                const u32 next = first + at + i + COMBINE_AHEAD;
                if (next < chunks_used) ahead[i] = a.sums[column + (u64)next * a.head_size];
            }
            UNROLL for (u32 run = 0; run < COMBINE_AHEAD; run += COMBINE_RUN) {
                const u32 index = own_head * stride + at + run;
                if (at + run < count) {
                    join_run(&factors[index], &parts[index], part + run, first + at + run,
                             count - at - run, total, sum);
                }
            }
        }
    }
    return sum / total;
}

KERNEL(attention_combine, AttentionCombineArguments) {
    const float x = combine(a BLOCK_ARGUMENTS);
    const u32 index = BLOCK_X * BLOCK_THREADS + THREAD_X;
    const u32 width = a.heads * a.head_size;
    if (index < width) a.out[(u64)BLOCK_Y * width + index] = x;
}

KERNEL(attention_combine_quantise, AttentionCombineQuantiseArguments) {
    FIXED_POINT_SHARED(magnitudes);
    next_may_begin();
    const float x = combine(a BLOCK_ARGUMENTS);
    const u32 index = BLOCK_X * BLOCK_THREADS + THREAD_X;
    const u32 width = a.heads * a.head_size;
    const bool inside = index < width;
    if (inside) a.out[(u64)BLOCK_Y * width + index] = x;
    fixed_point_write(a.fixed, width, BLOCK_Y, index, inside, x, magnitudes);
}
