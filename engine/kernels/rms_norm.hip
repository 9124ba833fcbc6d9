// rms_norm: out[row] = x[row] / sqrt(mean(x[row]^2) + epsilon) * weight. CONTRACT.md section 4.
// Grid: x = rows, one block of threads a row.
// 256 strided partial sums in order with fma, then a halving tree; accumulators f32.
#include "arguments.h"
#include "arithmetic.h"

#define NORM_LANES 256u

KERNEL(rms_norm, RmsNormArguments) {
    SHARED(float, partial, NORM_LANES);
    const u64 row = (u64)BLOCK_X * a.width;
    // partial sums
    EACH_THREAD(lane, NORM_LANES) { partial[lane] = 0.0f; }
    BARRIER();
    // The outer loop is in order; the inner one is the lanes, so that the host vectorises it.
    for (u32 start = 0; start < a.width; start += NORM_LANES) {
        const u32 lanes = a.width - start < NORM_LANES ? a.width - start : NORM_LANES;
        const float* x = a.x.at(row + start, lanes);
        EACH_THREAD(lane, lanes) { partial[lane] = fma32(x[lane], x[lane], partial[lane]); }
    }
    BARRIER();
    // tree
    for (u32 half = NORM_LANES / 2; half > 0; half /= 2) {
        EACH_THREAD(lane, half) { partial[lane] = partial[lane] + partial[lane + half]; }
        BARRIER();
    }
    // scale
    const float mean = partial[0] / (float)a.width;
    const float scale = 1.0f / sqrt32(mean + a.epsilon);
    const float* x = a.x.at(row, a.width);
    const float* weight = a.weight.at(0, a.width);
    float* out = a.out.at(row, a.width);
    EACH_THREAD(i, a.width) { out[i] = (x[i] * scale) * weight[i]; }
}
