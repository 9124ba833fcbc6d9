// rope: rotates adjacent pairs of each head by the angle of its position. CONTRACT.md section 8.
// Grid: x = heads, y = rows. One thread a pair; values beyond `rotated` pass unchanged.
// No sums; tables are made on the host in f64.
#include "arguments.h"
#include "arithmetic.h"

KERNEL(rope, RopeArguments) {
    const u64 head = ((u64)BLOCK_Y * a.heads + BLOCK_X) * a.head_size;
    const u64 angles = (u64)(a.position[0] + BLOCK_Y) * (a.rotated / 2);
    EACH_THREAD(pair, a.head_size / 2) {
        const float x0 = a.x[head + 2 * pair];
        const float x1 = a.x[head + 2 * pair + 1];
        if (2 * pair < a.rotated) {
            const float c = a.cosine[angles + pair];
            const float s = a.sine[angles + pair];
            a.out[head + 2 * pair] = fma32(x0, c, -(x1 * s));
            a.out[head + 2 * pair + 1] = fma32(x0, s, x1 * c);
        } else {
            a.out[head + 2 * pair] = x0;
            a.out[head + 2 * pair + 1] = x1;
        }
    }
}
