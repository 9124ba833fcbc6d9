// The kernels for a GPU, one translation unit: build.rs compiles it ahead of time for AMD, and the
// runtime compilers of AMD and NVIDIA get it as one text (engine/src/device/sources.rs).
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
#include "tuned/all.h"
