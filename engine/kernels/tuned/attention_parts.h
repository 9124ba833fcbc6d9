// What the tuned kernels of attention share: elements of the cache, rotation, maxima, the rule of
// chunks.
#pragma once
#include "../arguments.h"
#include "../lanes.h"

// Positions in a chunk, and in a tile of keys.
#define CHUNK_KEYS 64u

/// Where dimension `d` of the key of a position is in the cache of a KV head.
INLINE u64 key_index(u32 position, u32 d, u32 head_size) {
    const u64 tile = (u64)(position / CHUNK_KEYS) * CHUNK_KEYS * head_size;
    return tile + (u64)d * CHUNK_KEYS + position % CHUNK_KEYS;
}

INLINE float cache_value(float x) { return x; }
INLINE float cache_value(u16 half) {
#if defined(__CUDACC_RTC__) || defined(__CUDACC__)
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
    return x;
#else
    return half_to_f32(half);
#endif
}
INLINE void cache_store(float x, float* out) { *out = x; }
INLINE void cache_store(float x, u16* out) { *out = f32_to_half(x); }

/// Sixteen bytes of a cache of float, as floats.
INLINE void spread16(const Word4& piece, const float*, float* out) { *(Word4*)out = piece; }
/// Sixteen bytes of a cache of f16, as floats.
INLINE void spread16(const Word4& piece, const u16*, float* out) {
    Word4 wide[2];
    UNROLL for (u32 i = 0; i < 4; ++i) {
        wide[i / 2].words[i % 2 * 2] = to_bits(cache_value((u16)(piece.words[i] & 0xffffu)));
        wide[i / 2].words[i % 2 * 2 + 1] = to_bits(cache_value((u16)(piece.words[i] >> 16)));
    }
    ((Word4*)out)[0] = wide[0];
    ((Word4*)out)[1] = wide[1];
}

/// A pair of neighbours and its angle, on their way from memory.
struct Turning {
    Word2 pair;  // words of two f32
    float cosine, sine;
};
INLINE Turning fetch_pair(const Span<const float>& x, u64 index, const Span<const float>& cosine,
                          const Span<const float>& sine, u64 angle, bool rotates) {
    return {load8(x.at(index, 2)), rotates ? cosine[angle] : 1.0f, rotates ? sine[angle] : 0.0f};
}
/// The pair, rotated where it is to be.
INLINE Word2 turn(const Turning& from, bool rotates) {
    const float x0 = from_bits(from.pair.words[0]), x1 = from_bits(from.pair.words[1]);
    if (!rotates) return from.pair;
    return {{to_bits(fma32(x0, from.cosine, -(x1 * from.sine))),
             to_bits(fma32(x0, from.sine, x1 * from.cosine))}};
}

/// The maximum of section 10. It never becomes NaN, and only the sign of a zero depends on the
/// order of the operands, which no difference of scores and exponential shows.
INLINE float larger(float a, float b) { return b > a ? b : a; }

/// A chunk's factor as bits; the sign says whether M rises.
INLINE u32 factor_word(float earlier, float own) {
    const bool rises = own > earlier;
    return to_bits(exp32(rises ? earlier - own : own - earlier)) | (rises ? 0x80000000u : 0u);
}
/// One step of the sums over chunks: the chunk's `own` to what is `earlier`, the factor on one of
/// them. Branches, which become conditions of the sum itself.
INLINE void join(u32 word, float own, float& earlier) {
    const float factor = from_bits(word & 0x7fffffffu);
    if (word >> 31 != 0) {
        earlier = fma32(earlier, factor, own);
    } else {
        earlier = fma32(own, factor, earlier);
    }
}
