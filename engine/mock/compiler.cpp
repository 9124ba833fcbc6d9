// libhiprtc without ROCm, for tests: hands the one text it gets to the clang in
// LOCKSTEP_MOCK_COMPILER, with the macros that hiprtc brings. Little is optimised, for speed; not
// at all is too little: clang-19 then refuses the tiles of matrix cores ("illegal VGPR to SGPR").
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <unistd.h>

namespace {

struct Program {
    std::string source, code, log;
};

std::string whole(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

const char* PRELUDE = R"(
#define __HIPCC_RTC__ 1
#define __device__ __attribute__((device))
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
#define __forceinline__ inline __attribute__((always_inline))
)";

}  // namespace

extern "C" {

uint32_t hiprtcCreateProgram(Program** program, const char* source, const char*, int headers,
                             const char**, const char**) {
    if (headers != 0) return 1;
    *program = new Program{source, "", ""};
    return 0;
}
uint32_t hiprtcCompileProgram(Program* program, int count, const char** options) {
    std::string base = "/tmp/hiprtc-" + std::string(6, 'X');
    if (mkdtemp(base.data()) == nullptr) return 11;
    std::ofstream(base + "/unit.cpp") << PRELUDE << program->source;
    std::string command = std::getenv("LOCKSTEP_MOCK_COMPILER");
    command += " -x hip --cuda-device-only --no-gpu-bundle-output -nogpuinc -nogpulib";
    for (int i = 0; i < count; ++i) command += std::string(" '") + options[i] + "'";
    command += " -O1 " + base + "/unit.cpp -o " + base + "/unit.co 2> " + base + "/log";
    const int status = std::system(command.c_str());
    program->log = whole(base + "/log");
    program->code = whole(base + "/unit.co");
    std::filesystem::remove_all(base);
    return status == 0 ? 0 : 6;
}
uint32_t hiprtcGetProgramLogSize(Program* program, size_t* bytes) {
    *bytes = program->log.size() + 1;
    return 0;
}
uint32_t hiprtcGetProgramLog(Program* program, char* log) {
    std::memcpy(log, program->log.c_str(), program->log.size() + 1);
    return 0;
}
uint32_t hiprtcGetCodeSize(Program* program, size_t* bytes) {
    *bytes = program->code.size();
    return 0;
}
uint32_t hiprtcGetCode(Program* program, char* code) {
    std::memcpy(code, program->code.data(), program->code.size());
    return 0;
}
uint32_t hiprtcDestroyProgram(Program** program) {
    delete *program;
    *program = nullptr;
    return 0;
}
}
