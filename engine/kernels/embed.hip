// embed: out[row] = dequantised row `tokens[row]` of the table. CONTRACT.md section 3.
// Grid: x = blocks of BLOCK_VALUES columns, y = rows. A block of threads unpacks one run of values.
// No sums. Each value has one rounding.
#include "arguments.h"
#include "formats.h"

#define EMBED_COLUMNS 256u

template <typename Format>
INLINE void embed_quantised(const EmbedArguments& a BLOCK_PARAMETERS) {
    constexpr u32 N = Format::VALUES, G = Format::GROUP, BLOCKS = EMBED_COLUMNS / N;
    const u64 row_bytes = (u64)(a.hidden / N) * Format::BYTES;
    EACH_THREAD(local, BLOCKS) {
        const u32 block = BLOCK_X * BLOCKS + local;
        if (block * N < a.hidden) {
            const u64 start = a.tokens[BLOCK_Y] * row_bytes + (u64)block * Format::BYTES;
            Unpacked<N, G> w;
            Format::unpack(a.table.at(start, Format::BYTES), w);
            float* out = a.out.at((u64)BLOCK_Y * a.hidden + block * N, N);
            for (u32 i = 0; i < N; ++i) {
                const float q = to_f32(w.w[i]);
                if constexpr (Format::INTEGER_MINS && Format::HAS_MIN) {
                    out[i] = fma32(w.d, q, -(w.dmin * to_f32(w.mn[i / G])));
                } else if constexpr (Format::HAS_MIN) {
                    out[i] = fma32(w.d, q, w.dmin);
                } else {
                    out[i] = w.d * q;
                }
            }
        }
    }
}

template <typename Format>
INLINE void embed_float(const EmbedArguments& a BLOCK_PARAMETERS) {
    EACH_THREAD(local, EMBED_COLUMNS) {
        const u64 column = (u64)BLOCK_X * EMBED_COLUMNS + local;
        if (column < a.hidden) {
            const u64 index = (u64)a.tokens[BLOCK_Y] * a.hidden + column;
            const u8* bytes = a.table.at(index * Format::BYTES, Format::BYTES);
            a.out[(u64)BLOCK_Y * a.hidden + column] = Format::widen(bytes);
        }
    }
}

#define EMBED(suffix, body, Format) EMBED_OF(suffix, body, Format)
#define EMBED_OF(suffix, body, Format) \
    KERNEL(embed_##suffix, EmbedArguments) { body<Format>(a BLOCK_ARGUMENTS); }

// A compiler at run time makes the kernel of one format only.
#if defined(LOCKSTEP_FORMAT)
EMBED(LOCKSTEP_SUFFIX, embed_quantised, LOCKSTEP_FORMAT)
#else
EMBED(f32, embed_float, Float32)
EMBED(f16, embed_float, Float16)
EMBED(bf16, embed_float, BFloat16)
EMBED(q4_0, embed_quantised, Q4_0)
EMBED(q4_1, embed_quantised, Q4_1)
EMBED(q5_0, embed_quantised, Q5_0)
EMBED(q5_1, embed_quantised, Q5_1)
EMBED(q8_0, embed_quantised, Q8_0)
EMBED(q2_k, embed_quantised, Q2_K)
EMBED(q3_k, embed_quantised, Q3_K)
EMBED(q4_k, embed_quantised, Q4_K)
EMBED(q5_k, embed_quantised, Q5_K)
EMBED(q6_k, embed_quantised, Q6_K)
#endif
