/* The super-blocks of ggml's K-quants, `lanes` of them at a time: one in each lane.
 *
 * Layouts and names are those of ggml's block_q2_K to block_q6_K (ggml-common.h of llama.cpp).
 */
#pragma once

#include "half.h"
#include "lanes.h"

namespace {

constexpr int super_block = 256; /* weights: QK_K */

/* Below this, a sub-block's largest weight is taken for zero: GROUP_MAX_EPS. */
constexpr float smallest_weight = 1e-15f;

/* What is to be quantized, and where to. */
struct Group {
    Floats weights[super_block];    /* x: weight i of each super-block */
    Floats importance[super_block]; /* the imatrix at the same places, if there is one */
    bool has_importance;
    int used;                       /* lanes in use; the others hold a copy of the first */
    uint8_t *blocks[lanes];
};

/* One byte of each super-block, from bit patterns below 256: four are stored at a time. */
inline void store_bytes(const Group &group, size_t offset, const Ints *bytes, int count) {
    for (int i = 0; i < count; i += 4) {
        const Ints word = bytes[i] | bytes[i + 1] << 8 | bytes[i + 2] << 16 | bytes[i + 3] << 24;
        for (int lane = 0; lane < group.used; lane++) {
            const int32_t four = word[lane];
            memcpy(group.blocks[lane] + offset + i, &four, sizeof four);
        }
    }
}

/* Store floats as half precision at `offset` of each block, and return them as they will be read. */
inline Floats store_halves(const Group &group, size_t offset, Floats values) {
    Floats read{};
    for (int lane = 0; lane < group.used; lane++) {
        const uint16_t half = half_from_float(values[lane]);
        memcpy(group.blocks[lane] + offset, &half, sizeof half);
        read[lane] = float_from_half(half);
    }
    return read;
}

/* The low two bits of 256 quants: four of them, 32 apart, make a byte (qs of Q2_K and Q3_K). */
inline void store_two_bits(const Group &group, size_t offset, const Ints *quants) {
    Ints bytes[32];
    for (int half = 0; half < 2; half++) {
        const Ints *q = quants + 128 * half;
        for (int i = 0; i < 32; i++) {
            bytes[i] = (q[i] & 3) | (q[i + 32] & 3) << 2 | (q[i + 64] & 3) << 4 | (q[i + 96] & 3) << 6;
        }
        store_bytes(group, offset + 32 * half, bytes, 32);
    }
}

} // namespace
