// Kernels that are wrong on purpose: tests show that the sanitizers see what they have to, and that
// another order of threads shows a missing barrier. No device has this build.
#if defined(LOCKSTEP_WAVES)
#include <stdlib.h>
#endif
#include "sanitizer.h"
namespace {
#include "platform.h"

/// engine/src/device/host/planted.rs has the same layout.
struct PlantedArguments {
    Span<const u32> x;
    Span<u32> out;
    u32 amount;
};

/// Reads `amount` elements behind the first, through the plain pointer of a run of one.
KERNEL(planted_read, PlantedArguments) {
    EACH_THREAD(t, 1) { *a.out.at(0, 1) = a.x.at(0, 1)[a.amount]; }
}

/// Writes there.
KERNEL(planted_write, PlantedArguments) {
    EACH_THREAD(t, 1) { a.out.at(0, 1)[a.amount] = *a.x.at(0, 1); }
}

/// Shifts a word by `amount` bits.
KERNEL(planted_shift, PlantedArguments) {
    EACH_THREAD(t, 1) { *a.out.at(0, 1) = *a.x.at(0, 1) << a.amount; }
}

/// Loads a word `amount` bytes behind the first.
KERNEL(planted_load, PlantedArguments) {
    EACH_THREAD(t, 1) { *a.out.at(0, 1) = *(const u32*)((const char*)a.x.at(0, 2) + a.amount); }
}

/// Writes `amount` elements into an array of the stack, which has four, through a pointer that the
/// compiler knows nothing of.
KERNEL(planted_stack, PlantedArguments) {
    EACH_THREAD(t, 1) {
        u32 values[4] = {};
        u32* volatile place = values;
        for (u32 i = 0; i < a.amount; ++i) place[i] = *a.x.at(0, 1);
        *a.out.at(0, 1) = values[0];
    }
}

/// Element `amount` of such an array, by its name.
KERNEL(planted_index, PlantedArguments) {
    EACH_THREAD(t, 1) {
        const u32 values[4] = {1, 2, 3, *a.x.at(0, 1)};
        *a.out.at(0, 1) = values[a.amount];
    }
}

#if defined(LOCKSTEP_WAVES)
/// out[t] = x[255 - t] by way of a shared array, with a barrier where `amount` is 1.
KERNEL(planted_barrier, PlantedArguments) {
    SHARED(u32, values, BLOCK_THREADS);
    values[THREAD_X] = 0;
    BARRIER();
    values[THREAD_X] = *a.x.at(THREAD_X, 1);
    if (a.amount == 1) BARRIER();
    *a.out.at(THREAD_X, 1) = values[BLOCK_THREADS - 1 - THREAD_X];
}
#endif
}  // namespace

extern "C" const host::Registration* LOCKSTEP_BUILD() { return host::registered; }
