// product_float: out[row][output] = weights[output] . x[row], float weights. CONTRACT.md section 7.
// Grid: x = runs of OUTPUT_RUN outputs, y = runs of ROW_RUN rows. One thread an output.
// Chunks of 64 values, in order with fma; eight chunks advance together, since a single chain of
// fma leaves the unit idle for its latency; the chunks' sums are then added in order.
#include "arguments.h"
#include "formats.h"

#define FLOAT_OUTPUT_RUN 32u
#define FLOAT_ROW_RUN 16u
#define FLOAT_CHUNK 64u
#define FLOAT_CHAINS 8u

template <typename Format>
INLINE float product_row(const u8* w, const float* x, u32 width) {
    float total = 0.0f;
    u32 start = 0;
    for (; start + FLOAT_CHUNK * FLOAT_CHAINS <= width; start += FLOAT_CHUNK * FLOAT_CHAINS) {
        float chain[FLOAT_CHAINS] = {};
        for (u32 i = 0; i < FLOAT_CHUNK; ++i) {
            for (u32 c = 0; c < FLOAT_CHAINS; ++c) {
                const u32 k = start + c * FLOAT_CHUNK + i;
                chain[c] = fma32(Format::widen(w + (u64)k * Format::BYTES), x[k], chain[c]);
            }
        }
        for (u32 c = 0; c < FLOAT_CHAINS; ++c) total = total + chain[c];
    }
    for (; start < width; start += FLOAT_CHUNK) {
        const u32 end = width - start < FLOAT_CHUNK ? width : start + FLOAT_CHUNK;
        float chunk = 0.0f;
        for (u32 k = start; k < end; ++k) {
            chunk = fma32(Format::widen(w + (u64)k * Format::BYTES), x[k], chunk);
        }
        total = total + chunk;
    }
    return total;
}

template <typename Format>
INLINE void product_float(const ProductFloatArguments& a BLOCK_PARAMETERS) {
    const u32 first_row = BLOCK_Y * FLOAT_ROW_RUN;
    const u32 rows = a.rows - first_row < FLOAT_ROW_RUN ? a.rows - first_row : FLOAT_ROW_RUN;
    EACH_THREAD(local, FLOAT_OUTPUT_RUN) {
        const u32 output = BLOCK_X * FLOAT_OUTPUT_RUN + local;
        if (output < a.outputs) {
            const u64 bytes = (u64)a.width * Format::BYTES;
            const u8* weights = a.weights.at(output * bytes, bytes);
            for (u32 r = 0; r < rows; ++r) {
                const u64 row = first_row + r;
                const float* x = a.x.at(row * a.width, a.width);
                a.out[row * a.outputs + output] = product_row<Format>(weights, x, a.width);
            }
        }
    }
}

KERNEL(product_f32, ProductFloatArguments) { product_float<Float32>(a BLOCK_ARGUMENTS); }
KERNEL(product_f16, ProductFloatArguments) { product_float<Float16>(a BLOCK_ARGUMENTS); }
KERNEL(product_bf16, ProductFloatArguments) { product_float<BFloat16>(a BLOCK_ARGUMENTS); }
