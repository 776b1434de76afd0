/* One variant, compiled once for each kind of processor. ECELLM_VARIANT is its name, and a vector has ECELLM_LANES
 * floats. */
#include "variant.h"

#include "k_minimum.h"
#include "k_scale.h"
#include "merge.h"
#include "q_minimum.h"
#include "q_scale.h"
#include "widen.h"

namespace {

void quantize_group(int type, const Group &group) {
    switch (type) {
    case ECELLM_Q2_K:
        return quantize_minimum<Q2K>(group);
    case ECELLM_Q3_K:
        return quantize_q3_K(group);
    case ECELLM_Q4_K:
        return quantize_minimum<Q4K>(group);
    case ECELLM_Q5_K:
        return quantize_minimum<Q5K>(group);
    default:
        return quantize_q6_K(group);
    }
}

void quantize_blocks(int type, const Floats *weights, const Blocks &group) {
    switch (type) {
    case ECELLM_Q4_0:
        return quantize_q4_0_or_q5_0<4>(weights, group);
    case ECELLM_Q4_1:
        return quantize_q4_1_or_q5_1<4>(weights, group);
    case ECELLM_Q5_0:
        return quantize_q4_0_or_q5_0<5>(weights, group);
    case ECELLM_Q5_1:
        return quantize_q4_1_or_q5_1<5>(weights, group);
    default:
        return quantize_q8_0(weights, group);
    }
}

/* Load up to `lanes` blocks of `columns` weights, from `first` on. */
void take(Blocks &group, const float *weights, int columns, uint8_t *blocks, size_t size, size_t first, size_t count,
          Floats *turned) {
    const float *sources[lanes];
    group.used = count - first < (size_t)lanes ? (int)(count - first) : lanes;
    for (int lane = 0; lane < lanes; lane++) {
        const size_t block = first + (size_t)(lane < group.used ? lane : 0);
        sources[lane] = weights + block * (size_t)columns;
        group.blocks[lane] = blocks + block * size;
    }
    transpose(sources, columns, turned);
}

bool quantize_short(int type, const float *weights, size_t count, uint8_t *blocks) {
    const size_t size = ecellm_row_size(type, short_block);
    for (size_t first = 0; first < count; first += lanes) {
        Blocks group;
        Floats turned[short_block];
        take(group, weights, short_block, blocks, size, first, count, turned);
        if (!are_finite(turned, short_block)) {
            return false;
        }
        quantize_blocks(type, turned, group);
    }
    return true;
}

bool quantize_super(int type, const float *weights, size_t count, size_t in_row, const float *importance,
                    uint8_t *blocks) {
    const size_t size = ecellm_row_size(type, super_block);
    Group group;
    group.has_importance = importance != nullptr;
    for (size_t first = 0; first < count; first += lanes) {
        take(group, weights, super_block, blocks, size, first, count, group.weights);
        if (!are_finite(group.weights, super_block)) {
            return false;
        }
        if (importance) {
            const float *importances[lanes];
            for (int lane = 0; lane < lanes; lane++) {
                const size_t block = first + (size_t)(lane < group.used ? lane : 0);
                importances[lane] = importance + block % in_row * super_block;
            }
            transpose(importances, super_block, group.importance);
        }
        quantize_group(type, group);
    }
    return true;
}

bool quantize(int type, const float *weights, size_t rows, size_t columns, const float *importance, uint8_t *blocks) {
    if (ecellm_row_size(type, short_block)) {
        return quantize_short(type, weights, rows * columns / short_block, blocks);
    }
    const size_t in_row = columns / super_block;
    return quantize_super(type, weights, rows * in_row, in_row, importance, blocks);
}

size_t find_not_finite(const float *weights, size_t count) {
    size_t i = 0;
    const auto is_not_finite = [weights](size_t at) {
        Ints bits;
        memcpy(&bits, weights + at, sizeof bits);
        return (bits & 0x7f800000) == 0x7f800000;
    };
    for (; i + 4 * lanes <= count; i += 4 * lanes) {
        if (any(is_not_finite(i) | is_not_finite(i + lanes) | is_not_finite(i + 2 * lanes)
                | is_not_finite(i + 3 * lanes))) {
            break;
        }
    }
    for (; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &weights[i], sizeof bits);
        if ((bits & 0x7f800000) == 0x7f800000) {
            return i;
        }
    }
    return count;
}

} // namespace

#define ECELLM_JOIN(a, b) a##b
#define ECELLM_SYMBOL(name) ECELLM_JOIN(variant_, name)
#define ECELLM_QUOTE(name) #name
#define ECELLM_TEXT(name) ECELLM_QUOTE(name)

extern "C" const Variant ECELLM_SYMBOL(ECELLM_VARIANT);
extern "C" const Variant ECELLM_SYMBOL(ECELLM_VARIANT) = {
    ECELLM_TEXT(ECELLM_VARIANT), widen_bf16, widen_f16, quantize, tile_columns, pack, merge, scale_to_magnitude,
    find_not_finite,
};
