// swiglu_quantise: out = swiglu(gate, up), and out in fixed point.
// Replaces swiglu and quantise. CONTRACT.md sections 11 and 5.
// Grid: x = slices of 256 columns, y = rows. One thread a value.
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
    const u32 column = BLOCK_X * BLOCK_THREADS + THREAD_X;
    const bool inside = column < a.width;
    const u64 index = (u64)BLOCK_Y * a.width + column;
    float value = 0.0f;
    if (inside) {
        value = swiglu32(a.gate[index], a.up[index]);
        a.out[index] = value;
    }
    fixed_point_write(a.fixed, a.width, BLOCK_Y, column, inside, {value}, maxima);
}
