// quantise_rows: rows in fixed point. Replaces quantise. CONTRACT.md section 5.
// Grid: x = slices of 1024 columns, y = rows. A thread has four values.
#include "fixed_point.h"

struct QuantiseRowsArguments {
    Span<const float> x;  // [rows][width]
    FixedPointOut fixed;
    u32 width, rows;
};

KERNEL(quantise_rows, QuantiseRowsArguments) {
    FIXED_POINT_SHARED(maxima);
    next_may_begin();
    const u32 column = (BLOCK_X * BLOCK_THREADS + THREAD_X) * 4;
    float values[4];
    load_four(a.x.at((u64)BLOCK_Y * a.width, a.width), column, a.width, values);
    fixed_point_write(a.fixed, a.width, BLOCK_Y, column, column < a.width, values, maxima);
}
