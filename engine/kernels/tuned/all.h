// The tuned kernels, each tested bit for bit against the plain one or the composition it replaces.
#pragma once
#include "../lanes.h"
#include "norm_quantise.hip"
#include "swiglu_quantise.hip"
#include "quantise_rows.hip"
#include "hash_rows.hip"
#include "product_wave.hip"
#include "rope_kv_write.hip"
#include "attention_split.hip"
#include "attention_tiles.hip"
#include "product_tiles.hip"
#include "chunk_sums.hip"
// The last: what is left out takes nothing along that others include.
#if defined(LOCKSTEP_FEW_COLUMNS)
#include "product_stream.hip"
#include "product_stream_mixed.hip"
#endif
