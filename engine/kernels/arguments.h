// The argument structure of every kernel; engine/src/kernels/ holds the Rust twin of each.
// Spans first, then counts, no padding inside: the same bytes on every device.
#pragma once
#include "platform.h"

struct EmbedArguments {
    Span<const u8> table;      // [vocabulary][row bytes]
    Span<const u32> tokens;    // [rows]
    Span<float> out;           // [rows][hidden]
    u32 hidden, rows;
};

struct RmsNormArguments {
    Span<const float> x;       // [rows][width]
    Span<const float> weight;  // [width]
    Span<float> out;           // [rows][width]
    u32 width, rows;
    float epsilon;
    u32 unused;
};

struct QuantiseArguments {
    Span<const float> x;       // [rows][width]
    Span<i8> digits;           // [rows][digit_count][width]
    Span<float> scales;        // [rows][width / block]
    Span<float> sums;          // [rows][width / group]
    u32 width, rows, block, group, digit_count, unused;
};

struct ProductArguments {
    Span<const u8> weights;    // [outputs][row bytes]
    Span<const i8> digits;     // as QuantiseArguments
    Span<const float> scales;
    Span<const float> sums;
    Span<float> out;           // [rows][outputs], or [chunks][rows][outputs]
    u32 outputs, width, rows;
    u32 chunks;                // product_tiles: 0, or chunks of one block of threads
};

struct ChunkSumsArguments {
    Span<const float> chunks;  // [chunks][values]
    Span<float> out;           // [values]
    u64 values, chunk_count;
};

struct ProductFloatArguments {
    Span<const u8> weights;    // [outputs][row bytes]
    Span<const float> x;       // [rows][width]
    Span<float> out;           // [rows][outputs]
    u32 outputs, width, rows, unused;
};

struct RopeArguments {
    Span<const float> x;       // [rows][heads][head_size]
    Span<const float> cosine;  // [context][rotated / 2]
    Span<const float> sine;
    Span<float> out;           // [rows][heads][head_size]
    Span<const u32> position;  // [1], of row 0; in memory, so that a graph is never stale
    u32 heads, head_size, rotated, rows;
};

/// Element is float, or u16 for a cache in f16.
template <typename Element>
struct KvWriteArguments {
    Span<const float> k;       // [rows][kv_heads][head_size]
    Span<const float> v;
    Span<Element> keys;        // one layer: [kv_heads][context / 64][head_size][64]
    Span<Element> values;      // one layer: [kv_heads][context][head_size]
    Span<const u32> position;  // [1], of row 0
    u32 kv_heads, head_size, rows, context;
};

template <typename Element>
struct AttentionArguments {
    Span<const float> q;       // [rows][heads][head_size]
    Span<const Element> keys;  // as KvWriteArguments
    Span<const Element> values;
    Span<float> out;           // [rows][heads][head_size]
    Span<const u32> position;  // [1], of row 0
    u32 heads, kv_heads, head_size, rows, context, unused;
};

struct SwigluArguments {
    Span<const float> gate;    // [count]
    Span<const float> up;
    Span<float> out;
    u32 count, unused;
};

struct ResidualArguments {
    Span<const float> x;       // [count]
    Span<const float> branch;
    Span<float> out;
    u32 count, unused;
};

struct ProbeArguments {
    Span<const u32> operations;  // [rows]
    Span<const u32> first;       // [rows][32]
    Span<const u32> second;
    Span<const u32> third;
    Span<u32> out;               // [rows][32]
    u32 lanes, unused;
};

struct GuardsArguments {
    Span<const Span<const u8>> zones;
    Span<u32> damaged;           // [zones]
};
