/* The search for a sub-block's scale alone: ggml's make_qx_quants and make_q3_quants, in lanes.
 *
 * Weights are taken as scale * quant, with quants from -most to most - 1.
 */
#pragma once

#include "super_block.h"

namespace {

template <int most>
inline Ints signed_quants(Floats x) {
    return clamp(nearest_int(x), -most, most - 1);
}

/* The best of a sub-block; its quants are those of inverse * weight, or all `nothing` where all weights are zero. */
struct Scale {
    Floats scale, inverse;
    Ints zero;
};

/* make_qx_quants with rmse_type 1. `w` holds the importance of each weight, which is its square by default.
 *
 * `exact`: round by nearest_int, for what may be infinite or no number; weights themselves are finite, and inverse *
 * weight is no larger than most + 1. */
template <int n, int most, bool exact>
inline Scale make_qx_quants(const Floats *x, const Floats *w) {
    constexpr int abreast = 3; /* tries: they depend on each other in nothing but which is best */
    Floats largest, magnitude, wx[n];
    find_largest<n>(x, largest, magnitude);
    Scale found;
    found.zero = magnitude < smallest_weight;
    largest = found.zero ? every(1) : largest;
    for (int i = 0; i < n; i++) {
        wx[i] = w[i] * x[i];
    }
    const auto quants = [](Floats v) {
        if (exact) {
            return to_floats(signed_quants<most>(v));
        }
        return lower(higher(nearest(v), every(-most)), every(most - 1));
    };
    Floats sum_lx{}, sum_l2{};
    found.inverse = (float)-most / largest;
    for (int i = 0; i < n; i++) {
        const Floats l = quants(found.inverse * x[i]);
        sum_lx += wx[i] * l;
        sum_l2 += w[i] * l * l;
    }
    found.scale = sum_l2 != 0 ? sum_lx / sum_l2 : every(0);
    Floats best = found.scale * sum_lx;
    for (int first = -9; first <= 9; first += first == -3 ? 4 : abreast) { /* all but 0 */
        Floats inverse[abreast], lx[abreast] = {}, l2[abreast] = {};
        for (int t = 0; t < abreast; t++) {
            inverse[t] = -((float)most + 0.1f * (float)(first + t)) / largest;
        }
        for (int i = 0; i < n; i++) {
#pragma GCC unroll 3
            for (int t = 0; t < abreast; t++) {
                const Floats l = quants(inverse[t] * x[i]);
                lx[t] += wx[i] * l;
                l2[t] += w[i] * l * l;
            }
        }
        for (int t = 0; t < abreast; t++) {
            const Ints better = (l2[t] > 0) & (lx[t] * lx[t] > best * l2[t]);
            if (any(better)) {
                const Floats scale = lx[t] / l2[t];
                found.scale = better ? scale : found.scale;
                best = better ? scale * lx[t] : best;
                found.inverse = better ? inverse[t] : found.inverse;
            }
        }
    }
    found.scale = found.zero ? every(0) : found.scale;
    return found;
}

/* The quants that make_qx_quants leaves, from 0 on. */
template <int most>
inline Ints found_quants(const Scale &found, Floats x) {
    return found.zero ? every_int(0) : signed_quants<most>(found.inverse * x) + most;
}

/* make_q3_quants: one quant after the other is moved to where the fit of all is better, up to five times over.
 *
 * Writes the scales of `abreast` sub-blocks, and their quants from 0 on. A pass that changes nothing in a lane changes
 * nothing there again, so that lanes need not stop together. */
template <int n, int most, int abreast>
inline void make_q3_quants(const Floats *x, Floats *scales, Ints *quants) {
    Floats sum_lx[abreast] = {}, sum_l2[abreast] = {}, w[abreast * n], wx[abreast * n], l[abreast * n];
    Ints zero[abreast];
    for (int s = 0; s < abreast; s++) {
        Floats largest, magnitude;
        find_largest<n>(x + s * n, largest, magnitude);
        zero[s] = magnitude < smallest_weight;
        const Floats inverse = (float)-most / (zero[s] ? every(1) : largest);
        for (int i = 0; i < n; i++) {
            const int at = s * n + i;
            l[at] = to_floats(signed_quants<most>(inverse * x[at]));
            w[at] = x[at] * x[at];
            wx[at] = w[at] * x[at];
            sum_lx[s] += wx[at] * l[at];
            sum_l2[s] += w[at] * l[at] * l[at];
        }
    }
    for (int pass = 0; pass < 5; pass++) {
        Ints changed{};
        for (int i = 0; i < n; i++) {
#pragma GCC unroll 8
            for (int s = 0; s < abreast; s++) {
                const int at = s * n + i;
                Floats lx = sum_lx[s] - wx[at] * l[at];
                Floats l2 = sum_l2[s] - w[at] * l[at] * l[at];
                const Ints possible = lx > 0;
                const Floats moved = to_floats(signed_quants<most>(x[at] * l2 / lx));
                lx += wx[at] * moved;
                l2 += w[at] * moved * moved;
                const Ints better = possible & (moved != l[at]) & (l2 > 0)
                                    & (lx * lx * sum_l2[s] > sum_lx[s] * sum_lx[s] * l2);
                l[at] = better ? moved : l[at];
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
        scales[s] = ~zero[s] & (sum_l2[s] > 0) ? sum_lx[s] / sum_l2[s] : every(0);
        for (int i = 0; i < n; i++) {
            const Ints quant = __builtin_convertvector(l[s * n + i], Ints) + most;
            quants[s * n + i] = zero[s] ? every_int(0) : quant;
        }
    }
}

} // namespace
