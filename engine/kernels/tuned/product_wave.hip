// product_wave: out[row][output] = weights[output] . x[row] for few rows, up to three matrices in
// one launch. Replaces product. CONTRACT.md section 6.
// Grid: x = runs of `rounds` times 16 outputs, y = rows. 32 lanes take two outputs at a time: eight
// lanes a chunk, four chunks at once. The block's threads lay the row's digits out in shared memory,
// so that lanes beside each other read bytes beside each other; the weights of the next step are on
// their way while this one is computed, and those of the first before the digits are there.
// A chunk's blocks are added in order, then the chunks in order; the digits' sums are exact.
#include "../arguments.h"
#include "slices.h"

#define WAVE_MATRICES 3u
#define WAVE_OUTPUTS 2u
#define UNIT_LANES 32u
#define CHUNK_LANES 8u
// Blocks of threads on a multiprocessor: on an H100 three were better than two, four and one.
#ifndef WAVE_BLOCKS
#define WAVE_BLOCKS 2
#endif
// Digits that are laid out at once: three of each of 14336 activations, whole chunks of any format.
#define STAGED_BYTES 43008u
// Units of 32 lanes in a block of threads.
#define BLOCK_UNITS (BLOCK_THREADS / UNIT_LANES)
#define UNIT_CHUNKS (UNIT_LANES / CHUNK_LANES)

struct ProductWaveArguments {
    Span<const u8> weights[WAVE_MATRICES];  // [outputs][row bytes]
    Span<float> out[WAVE_MATRICES];         // [rows][outputs]
    Span<const i8> digits;                  // as QuantiseArguments
    Span<const float> scales;
    Span<const float> sums;
    u32 outputs[WAVE_MATRICES];             // 0: there is no such matrix
    u32 width, rows;
    u32 rounds;                             // runs of 16 outputs that a block of threads takes
};

/// What a unit works on: two outputs of a matrix, four chunks at a time.
struct Pair {
    const u8* weights[WAVE_OUTPUTS];
    float* out;     // of the first output; null past the last pair
    bool has_second;
};

/// Where a lane stands in a row.
struct LanePlace {
    const u8* digits;  // in shared memory, from block `first_staged`
    u64 row;
    u32 blocks, first_staged;
    u32 chunk, part;   // of the unit's chunks, and of the chunk's lanes
};

template <typename Format>
INLINE Pair pair_at(const ProductWaveArguments& a, u32 row, u32 index, u32 pairs) {
    const bool exists = index < pairs;
    // Past the end the last pair is computed again and not stored: all units do the same rounds.
    u32 rest = exists ? index : pairs - 1, matrix = 0;
    while (rest >= (a.outputs[matrix] + 1) / 2) rest -= (a.outputs[matrix++] + 1) / 2;
    const u32 outputs = a.outputs[matrix], output = rest * WAVE_OUTPUTS;
    const u64 row_bytes = (u64)(a.width / Format::VALUES) * Format::BYTES;
    Pair pair;
    pair.has_second = output + 1 < outputs;
    pair.weights[0] = a.weights[matrix].at(output * row_bytes, row_bytes);
    pair.weights[1] = pair.has_second ? pair.weights[0] + row_bytes : pair.weights[0];
    pair.out = exists ? a.out[matrix].at((u64)row * outputs + output, 1) : nullptr;
    return pair;
}

/// The sum of a lane's 32 weights with one digit.
template <typename Format>
INLINE i32 slice_sum(const Slice<Format>& slice, const u32* digits, u32 part) {
    using S = Slice<Format>;
    i32 sum = 0;
    UNROLL
    for (u32 run = 0; run < S::RUNS; ++run) {
        i32 dot = 0;
        UNROLL
        for (u32 i = 0; i < S::RUN_WORDS; ++i) {
            dot = dot4(slice.word(part, run, i), digits[run * S::RUN_WORDS + i], dot);
        }
        sum += slice.scale(part, run) * dot;
    }
    return sum;
}

/// Where shared memory has what lane `part` reads of a run: runs apart, lanes beside each other. A
/// chunk of the formats of 32 values is laid out as one block of eight parts.
template <typename Format>
struct Layout {
    using S = Slice<Format>;
    static constexpr u32 PARTS_BYTES = CHUNK_LANES * S::RUN_WORDS * 4;
    static constexpr u32 BLOCK_BYTES = 256, RUN_BYTES = S::RUN_WORDS * 4;
    INLINE_STATIC u32 place(u32 part, u32 run) { return run * PARTS_BYTES + part * RUN_BYTES; }
    /// Offset of the run in the activations of its 256 values.
    INLINE_STATIC u32 source(u32 part, u32 run) {
        if constexpr (Format::VALUES == 256) return S::offset(part, run);
        return part * 32 + S::offset(part, run);
    }
};

/// Lays out the digits of `count` runs of 256 values from value `first`; all threads together.
template <typename Format, u32 DIGITS, typename Shared>
INLINE void stage_digits(const i8* digits, u32 width, u32 first, u32 count, Shared& staged) {
    using L = Layout<Format>;
    constexpr u32 PIECES = 256 / L::RUN_BYTES;
    for (u32 i = THREAD_X; i < count * DIGITS * PIECES; i += BLOCK_THREADS) {
        const u32 piece = i % PIECES, plane = i / PIECES % DIGITS, run256 = i / PIECES / DIGITS;
        const u32 part = piece % CHUNK_LANES, run = piece / CHUNK_LANES;
        const u32 value = first + run256 * 256 + L::source(part, run);
        const u32 target = (run256 * DIGITS + plane) * 256 + L::place(part, run);
        u32* words = (u32*)shared_at(staged, target, L::RUN_BYTES);
        // The last chunk of the formats of 32 values may be shorter.
        const bool inside = value < width;
        const i8* source = digits + (u64)plane * width + (inside ? value : 0);
        if constexpr (L::RUN_BYTES == 16) {
            *(Word4*)words = load16(source);
        } else {
            *(Word2*)words = load8(source);
        }
    }
}

/// One digit of what goes with a slice: 32 bytes. `run256` counts from what is staged.
template <typename Format, u32 DIGITS>
INLINE void load_digit(const LanePlace& place, u32 run256, u32 digit, u32* digits) {
    using S = Slice<Format>;
    const u8* plane = place.digits + (run256 * DIGITS + digit) * 256;
    UNROLL
    for (u32 run = 0; run < S::RUNS; ++run) {
        const u8* source = plane + Layout<Format>::place(place.part, run);
        if constexpr (S::RUN_WORDS == 4) {
            const Word4 words = load16(source);
            UNROLL
            for (u32 i = 0; i < 4; ++i) digits[run * 4 + i] = words.words[i];
        } else {
            const Word2 words = load8(source);
            UNROLL
            for (u32 i = 0; i < 2; ++i) digits[run * 2 + i] = words.words[i];
        }
    }
}

template <u32 DIGITS>
INLINE float meet(const i32* sums) {
    float t = to_f32(sums[0]);
    if constexpr (DIGITS > 1) t = fma32(to_f32(sums[1]), 256.0f, t);
    if constexpr (DIGITS > 2) t = fma32(to_f32(sums[2]), 65536.0f, t);
    return t;
}

/// One step of the reduction over eight lanes: half of the tasks go to the lane across `mask`.
template <u32 TASKS, u32 DIGITS>
INLINE void halve(i32 (&sums)[TASKS][DIGITS], u32 mask) {
    const bool upper = (LANE & mask) != 0;
    UNROLL
    for (u32 task = 0; task < TASKS / 2; ++task) {
        UNROLL
        for (u32 digit = 0; digit < DIGITS; ++digit) {
            const i32 low = sums[task][digit], high = sums[task + TASKS / 2][digit];
            sums[task][digit] = (upper ? high : low) + shuffle_xor(upper ? low : high, mask);
        }
    }
}

/// A K format: a lane has its part of each of the chunk's four blocks, and finishes one block of
/// one output.
template <typename Format, u32 DIGITS, bool K_BLOCK>
struct Lanes {
    static constexpr u32 BLOCKS = Format::CHUNK_BLOCKS, GROUPS = Format::VALUES / Format::GROUP;
    static constexpr u32 TASKS = WAVE_OUTPUTS * BLOCKS, STEP_BLOCKS = UNIT_CHUNKS * BLOCKS;
    static_assert(TASKS == CHUNK_LANES, "a lane finishes one block of one output");

    Slice<Format> slices[WAVE_OUTPUTS][BLOCKS];

    /// Fetches the weights of blocks `first_step`..
    INLINE_MEMBER void load(const LanePlace& place, const Pair& pair, u32 first_step) {
        const u32 first = first_step + place.chunk * BLOCKS, last = place.blocks - 1;
        UNROLL
        for (u32 b = 0; b < BLOCKS; ++b) {
            const u64 offset = (u64)(first + b < last ? first + b : last) * Format::BYTES;
            UNROLL
            for (u32 o = 0; o < WAVE_OUTPUTS; ++o) {
                slices[o][b].load(pair.weights[o] + offset, place.part);
            }
        }
    }

    /// Adds the chunks of blocks `first_step`.. of both outputs, in order, to their totals, and
    /// fetches what comes next.
    INLINE_MEMBER void step(const ProductWaveArguments& a, const LanePlace& place,
                            const Pair& pair, u32 first_step, float* totals, const Pair& next,
                            u32 next_step) {
        const u32 first = first_step + place.chunk * BLOCKS;
        const u32 last = place.blocks - 1;
        i32 sums[TASKS][DIGITS];
        BlockScales<Format> own;
        UNROLL
        for (u32 b = 0; b < BLOCKS; ++b) {
            const u32 block = first + b < last ? first + b : last;
            UNROLL
            for (u32 digit = 0; digit < DIGITS; ++digit) {
                u32 digits[8];
                load_digit<Format, DIGITS>(place, block - place.first_staged, digit, digits);
                UNROLL
                for (u32 o = 0; o < WAVE_OUTPUTS; ++o) {
                    sums[o * BLOCKS + b][digit] =
                        slice_sum<Format>(slices[o][b], digits, place.part);
                }
            }
            UNROLL
            for (u32 o = 0; o < WAVE_OUTPUTS; ++o) {
                own.keep(slices[o][b], place.part == o * BLOCKS + b);
            }
        }
        load(place, next, next_step);
        halve<TASKS, DIGITS>(sums, 4);
        halve<TASKS / 2, DIGITS>((i32(&)[TASKS / 2][DIGITS])sums, 2);
        halve<TASKS / 4, DIGITS>((i32(&)[TASKS / 4][DIGITS])sums, 1);
        const u32 block = first + place.part % BLOCKS < last ? first + place.part % BLOCKS : last;
        own.finish((place.part < BLOCKS ? pair.weights[0] : pair.weights[1]) +
                   (u64)block * Format::BYTES);
        const float scale = own.d() * a.scales[place.row * place.blocks + block];
        const float t = meet<DIGITS>(sums[0]);
        float n = 0.0f, minus = 0.0f;
        if constexpr (Format::HAS_MIN) {
            n = own.minima(a.sums.at((place.row * place.blocks + block) * GROUPS, GROUPS));
            minus = -own.dmin();
        }
        float chunk = 0.0f;
        UNROLL
        for (u32 b = 0; b < BLOCKS; ++b) {
            float more = fma32(scale, t, chunk);
            if constexpr (Format::HAS_MIN) more = fma32(minus, n, more);
            more = shuffle_from(more, LANE % UNIT_LANES / BLOCKS * BLOCKS + b);
            chunk = first + b < place.blocks ? more : chunk;
        }
        UNROLL
        for (u32 c = 0; c < UNIT_CHUNKS; ++c) {
            const bool exists = first_step + c * BLOCKS < place.blocks;
            UNROLL
            for (u32 o = 0; o < WAVE_OUTPUTS; ++o) {
                const float sum = shuffle_from(chunk, c * CHUNK_LANES + o * BLOCKS);
                totals[o] = exists ? totals[o] + sum : totals[o];
            }
        }
    }
};

/// A format of 32 values: a lane has one block of the chunk's eight.
template <typename Format, u32 DIGITS>
struct Lanes<Format, DIGITS, false> {
    static constexpr u32 BLOCKS = Format::CHUNK_BLOCKS, STEP_BLOCKS = UNIT_CHUNKS * BLOCKS;
    static_assert(BLOCKS == CHUNK_LANES, "a lane has one block");

    INLINE_MEMBER void load(const LanePlace&, const Pair&, u32) {}
    INLINE_MEMBER void step(const ProductWaveArguments& a, const LanePlace& place,
                            const Pair& pair, u32 first_step, float* totals, const Pair&, u32) {
        const u32 first = first_step + place.chunk * BLOCKS;
        const u32 own = first + place.part, last = place.blocks - 1;
        const u32 block = own < last ? own : last;
        u32 digits[DIGITS][8];
        // A chunk that does not exist reads the last one's digits.
        const u32 run256 = (first < place.blocks ? first : last) / BLOCKS;
        UNROLL
        for (u32 digit = 0; digit < DIGITS; ++digit) {
            const u32 from = run256 - place.first_staged / BLOCKS;
            load_digit<Format, DIGITS>(place, from, digit, digits[digit]);
        }
        const u64 index = place.row * place.blocks + block;
        const float scale = a.scales[index], sum = a.sums[index];
        UNROLL
        for (u32 o = 0; o < WAVE_OUTPUTS; ++o) {
            const u8* bytes = pair.weights[o] + (u64)block * Format::BYTES;
            Slice<Format> slice;
            slice.load(bytes, 0);
            i32 sums[DIGITS];
            UNROLL
            for (u32 digit = 0; digit < DIGITS; ++digit) {
                sums[digit] = slice_sum<Format>(slice, digits[digit], 0);
            }
            const float t = meet<DIGITS>(sums);
            const float product = half_at(bytes, 0) * scale;
            const float minimum = Format::HAS_MIN ? half_at(bytes, 2) : 0.0f;
            float chunk = 0.0f;
            UNROLL
            for (u32 b = 0; b < BLOCKS; ++b) {
                float more = fma32(product, t, chunk);
                if constexpr (Format::HAS_MIN) more = fma32(minimum, sum, more);
                more = shuffle_from(more, LANE % UNIT_LANES / BLOCKS * BLOCKS + b);
                chunk = first + b < place.blocks ? more : chunk;
            }
            UNROLL
            for (u32 c = 0; c < UNIT_CHUNKS; ++c) {
                const bool exists = first_step + c * BLOCKS < place.blocks;
                const float more = totals[o] + shuffle_from(chunk, c * CHUNK_LANES);
                totals[o] = exists ? more : totals[o];
            }
        }
    }
};

template <typename Format, u32 DIGITS>
INLINE void product_wave(const ProductWaveArguments& a BLOCK_PARAMETERS) {
    using Work = Lanes<Format, DIGITS, Format::INTEGER_MINS>;
    SHARED(u8, staged, STAGED_BYTES);
    // Whole steps, so that a step's chunks are staged together.
    constexpr u32 STEP_VALUES = Work::STEP_BLOCKS * Format::VALUES;
    constexpr u32 AT_ONCE = STAGED_BYTES / DIGITS / STEP_VALUES * STEP_VALUES;
    const u32 lane = THREAD_X % UNIT_LANES;
    const u64 row_digits = (u64)DIGITS * a.width;
    const i8* digits = a.digits.at(BLOCK_Y * row_digits, row_digits);
    LanePlace place;
    place.digits = shared_at(staged, 0, STAGED_BYTES);
    place.row = BLOCK_Y;
    place.blocks = a.width / Format::VALUES;
    place.chunk = lane / CHUNK_LANES;
    place.part = lane % CHUNK_LANES;
    u32 pairs = 0;
    UNROLL
    for (u32 matrix = 0; matrix < WAVE_MATRICES; ++matrix) pairs += (a.outputs[matrix] + 1) / 2;
    const u32 unit = BLOCK_X * a.rounds * BLOCK_UNITS + THREAD_X / UNIT_LANES;
    Work work;
    Pair pair = pair_at<Format>(a, BLOCK_Y, unit, pairs);
    work.load(place, pair, 0);
    AFTER_PREVIOUS();
    for (u32 round = 0; round < a.rounds; ++round) {
        // After the last round there is nothing to fetch: the same pair again, which is at hand.
        const u32 ahead = round + 1 < a.rounds ? unit + (round + 1) * BLOCK_UNITS : unit;
        const Pair next = pair_at<Format>(a, BLOCK_Y, ahead, pairs);
        float totals[WAVE_OUTPUTS] = {};
        for (u32 first = 0; first < a.width; first += AT_ONCE) {
            const u32 end = a.width - first < AT_ONCE ? a.width : first + AT_ONCE;
            if (round == 0 || a.width > AT_ONCE) {
                BARRIER();
                const u32 count = (end - first + 255) / 256;
                stage_digits<Format, DIGITS>(digits, a.width, first, count, staged);
                BARRIER();
            }
            place.first_staged = first / Format::VALUES;
            for (u32 value = first; value < end; value += STEP_VALUES) {
                const bool last = value + STEP_VALUES >= a.width;
                Pair source = pair;
                UNROLL
                for (u32 o = 0; o < WAVE_OUTPUTS; ++o) {
                    source.weights[o] = last ? next.weights[o] : pair.weights[o];
                }
                const u32 following = last ? 0 : value + STEP_VALUES;
                work.step(a, place, pair, value / Format::VALUES, totals, source,
                          following / Format::VALUES);
            }
        }
        if (lane == 0 && pair.out != nullptr) {
            pair.out[0] = totals[0];
            if (pair.has_second) pair.out[1] = totals[1];
        }
        pair = next;
    }
}

#define PRODUCT_WAVE(suffix, Format) PRODUCT_WAVE_OF(suffix, Format)
#define PRODUCT_WAVE_OF(suffix, Format)                                         \
    KERNEL_EARLY(WAVE_BLOCKS, product_wave_##suffix##_i8, ProductWaveArguments) {  \
        product_wave<Format, 1>(a BLOCK_ARGUMENTS);                             \
    }                                                                           \
    KERNEL_EARLY(WAVE_BLOCKS, product_wave_##suffix##_i16, ProductWaveArguments) { \
        product_wave<Format, 2>(a BLOCK_ARGUMENTS);                             \
    }                                                                           \
    KERNEL_EARLY(WAVE_BLOCKS, product_wave_##suffix##_i24, ProductWaveArguments) { \
        product_wave<Format, 3>(a BLOCK_ARGUMENTS);                             \
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
