// product_stream_mixed: the same with a norm in front, of up to three matrices of which the last
// ones are Q6_K and those before them of another type: queries, keys and values, as files of mixed
// types have them. Each type has blocks of threads of its own, which all make the row.
// Replaces norm_quantise and product. CONTRACT.md sections 4, 5, 6 and 11.
// Grid: x = the blocks of threads of the first type, then those of Q6_K.
#include "stream.h"

struct ProductStreamMixedArguments {
    ProductStreamArguments products;  // whose stride is of the first type
    u32 q6_k_first;                   // matrix that is Q6_K: from there on all are
    u32 q6_k_stride;                  // blocks of threads for these
};

template <typename Format, u32 DIGITS>
INLINE void product_stream_mixed(const ProductStreamMixedArguments& a, u32 place) {
    const ProductStreamArguments& products = a.products;
    const u32 stride = products.stride;
    if (place < stride) {
        stream_products<Format, DIGITS>(products, {place, stride, 0, a.q6_k_first});
    } else {
        stream_products<Q6_K, DIGITS>(products,
                                      {place - stride, a.q6_k_stride, a.q6_k_first, WAVE_MATRICES});
    }
}

#define PRODUCT_STREAM_MIXED(suffix, Format) PRODUCT_STREAM_MIXED_OF(suffix, Format)
#define PRODUCT_STREAM_MIXED_OF(suffix, Format)                             \
    PRODUCT_STREAM_MIXED_WITH(product_stream_mixed_##suffix##_i8, Format, 1)  \
    PRODUCT_STREAM_MIXED_WITH(product_stream_mixed_##suffix##_i16, Format, 2) \
    PRODUCT_STREAM_MIXED_WITH(product_stream_mixed_##suffix##_i24, Format, 3)
#define PRODUCT_STREAM_MIXED_WITH(name, Format, digits) \
    KERNEL_WIDE(name, ProductStreamMixedArguments) {    \
        product_stream_mixed<Format, digits>(a, BLOCK_X); \
    }

#if defined(LOCKSTEP_FORMAT)
PRODUCT_STREAM_MIXED(LOCKSTEP_SUFFIX, LOCKSTEP_FORMAT)
#else
PRODUCT_STREAM_MIXED(q4_k, Q4_K)
PRODUCT_STREAM_MIXED(q5_k, Q5_K)
#endif
