// One source, three compilers: what a kernel file may use on HIP, on CUDA and on the host.
//
// A plain kernel is a sequence of phases. EACH_THREAD(t, n) runs its body once for every t < n: on
// a GPU the block's threads share the range, on the host it is a plain loop that the compiler
// vectorises. A value that must outlive a phase lives in a SHARED array, and BARRIER() stands
// between a phase that writes and one that reads. A body must not depend on the order of t.
//
// A tuned kernel is written for lanes and waves (lanes.h). GPUs run it, and so do the builds
// waves32 and waves64, which run the code of a GPU on the CPU; LOCKSTEP_LANES says where it is
// built.
//
// Memory is reached through Span only. In the checked host build every access is compared with
// the span's length; a bad one is recorded and redirected to a scratch area, so nothing is harmed.
#pragma once

typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

static_assert(sizeof(u16) == 2 && sizeof(u32) == 4 && sizeof(u64) == 8, "LP64 or LLP64 integers");

// Threads of every block, the same on all devices, but for the kernels that have a pool of shared
// memory (SHARED_POOL): up to WIDE_THREADS on NVIDIA; POOL_THREADS in
// engine/src/device/cuda/launch.rs.
#define BLOCK_THREADS 256u
#if defined(__CUDACC_RTC__) || defined(__CUDACC__)
#define WIDE_THREADS 512u
#else
#define WIDE_THREADS BLOCK_THREADS
#endif

// Before a loop over an array that has to stay in registers; four times; not at all.
#if defined(__HIP__) || defined(__CUDACC_RTC__) || defined(__CUDACC__)
#define UNROLL _Pragma("unroll")
#define UNROLL_4 _Pragma("unroll 4")
#define ROLL _Pragma("unroll 1")
#else
#define UNROLL
#define UNROLL_4
#define ROLL
#endif

#if defined(__HIP__) || defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define LOCKSTEP_GPU 1
#define LOCKSTEP_LANES 1
#define INLINE __device__ __forceinline__
#define INLINE_STATIC __device__ __forceinline__ static
#define INLINE_MEMBER __device__ __forceinline__
#if defined(__HIP__)
#if !defined(__HIPCC_RTC__)
// Declared here so that no ROCm header is needed to compile device code; hiprtc brings its own.
#define __device__ __attribute__((device))
#define __global__ __attribute__((global))
#define __forceinline__ inline __attribute__((always_inline))
#endif
#define KERNEL_ATTRIBUTES(blocks) __attribute__((amdgpu_flat_work_group_size(256, 256)))
#define THREAD_X __builtin_amdgcn_workitem_id_x()
#define BLOCK_X __builtin_amdgcn_workgroup_id_x()
#define BLOCK_Y __builtin_amdgcn_workgroup_id_y()
#define BARRIER() \
    (__builtin_amdgcn_fence(__ATOMIC_SEQ_CST, "workgroup"), __builtin_amdgcn_s_barrier(), \
     __builtin_amdgcn_fence(__ATOMIC_SEQ_CST, "workgroup"))
#define SHARED(T, name, n) __attribute__((shared, aligned(16))) T name[n]
#else
#define KERNEL_ATTRIBUTES(blocks) __launch_bounds__(BLOCK_THREADS, blocks)
#define THREAD_X threadIdx.x
#define BLOCK_X blockIdx.x
#define BLOCK_Y blockIdx.y
#define BARRIER() __syncthreads()
#define SHARED(T, name, n) __shared__ alignas(16) T name[n]
// Bytes of shared memory, as many as the launch asks for.
#define SHARED_POOL(name) extern __shared__ u8 name[]
#endif
#define EACH_THREAD(t, n) for (u32 t = THREAD_X; t < (n); t += BLOCK_THREADS)
#define BLOCK_PARAMETERS
#define BLOCK_ARGUMENTS
#define KERNEL(name, Args) KERNEL_DENSE(1, name, Args)
#if defined(__HIP__)
#define KERNEL_DENSE(blocks, name, Args) \
    extern "C" __global__ void KERNEL_ATTRIBUTES(blocks) name(const Args a)
#define KERNEL_AHEAD(blocks, name, Args) KERNEL_DENSE(blocks, name, Args)
#else
// A kernel that needs so many blocks on a multiprocessor of NVIDIA's to hide its waiting. Launches
// there may begin before the one in front has ended, so that every kernel waits for its inputs.
#define KERNEL_DENSE(blocks, name, Args)                                       \
    INLINE void name##_body(const Args& a);                                    \
    extern "C" __global__ void KERNEL_ATTRIBUTES(blocks) name(const Args a) {  \
        inputs_ready();                                                        \
        name##_body(a);                                                        \
    }                                                                          \
    INLINE void name##_body(const Args& a)
// The same, for a kernel that calls inputs_ready by itself, behind what needs nothing of the launch
// in front.
#define KERNEL_AHEAD(blocks, name, Args) \
    extern "C" __global__ void KERNEL_ATTRIBUTES(blocks) name(const Args a)
// The same in blocks of up to WIDE_THREADS.
#define KERNEL_WIDE(name, Args) \
    extern "C" __global__ void __launch_bounds__(WIDE_THREADS, 1) name(const Args a)
#endif
#else
#define LOCKSTEP_HOST 1
#define INLINE static inline __attribute__((always_inline))
#define INLINE_STATIC static inline __attribute__((always_inline))
#define INLINE_MEMBER inline __attribute__((always_inline))
#define BLOCK_PARAMETERS , const u32 BLOCK_X, const u32 BLOCK_Y
#define BLOCK_ARGUMENTS , BLOCK_X, BLOCK_Y
#if defined(LOCKSTEP_WAVES)
// The code a GPU runs, thread by thread, on the CPU: see host_waves.h.
#define LOCKSTEP_LANES 1
#define EACH_THREAD(t, n) for (u32 t = THREAD_X; t < (n); t += BLOCK_THREADS)
#include "host_waves.h"
#else
#define EACH_THREAD(t, n) for (u32 t = 0; t < (n); ++t)
#define BARRIER() ((void)0)
#endif
#include "host_entry.h"
#endif

/// Until here nothing was read that the launch before writes, and nothing written at all; from here
/// on all of it is there. NVIDIA's from sm_90 on overlap launches, elsewhere it is so anyway.
INLINE void inputs_ready() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// The launch behind may begin, as far as it does not wait for its inputs.
INLINE void next_may_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// A typed run of device memory: the address and the number of elements.
template <typename T>
struct Span {
    T* data;
    u64 count;

#if defined(LOCKSTEP_CHECKED)
    INLINE_MEMBER T& operator[](u64 index) const {
        return index < count ? data[index] : *host::refuse<T>(this, index, 1, count);
    }
    /// The address of `run` elements from `index`, checked as one access.
    INLINE_MEMBER T* at(u64 index, u64 run) const {
        return run <= count && index <= count - run ? data + index
                                                    : host::refuse<T>(this, index, run, count);
    }
#else
    INLINE_MEMBER T& operator[](u64 index) const { return data[index]; }
    INLINE_MEMBER T* at(u64 index, u64) const { return data + index; }
#endif
};
static_assert(sizeof(Span<float>) == 16, "engine/src/device/launch.rs has the same layout");
