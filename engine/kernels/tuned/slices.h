// A lane's share of a block of quantised weights: 32 weights as bytes, in runs that follow each
// other in the activation, each run with one integer scale. Eight lanes share a K block; a block of
// 32 is one lane's. Byte layouts as in formats.h, whose structures these extend.
#pragma once
#include "../formats.h"
#include "../lanes.h"

/// Four bytes from an address that is a multiple of 2.
INLINE u32 load4_at_2(const u8* address) {
    const u16* halves = (const u16*)address;
    return (u32)halves[0] | (u32)halves[1] << 16;
}

/// Eight bytes from an address that is a multiple of 2, by whole words. A word that begins two
/// bytes early or ends two late stays in the buffer: the caller says why.
INLINE void load8_at_2(const u8* address, u32* words) {
    const u64 place = (u64)address;
    const u32* aligned = (const u32*)(place & ~(u64)3);
    const u32 shift = (u32)(place & 2) * 8;
    const u32 low = aligned[0], middle = aligned[1];
    if (shift == 0) {
        words[0] = low;
        words[1] = middle;
    } else {
        const u32 high = aligned[2];
        words[0] = low >> 16 | middle << 16;
        words[1] = middle >> 16 | high << 16;
    }
}

/// Each byte of `word` minus `amount`, as int8; no byte borrows from its neighbour.
INLINE u32 subtract_bytes(u32 word, u32 amount) {
    const u32 sign = 0x80808080u;
    return ((word | sign) - amount * 0x01010101u) ^ sign;
}

template <typename Format>
struct Slice;

/// 6-bit scale of group g of Q4_K and Q5_K; `s` are the 12 bytes as three words.
INLINE u32 scale_6bit(const u32* s, u32 g) {
    const u32 byte = g % 4 * 8;
    return g < 4 ? s[0] >> byte & 63 : (s[2] >> byte & 15) | (s[0] >> byte >> 6 & 3) << 4;
}
INLINE u32 min_6bit(const u32* s, u32 g) {
    const u32 byte = g % 4 * 8;
    return g < 4 ? s[1] >> byte & 63 : (s[2] >> byte >> 4 & 15) | (s[1] >> byte >> 6 & 3) << 4;
}

/// Q4_K and Q5_K: lane `part` has 16 bytes of nibbles, half of the pair of groups part / 2.
struct SliceOfPairs {
    static constexpr u32 RUNS = 2, RUN_WORDS = 4;
    INLINE_STATIC u32 offset(u32 part, u32 run) { return part / 2 * 64 + run * 32 + part % 2 * 16; }
    INLINE_STATIC u32 group(u32 part, u32 run) { return part / 2 * 2 + run; }
};

template <>
struct Slice<Q4_K> : SliceOfPairs {
    Word4 head, nibbles;
    INLINE_MEMBER void load(const u8* block, u32 part) {
        head = load16(block);
        nibbles = load16(block + 16 + part * 16);
    }
    INLINE_MEMBER u32 word(u32, u32 run, u32 i) const {
        return nibbles.words[i] >> run * 4 & 0x0f0f0f0fu;
    }
    INLINE_MEMBER i32 scale(u32 part, u32 run) const {
        return (i32)scale_6bit(head.words + 1, group(part, run));
    }
};

template <>
struct Slice<Q5_K> : SliceOfPairs {
    Word4 head, nibbles, high;
    INLINE_MEMBER void load(const u8* block, u32 part) {
        head = load16(block);
        nibbles = load16(block + 48 + part * 16);
        high = load16(block + 16 + part % 2 * 16);
    }
    INLINE_MEMBER u32 word(u32 part, u32 run, u32 i) const {
        const u32 fifth = high.words[i] >> (part / 2 * 2 + run) & 0x01010101u;
        return (nibbles.words[i] >> run * 4 & 0x0f0f0f0fu) | fifth << 4;
    }
    INLINE_MEMBER i32 scale(u32 part, u32 run) const {
        return (i32)scale_6bit(head.words + 1, group(part, run));
    }
};

/// Q2_K, Q3_K and Q6_K: lane `part` has eight columns of half part / 4, in each of four planes.
struct SliceOfPlanes {
    static constexpr u32 RUNS = 4, RUN_WORDS = 2;
    INLINE_STATIC u32 column(u32 part) { return part % 4 * 8; }
    INLINE_STATIC u32 offset(u32 part, u32 run) { return part / 4 * 128 + run * 32 + column(part); }
    INLINE_STATIC u32 group(u32 part, u32 run) { return part / 4 * 8 + run * 2 + part % 4 / 2; }
};

template <>
struct Slice<Q2_K> : SliceOfPlanes {
    u32 planes[2];
    u32 scales[2];
    INLINE_MEMBER void load(const u8* block, u32 part) {
        // A block of 84 bytes begins at a multiple of 4.
            UNROLL
            for (u32 i = 0; i < 2; ++i) {
            planes[i] = load4(block + 16 + part / 4 * 32 + column(part) + i * 4);
            scales[i] = load4(block + part / 4 * 8 + i * 4);
        }
    }
    INLINE_MEMBER u32 word(u32, u32 run, u32 i) const {
        return planes[i] >> run * 2 & 0x03030303u;
    }
    INLINE_MEMBER i32 scale(u32 part, u32 run) const {
        const u32 byte = run * 2 + part % 4 / 2;
        return (i32)(scales[byte / 4] >> byte % 4 * 8 & 15);
    }
};

template <>
struct Slice<Q3_K> : SliceOfPlanes {
    u32 planes[2], mask[2];
    u32 low[2], high[1];
    INLINE_MEMBER void load(const u8* block, u32 part) {
        // Words that stick out of these fields stay in the block, or end the block before it in
        // the same buffer: only a block at an odd multiple of 2 is read from two bytes early.
        load8_at_2(block + 32 + part / 4 * 32 + column(part), planes);
            UNROLL
            for (u32 i = 0; i < 2; ++i) {
            mask[i] = load4_at_2(block + column(part) + i * 4);
            low[i] = load4_at_2(block + 96 + i * 4);
        }
        high[0] = load4_at_2(block + 104);
    }
    INLINE_MEMBER u32 word(u32 part, u32 run, u32 i) const {
        const u32 third = mask[i] >> (part / 4 * 4 + run) & 0x01010101u;
        return subtract_bytes((planes[i] >> run * 2 & 0x03030303u) | third << 2, 4);
    }
    INLINE_MEMBER i32 scale(u32 part, u32 run) const {
        const u32 g = group(part, run);
        const u32 nibble = low[g % 8 / 4] >> g % 4 * 8 >> g / 8 * 4 & 15;
        return (i32)(nibble | (high[0] >> g % 4 * 8 >> g / 4 * 2 & 3) << 4) - 32;
    }
};

template <>
struct Slice<Q6_K> : SliceOfPlanes {
    u32 low[4], high[2], scales[2];
    INLINE_MEMBER void load(const u8* block, u32 part) {
        // As for Q3_K: ql begins the block, and every field is followed by another.
        load8_at_2(block + part / 4 * 64 + column(part), low);
        load8_at_2(block + part / 4 * 64 + 32 + column(part), low + 2);
        load8_at_2(block + 128 + part / 4 * 32 + column(part), high);
        load8_at_2(block + 192 + part / 4 * 8, scales);
    }
    INLINE_MEMBER u32 word(u32, u32 run, u32 i) const {
        const u32 nibbles = low[run % 2 * 2 + i] >> run / 2 * 4 & 0x0f0f0f0fu;
        return subtract_bytes(nibbles | (high[i] >> run * 2 & 0x03030303u) << 4, 32);
    }
    INLINE_MEMBER i32 scale(u32 part, u32 run) const {
        const u32 byte = run * 2 + part % 4 / 2;
        return (i8)(scales[byte / 4] >> byte % 4 * 8 & 255);
    }
};

/// The formats of 32 values: a lane has a whole block, 16 bytes of nibbles in two runs of 16.
struct SliceOfBlock {
    static constexpr u32 RUNS = 2, RUN_WORDS = 4;
    INLINE_STATIC u32 offset(u32, u32 run) { return run * 16; }
    INLINE_MEMBER i32 scale(u32, u32) const { return 1; }
};

template <u32 START>
struct SliceOfNibbles : SliceOfBlock {
    u32 nibbles[4];
    INLINE_MEMBER void load_nibbles(const u8* block) {
            UNROLL
            for (u32 i = 0; i < 4; ++i) nibbles[i] = load4_at_2(block + START + i * 4);
    }
    INLINE_MEMBER u32 nibble_word(u32 run, u32 i) const {
        return nibbles[i] >> run * 4 & 0x0f0f0f0fu;
    }
};

/// Four bits of a word as the fifth bits of four bytes.
INLINE u32 spread_fifth_bits(u32 bits) {
    return (bits & 1) << 4 | (bits & 2) << 11 | (bits & 4) << 18 | (bits & 8) << 25;
}

template <>
struct Slice<Q4_0> : SliceOfNibbles<2> {
    INLINE_MEMBER void load(const u8* block, u32) { load_nibbles(block); }
    INLINE_MEMBER u32 word(u32, u32 run, u32 i) const {
        return subtract_bytes(nibble_word(run, i), 8);
    }
};

template <>
struct Slice<Q4_1> : SliceOfNibbles<4> {
    INLINE_MEMBER void load(const u8* block, u32) { load_nibbles(block); }
    INLINE_MEMBER u32 word(u32, u32 run, u32 i) const { return nibble_word(run, i); }
};

template <>
struct Slice<Q5_0> : SliceOfNibbles<6> {
    u32 high;
    INLINE_MEMBER void load(const u8* block, u32) {
        load_nibbles(block);
        high = load4_at_2(block + 2);
    }
    INLINE_MEMBER u32 word(u32, u32 run, u32 i) const {
        const u32 fifth = spread_fifth_bits(high >> (run * 16 + i * 4));
        return subtract_bytes(nibble_word(run, i) | fifth, 16);
    }
};

template <>
struct Slice<Q5_1> : SliceOfNibbles<8> {
    u32 high;
    INLINE_MEMBER void load(const u8* block, u32) {
        load_nibbles(block);
        high = load4_at_2(block + 4);
    }
    INLINE_MEMBER u32 word(u32, u32 run, u32 i) const {
        return nibble_word(run, i) | spread_fifth_bits(high >> (run * 16 + i * 4));
    }
};

template <>
struct Slice<Q8_0> : SliceOfBlock {
    u32 bytes[8];
    INLINE_MEMBER void load(const u8* block, u32) {
            UNROLL
            for (u32 i = 0; i < 8; ++i) bytes[i] = load4_at_2(block + 2 + i * 4);
    }
    INLINE_MEMBER u32 word(u32, u32 run, u32 i) const { return bytes[run * 4 + i]; }
};

/// The float fields of a block, and the integer minima of a K block.
template <typename Format>
struct BlockFields {
    INLINE_STATIC float d(const u8* block) { return half_at(block, 0); }
    INLINE_STATIC float dmin(const u8* block) { return half_at(block, 2); }
    INLINE_STATIC float half_at(const u8* block, u32 offset) {
        return half_to_f32(*(const u16*)(block + offset));
    }
    /// N of CONTRACT.md section 6: the groups' minima times their sums, in order.
    INLINE_STATIC float minima(const u8* block, const float* u) {
        const u32 s[3] = {load4(block + 4), load4(block + 8), load4(block + 12)};
        float n = 0.0f;
        UNROLL
        for (u32 g = 0; g < 8; ++g) n = fma32(to_f32((i32)min_6bit(s, g)), u[g], n);
        return n;
    }
};

template <>
struct BlockFields<Q2_K> {
    INLINE_STATIC float d(const u8* block) { return half_to_f32(*(const u16*)(block + 80)); }
    INLINE_STATIC float dmin(const u8* block) { return half_to_f32(*(const u16*)(block + 82)); }
    INLINE_STATIC float minima(const u8* block, const float* u) {
        float n = 0.0f;
        UNROLL
        for (u32 g = 0; g < 16; ++g) n = fma32(to_f32(block[g] >> 4), u[g], n);
        return n;
    }
};

template <>
struct BlockFields<Q3_K> : BlockFields<Q4_K> {
    INLINE_STATIC float d(const u8* block) { return half_at(block, 108); }
};
template <>
struct BlockFields<Q6_K> : BlockFields<Q4_K> {
    INLINE_STATIC float d(const u8* block) { return half_at(block, 208); }
};
