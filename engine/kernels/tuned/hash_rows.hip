// hash_rows: what a tap says of each of its rows without the row: 32 bytes. CONTRACT.md section 13.
// Grid: x = tensors, y = rows. One block of threads a row, or a piece of one, which the host joins;
// sums modulo 2^64 have no order.
// Replaces the hash that the host takes of a row that it has copied.
#include "../arguments.h"
#include "../lanes.h"

// Those of four layers: a launch of its own for each costs more than the digests.
#define HASH_TENSORS 64u
// Values that a thread fetches before it takes the first of them in.
#define HASH_AHEAD 8u

/// One row's record; `RowDigest` in engine/src/kernels/tuned/hash_rows.rs.
struct RowDigest {
    u64 hash;
    u32 nan_count;
    u32 infinity_count;
    float least;     // of the values that are no NaN; +infinity where there is none
    float greatest;  // -infinity where there is none
    u32 width;
    u32 written;     // 1: a digest was taken here
};

struct HashRowsArguments {
    Span<const float> values[HASH_TENSORS];  // [rows][width] each
    Span<RowDigest> out;
    u32 widths[HASH_TENSORS];
    u32 rows[HASH_TENSORS];                  // 0: there is no such tensor
    u32 records[HASH_TENSORS];               // of row 0; those of the other rows follow
    u32 firsts[HASH_TENSORS];                // where in its row value 0 is
};

INLINE u64 mix(u64 z) {
    z += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

INLINE void digest_value(RowDigest& digest, u32 index, float value) {
    const bool is_number = value == value;
    const u32 bits = is_number ? to_bits(value) : 0x7fc00000u;
    digest.hash += mix((u64)index << 32 | bits);
    digest.nan_count += is_number ? 0u : 1u;
    digest.infinity_count += abs32(value) == infinity32() ? 1u : 0u;
    digest.least = value < digest.least ? value : digest.least;
    digest.greatest = value > digest.greatest ? value : digest.greatest;
}

INLINE void digest_join(RowDigest& digest, const RowDigest& other) {
    digest.hash += other.hash;
    digest.nan_count += other.nan_count;
    digest.infinity_count += other.infinity_count;
    digest.least = other.least < digest.least ? other.least : digest.least;
    digest.greatest = other.greatest > digest.greatest ? other.greatest : digest.greatest;
}

KERNEL(hash_rows, HashRowsArguments) {
    SHARED(RowDigest, parts, BLOCK_THREADS / 32);
    next_may_begin();
    const u32 width = a.widths[BLOCK_X];
    if (BLOCK_Y >= a.rows[BLOCK_X]) return;
    const float* values = a.values[BLOCK_X].at((u64)BLOCK_Y * width, width);
    RowDigest digest = {0, 0, 0, infinity32(), -infinity32(), width, 1};
    const u32 start = a.firsts[BLOCK_X];
    for (u32 first = THREAD_X; first < width; first += HASH_AHEAD * BLOCK_THREADS) {
        float ahead[HASH_AHEAD];
        // Without a condition, so that all loads are under way at once.
        UNROLL
        for (u32 i = 0; i < HASH_AHEAD; ++i) {
            const u32 index = first + i * BLOCK_THREADS;
            ahead[i] = values[index < width ? index : width - 1];
        }
        UNROLL
        for (u32 i = 0; i < HASH_AHEAD; ++i) {
            const u32 index = first + i * BLOCK_THREADS;
            if (index < width) digest_value(digest, start + index, ahead[i]);
        }
    }
    for (u32 mask = 16; mask > 0; mask /= 2) {
        const RowDigest other = {shuffle_xor(digest.hash, mask),
                                 shuffle_xor(digest.nan_count, mask),
                                 shuffle_xor(digest.infinity_count, mask),
                                 shuffle_xor(digest.least, mask),
                                 shuffle_xor(digest.greatest, mask),
                                 0,
                                 0};
        digest_join(digest, other);
    }
    if (THREAD_X % 32 == 0) parts[THREAD_X / 32] = digest;
    BARRIER();
    if (THREAD_X == 0) {
        for (u32 i = 1; i < BLOCK_THREADS / 32; ++i) digest_join(digest, parts[i]);
        a.out[a.records[BLOCK_X] + BLOCK_Y] = digest;
    }
}
