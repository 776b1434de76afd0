/* The super-blocks of ggml's K-quants, processed `lanes` at a time: one in each lane.
 *
 * The layouts and names are those of ggml's block_q2_K to block_q6_K (ggml-common.h of llama.cpp).
 */
#pragma once

#include "blocks.h"

namespace {

constexpr int super_block = 256; /* weights: QK_K */

/* A sub-block whose largest weight is below this counts as zero: GROUP_MAX_EPS. */
constexpr float smallest_weight = 1e-15f;

/* Weights to quantize, and where to store them. */
struct Group : Blocks {
    Floats weights[super_block];    /* x: weight i of each super-block */
    Floats importance[super_block]; /* the imatrix at the same places, if any */
    bool has_importance;
};

/* Store the low two bits of 256 quants: four quants, 32 apart, share a byte (qs of Q2_K and Q3_K). */
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
