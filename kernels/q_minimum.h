/* Q4_1 and Q5_1: blocks of 32 weights as scale * quant + minimum, from only the least and the greatest weight.
 *
 * The layouts are those of ggml's block_q4_1 and block_q5_1: half d, m; then the quants.
 */
#pragma once

#include "q_scale.h"

namespace {

template <int bits>
inline void quantize_q4_1_or_q5_1(const Floats *x, const Blocks &group) {
    constexpr int most = (1 << bits) - 1;
    Floats least = x[0], greatest = x[0];
    for (int i = 1; i < short_block; i++) {
        least = lower(x[i], least);
        greatest = higher(x[i], greatest);
    }
    const Floats d = (greatest - least) / (float)most, inverse = usable_inverse(d);
    store_halves(group, 0, d);
    store_halves(group, 2, least);
    /* If the range overflows a float, the scale is infinite and its inverse zero: all quants are zero. */
    const Floats base = inverse == 0 ? every(0) : least;
    Ints quants[short_block];
    for (int i = 0; i < short_block; i++) {
        quants[i] = to_ints((x[i] - base) * inverse + 0.5f);
    }
    store_short_quants<bits>(group, 4, quants);
}

} // namespace
