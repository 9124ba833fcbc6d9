// What tuned kernels are made of: lanes of a wave, shuffles, dot products of bytes, tiles of the
// integer matrix cores, copies into shared memory. One meaning on every GPU and in host_waves.h.
//
// A wave has 32 lanes (NVIDIA, waves32) or 64 (CDNA, waves64); shuffles stay within 32, so that a
// result does not depend on it.
#pragma once
#include "arithmetic.h"

#if defined(LOCKSTEP_WAVES)
#define WAVE_LANES ((u32)LOCKSTEP_WAVES)
#elif defined(__HIP__)
#define WAVE_LANES 64u
#else
#define WAVE_LANES 32u
#endif
#define LANE (THREAD_X % WAVE_LANES)
#define WAVE (THREAD_X / WAVE_LANES)
#define BLOCK_WAVES (BLOCK_THREADS / WAVE_LANES)

/// Four words that one load brings; the address is a multiple of 16.
struct alignas(16) Word4 {
    u32 words[4];
};
/// Two words that one load brings; the address is a multiple of 8.
struct alignas(8) Word2 {
    u32 words[2];
};

INLINE Word4 load16(const void* address) { return *(const Word4*)address; }
INLINE Word2 load8(const void* address) { return *(const Word2*)address; }
INLINE u32 load4(const void* address) { return *(const u32*)address; }

/// The address of a run of elements of a SHARED array.
#if defined(LOCKSTEP_CHECKED)
template <typename T, u32 N>
INLINE T* shared_at(host::SharedArray<T, N>& array, u32 index, u32 run) {
    return array.at(index, run);
}
#else
template <typename T, u32 N>
INLINE T* shared_at(T (&array)[N], u32 index, u32) {
    return array + index;
}
#endif

/// The address of a run of bytes of a SHARED_POOL, of which the launch asked for `bytes`.
#if defined(LOCKSTEP_CHECKED)
template <u32 N>
INLINE u8* pool_at(host::SharedArray<u8, N>& pool, u32 bytes, u32 index, u32 run) {
    return pool.at(index <= bytes && run <= bytes - index ? index : N, run);
}
#else
INLINE u8* pool_at(u8* pool, u32, u32 index, u32) { return pool + index; }
#endif

/// All lanes of a wave are here, and see what each has written to shared memory.
INLINE void wave_barrier() {
#if defined(LOCKSTEP_WAVES)
    host::exchange(nullptr, 0);
#elif defined(__HIP__)
    // Lanes go together; the compiler must not move accesses across.
    __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
    __builtin_amdgcn_wave_barrier();
#else
    __syncwarp();
#endif
}

/// The value of the lane whose number differs in the bits of `mask`, at most 16.
INLINE u32 shuffle_xor(u32 value, u32 mask) {
#if defined(LOCKSTEP_WAVES)
    return host::exchange(&value, 1)[LANE ^ mask][0];
#elif defined(__HIP__)
    return (u32)__builtin_amdgcn_ds_bpermute((i32)((LANE ^ mask) << 2), (i32)value);
#else
    return __shfl_xor_sync(0xffffffffu, value, mask);
#endif
}
INLINE i32 shuffle_xor(i32 value, u32 mask) { return (i32)shuffle_xor((u32)value, mask); }
INLINE float shuffle_xor(float value, u32 mask) {
    return from_bits(shuffle_xor(to_bits(value), mask));
}
INLINE u64 shuffle_xor(u64 value, u32 mask) {
    const u64 high = shuffle_xor((u32)(value >> 32), mask);
    return high << 32 | shuffle_xor((u32)value, mask);
}

/// The value of lane `source` of this lane's 32.
INLINE u32 shuffle_from(u32 value, u32 source) {
#if defined(LOCKSTEP_WAVES)
    return host::exchange(&value, 1)[LANE / 32 * 32 + source][0];
#elif defined(__HIP__)
    return (u32)__builtin_amdgcn_ds_bpermute((i32)((LANE / 32 * 32 + source) << 2), (i32)value);
#else
    return __shfl_sync(0xffffffffu, value, source);
#endif
}
INLINE float shuffle_from(float value, u32 source) {
    return from_bits(shuffle_from(to_bits(value), source));
}

/// Counts a block at a counter that blocks share, and gives how many were counted before it. What
/// the calling thread saw written before a barrier is there for whoever counts later.
INLINE u32 arrive(u32* counter) {
#if defined(LOCKSTEP_WAVES)
    return __atomic_fetch_add(counter, 1u, __ATOMIC_ACQ_REL);
#elif defined(__HIP__)
    return __hip_atomic_fetch_add(counter, 1u, __ATOMIC_ACQ_REL, __HIP_MEMORY_SCOPE_AGENT);
#else
    u32 before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;"
                 : "=r"(before)
                 : "l"(counter)
                 : "memory");
    return before;
#endif
}

/// The same value, but nothing that is computed with it leaves its loop, or is computed again where
/// it is used. AMD takes one for all lanes only.
INLINE u32 kept_here(u32 value) {
#if defined(__HIP__)
    asm volatile("" : "+s"(value));
#elif defined(LOCKSTEP_GPU)
    asm volatile("" : "+r"(value));
#endif
    return value;
}

/// Byte `i` of a word; `i` is a constant.
INLINE u32 byte_of(u32 word, u32 i) {
#if defined(__CUDACC_RTC__) || defined(__CUDACC__)
    return __byte_perm(word, 0, 0x4440 | i);
#else
    return word >> i * 8 & 255;
#endif
}

/// The same, signed.
INLINE i32 signed_byte_of(u32 word, u32 i) {
#if defined(__CUDACC_RTC__) || defined(__CUDACC__)
    // One instruction: the sign of the byte three times above it.
    i32 byte;
    asm("prmt.b32 %0, %1, 0, %2;" : "=r"(byte) : "r"(word), "r"(0x8880u + 0x1111u * i));
    return byte;
#else
    return (i8)(word >> i * 8);
#endif
}

/// Byte `i` of four words, in their order.
INLINE u32 bytes_of(const u32* words, u32 i) {
#if defined(__CUDACC_RTC__) || defined(__CUDACC__)
    const u32 two = i | (4 + i) << 4;
    const u32 low = __byte_perm(words[0], words[1], two);
    return __byte_perm(low, __byte_perm(words[2], words[3], two), 0x5410);
#else
    return byte_of(words[0], i) | byte_of(words[1], i) << 8 | byte_of(words[2], i) << 16 |
           byte_of(words[3], i) << 24;
#endif
}

/// sum + the dot product of four signed bytes.
INLINE i32 dot4(u32 a, u32 b, i32 sum) {
#if defined(LOCKSTEP_WAVES)
    for (u32 i = 0; i < 32; i += 8) sum += (i32)(i8)(a >> i) * (i32)(i8)(b >> i);
    return sum;
#elif defined(__HIP__)
    return __builtin_amdgcn_sdot4((i32)a, (i32)b, sum, false);
#else
    return __dp4a((i32)a, (i32)b, sum);
#endif
}

/// Sixteen bytes into shared memory; they are there after copies_wait and a barrier. Both addresses
/// are multiples of 16. The second-level cache asks for lines of 128 bytes. No cache hint: what
/// NVRTC 13.0 makes of one here is an illegal instruction on an H100.
INLINE void copy16(void* shared, const void* global) {
#if defined(__CUDACC_RTC__) || defined(__CUDACC__)
    const u32 target = (u32)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(target), "l"(global)
                 : "memory");
#else
    *(Word4*)shared = *(const Word4*)global;
#endif
}
/// Four bytes, likewise.
INLINE void copy4(void* shared, const void* global) {
#if defined(__CUDACC_RTC__) || defined(__CUDACC__)
    const u32 target = (u32)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(target), "l"(global) : "memory");
#else
    *(u32*)shared = *(const u32*)global;
#endif
}
/// Ends a group of copies.
INLINE void copies_commit() {
#if defined(__CUDACC_RTC__) || defined(__CUDACC__)
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/// Waits until at most PENDING of this thread's groups are under way.
template <u32 PENDING>
INLINE void copies_wait() {
#if defined(__CUDACC_RTC__) || defined(__CUDACC__)
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

// A tile of the integer matrix cores: sums[16][16] += a[16][32] . b[32][16], int8 to i32, exact.
// Each lane holds a few words of each operand, a word being four neighbours in k.
#define TILE_ROWS 16u
#define TILE_COLUMNS 16u
#define TILE_K 32u
// Words of a and of b, and sums, of one lane.
#define TILE_WORDS (128u / WAVE_LANES)
#define TILE_SUMS (256u / WAVE_LANES)

struct TileWords {
    u32 words[TILE_WORDS];
};
struct TileSums {
    i32 sums[TILE_SUMS];
};

#if defined(__HIP__) || (defined(LOCKSTEP_WAVES) && LOCKSTEP_WAVES == 64)
// CDNA: a lane has one row of a, one column of b, and four rows of one column of the sums.
INLINE u32 tile_a_row(u32) { return LANE % 16; }
INLINE u32 tile_a_k(u32 word) { return LANE / 16 * 8 + word * 4; }
INLINE u32 tile_b_column(u32) { return LANE % 16; }
INLINE u32 tile_b_k(u32 word) { return LANE / 16 * 8 + word * 4; }
INLINE u32 tile_sum_row(u32 sum) { return LANE / 16 * 4 + sum; }
INLINE u32 tile_sum_column(u32) { return LANE % 16; }
#else
// NVIDIA: two m16n8k32 beside each other.
INLINE u32 tile_a_row(u32 word) { return LANE / 4 + word % 2 * 8; }
INLINE u32 tile_a_k(u32 word) { return LANE % 4 * 4 + word / 2 * 16; }
INLINE u32 tile_b_column(u32 word) { return LANE / 4 + word / 2 * 8; }
INLINE u32 tile_b_k(u32 word) { return LANE % 4 * 4 + word % 2 * 16; }
INLINE u32 tile_sum_row(u32 sum) { return LANE / 4 + sum / 2 % 2 * 8; }
INLINE u32 tile_sum_column(u32 sum) { return LANE % 4 * 2 + sum % 2 + sum / 4 * 8; }
#endif

/// sums += a . b. All lanes of a wave together.
INLINE void tile_multiply(TileSums& sums, const TileWords& a, const TileWords& b) {
#if defined(LOCKSTEP_WAVES)
    u32 words[2 * TILE_WORDS];
    for (u32 i = 0; i < TILE_WORDS; ++i) words[i] = a.words[i], words[TILE_WORDS + i] = b.words[i];
    const auto table = host::exchange(words, 2 * TILE_WORDS);
    i8 whole_a[TILE_ROWS][TILE_K], whole_b[TILE_COLUMNS][TILE_K];
    const u32 own = host::current_block->thread;
    // Every lane's words go where that lane says they belong.
    for (u32 lane = 0; lane < WAVE_LANES; ++lane) {
        host::current_block->thread = own / WAVE_LANES * WAVE_LANES + lane;
        for (u32 i = 0; i < 4 * TILE_WORDS; ++i) {
            const u32 word = i / 4, byte = i % 4;
            whole_a[tile_a_row(word)][tile_a_k(word) + byte] = (i8)(table[lane][word] >> 8 * byte);
            whole_b[tile_b_column(word)][tile_b_k(word) + byte] =
                (i8)(table[lane][TILE_WORDS + word] >> 8 * byte);
        }
    }
    host::current_block->thread = own;
    for (u32 i = 0; i < TILE_SUMS; ++i) {
        for (u32 k = 0; k < TILE_K; ++k) {
            sums.sums[i] += whole_a[tile_sum_row(i)][k] * whole_b[tile_sum_column(i)][k];
        }
    }
#elif defined(__HIP__)
    typedef i32 Sums4 __attribute__((ext_vector_type(4)));
    Sums4 s = {sums.sums[0], sums.sums[1], sums.sums[2], sums.sums[3]};
#if defined(__gfx90a__) || defined(__gfx908__)
    // K is 16 there; which k a lane's word stands for is the same on both sides.
    s = __builtin_amdgcn_mfma_i32_16x16x16i8((i32)a.words[0], (i32)b.words[0], s, 0, 0, 0);
    s = __builtin_amdgcn_mfma_i32_16x16x16i8((i32)a.words[1], (i32)b.words[1], s, 0, 0, 0);
#else
    const long left = (long)((u64)a.words[1] << 32 | a.words[0]);
    const long right = (long)((u64)b.words[1] << 32 | b.words[0]);
    s = __builtin_amdgcn_mfma_i32_16x16x32_i8(left, right, s, 0, 0, 0);
#endif
    for (u32 i = 0; i < 4; ++i) sums.sums[i] = s[i];
#else
    i32* s = sums.sums;
    const u32 *x = a.words, *y = b.words;
    for (u32 half = 0; half < 2; ++half, s += 4, y += 2) {
        asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
            "{%8, %9}, {%0, %1, %2, %3};"
            : "+r"(s[0]), "+r"(s[1]), "+r"(s[2]), "+r"(s[3])
            : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
    }
#endif
}

#if !defined(__HIP__) && !(defined(LOCKSTEP_WAVES) && LOCKSTEP_WAVES == 64)
#define LOCKSTEP_FEW_COLUMNS 1
/// Half a tile: sums[16][8] += a[16][32] . b[32][8]; the bytes of a have no sign where SIGNED is
/// false. Words and sums lie as in the first half of tile_multiply's.
template <bool SIGNED = true>
INLINE void few_multiply(i32 (&sums)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#if defined(LOCKSTEP_WAVES)
    const u32 words[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const auto table = host::exchange(words, 6);
    for (u32 i = 0; i < 4; ++i) {
        const u32 row = tile_sum_row(i), column = tile_sum_column(i);
        for (u32 k = 0; k < TILE_K; k += 4) {
            // Four neighbours in k are a word of one lane.
            const u32 lane = k % 16 / 4, half = k / 16;
            const u32 left = table[row % 8 * 4 + lane][row / 8 + half * 2];
            const u32 right = table[column * 4 + lane][4 + half];
            if (SIGNED) {
                sums[i] = dot4(left, right, sums[i]);
            } else {
                // Each byte of the left as 128 and a byte with a sign.
                const i32 ones = dot4(0x01010101u, right, 0);
                sums[i] = dot4(left ^ 0x80808080u, right, sums[i] + 128 * ones);
            }
        }
    }
#else
    if constexpr (SIGNED) {
        asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
            "{%8, %9}, {%0, %1, %2, %3};"
            : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    } else {
        asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
            "{%8, %9}, {%0, %1, %2, %3};"
            : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
#endif
}
#endif
