// The kernels compiled for the host: build.rs compiles this file once for each instruction set,
// and once with every access checked. LOCKSTEP_BUILD is the name of the build's only symbol.
//
// Everything lies in an unnamed namespace: with external linkage the linker would merge functions
// of the same name across builds, and the baseline build could run AVX-512 code.
#if defined(LOCKSTEP_WAVES)
#include <stdlib.h>
#endif
#include "sanitizer.h"
namespace {
#include "embed.hip"
#include "rms_norm.hip"
#include "quantise.hip"
#include "product.hip"
#include "product_float.hip"
#include "rope.hip"
#include "kv_write.hip"
#include "attention.hip"
#include "swiglu.hip"
#include "residual.hip"
#include "probe.hip"
#include "guards.hip"
#if defined(LOCKSTEP_WAVES)
#include "tuned/all.h"
#endif
}  // namespace

/// The first of this build's kernels; each names the next.
extern "C" const host::Registration* LOCKSTEP_BUILD() { return host::registered; }
