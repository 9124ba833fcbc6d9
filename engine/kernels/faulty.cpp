// The kernels with faults that can be switched on, for tests of whoever has to find them: build.rs
// compiles this file in a copy of the folder to which faults.toml was applied, plain and as a GPU
// runs them. Number 0 is none.
namespace {
// Of a thread: engines with different faults run side by side.
thread_local unsigned lockstep_fault_chosen = 0;
[[maybe_unused]] inline unsigned lockstep_fault() { return lockstep_fault_chosen; }
}  // namespace

#include "host.cpp"

/// Chooses the fault of the launches that this thread runs from here on.
#if defined(LOCKSTEP_WAVES)
extern "C" void lockstep_faulty_waves_choose(unsigned number) { lockstep_fault_chosen = number; }
#else
extern "C" void lockstep_faulty_choose(unsigned number) { lockstep_fault_chosen = number; }
#endif
