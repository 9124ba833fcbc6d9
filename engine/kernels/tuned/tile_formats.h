// The ten formats as operands of matrix tiles: signed bytes straight from raw blocks.
//
// A lane takes runs that lie together: of a block of 256 values parts of 16, all of one scale, of a
// block of 32 one quarter. Groups of 32 are a tile's k: their weights are operands as they are,
// and tile_groups.h multiplies by scales. Where a group is smaller, the operand is scale times
// weight, in one plane of bytes where that fits and in two otherwise: product = low + 256 high,
// both signed, so that no sum of a tile ever meets a scale.
#pragma once
#include "../formats.h"
#include "../lanes.h"

/// Loads COUNT words from an address that is a multiple of ALIGNMENT, one more where that is 2, and
/// does nothing that waits for them. Not a byte behind the COUNT words is read; what is read in
/// front of an address that is no multiple of four is there, as buffers start at one.
template <u32 ALIGNMENT, u32 COUNT>
INLINE void load_around(const u8* from, u32* raw) {
    if constexpr (ALIGNMENT % 16 == 0 && COUNT == 4) {
        const Word4 all = load16(from);
        UNROLL
        for (u32 i = 0; i < 4; ++i) raw[i] = all.words[i];
    } else {
        const u32 odd = ALIGNMENT % 4 == 0 ? 0 : (u32)(u64)from & 2u;
        UNROLL
        for (u32 i = 0; i < COUNT; ++i) raw[i] = load4(from - odd + 4 * i);
        if constexpr (ALIGNMENT % 4 != 0) raw[COUNT] = *(const u16*)(from + 4 * COUNT - 2);
    }
}

/// The words that were asked for; `odd` is 2 where the address was not a multiple of four.
template <u32 ALIGNMENT, u32 COUNT>
INLINE void words_of(const u32* raw, u32 odd, u32* words) {
    UNROLL
    for (u32 i = 0; i < COUNT; ++i) {
        if constexpr (ALIGNMENT % 4 == 0) {
            words[i] = raw[i];
        } else {
            words[i] = (u32)(((u64)raw[i + 1] << 32 | raw[i]) >> odd * 8);
        }
    }
}

template <u32 ALIGNMENT, u32 COUNT>
INLINE void load_words(const u8* from, u32* words) {
    u32 raw[COUNT + 1];
    load_around<ALIGNMENT, COUNT>(from, raw);
    words_of<ALIGNMENT, COUNT>(raw, (u32)(u64)from & 2u, words);
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

/// `Tiled<Format>`: PLANES of bytes. Blocks of 32: `weights(b, q)`, signed bytes of quarter q.
/// K formats: `load` brings RAW words of a block, what quarter q of the lanes needs, ahead of their
/// use. From them come, for pieces 0..=3 of a step, `values`, unsigned bytes of part `part`, from
/// which OFFSET is to be taken, and `scales`, bytes in the order of groups, as are those of
/// `mins(b)`. D and DMIN are where the floats lie. NEGATED: the operand is minus the product.
/// GROUPED ones have `word` instead, words 2q and 2q + 1 of a group, and read `scales` and `mins`
/// from the block's first 16 bytes. STAGED: tile_stages.h has the body of product_tiles.
template <typename Format>
struct Tiled;

struct TiledSmall {
    // Nothing is loaded ahead.
    static constexpr u32 PLANES = 1, RAW = 1;
    static constexpr bool GROUPED = false, STAGED = false;
};

template <>
struct Tiled<Q4_0> : TiledSmall {
    INLINE_STATIC Word2 weights(const u8* b, u32 q) {
        Word2 out;
        load_words<2, 2>(b + 2 + q % 2 * 8, out.words);
        UNROLL
        for (u32& word : out.words) word = minus_bytes(word >> q / 2 * 4 & 0x0f0f0f0fu, 8);
        return out;
    }
};

template <>
struct Tiled<Q4_1> : TiledSmall {
    INLINE_STATIC Word2 weights(const u8* b, u32 q) {
        Word2 out;
        load_words<4, 2>(b + 4 + q % 2 * 8, out.words);
        UNROLL
        for (u32& word : out.words) word = word >> q / 2 * 4 & 0x0f0f0f0fu;
        return out;
    }
};

template <>
struct Tiled<Q5_0> : TiledSmall {
    INLINE_STATIC Word2 weights(const u8* b, u32 q) {
        Word2 out;
        u32 high;
        load_words<2, 2>(b + 6 + q % 2 * 8, out.words);
        load_words<2, 1>(b + 2, &high);
        UNROLL
        for (u32 i = 0; i < 2; ++i) {
            const u32 fifth = spread_bits(high >> (q * 8 + i * 4)) << 4;
            out.words[i] = minus_bytes((out.words[i] >> q / 2 * 4 & 0x0f0f0f0fu) | fifth, 16);
        }
        return out;
    }
};

template <>
struct Tiled<Q5_1> : TiledSmall {
    INLINE_STATIC Word2 weights(const u8* b, u32 q) {
        Word2 out;
        load_words<4, 2>(b + 8 + q % 2 * 8, out.words);
        const u32 high = load4(b + 4);
        UNROLL
        for (u32 i = 0; i < 2; ++i) {
            const u32 fifth = spread_bits(high >> (q * 8 + i * 4)) << 4;
            out.words[i] = (out.words[i] >> q / 2 * 4 & 0x0f0f0f0fu) | fifth;
        }
        return out;
    }
};

template <>
struct Tiled<Q8_0> : TiledSmall {
    INLINE_STATIC Word2 weights(const u8* b, u32 q) {
        Word2 out;
        load_words<2, 2>(b + 2 + q * 8, out.words);
        return out;
    }
};

/// Eight scales or mins of 6 bits: four whole ones, and four of which two bits lie elsewhere.
INLINE Word4 six_bits(u32 whole, u32 nibbles) {
    return {{whole & 0x3f3f3f3fu, (nibbles & 0x0f0f0f0fu) | (whole >> 2 & 0x30303030u), 0, 0}};
}

template <>
struct Tiled<Q2_K> {
    static constexpr u32 PLANES = 1, D = 80, DMIN = 82, RAW = 12;
    static constexpr i32 OFFSET = 0;
    static constexpr bool GROUPED = false, STAGED = false;
    static constexpr bool NEGATED = false;
    INLINE_STATIC u32 part(u32 piece, u32 q) { return piece * 4 + q; }
    INLINE_STATIC void load(const u8* b, u32 q, u32* raw) {
        load_around<4, 4>(b, raw);
        UNROLL
        for (u32 half = 0; half < 2; ++half) {
            load_around<4, 4>(b + 16 + half * 32 + q % 2 * 16, raw + 4 + half * 4);
        }
    }
    INLINE_STATIC Word4 values(const u32* raw, u32, u32 piece, u32 q) {
        Word4 out;
        const u32 shift = piece % 2 * 4 + q / 2 * 2;
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            out.words[i] = raw[4 + piece / 2 * 4 + i] >> shift & 0x03030303u;
        }
        return out;
    }
    INLINE_STATIC Word4 scales(const u32* raw, u32) {
        Word4 out;
        UNROLL
        for (u32 i = 0; i < 4; ++i) out.words[i] = raw[i] & 0x0f0f0f0fu;
        return out;
    }
    INLINE_STATIC Word4 mins(const u8* b) {
        Word4 out;
        load_words<4, 4>(b, out.words);
        UNROLL
        for (u32& word : out.words) word = word >> 4 & 0x0f0f0f0fu;
        return out;
    }
};

template <>
struct Tiled<Q3_K> {
    // -32 * -4 does not fit a byte, and minus that does: so does minus every other product.
    static constexpr u32 PLANES = 1, D = 108, RAW = 19;
    static constexpr i32 OFFSET = 4;
    static constexpr bool GROUPED = false, STAGED = true;
    static constexpr bool NEGATED = true;
    INLINE_STATIC u32 part(u32 piece, u32 q) { return piece * 4 + q; }
    INLINE_STATIC void load(const u8* b, u32 q, u32* raw) {
        load_around<2, 3>(b + 96, raw);
        load_around<2, 4>(b + q % 2 * 16, raw + 4);
        UNROLL
        for (u32 half = 0; half < 2; ++half) {
            load_around<2, 4>(b + 32 + half * 32 + q % 2 * 16, raw + 9 + half * 5);
        }
    }
    INLINE_STATIC Word4 values(const u32* raw, u32 odd, u32 piece, u32 q) {
        Word4 out, mask;
        words_of<2, 4>(raw + 9 + piece / 2 * 5, odd, out.words);
        words_of<2, 4>(raw + 4, odd, mask.words);
        const u32 plane = piece % 2 * 2 + q / 2;
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            const u32 third = (mask.words[i] >> (piece * 2 + q / 2) & 0x01010101u) << 2;
            out.words[i] = (out.words[i] >> plane * 2 & 0x03030303u) | third;
        }
        return out;
    }
    INLINE_STATIC Word4 scales(const u32* raw, u32 odd) {
        u32 s[3];
        words_of<2, 3>(raw, odd, s);
        Word4 out;
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            const u32 low = s[i % 2] >> i / 2 * 4 & 0x0f0f0f0fu;
            // Signed, and then the other way round: 32 minus the field.
            const u32 field = low | (s[2] >> i * 2 & 0x03030303u) << 4;
            out.words[i] = (0xa0a0a0a0u - field) ^ 0x80808080u;
        }
        return out;
    }
};

/// What Q4_K and Q5_K have in common. A lane takes both nibbles of the bytes it loads.
template <u32 NIBBLES>
struct TiledNibbles {
    static constexpr u32 PLANES = 1, D = 0, DMIN = 2;
    static constexpr bool GROUPED = true, STAGED = true;
    INLINE_STATIC void load(const u8* b, u32 q, u32* raw) {
        UNROLL
        for (u32 pair = 0; pair < 4; ++pair) {
            const Word2 words = load8(b + NIBBLES + pair * 32 + q * 8);
            raw[pair * 2] = words.words[0];
            raw[pair * 2 + 1] = words.words[1];
        }
    }
    INLINE_STATIC u32 word(const u32* raw, u32 group, u32 i) {
        return raw[group / 2 * 2 + i] >> group % 2 * 4 & 0x0f0f0f0fu;
    }
    INLINE_STATIC Word4 scales(const Word4& header) {
        return six_bits(header.words[1], header.words[3]);
    }
    INLINE_STATIC Word4 mins(const Word4& header) {
        return six_bits(header.words[2], header.words[3] >> 4);
    }
};

template <>
struct Tiled<Q4_K> : TiledNibbles<16> {
    static constexpr u32 RAW = 8;
};

template <>
struct Tiled<Q5_K> : TiledNibbles<48> {
    static constexpr u32 RAW = 10;
    INLINE_STATIC void load(const u8* b, u32 q, u32* raw) {
        TiledNibbles<48>::load(b, q, raw);
        const Word2 words = load8(b + 16 + q * 8);
        raw[8] = words.words[0];
        raw[9] = words.words[1];
    }
    INLINE_STATIC u32 word(const u32* raw, u32 group, u32 i) {
        return TiledNibbles<48>::word(raw, group, i) | (raw[8 + i] >> group & 0x01010101u) << 4;
    }
};

template <>
struct Tiled<Q6_K> {
    static constexpr u32 PLANES = 2, D = 208, RAW = 25;
    static constexpr i32 OFFSET = 32;
    static constexpr bool GROUPED = false, STAGED = true;
    static constexpr bool NEGATED = false;
    INLINE_STATIC u32 part(u32 piece, u32 q) { return piece * 4 + q; }
    INLINE_STATIC void load(const u8* b, u32 q, u32* raw) {
        load_around<2, 4>(b + 192, raw);
        UNROLL
        for (u32 half = 0; half < 2; ++half) {
            load_around<2, 4>(b + half * 64 + q * 16, raw + 5 + half * 10);
            load_around<2, 4>(b + 128 + half * 32 + q % 2 * 16, raw + 10 + half * 10);
        }
    }
    INLINE_STATIC Word4 values(const u32* raw, u32 odd, u32 piece, u32 q) {
        Word4 out, high;
        words_of<2, 4>(raw + 5 + piece / 2 * 10, odd, out.words);
        words_of<2, 4>(raw + 10 + piece / 2 * 10, odd, high.words);
        // Quarter of the half: its upper half is in the upper nibbles.
        const u32 quarter = piece % 2 * 2 + q / 2;
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            const u32 upper = (high.words[i] >> quarter * 2 & 0x03030303u) << 4;
            out.words[i] = (out.words[i] >> piece % 2 * 4 & 0x0f0f0f0fu) | upper;
        }
        return out;
    }
    INLINE_STATIC Word4 scales(const u32* raw, u32 odd) {
        Word4 out;
        words_of<2, 4>(raw, odd, out.words);
        return out;
    }
};
