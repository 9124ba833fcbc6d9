// kv_write: stores rotated keys and projected values of new positions in one layer's cache.
// CONTRACT.md section 9. Grid: x = KV heads, y = rows. One thread a dimension.
// Keys lie position innermost in tiles of 64, so that threads over positions read them coalesced.
#include "arguments.h"
#include "arithmetic.h"

INLINE void narrow(float x, float* out) { *out = x; }
INLINE void narrow(float x, u16* out) { *out = f32_to_half(x); }

template <typename Element>
INLINE void kv_write(const KvWriteArguments<Element>& a BLOCK_PARAMETERS) {
    const u64 row = ((u64)BLOCK_Y * a.kv_heads + BLOCK_X) * a.head_size;
    const u32 position = a.position[0] + BLOCK_Y;
    const u64 head = (u64)BLOCK_X * a.context * a.head_size;
    EACH_THREAD(d, a.head_size) {
        const u64 tile = head + (u64)(position / 64) * 64 * a.head_size;
        narrow(a.k[row + d], &a.keys[tile + (u64)d * 64 + position % 64]);
        narrow(a.v[row + d], &a.values[head + (u64)position * a.head_size + d]);
    }
}

KERNEL(kv_write_f32, KvWriteArguments<float>) { kv_write(a BLOCK_ARGUMENTS); }
KERNEL(kv_write_f16, KvWriteArguments<u16>) { kv_write(a BLOCK_ARGUMENTS); }
