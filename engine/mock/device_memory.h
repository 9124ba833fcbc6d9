// Memory of the imaginary GPU, and pinned memory: what was taken, with its size, until it is given.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>

#include "codes.h"

namespace {

std::map<uintptr_t, size_t> device_memory, pinned_memory;

bool inside(const std::map<uintptr_t, size_t>& memory, const void* pointer, size_t bytes) {
    const uintptr_t address = (uintptr_t)pointer;
    auto found = memory.upper_bound(address);
    if (found == memory.begin()) return false;
    --found;
    const size_t offset = address - found->first;
    return offset <= found->second && bytes <= found->second - offset;
}

size_t held(const std::map<uintptr_t, size_t>& memory) {
    size_t sum = 0;
    for (const auto& [address, bytes] : memory) sum += bytes;
    return sum;
}

size_t total_bytes() {
    const char* text = std::getenv("LOCKSTEP_MOCK_MEMORY");
    return text == nullptr ? (size_t)192 << 30 : std::strtoull(text, nullptr, 10);
}

size_t free_bytes() {
    const size_t used = held(device_memory), total = total_bytes();
    return used < total ? total - used : 0;
}

Code take(std::map<uintptr_t, size_t>& memory, void** pointer, size_t bytes) {
    const size_t whole = (bytes + 255) / 256 * 256;
    *pointer = std::aligned_alloc(256, whole);
    if (*pointer == nullptr) return OUT_OF_MEMORY;
    std::memset(*pointer, 0xa5, whole);
    memory[(uintptr_t)*pointer] = bytes;
    return SUCCESS;
}

Code give(std::map<uintptr_t, size_t>& memory, void* pointer) {
    if (!memory.erase((uintptr_t)pointer)) return INVALID_VALUE;
    std::free(pointer);
    return SUCCESS;
}

}  // namespace
