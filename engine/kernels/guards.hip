// guards: the first byte of each guard zone that is not the poison, or 0xffffffff where all are.
// Grid: x = zones. One block of threads a zone. No operation of a model: it is launched after a
// step by engine/src/device/guards.rs.
#include "arguments.h"

KERNEL(guards, GuardsArguments) {
    SHARED(u32, first, BLOCK_THREADS);
    const Span<const u8> zone = a.zones[BLOCK_X];
    EACH_THREAD(t, BLOCK_THREADS) {
        u32 least = 0xffffffffu;
        for (u32 i = t; i < zone.count; i += BLOCK_THREADS) {
            const bool written = zone.data[i] != 0xff;
            least = written && i < least ? i : least;
        }
        first[t] = least;
    }
    BARRIER();
    // least of all
    for (u32 half = BLOCK_THREADS / 2; half > 0; half /= 2) {
        EACH_THREAD(t, half) { first[t] = first[t + half] < first[t] ? first[t + half] : first[t]; }
        BARRIER();
    }
    EACH_THREAD(t, 1u) { a.damaged[BLOCK_X] = first[t]; }
}
