// residual: out = x + branch. CONTRACT.md section 11.
// Grid: x = runs of RESIDUAL_RUN values. One thread a value, no sums.
#include "arguments.h"
#include "arithmetic.h"

#define RESIDUAL_RUN 1024u

KERNEL(residual, ResidualArguments) {
    const u32 first = BLOCK_X * RESIDUAL_RUN;
    const u32 count = a.count - first < RESIDUAL_RUN ? a.count - first : RESIDUAL_RUN;
    const float* x = a.x.at(first, count);
    const float* branch = a.branch.at(first, count);
    float* out = a.out.at(first, count);
    EACH_THREAD(i, count) { out[i] = x[i] + branch[i]; }
}
