// product: out[row][output] = weights[output] . x[row], quantised weights. CONTRACT.md section 6.
// Grid: x = runs of OUTPUT_RUN outputs, y = runs of ROW_RUN rows. One thread an output, for all
// rows of the run: a weight block is unpacked once and meets every row.
// Digit products are exact integers; f32 accumulates blocks in order, then chunks in order.
#include "arguments.h"
#include "formats.h"

#define OUTPUT_RUN 32u
#define ROW_RUN 16u

/// The exact sum of one digit over one block.
template <u32 N>
INLINE i32 digit_sum(const i16* w, const i8* e) {
    i32 sum = 0;
    // Both factors as i16: the pattern that compilers turn into a multiply-add of pairs.
    for (u32 i = 0; i < N; ++i) sum += (i32)w[i] * (i32)(i16)e[i];
    return sum;
}

template <typename Format, u32 DIGITS>
INLINE void product(const ProductArguments& a BLOCK_PARAMETERS) {
    constexpr u32 N = Format::VALUES, G = Format::GROUP, GROUPS = N / G;
    const u32 blocks = a.width / N;
    const u32 first_row = BLOCK_Y * ROW_RUN;
    const u32 rows = a.rows - first_row < ROW_RUN ? a.rows - first_row : ROW_RUN;
    EACH_THREAD(local, OUTPUT_RUN) {
        const u32 output = BLOCK_X * OUTPUT_RUN + local;
        if (output < a.outputs) {
            const u64 bytes = (u64)blocks * Format::BYTES;
            const u8* weights = a.weights.at(output * bytes, bytes);
            float total[ROW_RUN], chunk[ROW_RUN];
            for (u32 r = 0; r < rows; ++r) total[r] = chunk[r] = 0.0f;
            for (u32 block = 0; block < blocks; ++block) {
                Unpacked<N, G> w;
                Format::unpack(weights + (u64)block * Format::BYTES, w);
                for (u32 r = 0; r < rows; ++r) {
                    const u64 row = first_row + r;
                    // Least significant digit first, so that D = 1 and 2 are its last steps.
                    const u64 plane = row * DIGITS * a.width + (u64)block * N;
                    float t = to_f32(digit_sum<N>(w.w, a.digits.at(plane, N)));
                    if constexpr (DIGITS > 1) {
                        const i8* second = a.digits.at(plane + a.width, N);
                        t = fma32(to_f32(digit_sum<N>(w.w, second)), 256.0f, t);
                    }
                    if constexpr (DIGITS > 2) {
                        const i8* third = a.digits.at(plane + 2 * (u64)a.width, N);
                        t = fma32(to_f32(digit_sum<N>(w.w, third)), 65536.0f, t);
                    }
                    const float scale = a.scales[row * blocks + block];
                    chunk[r] = fma32(w.d * scale, t, chunk[r]);
                    if constexpr (Format::HAS_MIN) {
                        const float* u = a.sums.at((row * blocks + block) * GROUPS, GROUPS);
                        if constexpr (Format::INTEGER_MINS) {
                            float n = 0.0f;
                            for (u32 g = 0; g < GROUPS; ++g) n = fma32(to_f32(w.mn[g]), u[g], n);
                            chunk[r] = fma32(-w.dmin, n, chunk[r]);
                        } else {
                            chunk[r] = fma32(w.dmin, u[0], chunk[r]);
                        }
                    }
                }
                if ((block + 1) % Format::CHUNK_BLOCKS == 0 || block + 1 == blocks) {
                    for (u32 r = 0; r < rows; ++r) {
                        total[r] = total[r] + chunk[r];
                        chunk[r] = 0.0f;
                    }
                }
            }
            for (u32 r = 0; r < rows; ++r) {
                a.out[(u64)(first_row + r) * a.outputs + output] = total[r];
            }
        }
    }
}

#define PRODUCT(suffix, Format) PRODUCT_OF(suffix, Format)
#define PRODUCT_OF(suffix, Format)                                                                 \
    KERNEL(product_##suffix##_i8, ProductArguments) { product<Format, 1>(a BLOCK_ARGUMENTS); }  \
    KERNEL(product_##suffix##_i16, ProductArguments) { product<Format, 2>(a BLOCK_ARGUMENTS); } \
    KERNEL(product_##suffix##_i24, ProductArguments) { product<Format, 3>(a BLOCK_ARGUMENTS); }

// A compiler at run time makes the kernels of one format only.
#if defined(LOCKSTEP_FORMAT)
PRODUCT(LOCKSTEP_SUFFIX, LOCKSTEP_FORMAT)
#else
PRODUCT(q4_0, Q4_0)
PRODUCT(q4_1, Q4_1)
PRODUCT(q5_0, Q5_0)
PRODUCT(q5_1, Q5_1)
PRODUCT(q8_0, Q8_0)
PRODUCT(q2_k, Q2_K)
PRODUCT(q3_k, Q3_K)
PRODUCT(q4_k, Q4_K)
PRODUCT(q5_k, Q5_K)
PRODUCT(q6_k, Q6_K)
#endif
