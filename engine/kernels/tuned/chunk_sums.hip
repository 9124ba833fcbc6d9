// chunk_sums: out[i] = sum in order of chunks[c][i], for product_tiles where it stores each chunk
// by itself. Replaces the last step of product, CONTRACT.md section 6. Grid: x = 256 values.
#include "../arguments.h"
#include "../lanes.h"

KERNEL(chunk_sums, ChunkSumsArguments) {
    EACH_THREAD(local, BLOCK_THREADS) {
        const u64 i = (u64)BLOCK_X * BLOCK_THREADS + local;
        if (i < a.values) {
            float total = 0.0f;
            for (u64 chunk = 0; chunk < a.chunk_count; ++chunk) {
                total = total + a.chunks[chunk * a.values + i];
            }
            a.out[i] = total;
        }
    }
}
