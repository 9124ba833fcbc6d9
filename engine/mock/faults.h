// What the environment makes go wrong in the imaginary runtime.
//
// LOCKSTEP_MOCK_FAIL=CALL:N:CODE gives CODE at the Nth CALL; _DEVICES, _WAVE, _CAPABILITY and
// _MEMORY set what the runtime says of its GPUs; _DEAF makes waits do nothing. _FAULT=KERNEL:N
// makes the Nth (or every, *) launch of a kernel end with an illegal address, after which, as on a
// GPU, no call succeeds if _STICKY is set; _HANG=KERNEL makes launches of a kernel go on for ever.
#pragma once
#include <cstdlib>
#include <map>
#include <string>

#include "codes.h"

namespace {

/// How often each call was made.
std::map<std::string, int> counts;

/// What every call gives once a device is lost.
Code lost = SUCCESS;

int setting(const char* name, int otherwise) {
    const char* text = std::getenv(name);
    return text == nullptr ? otherwise : std::atoi(text);
}

/// The code that LOCKSTEP_MOCK_FAIL plants into this call, counted by name.
Code planted(const std::string& call) {
    const int count = ++counts[call];
    if (lost != SUCCESS) return lost;
    const char* text = std::getenv("LOCKSTEP_MOCK_FAIL");
    if (text == nullptr) return SUCCESS;
    const std::string plan = text;
    const size_t first = plan.find(':'), second = plan.rfind(':');
    if (plan.substr(0, first) != call || std::stoi(plan.substr(first + 1)) != count) return SUCCESS;
    return (Code)std::stoul(plan.substr(second + 1));
}

/// Whether LOCKSTEP_MOCK_FAULT names this launch.
bool faulty(const std::string& kernel) {
    const char* text = std::getenv("LOCKSTEP_MOCK_FAULT");
    if (text == nullptr) return false;
    const std::string plan = text;
    const size_t colon = plan.find(':');
    if (plan.substr(0, colon) != kernel) return false;
    const std::string which = plan.substr(colon + 1);
    return which == "*" || ++counts["launch of " + kernel] == std::stoi(which);
}

bool hangs(const std::string& kernel) {
    const char* text = std::getenv("LOCKSTEP_MOCK_HANG");
    return text != nullptr && kernel == text;
}

}  // namespace
