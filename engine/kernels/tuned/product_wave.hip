// product_wave: out[row][output] = weights[output] . x[row] for few rows, up to three matrices in
// one launch. Replaces product. CONTRACT.md section 6.
// Grid: x = runs of 16 outputs of each matrix, y = rows. 32 lanes take two outputs at a time: eight
// lanes a chunk, four chunks at once; the digits are read once for both outputs.
// A chunk's blocks are added in order, then the chunks in order; the digits' sums are exact.
#include "few_rows.h"
#include "slices.h"

#define WAVE_OUTPUTS 2u
#define UNIT_LANES 32u
#define CHUNK_LANES 8u
// Blocks of threads on a multiprocessor. Measured on an H100 with Q4_K: three are better than two,
// four and one, than digits laid out in shared memory and weights fetched a step ahead (36 against
// 30 us for 28672 x 4096), and than launches that overlap (254 against 277 tokens/s). Formats whose
// blocks are not whole words need more registers: two, and 35 against 42 us for Q6_K.
#define WAVE_BLOCKS(Format) (Format::BYTES % 4 == 0 ? 3 : 2)

struct ProductWaveArguments {
    Span<const u8> weights[WAVE_MATRICES];  // [outputs][row bytes]
    Span<float> out[WAVE_MATRICES];         // [rows][outputs]
    Span<const i8> digits;                  // as QuantiseArguments
    Span<const float> scales;
    Span<const float> sums;
    u32 outputs[WAVE_MATRICES];             // 0: there is no such matrix
    u32 width, rows, unused;
};

/// What the lanes of one chunk share.
struct ChunkPlace {
    const u8* weights[WAVE_OUTPUTS];
    const i8* digits;  // of the row
    u64 row;
    u32 width, blocks, first_block, part;
};

/// The sums of a lane's 32 weights for each digit.
template <typename Format, u32 DIGITS>
INLINE void slice_sums(const Slice<Format>& slice, const u32* digits, u32 part, i32* sums) {
    using S = Slice<Format>;
    for (u32 digit = 0; digit < DIGITS; ++digit) sums[digit] = 0;
    UNROLL
    for (u32 run = 0; run < S::RUNS; ++run) {
        const i32 scale = slice.scale(part, run);
        i32 dots[DIGITS] = {};
        UNROLL
        for (u32 i = 0; i < S::RUN_WORDS; ++i) {
            const u32 word = slice.word(part, run, i);
            for (u32 digit = 0; digit < DIGITS; ++digit) {
                const u32 e = digits[(digit * S::RUNS + run) * S::RUN_WORDS + i];
                dots[digit] = dot4(word, e, dots[digit]);
            }
        }
        for (u32 digit = 0; digit < DIGITS; ++digit) sums[digit] += scale * dots[digit];
    }
}

/// The digits that go with a slice of a block: DIGITS x 32 bytes.
template <typename Format, u32 DIGITS>
INLINE void load_digits(const ChunkPlace& place, u32 block, u32 part, u32* digits) {
    using S = Slice<Format>;
    for (u32 digit = 0; digit < DIGITS; ++digit) {
        const i8* plane = place.digits + (u64)digit * place.width + (u64)block * Format::VALUES;
        for (u32 run = 0; run < S::RUNS; ++run) {
            u32* target = digits + (digit * S::RUNS + run) * S::RUN_WORDS;
            const i8* source = plane + S::offset(part, run);
            if constexpr (S::RUN_WORDS == 4) {
                const Word4 words = load16(source);
                for (u32 i = 0; i < 4; ++i) target[i] = words.words[i];
            } else {
                const Word2 words = load8(source);
                for (u32 i = 0; i < 2; ++i) target[i] = words.words[i];
            }
        }
    }
}

/// One step of the reduction over eight lanes: half of the tasks go to the lane across `mask`.
template <u32 TASKS, u32 DIGITS>
INLINE void halve(i32 (&sums)[TASKS][DIGITS], u32 mask) {
    const bool upper = (LANE & mask) != 0;
    for (u32 task = 0; task < TASKS / 2; ++task) {
        for (u32 digit = 0; digit < DIGITS; ++digit) {
            const i32 low = sums[task][digit], high = sums[task + TASKS / 2][digit];
            sums[task][digit] = (upper ? high : low) + shuffle_xor(upper ? low : high, mask);
        }
    }
}

/// K formats: the chunk's sum of output part / 4, in every lane that has that output.
template <typename Format, u32 DIGITS>
INLINE float chunk_of_k(const ProductWaveArguments& a, const ChunkPlace& place) {
    constexpr u32 BLOCKS = Format::CHUNK_BLOCKS, GROUPS = Format::VALUES / Format::GROUP;
    constexpr u32 TASKS = WAVE_OUTPUTS * BLOCKS;
    static_assert(TASKS == CHUNK_LANES, "a lane finishes one block of one output");
    const u32 last = place.blocks - 1;
    Slice<Format> slices[WAVE_OUTPUTS][BLOCKS];
    for (u32 b = 0; b < BLOCKS; ++b) {
        const u32 block = place.first_block + b < last ? place.first_block + b : last;
        for (u32 o = 0; o < WAVE_OUTPUTS; ++o) {
            slices[o][b].load(place.weights[o] + (u64)block * Format::BYTES, place.part);
        }
    }
    i32 sums[TASKS][DIGITS];
    for (u32 b = 0; b < BLOCKS; ++b) {
        const u32 block = place.first_block + b < last ? place.first_block + b : last;
        u32 digits[DIGITS * 8];
        load_digits<Format, DIGITS>(place, block, place.part, digits);
        for (u32 o = 0; o < WAVE_OUTPUTS; ++o) {
            slice_sums<Format, DIGITS>(slices[o][b], digits, place.part, sums[o * BLOCKS + b]);
        }
    }
    halve<TASKS, DIGITS>(sums, 4);
    halve<TASKS / 2, DIGITS>((i32(&)[TASKS / 2][DIGITS])sums, 2);
    halve<TASKS / 4, DIGITS>((i32(&)[TASKS / 4][DIGITS])sums, 1);
    // This lane's block of this lane's output.
    const u32 own = place.part % BLOCKS;
    const u32 block = place.first_block + own < last ? place.first_block + own : last;
    const u8* weights = place.part < BLOCKS ? place.weights[0] : place.weights[1];
    const u8* bytes = weights + (u64)block * Format::BYTES;
    const float scale = BlockFields<Format>::d(bytes) * a.scales[place.row * place.blocks + block];
    const float t = meet<DIGITS>(sums[0]);
    float n = 0.0f, minus = 0.0f;
    if constexpr (Format::HAS_MIN) {
        const float* u = a.sums.at((place.row * place.blocks + block) * GROUPS, GROUPS);
        n = BlockFields<Format>::minima(bytes, u);
        minus = -BlockFields<Format>::dmin(bytes);
    }
    float chunk = 0.0f;
    for (u32 b = 0; b < BLOCKS; ++b) {
        float next = fma32(scale, t, chunk);
        if constexpr (Format::HAS_MIN) next = fma32(minus, n, next);
        next = shuffle_from(next, LANE % UNIT_LANES / BLOCKS * BLOCKS + b);
        chunk = place.first_block + b < place.blocks ? next : chunk;
    }
    return chunk;
}

/// Formats of 32 values: a lane has a block of the chunk; both outputs one after the other.
template <typename Format, u32 DIGITS>
INLINE void chunk_of_small(const ProductWaveArguments& a, const ChunkPlace& place, float* chunks) {
    constexpr u32 BLOCKS = Format::CHUNK_BLOCKS;
    static_assert(BLOCKS == CHUNK_LANES, "a lane has one block");
    const u32 last = place.blocks - 1;
    const u32 own = place.first_block + place.part;
    const u32 block = own < last ? own : last;
    u32 digits[DIGITS * 8];
    load_digits<Format, DIGITS>(place, block, 0, digits);
    const u64 index = place.row * place.blocks + block;
    for (u32 o = 0; o < WAVE_OUTPUTS; ++o) {
        const u8* bytes = place.weights[o] + (u64)block * Format::BYTES;
        Slice<Format> slice;
        slice.load(bytes, 0);
        i32 sums[DIGITS];
        slice_sums<Format, DIGITS>(slice, digits, 0, sums);
        const float scale = BlockFields<Format>::d(bytes) * a.scales[index];
        const float t = meet<DIGITS>(sums);
        float chunk = 0.0f;
        for (u32 b = 0; b < BLOCKS; ++b) {
            float next = fma32(scale, t, chunk);
            if constexpr (Format::HAS_MIN) {
                next = fma32(BlockFields<Format>::dmin(bytes), a.sums[index], next);
            }
            next = shuffle_from(next, LANE % UNIT_LANES / BLOCKS * BLOCKS + b);
            chunk = place.first_block + b < place.blocks ? next : chunk;
        }
        chunks[o] = chunk;
    }
}

template <typename Format, u32 DIGITS>
INLINE void product_wave(const ProductWaveArguments& a BLOCK_PARAMETERS) {
    constexpr u32 BLOCKS = Format::CHUNK_BLOCKS, UNITS = BLOCK_THREADS / UNIT_LANES;
    constexpr u32 RUN = UNITS * WAVE_OUTPUTS, CHUNKS = UNIT_LANES / CHUNK_LANES;
    u32 matrix = 0, run = BLOCK_X;
    while (run >= (a.outputs[matrix] + RUN - 1) / RUN) run -= (a.outputs[matrix++] + RUN - 1) / RUN;
    const u32 outputs = a.outputs[matrix];
    const u32 lane = THREAD_X % UNIT_LANES;
    const u32 output = run * RUN + THREAD_X / UNIT_LANES * WAVE_OUTPUTS;
    const u32 blocks = a.width / Format::VALUES;
    const u64 row_bytes = (u64)blocks * Format::BYTES;
    ChunkPlace place;
    for (u32 o = 0; o < WAVE_OUTPUTS; ++o) {
        // Outputs past the end repeat the last one and are not stored.
        const u32 clamped = output + o < outputs ? output + o : outputs - 1;
        place.weights[o] = a.weights[matrix].at(clamped * row_bytes, row_bytes);
    }
    const u64 row_digits = (u64)DIGITS * a.width;
    place.digits = a.digits.at(BLOCK_Y * row_digits, row_digits);
    place.row = BLOCK_Y;
    place.width = a.width;
    place.blocks = blocks;
    place.part = lane % CHUNK_LANES;
    float totals[WAVE_OUTPUTS] = {};
    for (u32 first = 0; first < blocks; first += CHUNKS * BLOCKS) {
        place.first_block = first + lane / CHUNK_LANES * BLOCKS;
        float chunks[WAVE_OUTPUTS];
        if constexpr (Format::INTEGER_MINS) {
            const float chunk = chunk_of_k<Format, DIGITS>(a, place);
            for (u32 o = 0; o < WAVE_OUTPUTS; ++o) chunks[o] = chunk;
        } else {
            chunk_of_small<Format, DIGITS>(a, place, chunks);
        }
        for (u32 c = 0; c < CHUNKS; ++c) {
            const bool exists = first + c * BLOCKS < blocks;
            for (u32 o = 0; o < WAVE_OUTPUTS; ++o) {
                const float chunk = shuffle_from(chunks[o], c * CHUNK_LANES + o * CHUNK_LANES / 2);
                totals[o] = exists ? totals[o] + chunk : totals[o];
            }
        }
    }
    for (u32 o = 0; o < WAVE_OUTPUTS; ++o) {
        if (lane == o && output + o < outputs) {
            a.out[matrix][(u64)BLOCK_Y * outputs + output + o] = totals[o];
        }
    }
}

#define PRODUCT_WAVE(suffix, Format) PRODUCT_WAVE_OF(suffix, Format)
#define PRODUCT_WAVE_OF(suffix, Format)                        \
    PRODUCT_WAVE_WITH(product_wave_##suffix##_i8, Format, 1)   \
    PRODUCT_WAVE_WITH(product_wave_##suffix##_i16, Format, 2)  \
    PRODUCT_WAVE_WITH(product_wave_##suffix##_i24, Format, 3)
#define PRODUCT_WAVE_WITH(name, Format, digits)                      \
    KERNEL_DENSE(WAVE_BLOCKS(Format), name, ProductWaveArguments) {  \
        product_wave<Format, digits>(a BLOCK_ARGUMENTS);             \
    }

// A compiler at run time makes the kernels of one format only.
#if defined(LOCKSTEP_FORMAT)
PRODUCT_WAVE(LOCKSTEP_SUFFIX, LOCKSTEP_FORMAT)
#else
PRODUCT_WAVE(q4_0, Q4_0)
PRODUCT_WAVE(q4_1, Q4_1)
PRODUCT_WAVE(q5_0, Q5_0)
PRODUCT_WAVE(q5_1, Q5_1)
PRODUCT_WAVE(q8_0, Q8_0)
PRODUCT_WAVE(q2_k, Q2_K)
PRODUCT_WAVE(q3_k, Q3_K)
PRODUCT_WAVE(q4_k, Q4_K)
PRODUCT_WAVE(q5_k, Q5_K)
PRODUCT_WAVE(q6_k, Q6_K)
#endif
