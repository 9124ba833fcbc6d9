// attention: softmax(q k / sqrt(head_size)) v over positions 0..=p, CONTRACT.md section 10.
// Grid: x = heads, y = rows. A block walks the chunks of 64 positions in order: one thread a
// position for the scores, one a dimension for the weighted sum; chunks are combined as they come.
// Dot products in order of d, weighted sums in order of position, accumulators f32.
#include "arguments.h"
#include "arithmetic.h"

#define CHUNK 64u
#define HEAD_SIZE_LARGEST 256u

INLINE float widen(float x) { return x; }
INLINE float widen(u16 x) { return half_to_f32(x); }

template <typename Element>
INLINE void attention(const AttentionArguments<Element>& a BLOCK_PARAMETERS) {
    SHARED(float, score, CHUNK);
    SHARED(float, weight, CHUNK);
    SHARED(float, part, HEAD_SIZE_LARGEST);
    SHARED(float, sum, HEAD_SIZE_LARGEST);
    // M, L of the chunks so far; m, l of this one; the factor and which side it scales.
    SHARED(float, state, 6);
    const u32 keys_count = a.position[0] + BLOCK_Y + 1;
    const u64 row = ((u64)BLOCK_Y * a.heads + BLOCK_X) * a.head_size;
    const u64 kv_head = BLOCK_X / (a.heads / a.kv_heads);
    const u64 cache = kv_head * a.context * a.head_size;
    const float scale = 1.0f / sqrt32((float)a.head_size);
    const float* q = a.q.at(row, a.head_size);
    EACH_THREAD(d, a.head_size) { sum[d] = 0.0f; }
    EACH_THREAD(i, 6) { state[i] = 0.0f; }
    BARRIER();
    for (u32 first = 0; first < keys_count; first += CHUNK) {
        const u32 count = keys_count - first < CHUNK ? keys_count - first : CHUNK;
        // scores
        const Element* keys = a.keys.at(cache + (u64)first * a.head_size, CHUNK * a.head_size);
        EACH_THREAD(t, count) { score[t] = 0.0f; }
        for (u32 d = 0; d < a.head_size; ++d) {
            EACH_THREAD(t, count) { score[t] = fma32(q[d], widen(keys[d * CHUNK + t]), score[t]); }
        }
        EACH_THREAD(t, count) { score[t] = score[t] * scale; }
        BARRIER();
        // maximum
        EACH_THREAD(only, 1) {
            float largest = -infinity32();
            for (u32 t = 0; t < count; ++t) largest = score[t] > largest ? score[t] : largest;
            state[only + 2] = largest;
        }
        BARRIER();
        EACH_THREAD(t, count) { weight[t] = exp32(score[t] - state[2]); }
        BARRIER();
        // combination
        EACH_THREAD(only, 1) {
            float l = 0.0f;
            for (u32 t = 0; t < count; ++t) l = l + weight[t];
            const bool rises = first == 0 || state[2] > state[only];
            const float factor =
                first == 0 ? 0.0f : exp32(rises ? state[only] - state[2] : state[2] - state[only]);
            state[4] = factor;
            state[5] = rises ? 1.0f : 0.0f;
            if (first == 0) {
                state[1] = l;
            } else {
                state[1] = rises ? fma32(state[1], factor, l) : fma32(l, factor, state[1]);
            }
            state[only] = rises ? state[2] : state[only];
        }
        BARRIER();
        // weighted sum
        const Element* values = a.values.at(cache + (u64)first * a.head_size, count * a.head_size);
        EACH_THREAD(d, a.head_size) { part[d] = 0.0f; }
        for (u32 t = 0; t < count; ++t) {
            EACH_THREAD(d, a.head_size) {
                part[d] = fma32(weight[t], widen(values[t * a.head_size + d]), part[d]);
            }
        }
        const float factor = state[4];
        const bool rises = state[5] != 0.0f;
        EACH_THREAD(d, a.head_size) {
            const float risen = fma32(sum[d], factor, part[d]);
            const float kept = fma32(part[d], factor, sum[d]);
            sum[d] = first == 0 ? part[d] : rises ? risen : kept;
        }
        BARRIER();
    }
    EACH_THREAD(d, a.head_size) { a.out[row + d] = sum[d] / state[1]; }
}

KERNEL(attention_f32, AttentionArguments<float>) { attention(a BLOCK_ARGUMENTS); }
KERNEL(attention_f16, AttentionArguments<u16>) { attention(a BLOCK_ARGUMENTS); }
