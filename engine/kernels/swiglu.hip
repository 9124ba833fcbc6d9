// swiglu: out = (gate / (1 + exp(-gate))) * up. CONTRACT.md section 11.
// Grid: x = runs of SWIGLU_RUN values. One thread a value, no sums.
#include "arguments.h"
#include "arithmetic.h"

#define SWIGLU_RUN 1024u

KERNEL(swiglu, SwigluArguments) {
    const u32 first = BLOCK_X * SWIGLU_RUN;
    const u32 count = a.count - first < SWIGLU_RUN ? a.count - first : SWIGLU_RUN;
    const float* gate = a.gate.at(first, count);
    const float* up = a.up.at(first, count);
    float* out = a.out.at(first, count);
    EACH_THREAD(i, count) { out[i] = swiglu32(gate[i], up[i]); }
}
