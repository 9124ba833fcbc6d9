// Builds that break the contract, made of the probe alone: tests show that each is refused.
// build.rs compiles this file with compiler flags that must not be used, and once, with
// LOCKSTEP_MISSET, for control words of the CPU that must not be set.
namespace {
#include "probe.hip"
}  // namespace

extern "C" const host::Registration* LOCKSTEP_BUILD() { return host::registered; }

#if defined(LOCKSTEP_MISSET)
namespace {
/// Runs the probe with `bits` set in MXCSR, and puts the control word back.
template <u32 bits>
void misset(const void* arguments, u32 grid_x, u64 first, u64 last, host::Fault* fault) {
    const u32 kept = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(kept | bits);
    probe_entry(arguments, grid_x, first, last, fault);
    __builtin_ia32_ldmxcsr(kept);
}
}  // namespace

#define MISSET(name, bits)                                                             \
    static const host::Registration name##_probe("probe", misset<bits>,                \
                                                 sizeof(ProbeArguments));              \
    extern "C" const host::Registration* lockstep_host_##name() { return &name##_probe; }

MISSET(flushed_inputs, 0x0040u)
MISSET(flushed_results, 0x8000u)
MISSET(rounded_down, 0x2000u)
MISSET(rounded_up, 0x4000u)
MISSET(rounded_to_zero, 0x6000u)
#endif
