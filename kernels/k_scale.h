/* Q3_K and Q6_K: sub-blocks of scale * quant, with quantized scales. */
#pragma once

#include "search_scale.h"

namespace {

constexpr int sixteen = 16, sub_blocks_of_16 = super_block / sixteen;

/* Quantize a sub-block with its quantized scale. If that is zero, keep the search's quants, searched(i).
 *
 * Division is slow, so weights are multiplied by the scale's inverse. Up to 64, the product is within 1.2e-5 (three
 * roundings) of the quotient. Both round to the same quant unless a half lies between them. Beyond 64, both are clamped
 * to the same end. A sub-block is divided only if a product is too near to a half. */
template <int most, class Searched>
inline void requantize(const Floats *x, Floats scale, Searched searched, Ints *quants) {
    constexpr float nearly_half = 0.49998f;
    const Floats inverse = 1.0f / scale;
    Floats farthest{}, greatest{};
    for (int i = 0; i < sixteen; i++) {
        const Floats product = x[i] * inverse, l = nearest(product);
        farthest = higher(absolute(product - l), farthest);
        greatest = higher(absolute(product), greatest);
        quants[i] = to_ints(lower(higher(l, every(-most)), every(most - 1))) + most;
    }
    const Ints sure = (farthest < nearly_half) & (greatest < largest_int / 2) & (absolute(inverse) < __builtin_inff());
    if (any(~sure)) {
        const Ints none = scale == 0;
        for (int i = 0; i < sixteen; i++) {
            quants[i] = none ? searched(i) : signed_quants<most>(x[i] / scale) + most;
        }
    }
}

/* block_q6_K: 128 bytes of the quants' low four bits, 64 of their high two, 16 scales of 8 bits, half d. */
inline void quantize_q6_K(const Group &group) {
    constexpr int most = 32;
    constexpr size_t high_at = 128, scales_at = 192, d_at = 208, size = 210;
    const Floats *x = group.weights;
    Scale results[sub_blocks_of_16];
    Floats scales[sub_blocks_of_16], largest, magnitude;
    for (int j = 0; j < sub_blocks_of_16; j++) {
        const Floats *sub = x + j * sixteen;
        Floats squares[sixteen];
        const Floats *w = group.importance + j * sixteen;
        if (!group.has_importance) {
            for (int i = 0; i < sixteen; i++) {
                squares[i] = sub[i] * sub[i];
            }
            w = squares;
        }
        results[j] = make_qx_quants<sixteen, most, false>(sub, w);
        scales[j] = results[j].scale;
    }
    find_largest<sub_blocks_of_16>(scales, largest, magnitude);
    const Floats inverse = -128.0f / largest;
    const Floats d = store_halves(group, d_at, 1.0f / inverse);
    Ints bytes[sub_blocks_of_16], quants[super_block];
    for (int j = 0; j < sub_blocks_of_16; j++) {
        const Ints quant = nearest_int(inverse * scales[j]);
        bytes[j] = (quant < 127 ? quant : every_int(127)) & 0xff;
        const Floats scale = d * to_floats(bytes[j] << 24 >> 24); /* sign-extends the byte */
        const auto searched = [&](int i) { return quants_of<most>(results[j], x[j * sixteen + i]); };
        requantize<most>(x + j * sixteen, scale, searched, quants + j * sixteen);
    }
    store_bytes(group, scales_at, bytes, sub_blocks_of_16);
    for (int half = 0; half < 2; half++) {
        const Ints *q = quants + 128 * half;
        Ints low[64], high[32];
        for (int i = 0; i < 32; i++) {
            low[i] = (q[i] & 0xf) | (q[i + 64] & 0xf) << 4;
            low[i + 32] = (q[i + 32] & 0xf) | (q[i + 96] & 0xf) << 4;
            high[i] = q[i] >> 4 | q[i + 32] >> 4 << 2 | q[i + 64] >> 4 << 4 | q[i + 96] >> 4 << 6;
        }
        store_bytes(group, 64 * half, low, 64);
        store_bytes(group, high_at + 32 * half, high, 32);
    }
    for (int lane = 0; lane < group.used; lane++) {
        if (magnitude[lane] < smallest_weight) { /* only zeros: ggml writes a block of zeros */
            memset(group.blocks[lane], 0, size);
        }
    }
}

/* Search and quantize the scales of Q3_K's sub-blocks; returns d. Quants from 0 to 63 stand for -32 to 31. */
inline Floats search_q3_K(const Group &group, Ints *scale_quants, Ints *searched) {
    constexpr int most = 4, most_scale = 32, abreast = 4;
    const Floats *x = group.weights;
    Floats scales[sub_blocks_of_16], largest, magnitude;
    for (int j = 0; j < sub_blocks_of_16; j += abreast) {
        make_q3_quants<sixteen, most, abreast>(x + j * sixteen, scales + j, searched + j * sixteen);
    }
    find_largest<sub_blocks_of_16>(scales, largest, magnitude);
    const Floats inverse = -32.0f / largest;
    const Ints zero = largest == 0;
    for (int j = 0; j < sub_blocks_of_16; j++) {
        const Ints byte = nearest_int(inverse * scales[j]) << 24 >> 24;
        scale_quants[j] = zero ? every_int(0) : clamp(byte, -most_scale, most_scale - 1) + most_scale;
    }
    return zero ? every(0) : 1.0f / inverse;
}

/* The same with an imatrix. The weights' quants follow from `results`. */
inline Floats search_q3_K_by_importance(const Group &group, Ints *scale_quants, Scale *results) {
    constexpr int most = 4, most_scale = 32;
    const Floats *x = group.weights;
    Floats scales[sub_blocks_of_16], importance[sub_blocks_of_16], sum_x2{};
    for (int i = 0; i < super_block; i++) {
        sum_x2 += x[i] * x[i];
    }
    const Floats mean_square = 2.0f * sum_x2 / (float)super_block;
    Ints finite = every_int(-1);
    for (int j = 0; j < sub_blocks_of_16; j++) {
        const Floats *sub = x + j * sixteen;
        Floats w[sixteen];
        importance[j] = Floats{};
        for (int i = 0; i < sixteen; i++) {
            w[i] = group.importance[j * sixteen + i] * square_root(mean_square + sub[i] * sub[i]);
            importance[j] += w[i];
        }
        results[j] = make_qx_quants<sixteen, most, false>(sub, w);
        scales[j] = results[j].scale;
        finite &= absolute(scales[j]) < __builtin_inff();
    }
    const Scale of_scales = any(~finite) ? make_qx_quants<sub_blocks_of_16, most_scale, true>(scales, importance)
                                         : make_qx_quants<sub_blocks_of_16, most_scale, false>(scales, importance);
    for (int j = 0; j < sub_blocks_of_16; j++) {
        scale_quants[j] = quants_of<most_scale>(of_scales, scales[j]);
    }
    return of_scales.scale;
}

/* block_q3_K: 32 bytes of the quants' third bits, 64 of their low two, 12 of 6-bit scales, half d. */
template <class Searched>
inline void store_q3_K(const Group &group, Floats d, const Ints *scales, Searched searched) {
    constexpr int most = 4;
    constexpr size_t low_at = 32, scales_at = 96, d_at = 108;
    const Floats read_d = store_halves(group, d_at, d);
    Ints quants[super_block], packed[12] = {}, high[32] = {};
    for (int j = 0; j < sub_blocks_of_16; j++) {
        packed[j % 8] |= (scales[j] & 0xf) << (j < 8 ? 0 : 4);
        packed[8 + j % 4] |= scales[j] >> 4 << 2 * (j / 4);
        requantize<most>(
            group.weights + j * sixteen, read_d * to_floats(scales[j] - 32),
            [&](int i) { return searched(j * sixteen + i); }, quants + j * sixteen);
    }
    store_bytes(group, scales_at, packed, 12);
    for (int i = 0; i < super_block; i++) {
        high[i % 32] |= quants[i] >> 2 << i / 32;
    }
    store_bytes(group, 0, high, 32);
    store_two_bits(group, low_at, quants);
}

inline void quantize_q3_K(const Group &group) {
    Ints scales[sub_blocks_of_16];
    if (group.has_importance) {
        Scale results[sub_blocks_of_16];
        const Floats d = search_q3_K_by_importance(group, scales, results);
        store_q3_K(group, d, scales, [&](int i) { return quants_of<4>(results[i / sixteen], group.weights[i]); });
    } else {
        Ints searched[super_block];
        const Floats d = search_q3_K(group, scales, searched);
        store_q3_K(group, d, scales, [&](int i) { return searched[i]; });
    }
}

} // namespace
