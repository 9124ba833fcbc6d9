// The ten quantised block formats of GGUF: their sizes, fields and integer weights.
//
// Every format unpacks to the same shape, so that one product and one embedding serve all: `w` are
// the integer weights, already times the integer scale of their group where there is one (all of
// them fit i16, and d times a scale is exact in f32, so CONTRACT.md's values come out bit for bit);
// `mn` are the integer mins of the groups of GROUP; `d` and `dmin` are the block's float scales.
// Byte layouts are ggml's (ggml-common.h).
#pragma once
#include "arithmetic.h"

INLINE u16 read_u16(const u8* bytes) { return (u16)(bytes[0] | (bytes[1] << 8)); }
INLINE float read_half(const u8* bytes) { return half_to_f32(read_u16(bytes)); }

/// One unpacked block of N values in groups of G.
template <u32 N, u32 G>
struct Unpacked {
    i16 w[N];
    i32 mn[N / G];
    float d;
    float dmin;
};

/// What the formats of 32 values have in common: one group, no integer scale, a chunk of 8 blocks.
struct SmallBlock {
    static constexpr u32 VALUES = 32, GROUP = 32, CHUNK_BLOCKS = 8;
    static constexpr bool INTEGER_MINS = false;
};

struct Q4_0 : SmallBlock {
    static constexpr u32 BYTES = 18;
    static constexpr bool HAS_MIN = false;
    INLINE_STATIC void unpack(const u8* b, Unpacked<32, 32>& out) {
        out.d = read_half(b);
        for (u32 i = 0; i < 16; ++i) out.w[i] = (i16)((b[2 + i] & 15) - 8);
        for (u32 i = 0; i < 16; ++i) out.w[i + 16] = (i16)((b[2 + i] >> 4) - 8);
    }
};

struct Q4_1 : SmallBlock {
    static constexpr u32 BYTES = 20;
    static constexpr bool HAS_MIN = true;
    INLINE_STATIC void unpack(const u8* b, Unpacked<32, 32>& out) {
        out.d = read_half(b);
        out.dmin = read_half(b + 2);
        for (u32 i = 0; i < 16; ++i) out.w[i] = (i16)(b[4 + i] & 15);
        for (u32 i = 0; i < 16; ++i) out.w[i + 16] = (i16)(b[4 + i] >> 4);
    }
};

struct Q5_0 : SmallBlock {
    static constexpr u32 BYTES = 22;
    static constexpr bool HAS_MIN = false;
    INLINE_STATIC void unpack(const u8* b, Unpacked<32, 32>& out) {
        out.d = read_half(b);
        const u32 high = (u32)read_u16(b + 2) | (u32)read_u16(b + 4) << 16;
        for (u32 i = 0; i < 16; ++i) {
            out.w[i] = (i16)((i32)((b[6 + i] & 15) | (high >> i & 1) << 4) - 16);
        }
        for (u32 i = 0; i < 16; ++i) {
            out.w[i + 16] = (i16)((i32)((b[6 + i] >> 4) | (high >> (i + 16) & 1) << 4) - 16);
        }
    }
};

struct Q5_1 : SmallBlock {
    static constexpr u32 BYTES = 24;
    static constexpr bool HAS_MIN = true;
    INLINE_STATIC void unpack(const u8* b, Unpacked<32, 32>& out) {
        out.d = read_half(b);
        out.dmin = read_half(b + 2);
        const u32 high = (u32)read_u16(b + 4) | (u32)read_u16(b + 6) << 16;
        for (u32 i = 0; i < 16; ++i) {
            out.w[i] = (i16)((b[8 + i] & 15) | (high >> i & 1) << 4);
        }
        for (u32 i = 0; i < 16; ++i) {
            out.w[i + 16] = (i16)((b[8 + i] >> 4) | (high >> (i + 16) & 1) << 4);
        }
    }
};

struct Q8_0 : SmallBlock {
    static constexpr u32 BYTES = 34;
    static constexpr bool HAS_MIN = false;
    INLINE_STATIC void unpack(const u8* b, Unpacked<32, 32>& out) {
        out.d = read_half(b);
        for (u32 i = 0; i < 32; ++i) out.w[i] = (i8)b[2 + i];
    }
};

/// What the K formats have in common: 256 values, integer scales, a chunk of 4 blocks.
struct KBlock {
    static constexpr u32 VALUES = 256, CHUNK_BLOCKS = 4;
    static constexpr bool INTEGER_MINS = true;
};

/// scales[16] (scale low, min high nibble), qs[64] of 2 bits, d, dmin.
struct Q2_K : KBlock {
    static constexpr u32 BYTES = 84, GROUP = 16;
    static constexpr bool HAS_MIN = true;
    INLINE_STATIC void unpack(const u8* b, Unpacked<256, 16>& out) {
        out.d = read_half(b + 80);
        out.dmin = read_half(b + 82);
        for (u32 g = 0; g < 16; ++g) out.mn[g] = b[g] >> 4;
        for (u32 g = 0; g < 16; ++g) {
            // Group g lies in half g / 8, plane g / 2 % 4 of 2 bits, part g % 2 of 16 bytes.
            const u8* q = b + 16 + g / 8 * 32 + g % 2 * 16;
            const i16 scale = b[g] & 15;
            for (u32 i = 0; i < 16; ++i) {
                out.w[g * 16 + i] = (i16)(scale * (q[i] >> (g / 2 % 4 * 2) & 3));
            }
        }
    }
};

/// hmask[32] (a set bit means: no minus 4), qs[64] of 2 bits, scales[12] of 6 bits, d.
struct Q3_K : KBlock {
    static constexpr u32 BYTES = 110, GROUP = 16;
    static constexpr bool HAS_MIN = false;
    INLINE_STATIC void unpack(const u8* b, Unpacked<256, 16>& out) {
        out.d = read_half(b + 108);
        const u8* s = b + 96;
        for (u32 g = 0; g < 16; ++g) {
            const i32 low = g < 8 ? s[g] & 15 : s[g - 8] >> 4;
            const i32 high = s[8 + g % 4] >> (2 * (g / 4)) & 3;
            const i16 scale = (i16)((low | high << 4) - 32);
            // As in Q2_K; the mask has one bit for each half and plane.
            const u8* q = b + 32 + g / 8 * 32 + g % 2 * 16;
            const u8* mask = b + g % 2 * 16;
            for (u32 i = 0; i < 16; ++i) {
                const i32 value = (q[i] >> (g / 2 % 4 * 2) & 3) + (mask[i] >> (g / 2) & 1) * 4 - 4;
                out.w[g * 16 + i] = (i16)(scale * value);
            }
        }
    }
};

/// The eight 6-bit scales and mins of Q4_K and Q5_K, packed in 12 bytes.
INLINE void unpack_scales_mins(const u8* s, i32* sc, i32* mn) {
    for (u32 g = 0; g < 4; ++g) {
        sc[g] = s[g] & 63;
        mn[g] = s[g + 4] & 63;
        sc[g + 4] = (s[g + 8] & 15) | (s[g] >> 6) << 4;
        mn[g + 4] = (s[g + 8] >> 4) | (s[g + 4] >> 6) << 4;
    }
}

/// d, dmin, scales[12], qs[128].
struct Q4_K : KBlock {
    static constexpr u32 BYTES = 144, GROUP = 32;
    static constexpr bool HAS_MIN = true;
    INLINE_STATIC void unpack(const u8* b, Unpacked<256, 32>& out) {
        i32 sc[8];
        out.d = read_half(b);
        out.dmin = read_half(b + 2);
        unpack_scales_mins(b + 4, sc, out.mn);
        for (u32 pair = 0; pair < 4; ++pair) {
            const u8* q = b + 16 + pair * 32;
            i16* w = out.w + pair * 64;
            for (u32 i = 0; i < 32; ++i) w[i] = (i16)(sc[2 * pair] * (q[i] & 15));
            for (u32 i = 0; i < 32; ++i) w[32 + i] = (i16)(sc[2 * pair + 1] * (q[i] >> 4));
        }
    }
};

/// d, dmin, scales[12], qh[32], qs[128].
struct Q5_K : KBlock {
    static constexpr u32 BYTES = 176, GROUP = 32;
    static constexpr bool HAS_MIN = true;
    INLINE_STATIC void unpack(const u8* b, Unpacked<256, 32>& out) {
        i32 sc[8];
        out.d = read_half(b);
        out.dmin = read_half(b + 2);
        unpack_scales_mins(b + 4, sc, out.mn);
        for (u32 pair = 0; pair < 4; ++pair) {
            const u8* q = b + 48 + pair * 32;
            const u8* high = b + 16;
            i16* w = out.w + pair * 64;
            for (u32 i = 0; i < 32; ++i) {
                w[i] = (i16)(sc[2 * pair] * ((q[i] & 15) | (high[i] >> (2 * pair) & 1) << 4));
            }
            for (u32 i = 0; i < 32; ++i) {
                const i32 value = (q[i] >> 4) | (high[i] >> (2 * pair + 1) & 1) << 4;
                w[32 + i] = (i16)(sc[2 * pair + 1] * value);
            }
        }
    }
};

/// ql[128], qh[64], scales[16] of int8, d.
struct Q6_K : KBlock {
    static constexpr u32 BYTES = 210, GROUP = 16;
    static constexpr bool HAS_MIN = false;
    INLINE_STATIC void unpack(const u8* b, Unpacked<256, 16>& out) {
        out.d = read_half(b + 208);
        for (u32 g = 0; g < 16; ++g) {
            // Half g / 8; quarter g / 2 % 4 takes nibble quarter / 2 of byte run quarter % 2, and
            // two bits of qh; part g % 2 of 16 values.
            const u32 quarter = g / 2 % 4, part = g % 2 * 16;
            const u8* low = b + g / 8 * 64 + quarter % 2 * 32 + part;
            const u8* high = b + 128 + g / 8 * 32 + part;
            const i16 scale = (i8)b[192 + g];
            for (u32 i = 0; i < 16; ++i) {
                const i32 nibble = low[i] >> (quarter / 2 * 4) & 15;
                const i32 value = (nibble | (high[i] >> (quarter * 2) & 3) << 4) - 32;
                out.w[g * 16 + i] = (i16)(scale * value);
            }
        }
    }
};

/// The float formats: one value a block.
struct Float32 {
    static constexpr u32 BYTES = 4;
    INLINE_STATIC float widen(const u8* b) {
        return from_bits((u32)read_u16(b) | (u32)read_u16(b + 2) << 16);
    }
};

struct Float16 {
    static constexpr u32 BYTES = 2;
    INLINE_STATIC float widen(const u8* b) { return read_half(b); }
};

struct BFloat16 {
    static constexpr u32 BYTES = 2;
    INLINE_STATIC float widen(const u8* b) { return bf16_to_f32(read_u16(b)); }
};
