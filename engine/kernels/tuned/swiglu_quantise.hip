// swiglu_quantise: out = swiglu(gate, up), and out in fixed point.
// Replaces swiglu and quantise. CONTRACT.md sections 11 and 5.
// Grid: x = slices of 1024 columns, y = rows. A thread has four values.
#include "fixed_point.h"

struct SwigluQuantiseArguments {
    Span<const float> gate;  // [rows][width]
    Span<const float> up;    // [rows][width]
    Span<float> out;         // [rows][width]
    FixedPointOut fixed;
    u32 width, rows;
};

KERNEL(swiglu_quantise, SwigluQuantiseArguments) {
    FIXED_POINT_SHARED(maxima);
    next_may_begin();
    const u32 column = (BLOCK_X * BLOCK_THREADS + THREAD_X) * 4;
    const u64 row = (u64)BLOCK_Y * a.width;
    float gate[4], values[4];
    load_four(a.gate.at(row, a.width), column, a.width, gate);
    load_four(a.up.at(row, a.width), column, a.width, values);
    UNROLL
    for (u32 i = 0; i < 4; ++i) values[i] = swiglu32(gate[i], values[i]);
    store_four(a.out.at(row, a.width), column, a.width, values);
    fixed_point_write(a.fixed, a.width, BLOCK_Y, column, column < a.width, values, maxima);
}
