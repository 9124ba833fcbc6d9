// libamdhip64 without a GPU, for tests: host memory, and kernels that the loaded code object names,
// run by the host's build waves64. Nothing happens before a wait, so that a missing one shows.
//
// Stricter than HIP where HIP forgives: copies need pinned memory, the thread's device has to be
// the stream's, nothing but launches is captured. The environment makes it fail: see faults.h.
// LOCKSTEP_MOCK_LEDGER=1 tells at the end what was asked for and what was never given back.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "code_object.h"
#include "codes.h"
#include "device_memory.h"
#include "faults.h"

namespace {

/// `host::Fault` and `host::Registration` in engine/kernels/host_entry.h.
struct Fault {
    uint32_t raised, in_shared;
    uint64_t field_offset, index, run, count;
    char array[32];
};
typedef void (*Entry)(const void*, uint32_t, uint64_t, uint64_t, Fault*);
struct Registration {
    const char* name;
    Entry entry;
    uint64_t argument_bytes;
    const Registration* next;
};

}  // namespace

extern "C" const Registration* lockstep_host_waves64();

namespace {

/// What a stream does later, and what a graph keeps; gives an error code.
typedef std::function<Code()> Work;

struct Stream {
    int device;
    std::vector<Work> queue;
    std::unique_ptr<std::vector<Work>> capture;
    bool invalidated = false;
    bool hangs = false;
};
struct Event {
    Stream* stream = nullptr;
    bool happened = false;
    std::chrono::steady_clock::time_point time;
};
struct Function {
    code_object::Kernel kernel;
    Entry entry;
    std::string name;
};
struct Module {
    std::map<std::string, Function> functions;
};
typedef std::vector<Work> Graph;

std::mutex everything;
uint64_t copied_bytes = 0;
std::set<void*> live;
thread_local int current_device = 0;

#define ENTER(call)                                       \
    const std::lock_guard<std::mutex> locked(everything); \
    if (const Code code = planted(call)) return code

template <typename T>
T* made(T* object) {
    live.insert(object);
    return object;
}

template <typename T>
Code destroyed(T* object) {
    if (!live.erase(object)) return INVALID_HANDLE;
    delete object;
    return SUCCESS;
}

/// Work for a stream: queued, or refused where only launches are served.
Code enqueue(Stream* stream, Work work, bool capturable) {
    if (!live.count(stream) || stream->device != current_device) return INVALID_HANDLE;
    if (stream->capture != nullptr) {
        if (!capturable) {
            stream->invalidated = true;
            return CAPTURE_UNSUPPORTED;
        }
        stream->capture->push_back(std::move(work));
        return SUCCESS;
    }
    stream->queue.push_back(std::move(work));
    return SUCCESS;
}

Code wait(Stream* stream) {
    if (!live.count(stream) || stream->device != current_device) return INVALID_HANDLE;
    if (stream->capture != nullptr) {
        stream->invalidated = true;
        return CAPTURE_UNSUPPORTED;
    }
    if (setting("LOCKSTEP_MOCK_DEAF", 0)) return SUCCESS;
    Code first = SUCCESS;
    std::vector<Work> queue;
    queue.swap(stream->queue);
    for (const Work& work : queue) {
        const Code code = work();
        if (first == SUCCESS) first = code;
    }
    if (first == ILLEGAL_ADDRESS && setting("LOCKSTEP_MOCK_STICKY", 0)) lost = first;
    return first;
}

/// Destroyed before what it tells of.
struct Ledger {
    ~Ledger() {
        if (!setting("LOCKSTEP_MOCK_LEDGER", 0)) return;
        std::fprintf(stderr, "told: %d hipMalloc, %d hipFree, %d hipHostMalloc, %d hipHostFree, ",
                     counts["hipMalloc"], counts["hipFree"], counts["hipHostMalloc"],
                     counts["hipHostFree"]);
        std::fprintf(stderr, "%zu bytes and %zu handles left\n",
                     held(device_memory) + held(pinned_memory), live.size());
    }
} ledger;

int capability() { return setting("LOCKSTEP_MOCK_CAPABILITY", 94); }

/// EF_AMDGPU_MACH of the GPU that this is.
uint32_t machine() { return capability() == 94 ? 0x4c : capability() == 90 ? 0x3f : 0; }

}  // namespace

extern "C" {

Code hipInit(unsigned) {
    ENTER("hipInit");
    return setting("LOCKSTEP_MOCK_DEVICES", 2) > 0 ? SUCCESS : NO_DEVICE;
}
Code hipGetDeviceCount(int* count) {
    ENTER("hipGetDeviceCount");
    *count = setting("LOCKSTEP_MOCK_DEVICES", 2);
    return SUCCESS;
}
Code hipSetDevice(int device) {
    ENTER("hipSetDevice");
    if (device < 0 || device >= setting("LOCKSTEP_MOCK_DEVICES", 2)) return INVALID_DEVICE;
    current_device = device;
    return SUCCESS;
}
Code hipDeviceGetName(char* name, int bytes, int) {
    ENTER("hipDeviceGetName");
    std::strncpy(name, "Imaginary Instinct", (size_t)bytes);
    return SUCCESS;
}
Code hipDeviceGetAttribute(int* value, int attribute, int) {
    ENTER("hipDeviceGetAttribute");
    switch (attribute) {
        case 23: *value = capability() / 10; return SUCCESS;
        case 61: *value = capability() % 10; return SUCCESS;
        case 63: *value = 304; return SUCCESS;
        case 87: *value = setting("LOCKSTEP_MOCK_WAVE", 64); return SUCCESS;
        default: return INVALID_VALUE;
    }
}
Code hipDriverGetVersion(int* version) { return *version = 60443484, SUCCESS; }
Code hipRuntimeGetVersion(int* version) { return *version = 60443484, SUCCESS; }
Code hipMemGetInfo(size_t* free, size_t* total) {
    ENTER("hipMemGetInfo");
    *total = total_bytes();
    *free = free_bytes();
    return SUCCESS;
}
Code hipMalloc(void** pointer, size_t bytes) {
    ENTER("hipMalloc");
    if (bytes > free_bytes()) return OUT_OF_MEMORY;
    return take(device_memory, pointer, bytes);
}
Code hipFree(void* pointer) {
    ENTER("hipFree");
    return give(device_memory, pointer);
}
Code hipHostMalloc(void** pointer, size_t bytes, unsigned) {
    ENTER("hipHostMalloc");
    return take(pinned_memory, pointer, bytes);
}
Code hipHostFree(void* pointer) {
    ENTER("hipHostFree");
    return give(pinned_memory, pointer);
}
Code hipMemcpyHtoDAsync(void* target, void* source, size_t bytes, Stream* stream) {
    ENTER("hipMemcpyHtoDAsync");
    if (!inside(pinned_memory, source, bytes)) return INVALID_VALUE;
    if (!inside(device_memory, target, bytes)) return INVALID_VALUE;
    copied_bytes += bytes;
    return enqueue(stream, [=] { return std::memcpy(target, source, bytes), SUCCESS; }, false);
}
Code hipMemcpyDtoHAsync(void* target, void* source, size_t bytes, Stream* stream) {
    ENTER("hipMemcpyDtoHAsync");
    if (!inside(pinned_memory, target, bytes)) return INVALID_VALUE;
    if (!inside(device_memory, source, bytes)) return INVALID_VALUE;
    copied_bytes += bytes;
    return enqueue(stream, [=] { return std::memcpy(target, source, bytes), SUCCESS; }, false);
}
Code hipMemsetD8Async(void* target, unsigned char byte, size_t bytes, Stream* stream) {
    ENTER("hipMemsetD8Async");
    if (!inside(device_memory, target, bytes)) return INVALID_VALUE;
    return enqueue(stream, [=] { return std::memset(target, byte, bytes), SUCCESS; }, false);
}
Code hipStreamCreateWithFlags(Stream** stream, unsigned flags) {
    ENTER("hipStreamCreateWithFlags");
    if (flags != 1) return INVALID_VALUE;
    *stream = made(new Stream{current_device, {}, nullptr});
    return SUCCESS;
}
Code hipMemcpyDtoDAsync(void* target, void* source, size_t bytes, Stream* stream) {
    ENTER("hipMemcpyDtoDAsync");
    if (!inside(device_memory, source, bytes)) return INVALID_VALUE;
    if (!inside(device_memory, target, bytes)) return INVALID_VALUE;
    copied_bytes += bytes;
    return enqueue(stream, [=] { return std::memcpy(target, source, bytes), SUCCESS; }, false);
}
Code hipStreamQuery(Stream* stream) {
    ENTER("hipStreamQuery");
    return live.count(stream) && stream->hangs ? NOT_READY : wait(stream);
}
Code hipStreamSynchronize(Stream* stream) {
    ENTER("hipStreamSynchronize");
    return wait(stream);
}
Code hipStreamDestroy(Stream* stream) {
    ENTER("hipStreamDestroy");
    return destroyed(stream);
}
Code hipEventCreate(Event** event) {
    ENTER("hipEventCreate");
    *event = made(new Event);
    return SUCCESS;
}
Code hipEventRecord(Event* event, Stream* stream) {
    ENTER("hipEventRecord");
    if (!live.count(event)) return INVALID_HANDLE;
    event->stream = stream;
    return enqueue(stream, [=] {
        event->happened = true;
        event->time = std::chrono::steady_clock::now();
        return SUCCESS;
    }, false);
}
Code hipEventSynchronize(Event* event) {
    ENTER("hipEventSynchronize");
    return live.count(event) && event->stream != nullptr ? wait(event->stream) : INVALID_HANDLE;
}
Code hipEventElapsedTime(float* milliseconds, Event* first, Event* second) {
    ENTER("hipEventElapsedTime");
    if (!live.count(first) || !live.count(second)) return INVALID_HANDLE;
    if (!first->happened || !second->happened) return NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(second->time - first->time).count();
    return SUCCESS;
}
Code hipEventDestroy(Event* event) {
    ENTER("hipEventDestroy");
    return destroyed(event);
}
Code hipModuleLoadData(Module** module, const void* image) {
    ENTER("hipModuleLoadData");
    code_object::Object object;
    try {
        object = code_object::read(image);
    } catch (const std::exception&) {
        return INVALID_IMAGE;
    }
    if (object.machine != machine()) return NO_BINARY;
    auto loaded = std::make_unique<Module>();
    for (auto host = lockstep_host_waves64(); host != nullptr; host = host->next) {
        const auto found = object.kernels.find(host->name);
        if (found == object.kernels.end()) continue;
        if (found->second.argument_bytes != host->argument_bytes) return INVALID_IMAGE;
        if (found->second.wave_lanes != 64) return INVALID_IMAGE;
        loaded->functions[host->name] = {found->second, host->entry, host->name};
    }
    *module = made(loaded.release());
    return SUCCESS;
}
Code hipModuleUnload(Module* module) {
    ENTER("hipModuleUnload");
    return destroyed(module);
}
Code hipModuleGetFunction(Function** function, Module* module, const char* name) {
    ENTER("hipModuleGetFunction");
    if (!live.count(module)) return INVALID_HANDLE;
    const auto found = module->functions.find(name);
    if (found == module->functions.end()) return NOT_FOUND;
    *function = &found->second;
    return SUCCESS;
}
Code hipModuleLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                           unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                           Stream* stream, void** parameters, void** extra) {
    ENTER("hipModuleLaunchKernel");
    if (grid_z != 1 || block_x != 256 || block_y != 1 || block_z != 1) return INVALID_VALUE;
    if (shared != 0 || parameters != nullptr || extra == nullptr) return INVALID_VALUE;
    if (extra[0] != (void*)1 || extra[2] != (void*)2 || extra[4] != (void*)3) return INVALID_VALUE;
    const size_t bytes = *(const size_t*)extra[3];
    if (bytes != function->kernel.argument_bytes) return INVALID_VALUE;
    const std::vector<uint64_t> words((const uint64_t*)extra[1],
                                      (const uint64_t*)extra[1] + (bytes + 7) / 8);
    const Entry entry = function->entry;
    const std::string name = function->name;
    if (live.count(stream) && stream->capture == nullptr && hangs(name)) stream->hangs = true;
    return enqueue(stream, [=] {
        if (faulty(name)) return ILLEGAL_ADDRESS;
        Fault fault = {};
        entry(words.data(), grid_x, 0, (uint64_t)grid_x * grid_y, &fault);
        return fault.raised ? ILLEGAL_ADDRESS : SUCCESS;
    }, true);
}
Code hipStreamBeginCapture(Stream* stream, int mode) {
    ENTER("hipStreamBeginCapture");
    if (!live.count(stream) || stream->device != current_device) return INVALID_HANDLE;
    if (mode != 2 || stream->capture != nullptr) return INVALID_VALUE;
    stream->capture = std::make_unique<Graph>();
    stream->invalidated = false;
    return SUCCESS;
}
Code hipStreamEndCapture(Stream* stream, Graph** graph) {
    ENTER("hipStreamEndCapture");
    if (stream->capture == nullptr) return INVALID_VALUE;
    const std::unique_ptr<Graph> captured = std::move(stream->capture);
    if (stream->invalidated) return CAPTURE_INVALIDATED;
    *graph = made(new Graph(*captured));
    return SUCCESS;
}
Code hipGraphInstantiate(Graph** launchable, Graph* graph, void**, char*, size_t) {
    ENTER("hipGraphInstantiate");
    if (!live.count(graph)) return INVALID_HANDLE;
    *launchable = made(new Graph(*graph));
    return SUCCESS;
}
Code hipGraphLaunch(Graph* launchable, Stream* stream) {
    ENTER("hipGraphLaunch");
    if (!live.count(launchable)) return INVALID_HANDLE;
    for (const Work& work : *launchable) {
        if (const Code code = enqueue(stream, work, false)) return code;
    }
    return SUCCESS;
}
Code hipGraphExecDestroy(Graph* launchable) {
    ENTER("hipGraphExecDestroy");
    return destroyed(launchable);
}
Code hipGraphDestroy(Graph* graph) {
    ENTER("hipGraphDestroy");
    return destroyed(graph);
}
const char* hipGetErrorName(Code code) { return code_name(code); }

/// What the runtime itself has counted: bytes copied, allocations, frees.
void lockstep_mock_counts(uint64_t found[3]) {
    const std::lock_guard<std::mutex> locked(everything);
    found[0] = copied_bytes;
    found[1] = (uint64_t)counts["hipMalloc"];
    found[2] = (uint64_t)counts["hipFree"];
}
}
