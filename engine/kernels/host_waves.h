// The threads of a GPU on the CPU: each thread of a block is a fiber, and a barrier or a shuffle
// lets the others catch up. Slow, and exact: what a tuned kernel computes, and whether every thread
// reaches its barriers, is known without a GPU. LOCKSTEP_WAVES is the number of lanes of a wave.
//
// Between two barriers the fibers run one after another, in an order that LOCKSTEP_ORDER, a seed
// in the environment, permutes: a missing barrier shows as a bit that depends on the seed.
#pragma once

namespace host {

/// Why a fiber does not run.
enum Wait : u8 { READY, AT_SHUFFLE, AT_BARRIER, DONE };

static constexpr u32 LANES = LOCKSTEP_WAVES;
#if defined(LOCKSTEP_ADDRESS_SANITIZER)
// Every local array has its guard zones there.
static constexpr u64 STACK_BYTES = 512 << 10;
#else
static constexpr u64 STACK_BYTES = 128 << 10;
#endif
static constexpr u32 EXCHANGE_WORDS = 8;

struct Fiber {
    void* stack_pointer;
    Wait wait;
    u32 shared_bytes;  // what its SHARED arrays have taken so far
    void* kept;        // what a sanitizer keeps of its stack
};

/// One block, and what its threads have put on the table for their wave.
struct Block {
    Fiber fibers[BLOCK_THREADS];
    void* scheduler;
    // The stack that the scheduler runs on, where a sanitizer has to be told.
    const void* scheduler_bottom;
    unsigned long scheduler_bytes;
    void* scheduler_kept;
    u32 thread;
    char* stacks;
    char* shared;
    // Two turns, so that a lane that is ahead does not overwrite what another has yet to read.
    u32 exchange[2][BLOCK_THREADS][EXCHANGE_WORDS];
    u8 turn[BLOCK_THREADS];
    void (*body)(const void*);
    const void* context;
};

/// The most that a launch may ask for; `POOL_BYTES` in host/registrations.rs.
static constexpr u32 POOL_BYTES = 227 << 10;

/// Shared memory of a block: the most that a kernel declares, what the arrays' names take, a pool.
static constexpr u32 SHARED_BYTES = (80 << 10) + POOL_BYTES;

static thread_local Block* current_block = nullptr;

/// Gives a thread's block back when the thread ends.
struct BlockOwner {
    Block* block = nullptr;
    ~BlockOwner() {
        if (block == nullptr) return;
        ::free(block->stacks);
        ::free(block->shared);
        ::free(block);
    }
};
static thread_local BlockOwner block_owner;

#if !defined(__x86_64__)
#error "the builds of waves switch stacks by hand, and only for x86-64"
#endif

/// Saves what the ABI asks a function to keep, and continues on another stack.
__attribute__((naked, noinline)) static void switch_stack(void**, void*) {
    asm(R"(
        pushq %rbp
        pushq %rbx
        pushq %r12
        pushq %r13
        pushq %r14
        pushq %r15
        movq %rsp, (%rdi)
        movq %rsi, %rsp
        popq %r15
        popq %r14
        popq %r13
        popq %r12
        popq %rbx
        popq %rbp
        ret
    )");
}

#if defined(LOCKSTEP_ADDRESS_SANITIZER)
/// Announces the stack that runs next; `kept` is null when the present one is left for good.
static inline void leaving(void** kept, const void* bottom, u64 bytes) {
    __sanitizer_start_switch_fiber(kept, bottom, bytes);
}
/// Says that a fiber runs, and learns where the scheduler's stack is.
static inline void arrived(void* kept) {
    Block& block = *current_block;
    __sanitizer_finish_switch_fiber(kept, &block.scheduler_bottom, &block.scheduler_bytes);
}
static inline void returned(void* kept) {
    __sanitizer_finish_switch_fiber(kept, nullptr, nullptr);
}
/// Fibers that never came to their end have left the guard zones of their locals behind.
static inline void forget_stacks(Block& block) {
    __asan_unpoison_memory_region(block.stacks, STACK_BYTES * BLOCK_THREADS);
}
#else
static inline void leaving(void**, const void*, u64) {}
static inline void arrived(void*) {}
static inline void returned(void*) {}
static inline void forget_stacks(Block&) {}
#endif

static inline void give_way(Wait wait) {
    Block& block = *current_block;
    Fiber& fiber = block.fibers[block.thread];
    fiber.wait = wait;
    // No local whose address is taken: the last call of a fiber does not return, and a sanitizer's
    // guard zones around such a local would stay.
    void** kept = wait == DONE ? nullptr : &fiber.kept;
    leaving(kept, block.scheduler_bottom, block.scheduler_bytes);
    switch_stack(&fiber.stack_pointer, block.scheduler);
    arrived(fiber.kept);
}

/// Continues a fiber until it gives way.
static inline void proceed(Block& block, u32 thread) {
    block.thread = thread;
    leaving(&block.scheduler_kept, block.stacks + (u64)thread * STACK_BYTES, STACK_BYTES);
    switch_stack(&block.scheduler, block.fibers[thread].stack_pointer);
    returned(block.scheduler_kept);
}

static void fiber_main() {
    arrived(nullptr);
    current_block->body(current_block->context);
    give_way(DONE);
    __builtin_trap();
}

static inline void prepare(Block& block, u32 thread) {
    u64* top = (u64*)(block.stacks + (u64)(thread + 1) * STACK_BYTES);
    // The return address of the first switch; the stack is 8 off 16 on entry, as after a call.
    *--top = 0;
    *--top = (u64)&fiber_main;
    for (u32 i = 0; i < 6; ++i) *--top = 0;
    block.fibers[thread] = {top, READY, 0, nullptr};
    block.turn[thread] = 0;
}

static inline u64 mixed(u64 z) {
    z += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/// A permutation of the threads for this seed, in place.
static inline void permute(u32* order, u64 seed) {
    for (u32 i = 0; i < BLOCK_THREADS; ++i) order[i] = i;
    if (seed == 0) return;
    for (u32 i = BLOCK_THREADS - 1; i > 0; --i) {
        const u32 j = (u32)(mixed(seed + i) % (i + 1));
        const u32 kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

static inline u64 order_seed() {
    const char* text = ::getenv("LOCKSTEP_ORDER");
    u64 seed = 0;
    if (text == nullptr) return seed;
    for (; *text >= '0' && *text <= '9'; ++text) seed = seed * 10 + (u64)(*text - '0');
    return seed;
}

/// Whether all threads of a range wait for the same thing; those that are done count only for DONE.
static inline bool all_wait(const Block& block, u32 first, u32 count, Wait wait) {
    for (u32 i = first; i < first + count; ++i) {
        if (block.fibers[i].wait != wait) return false;
    }
    return true;
}

static inline void release(Block& block, u32 first, u32 count) {
    for (u32 i = first; i < first + count; ++i) block.fibers[i].wait = READY;
}

/// Runs all threads to their end; false when they part at a barrier or a shuffle.
static bool schedule(Block& block) {
    u32 order[BLOCK_THREADS];
    u64 seed = order_seed();
    for (;;) {
        permute(order, seed);
        seed = seed == 0 ? 0 : mixed(seed);
        bool ran = false;
        for (u32 thread : order) {
            if (block.fibers[thread].wait != READY) continue;
            proceed(block, thread);
            ran = true;
        }
        if (all_wait(block, 0, BLOCK_THREADS, DONE)) return true;
        bool released = false;
        for (u32 wave = 0; wave < BLOCK_THREADS; wave += LANES) {
            if (!all_wait(block, wave, LANES, AT_SHUFFLE)) continue;
            release(block, wave, LANES);
            released = true;
        }
        if (all_wait(block, 0, BLOCK_THREADS, AT_BARRIER)) {
            release(block, 0, BLOCK_THREADS);
            released = true;
        }
        if (!ran || !released) return false;
    }
}

template <typename Body>
static bool run_block(const Body& body) {
    if (current_block == nullptr) {
        current_block = (Block*)::calloc(1, sizeof(Block));
        current_block->stacks = (char*)::malloc(STACK_BYTES * BLOCK_THREADS);
        current_block->shared = (char*)::calloc(SHARED_BYTES, 1);
        block_owner.block = current_block;
    }
    Block& block = *current_block;
    block.body = [](const void* context) { (*(const Body*)context)(); };
    block.context = &body;
    for (u32 thread = 0; thread < BLOCK_THREADS; ++thread) prepare(block, thread);
    const bool ended = schedule(block);
    if (!ended) forget_stacks(block);
    return ended;
}

/// The same memory for every thread of the block: all come to their SHARED arrays in one order.
template <typename Array>
static Array& shared_array(const char* name) {
    Block& block = *current_block;
    u32& used = block.fibers[block.thread].shared_bytes;
    Array* array = (Array*)(block.shared + used);
    used += (u32)((sizeof(Array) + 15) / 16 * 16);
    if (used > SHARED_BYTES) __builtin_trap();
    array->name = name;
    return *array;
}

/// Puts `count` words on the table, waits for the wave, and gives the table of the wave's lanes.
static inline u32 (*exchange(const u32* words, u32 count))[EXCHANGE_WORDS] {
    Block& block = *current_block;
    const u32 thread = block.thread;
    const u32 turn = block.turn[thread] ^= 1;
    for (u32 i = 0; i < count; ++i) block.exchange[turn][thread][i] = words[i];
    give_way(AT_SHUFFLE);
    return &block.exchange[turn][thread / LANES * LANES];
}

}  // namespace host

#define THREAD_X (host::current_block->thread)
#define BARRIER() host::give_way(host::AT_BARRIER)
