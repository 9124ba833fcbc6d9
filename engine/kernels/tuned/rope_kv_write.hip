// rope_kv_write: rope of q and of k, and kv_write, in one launch. CONTRACT.md sections 8 and 9.
// Replaces the plain kernels rope (twice) and kv_write.
// Grid: x = heads of q, k and v times strips of 32 dimensions, y = 64 rows. A thread takes one pair
// of every sixteenth row. Keys pass through shared memory, since they are read dimension innermost
// and stored position innermost. No sums.
#include "attention_parts.h"

#define ROPE_ROWS 64u
#define ROPE_PAIRS 16u
// One more than the pairs' values, so that a column of it lies in different banks.
#define ROPE_STRIDE 33u

template <typename Element>
struct RopeKvWriteArguments {
    Span<const float> q;       // [rows][heads][head_size]
    Span<const float> k;       // [rows][kv_heads][head_size]
    Span<const float> v;
    Span<const float> cosine;  // [context][rotated / 2]
    Span<const float> sine;
    Span<float> q_rope;        // [rows][heads][head_size]
    Span<float> k_rope;        // [rows][kv_heads][head_size]
    Span<Element> keys;        // one layer: [kv_heads][context / 64][head_size][64]
    Span<Element> values;      // one layer: [kv_heads][context][head_size]
    Span<const u32> position;  // [1], of row 0
    u32 heads, kv_heads, head_size, rotated, rows, context;
};

template <typename Element>
INLINE void rope_kv_write(const RopeKvWriteArguments<Element>& a BLOCK_PARAMETERS) {
    SHARED(float, turned, ROPE_ROWS * ROPE_STRIDE);
    next_may_begin();
    const u32 strips = (a.head_size + 2 * ROPE_PAIRS - 1) / (2 * ROPE_PAIRS);
    const u32 any_head = BLOCK_X / strips;
    const u32 strip = BLOCK_X % strips * ROPE_PAIRS;
    const u32 first_row = BLOCK_Y * ROPE_ROWS;
    const u32 rows = a.rows - first_row < ROPE_ROWS ? a.rows - first_row : ROPE_ROWS;
    const u32 pair = strip + THREAD_X % ROPE_PAIRS;
    const u32 position = a.position[0] + first_row;
    const bool inside = pair < a.head_size / 2;
    const bool rotates = 2 * pair < a.rotated;
    const bool is_q = any_head < a.heads;
    const bool is_v = any_head >= a.heads + a.kv_heads;
    const u32 heads = is_q ? a.heads : a.kv_heads;
    const u32 head = is_q ? any_head : (any_head - a.heads) % a.kv_heads;
    const u64 cache = (u64)head * a.context * a.head_size;
    for (u32 row = THREAD_X / ROPE_PAIRS; inside && row < rows; row += BLOCK_THREADS / ROPE_PAIRS) {
        const u64 index = ((u64)(first_row + row) * heads + head) * a.head_size + 2 * pair;
        const u64 angle = (u64)(position + row) * (a.rotated / 2) + pair;
        if (is_v) {
            const Word2 x = load8(a.v.at(index, 2));
            Element* out = a.values.at(cache + (u64)(position + row) * a.head_size + 2 * pair, 2);
            cache_store(from_bits(x.words[0]), out);
            cache_store(from_bits(x.words[1]), out + 1);
            continue;
        }
        const Word2 y =
            turn(fetch_pair(is_q ? a.q : a.k, index, a.cosine, a.sine, angle, rotates), rotates);
        *(Word2*)(is_q ? a.q_rope.at(index, 2) : a.k_rope.at(index, 2)) = y;
        if (!is_q) {
            turned[row * ROPE_STRIDE + THREAD_X % ROPE_PAIRS * 2] = from_bits(y.words[0]);
            turned[row * ROPE_STRIDE + THREAD_X % ROPE_PAIRS * 2 + 1] = from_bits(y.words[1]);
        }
    }
    if (is_q || is_v) return;
    BARRIER();
    // keys
    const u32 left = a.head_size - 2 * strip;
    const u32 dimensions = left < 2 * ROPE_PAIRS ? left : 2 * ROPE_PAIRS;
    EACH_THREAD(i, dimensions * ROPE_ROWS) {
        const u32 row = i % ROPE_ROWS;
        const u32 d = i / ROPE_ROWS;
        const u32 at = position + row;
        if (row >= rows) continue;
        const u64 index = cache + key_index(at, 2 * strip + d, a.head_size);
        cache_store(turned[row * ROPE_STRIDE + d], &a.keys[index]);
    }
}

KERNEL(rope_kv_write_f32, RopeKvWriteArguments<float>) { rope_kv_write(a BLOCK_ARGUMENTS); }
KERNEL(rope_kv_write_f16, RopeKvWriteArguments<u16>) { rope_kv_write(a BLOCK_ARGUMENTS); }
