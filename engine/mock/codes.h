// The codes of hipError_t that the imaginary runtime gives, with HIP's names.
#pragma once
#include <cstdint>

typedef uint32_t Code;
enum : Code {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    NO_BINARY = 209,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
};

inline const char* code_name(Code code) {
    switch (code) {
        case SUCCESS: return "hipSuccess";
        case INVALID_VALUE: return "hipErrorInvalidValue";
        case OUT_OF_MEMORY: return "hipErrorOutOfMemory";
        case NO_DEVICE: return "hipErrorNoDevice";
        case INVALID_DEVICE: return "hipErrorInvalidDevice";
        case INVALID_IMAGE: return "hipErrorInvalidImage";
        case NO_BINARY: return "hipErrorNoBinaryForGpu";
        case INVALID_HANDLE: return "hipErrorInvalidHandle";
        case NOT_FOUND: return "hipErrorNotFound";
        case NOT_READY: return "hipErrorNotReady";
        case ILLEGAL_ADDRESS: return "hipErrorIllegalAddress";
        case CAPTURE_UNSUPPORTED: return "hipErrorStreamCaptureUnsupported";
        case CAPTURE_INVALIDATED: return "hipErrorStreamCaptureInvalidated";
        default: return "hipErrorUnknown";
    }
}
