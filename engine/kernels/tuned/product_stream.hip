// product_stream: out[output] = weights[output] . x for one row, of up to three matrices of one
// type. Replaces product, with a norm norm_quantise as well, of gate and up swiglu_quantise too.
// CONTRACT.md section 6.
// Grid: x = blocks of threads that share the tiles of 16 outputs, at most as many as run at once.
#include "stream.h"

template <typename Format, u32 DIGITS>
INLINE void product_stream(const ProductStreamArguments& a, u32 place) {
    stream_products<Format, DIGITS>(a, {place, a.stride, 0, WAVE_MATRICES});
}

#define PRODUCT_STREAM(suffix, Format) PRODUCT_STREAM_OF(suffix, Format)
#define PRODUCT_STREAM_OF(suffix, Format)                        \
    PRODUCT_STREAM_WITH(product_stream_##suffix##_i8, Format, 1)   \
    PRODUCT_STREAM_WITH(product_stream_##suffix##_i16, Format, 2)  \
    PRODUCT_STREAM_WITH(product_stream_##suffix##_i24, Format, 3)
#define PRODUCT_STREAM_WITH(name, Format, digits)   \
    KERNEL_WIDE(name, ProductStreamArguments) {     \
        product_stream<Format, digits>(a, BLOCK_X); \
    }

#if defined(LOCKSTEP_FORMAT)
PRODUCT_STREAM(LOCKSTEP_SUFFIX, LOCKSTEP_FORMAT)
#else
PRODUCT_STREAM(q4_k, Q4_K)
PRODUCT_STREAM(q5_k, Q5_K)
PRODUCT_STREAM(q6_k, Q6_K)
#endif
