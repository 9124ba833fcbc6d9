// The ten formats as operands of matrix tiles: signed bytes straight from raw blocks.
//
// A lane takes runs that lie together: of a block of 256 values part `p` of 16 values, all of one
// scale, of a block of 32 quarter `q` of 8 values. Where a group has an integer
// scale, the operand is scale times weight, in one plane of bytes where that fits and in two
// otherwise: product = low + 256 high, both signed, so that no sum of a tile ever meets a scale.
#pragma once
#include "../formats.h"
#include "../lanes.h"

// Arrays stay in registers only where every index is known.
#if defined(LOCKSTEP_GPU)
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#else
#define UNROLL
#define ROLLED
#endif

/// Words from an address that is a multiple of ALIGNMENT, without a byte behind them.
template <u32 ALIGNMENT, u32 COUNT>
INLINE void load_words(const u8* from, u32* words) {
    if constexpr (ALIGNMENT % 16 == 0 && COUNT == 4) {
        const Word4 all = load16(from);
        for (u32 i = 0; i < 4; ++i) words[i] = all.words[i];
    } else if constexpr (ALIGNMENT % 4 == 0) {
        for (u32 i = 0; i < COUNT; ++i) words[i] = load4(from + 4 * i);
    } else {
        // Aligned words around, moved by nothing or by half a word. The buffer starts at a multiple
        // of four, so there are two bytes in front of an address that is none.
        const u32 odd = (u32)(u64)from & 2u;
        u32 around[COUNT + 1];
        for (u32 i = 0; i < COUNT; ++i) around[i] = load4(from - odd + 4 * i);
        around[COUNT] = *(const u16*)(from + 4 * COUNT - 2);
        for (u32 i = 0; i < COUNT; ++i) {
            words[i] = (u32)(((u64)around[i + 1] << 32 | around[i]) >> odd * 8);
        }
    }
}
INLINE float load_half(const u8* from) { return half_to_f32(*(const u16*)from); }

/// Bytes 0, 2 of both words, in turn: those of `even` at even places.
INLINE u32 low_bytes(u32 even, u32 odd) {
#if defined(__CUDACC_RTC__) || defined(__CUDACC__)
    return __byte_perm(even, odd, 0x6240);
#elif defined(__HIP__)
    return __builtin_amdgcn_perm(odd, even, 0x06020400u);
#else
    return (even & 0x00ff00ffu) | (odd & 0x00ff00ffu) << 8;
#endif
}
/// Bytes 1, 3 of both words.
INLINE u32 high_bytes(u32 even, u32 odd) {
#if defined(__CUDACC_RTC__) || defined(__CUDACC__)
    return __byte_perm(even, odd, 0x7351);
#elif defined(__HIP__)
    return __builtin_amdgcn_perm(odd, even, 0x07030501u);
#else
    return (even >> 8 & 0x00ff00ffu) | (odd & 0xff00ff00u);
#endif
}

/// What is multiplied in place of four weights.
struct Planes {
    u32 low, high;
};

/// scale * (byte - offset) of four unsigned bytes. Each product plus 0x8080 is positive and fits 16
/// bits, so two share a word; 0x80 carries the low byte's sign up, and 0x80 makes the sum positive.
INLINE Planes scaled_planes(u32 bytes, i32 scale, i32 offset) {
    const u32 bias = (u32)(0x8080 - scale * offset) * 0x00010001u;
    const u32 even = (bytes & 0x00ff00ffu) * (u32)scale + bias;
    const u32 odd = (bytes >> 8 & 0x00ff00ffu) * (u32)scale + bias;
    return {low_bytes(even, odd) ^ 0x80808080u, high_bytes(even, odd) ^ 0x80808080u};
}

/// Bytes minus `offset`, each byte for itself; bytes and offsets are below 128.
INLINE u32 minus_bytes(u32 bytes, u32 offset) {
    return ((bytes | 0x80808080u) - offset * 0x01010101u) ^ 0x80808080u;
}

/// Bits 0..=3 of `bits`, each at the foot of a byte.
INLINE u32 spread_bits(u32 bits) { return (bits & 15u) * 0x00204081u & 0x01010101u; }

/// `Tiled<Format>`: PLANES of bytes; NEGATED where the operand is minus the product.
/// K formats: `values(b, p)` unsigned bytes of part p, of which OFFSET is taken; `scales(b)` and
/// `mins(b)` bytes in the order of groups; D and DMIN, where the floats are.
/// Blocks of 32: `weights(b, q)` signed bytes of quarter q.
template <typename Format>
struct Tiled;

template <>
struct Tiled<Q4_0> {
    static constexpr u32 PLANES = 1;
    INLINE_STATIC Word2 weights(const u8* b, u32 q) {
        Word2 out;
        load_words<2, 2>(b + 2 + q % 2 * 8, out.words);
        for (u32& word : out.words) word = minus_bytes(word >> q / 2 * 4 & 0x0f0f0f0fu, 8);
        return out;
    }
};

template <>
struct Tiled<Q4_1> {
    static constexpr u32 PLANES = 1;
    INLINE_STATIC Word2 weights(const u8* b, u32 q) {
        Word2 out;
        load_words<4, 2>(b + 4 + q % 2 * 8, out.words);
        for (u32& word : out.words) word = word >> q / 2 * 4 & 0x0f0f0f0fu;
        return out;
    }
};

template <>
struct Tiled<Q5_0> {
    static constexpr u32 PLANES = 1;
    INLINE_STATIC Word2 weights(const u8* b, u32 q) {
        Word2 out;
        u32 high;
        load_words<2, 2>(b + 6 + q % 2 * 8, out.words);
        load_words<2, 1>(b + 2, &high);
        for (u32 i = 0; i < 2; ++i) {
            const u32 fifth = spread_bits(high >> (q * 8 + i * 4)) << 4;
            out.words[i] = minus_bytes((out.words[i] >> q / 2 * 4 & 0x0f0f0f0fu) | fifth, 16);
        }
        return out;
    }
};

template <>
struct Tiled<Q5_1> {
    static constexpr u32 PLANES = 1;
    INLINE_STATIC Word2 weights(const u8* b, u32 q) {
        Word2 out;
        load_words<4, 2>(b + 8 + q % 2 * 8, out.words);
        const u32 high = load4(b + 4);
        for (u32 i = 0; i < 2; ++i) {
            const u32 fifth = spread_bits(high >> (q * 8 + i * 4)) << 4;
            out.words[i] = (out.words[i] >> q / 2 * 4 & 0x0f0f0f0fu) | fifth;
        }
        return out;
    }
};

template <>
struct Tiled<Q8_0> {
    static constexpr u32 PLANES = 1;
    INLINE_STATIC Word2 weights(const u8* b, u32 q) {
        Word2 out;
        load_words<2, 2>(b + 2 + q * 8, out.words);
        return out;
    }
};

template <>
struct Tiled<Q2_K> {
    static constexpr u32 PLANES = 1, D = 80, DMIN = 82;
    static constexpr i32 OFFSET = 0;
    static constexpr bool NEGATED = false;
    INLINE_STATIC Word4 values(const u8* b, u32 p) {
        Word4 out;
        load_words<4, 4>(b + 16 + p / 8 * 32 + p % 2 * 16, out.words);
        for (u32& word : out.words) word = word >> p / 2 % 4 * 2 & 0x03030303u;
        return out;
    }
    INLINE_STATIC Word4 scales(const u8* b) {
        Word4 out;
        load_words<4, 4>(b, out.words);
        for (u32& word : out.words) word &= 0x0f0f0f0fu;
        return out;
    }
    INLINE_STATIC Word4 mins(const u8* b) {
        Word4 out;
        load_words<4, 4>(b, out.words);
        for (u32& word : out.words) word = word >> 4 & 0x0f0f0f0fu;
        return out;
    }
};

template <>
struct Tiled<Q3_K> {
    // -32 * -4 does not fit a byte, and minus that does: so does minus every other product.
    static constexpr u32 PLANES = 1, D = 108;
    static constexpr i32 OFFSET = 4;
    static constexpr bool NEGATED = true;
    INLINE_STATIC Word4 values(const u8* b, u32 p) {
        Word4 out, mask;
        load_words<2, 4>(b + 32 + p / 8 * 32 + p % 2 * 16, out.words);
        load_words<2, 4>(b + p % 2 * 16, mask.words);
        for (u32 i = 0; i < 4; ++i) {
            const u32 third = (mask.words[i] >> p / 2 & 0x01010101u) << 2;
            out.words[i] = (out.words[i] >> p / 2 % 4 * 2 & 0x03030303u) | third;
        }
        return out;
    }
    INLINE_STATIC Word4 scales(const u8* b) {
        u32 s[3];
        load_words<2, 3>(b + 96, s);
        Word4 out;
        for (u32 i = 0; i < 4; ++i) {
            const u32 low = s[i % 2] >> i / 2 * 4 & 0x0f0f0f0fu;
            // Signed, and then the other way round: 32 minus the field.
            const u32 field = low | (s[2] >> i * 2 & 0x03030303u) << 4;
            out.words[i] = (0xa0a0a0a0u - field) ^ 0x80808080u;
        }
        return out;
    }
};

/// Eight scales or mins of 6 bits: four whole ones, and four of which two bits lie elsewhere.
INLINE Word4 six_bits(u32 whole, u32 nibbles) {
    return {{whole & 0x3f3f3f3fu, (nibbles & 0x0f0f0f0fu) | (whole >> 2 & 0x30303030u), 0, 0}};
}

template <>
struct Tiled<Q4_K> {
    static constexpr u32 PLANES = 2, D = 0, DMIN = 2;
    static constexpr i32 OFFSET = 0;
    static constexpr bool NEGATED = false;
    INLINE_STATIC Word4 values(const u8* b, u32 p) {
        Word4 out;
        load_words<16, 4>(b + 16 + p / 4 * 32 + p % 2 * 16, out.words);
        for (u32& word : out.words) word = word >> p / 2 % 2 * 4 & 0x0f0f0f0fu;
        return out;
    }
    INLINE_STATIC Word4 scales(const u8* b) { return six_bits(load4(b + 4), load4(b + 12)); }
    INLINE_STATIC Word4 mins(const u8* b) { return six_bits(load4(b + 8), load4(b + 12) >> 4); }
};

template <>
struct Tiled<Q5_K> {
    static constexpr u32 PLANES = 2, D = 0, DMIN = 2;
    static constexpr i32 OFFSET = 0;
    static constexpr bool NEGATED = false;
    INLINE_STATIC Word4 values(const u8* b, u32 p) {
        Word4 out, high;
        load_words<16, 4>(b + 48 + p / 4 * 32 + p % 2 * 16, out.words);
        load_words<16, 4>(b + 16 + p % 2 * 16, high.words);
        for (u32 i = 0; i < 4; ++i) {
            const u32 fifth = (high.words[i] >> p / 2 & 0x01010101u) << 4;
            out.words[i] = (out.words[i] >> p / 2 % 2 * 4 & 0x0f0f0f0fu) | fifth;
        }
        return out;
    }
    INLINE_STATIC Word4 scales(const u8* b) { return six_bits(load4(b + 4), load4(b + 12)); }
    INLINE_STATIC Word4 mins(const u8* b) { return six_bits(load4(b + 8), load4(b + 12) >> 4); }
};

template <>
struct Tiled<Q6_K> {
    static constexpr u32 PLANES = 2, D = 208;
    static constexpr i32 OFFSET = 32;
    static constexpr bool NEGATED = false;
    INLINE_STATIC Word4 values(const u8* b, u32 p) {
        const u32 quarter = p / 2 % 4;
        Word4 out, high;
        load_words<2, 4>(b + p / 8 * 64 + quarter % 2 * 32 + p % 2 * 16, out.words);
        load_words<2, 4>(b + 128 + p / 8 * 32 + p % 2 * 16, high.words);
        for (u32 i = 0; i < 4; ++i) {
            const u32 upper = (high.words[i] >> quarter * 2 & 0x03030303u) << 4;
            out.words[i] = (out.words[i] >> quarter / 2 * 4 & 0x0f0f0f0fu) | upper;
        }
        return out;
    }
    INLINE_STATIC Word4 scales(const u8* b) {
        Word4 out;
        load_words<2, 4>(b + 192, out.words);
        return out;
    }
};
