// The host side of KERNEL, SHARED and Span: entry points, registration, the record of a bad access.
//
// A launch runs blocks first..last of a grid in one call; Rust spreads ranges over threads.
#pragma once

namespace host {

/// What a checked build saw go wrong first in a launch; mirrored in engine/src/device/host.rs.
struct Fault {
    u32 raised;
    u32 in_shared;      // 0: `field_offset` is into the arguments, 1: `array` names a shared array,
                        // 2: a barrier or a shuffle that not every thread reached
    u64 field_offset;
    u64 index;
    u64 run;
    u64 count;
    char array[32];
};

typedef void (*Entry)(const void* arguments, u32 grid_x, u64 first, u64 last, Fault* fault);

/// One kernel of a build, found by name from Rust.
struct Registration {
    const char* name;
    Entry entry;
    u64 arguments_bytes;
    const Registration* next;
    Registration(const char* name_, Entry entry_, u64 bytes);
};

static const Registration* registered = nullptr;

inline Registration::Registration(const char* name_, Entry entry_, u64 bytes)
    : name(name_), entry(entry_), arguments_bytes(bytes), next(registered) {
    registered = this;
}

#if defined(LOCKSTEP_CHECKED)
static thread_local Fault* current_fault = nullptr;
static thread_local const char* current_arguments = nullptr;
// What refused accesses are given instead: as long as the run they asked for, so that nothing else
// is touched. A block may still hold a shorter one, so that is left alone; sizes double.
static thread_local void* scratch = nullptr;
static thread_local u64 scratch_bytes = 0;

static inline void* spare(u64 bytes) {
    if (scratch == nullptr || scratch_bytes < bytes) {
        scratch_bytes = 2 * bytes + 64;
        scratch = __builtin_calloc(scratch_bytes, 1);
    }
    return scratch;
}

static inline void record(u32 in_shared, u64 offset, const char* array, u64 index, u64 run,
                          u64 count) {
    Fault* fault = current_fault;
    if (fault == nullptr || fault->raised) return;
    fault->raised = 1;
    fault->in_shared = in_shared;
    fault->field_offset = offset;
    fault->index = index;
    fault->run = run;
    fault->count = count;
    u32 i = 0;
    for (; array != nullptr && array[i] != 0 && i + 1 < sizeof(fault->array); ++i) {
        fault->array[i] = array[i];
    }
    fault->array[i] = 0;
}

static inline void record_divergence() { record(2, 0, nullptr, 0, 0, 0); }

template <typename T>
static T* refuse(const void* span, u64 index, u64 run, u64 count) {
    record(0, (u64)((const char*)span - current_arguments), nullptr, index, run, count);
    return (T*)spare(run * sizeof(T));
}

/// A block's shared array with its length at hand.
template <typename T, u32 N>
struct SharedArray {
    alignas(16) T items[N];
    const char* name;
    T& operator[](u64 index) { return *at(index, 1); }
    T* at(u64 index, u64 run) {
        if (run <= N && index <= N - run) return items + index;
        record(1, 0, name, index, run, N);
        return (T*)spare(run * sizeof(T));
    }
};
#if defined(LOCKSTEP_WAVES)
#define SHARED(T, name, n) auto& name = host::shared_array<host::SharedArray<T, n>>(#name)
#define SHARED_POOL(name) SHARED(u8, name, host::POOL_BYTES)
#else
#define SHARED(T, name, n) host::SharedArray<T, n> name = {{}, #name}
#endif
#define ENTER(a) (host::current_fault = fault, host::current_arguments = (const char*)(a))
#else
#define SHARED(T, name, n) T name[n]
#define ENTER(a) ((void)fault)
#endif

}  // namespace host

#if defined(LOCKSTEP_WAVES)
#define RUN_BLOCK(body, a, x, y) \
    (host::run_block([&] { body(a, x, y); }) ? (void)0 : host::record_divergence())
#else
#define RUN_BLOCK(body, a, x, y) body(a, x, y)
#endif

#define KERNEL_DENSE(blocks, name, Args) KERNEL(name, Args)
#define KERNEL_AHEAD(blocks, name, Args) KERNEL(name, Args)
#define KERNEL_WIDE(name, Args) KERNEL(name, Args)
#define KERNEL(name, Args)                                                             \
    static void name##_block(const Args& a, const u32 BLOCK_X, const u32 BLOCK_Y);     \
    static void name##_entry(const void* arguments, u32 grid_x, u64 first, u64 last,   \
                             host::Fault* fault) {                                     \
        ENTER(arguments);                                                              \
        for (u64 block = first; block < last; ++block) {                               \
            RUN_BLOCK(name##_block, *(const Args*)arguments, (u32)(block % grid_x),    \
                      (u32)(block / grid_x));                                          \
        }                                                                              \
    }                                                                                  \
    static const host::Registration name##_registration(#name, name##_entry,           \
                                                        sizeof(Args));                 \
    static void name##_block(const Args& a, [[maybe_unused]] const u32 BLOCK_X,        \
                             [[maybe_unused]] const u32 BLOCK_Y)
