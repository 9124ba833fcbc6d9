// The tuned kernels, each tested bit for bit against the plain one or the composition it replaces.
#pragma once
#include "../lanes.h"
#include "product_tiles.hip"
#include "chunk_sums.hip"
