/* The search for a super-block's scale over its sub-blocks' scales or minima: ggml's make_qp_quants, in lanes. */
#pragma once

#include "super_block.h"

namespace {

/* Quantize n values to the range from 0 to most. This is done for `abreast` lists at once, which share one importance.
 *
 * Writes the scales and the quants. The quants are bytes as ggml stores them, in which negative values wrap around. */
template <int n, int most, int abreast>
inline void make_qp_quants(const Floats (*x)[n], const Floats *importance, Floats *scales, Ints (*quants)[n]) {
    Floats largest[abreast] = {}, inverse[abreast], error[abreast] = {}, sum_lx[abreast] = {}, sum_l2[abreast] = {};
    Ints zero[abreast];
    for (int s = 0; s < abreast; s++) {
        for (int i = 0; i < n; i++) {
            largest[s] = largest[s] > x[s][i] ? largest[s] : x[s][i];
        }
        zero[s] = largest[s] < smallest_weight;
        inverse[s] = (float)most / largest[s];
        const Floats scale = 1.0f / inverse[s];
        for (int i = 0; i < n; i++) {
            const Floats difference = x[s][i] - scale * to_floats(nearest_int(inverse[s] * x[s][i]) & 0xff);
            error[s] += importance[i] * difference * difference;
        }
    }
    const auto quant = [](Floats v) {
        const Ints l = nearest_int(v);
        return l < most ? l : every_int(most);
    };
    for (int step = -4; step <= 4; step++) {
        if (step == 0) {
            continue;
        }
        for (int s = 0; s < abreast; s++) {
            const Floats tried = (0.1f * (float)step + (float)most) / largest[s];
            const Floats scale = 1.0f / tried;
            Floats now{};
            for (int i = 0; i < n; i++) {
                const Floats difference = x[s][i] - scale * to_floats(quant(tried * x[s][i]));
                now += importance[i] * difference * difference;
            }
            const Ints better = now < error[s];
            error[s] = better ? now : error[s];
            inverse[s] = better ? tried : inverse[s];
        }
    }
    for (int s = 0; s < abreast; s++) {
        for (int i = 0; i < n; i++) {
            const Ints l = quant(inverse[s] * x[s][i]);
            quants[s][i] = l & 0xff;
            sum_lx[s] += importance[i] * x[s][i] * to_floats(l);
            sum_l2[s] += importance[i] * to_floats(l) * to_floats(l);
        }
    }
    for (int pass = 0; pass < 5; pass++) {
        Ints changed{};
        for (int i = 0; i < n; i++) {
            for (int s = 0; s < abreast; s++) {
                const Floats w = importance[i], l = to_floats(quants[s][i]);
                Floats lx = sum_lx[s] - w * x[s][i] * l;
                Floats l2 = sum_l2[s] - w * l * l;
                const Ints possible = (lx > 0) & (l2 > 0);
                const Ints moved = quant(x[s][i] * l2 / lx);
                lx += w * x[s][i] * to_floats(moved);
                l2 += w * to_floats(moved) * to_floats(moved);
                const Ints better = possible & (moved != quants[s][i])
                                    & (lx * lx * sum_l2[s] > sum_lx[s] * sum_lx[s] * l2);
                quants[s][i] = better ? moved & 0xff : quants[s][i];
                sum_lx[s] = better ? lx : sum_lx[s];
                sum_l2[s] = better ? l2 : sum_l2[s];
                changed |= better;
            }
        }
        if (!any(changed)) {
            break;
        }
    }
    for (int s = 0; s < abreast; s++) {
        scales[s] = (~zero[s] & (sum_l2[s] > 0)) ? sum_lx[s] / sum_l2[s] : every(0);
        for (int i = 0; i < n; i++) {
            quants[s][i] = zero[s] ? every_int(0) : quants[s][i];
        }
    }
}

} // namespace
