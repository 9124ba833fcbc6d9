// norm_quantise: stream = x + branch; norm = rms_norm(stream); norm in fixed point.
// Replaces residual, rms_norm and quantise. CONTRACT.md sections 11, 4 and 5.
// Grid: x = runs of `slices` slices of 1024 columns, y = rows. Every block sums the squares of the
// whole row in the contract's order, then writes its own slices: in decode that costs a few more
// reads from the cache and makes as many blocks as there are slices.
#include "fixed_point.h"

struct NormQuantiseArguments {
    Span<const float> x;       // [rows][width]
    Span<const float> branch;  // [rows][width], or empty
    Span<const float> weight;  // [width]
    Span<float> stream;        // [rows][width]; not written where there is no branch
    Span<float> norm;          // [rows][width]
    FixedPointOut fixed;       // nothing is written where digit_count is 0
    u32 width, rows, slices;
    float epsilon;
};

// Values that a thread fetches before it adds the first of them up. Sixteen leave registers for two
// blocks on a multiprocessor: 102 us for 66 on an H100, 2048 rows of 4096.
#define NORM_AHEAD 8u

/// The sum over the block's threads by halving: 128, 64, 32 through memory, the rest by shuffles.
template <typename Shared>
INLINE float tree_sum(float value, Shared& shared) {
    shared[THREAD_X] = value;
    BARRIER();
    for (u32 half = 128; half >= 32; half /= 2) {
        if (THREAD_X < half) shared[THREAD_X] = shared[THREAD_X] + shared[THREAD_X + half];
        BARRIER();
    }
    // Every 32 threads take the same 32 sums, so that all end with the result.
    float sum = shared[THREAD_X % 32];
    for (u32 mask = 16; mask > 0; mask /= 2) sum = sum + shuffle_xor(sum, mask);
    return sum;
}

/// load_four and store_four of rows of any width: those without fixed point may end anywhere.
INLINE void load_any(const float* row, u32 column, u32 width, float (&values)[4]) {
    if (width % 4 == 0) return load_four(row, column, width, values);
    UNROLL
    for (u32 i = 0; i < 4; ++i) values[i] = column + i < width ? row[column + i] : 0.0f;
}
INLINE void store_any(float* row, u32 column, u32 width, const float (&values)[4]) {
    if (width % 4 == 0) return store_four(row, column, width, values);
    UNROLL
    for (u32 i = 0; i < 4; ++i) {
        if (column + i < width) row[column + i] = values[i];
    }
}

KERNEL_AHEAD(1, norm_quantise, NormQuantiseArguments) {
    SHARED(float, partial, BLOCK_THREADS);
    FIXED_POINT_SHARED(maxima);
    next_may_begin();
    // In decode a thread has four columns: their weights come before the inputs do.
    const float* weight = a.weight.at(0, a.width);
    float own_weight[4];
    load_any(weight, (BLOCK_X * a.slices * BLOCK_THREADS + THREAD_X) * 4, a.width, own_weight);
    inputs_ready();
    const u64 row = (u64)BLOCK_Y * a.width;
    const bool adds = a.branch.count != 0;
    const float* x = a.x.at(row, a.width);
    const float* branch = adds ? a.branch.at(row, a.width) : x;
    // squares
    float squares = 0.0f;
    for (u32 first = THREAD_X; first < a.width; first += NORM_AHEAD * BLOCK_THREADS) {
        float values[NORM_AHEAD], more[NORM_AHEAD];
        // Without a condition, so that all loads are under way at once.
        UNROLL
        for (u32 i = 0; i < NORM_AHEAD; ++i) {
            const u32 column = first + i * BLOCK_THREADS;
            const u32 inside = column < a.width ? column : a.width - 1;
            values[i] = x[inside];
            more[i] = branch[inside];
        }
        UNROLL
        for (u32 i = 0; i < NORM_AHEAD; ++i) {
            const u32 column = first + i * BLOCK_THREADS;
            const float value = adds ? values[i] + more[i] : values[i];
            // The sum is never negative, so that a zero past the end changes no bit of it.
            const float counted = column < a.width ? value : 0.0f;
            squares = fma32(counted, counted, squares);
        }
    }
    const float mean = tree_sum(squares, partial) / (float)a.width;
    const float scale = 1.0f / sqrt32(mean + a.epsilon);
    // slices
    for (u32 slice = 0; slice < a.slices; ++slice) {
        const u32 first = (BLOCK_X * a.slices + slice) * BLOCK_THREADS * 4;
        if (first >= a.width) break;
        const u32 column = first + THREAD_X * 4;
        float values[4], more[4], norm[4], weights[4];
        load_any(x, column, a.width, values);
        if (adds) {
            load_any(branch, column, a.width, more);
            UNROLL
            for (u32 i = 0; i < 4; ++i) values[i] = values[i] + more[i];
            store_any(a.stream.at(row, a.width), column, a.width, values);
        }
        if (slice != 0) load_any(weight, column, a.width, weights);
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            norm[i] = (values[i] * scale) * (slice == 0 ? own_weight[i] : weights[i]);
        }
        store_any(a.norm.at(row, a.width), column, a.width, norm);
        if (a.fixed.digit_count != 0) {
            fixed_point_write(a.fixed, a.width, BLOCK_Y, column, column < a.width, norm, maxima);
            BARRIER();
        }
    }
}
