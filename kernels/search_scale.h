/* The search for a sub-block's scale alone: ggml's make_qx_quants and make_q3_quants, in lanes.
 *
 * Weights are approximated by scale * quant, with quants from -most to most - 1.
 */
#pragma once

#include "super_block.h"

namespace {

template <int most>
inline Ints signed_quants(Floats x) {
    return clamp(nearest_int(x), -most, most - 1);
}

/* The best fit of a sub-block. Its quants are inverse * weight, rounded, or all zero if all weights are zero. */
struct Scale {
    Floats scale, inverse;
    Ints zero;
};

/* make_qx_quants with rmse_type 1. It tries -(most + step / 10) / largest for the steps from -9 to 9.
 *
 * `exact`: weights may be infinite or NaN, so each quant is rounded by nearest_int and clamped. Otherwise the weights
 * are clamped beforehand, once for the steps below 0 and once for the others, to the range of the middle one of these
 * steps. The other steps' ranges end less than half a quant from there, so clamped weights still round to the ends of
 * the range, and all others to values between them. */
template <int n, int most, bool exact>
class ScaleSearch {
    static constexpr int abreast = lanes == 16 ? 9 : 3; /* scales at once: AVX-512 has registers for more sums */
    const Floats *x, *w; /* `w`: the importance of each weight, by default its square */
    Floats clamped_below[n], clamped[n], wx[n], largest, best; /* `clamped_below` for the steps below 0 */
    Scale result;

    void clamp_weights(float middle_step, Floats *clamped) const {
        const Floats unit = largest / -((float)most + 0.1f * middle_step);
        const Floats end = unit * (float)-most, other_end = unit * (float)(most - 1);
        const Floats least = lower(end, other_end), greatest = higher(end, other_end);
        for (int i = 0; i < n; i++) {
            clamped[i] = exact ? x[i] : lower(higher(x[i], least), greatest);
        }
    }

    /* The sums for `count` scales, which are independent of each other. */
    template <int count>
    void sum(const Floats *clamped, const Floats *inverse, Floats *lx, Floats *l2) const {
        for (int t = 0; t < count; t++) {
            lx[t] = l2[t] = Floats{};
        }
        for (int i = 0; i < n; i++) {
#pragma GCC unroll 9
            for (int t = 0; t < count; t++) {
                const Floats scaled = inverse[t] * clamped[i];
                const Floats l = exact ? to_floats(signed_quants<most>(scaled)) : nearest(scaled);
                lx[t] += wx[i] * l;
                l2[t] += w[i] * l * l;
            }
        }
    }

    void try_steps(int first, const Floats *clamped, Floats inverse_largest, bool invertible) {
        Floats inverse[abreast], lx[abreast], l2[abreast];
        for (int t = 0; t < abreast; t++) {
            const float numerator = -((float)most + 0.1f * (float)(first + t));
            inverse[t] = invertible ? quotient(numerator, largest, inverse_largest) : numerator / largest;
        }
        sum<abreast>(clamped, inverse, lx, l2);
        for (int t = 0; t < abreast; t++) {
            const Ints better = (l2[t] > 0) & (lx[t] * lx[t] > best * l2[t]);
            const Floats scale = lx[t] / l2[t]; /* unconditional: a branch would be unpredictable */
            result.scale = better ? scale : result.scale;
            best = better ? scale * lx[t] : best;
            result.inverse = better ? inverse[t] : result.inverse;
        }
    }

public:
    ScaleSearch(const Floats *x, const Floats *w) : x(x), w(w) {}

    Scale run() {
        Floats magnitude, lx, l2;
        find_largest<n>(x, largest, magnitude);
        result.zero = magnitude < smallest_weight;
        largest = result.zero ? every(1) : largest;
        for (int i = 0; i < n; i++) {
            wx[i] = w[i] * x[i];
        }
        clamp_weights(-5, clamped_below);
        clamp_weights(4.5f, clamped);
        result.inverse = (float)-most / largest;
        sum<1>(clamped, &result.inverse, &lx, &l2);
        result.scale = l2 != 0 ? lx / l2 : every(0);
        best = result.scale * lx;
        const Floats inverse_largest = 1.0f / largest;
        const bool invertible = !any(~(magnitude < 0x1p100f));
        for (int first = -9; first < 0; first += abreast) {
            try_steps(first, clamped_below, inverse_largest, invertible);
        }
        for (int first = 1; first <= 9; first += abreast) {
            try_steps(first, clamped, inverse_largest, invertible);
        }
        result.scale = result.zero ? every(0) : result.scale;
        return result;
    }
};

template <int n, int most, bool exact>
inline Scale make_qx_quants(const Floats *x, const Floats *w) {
    return ScaleSearch<n, most, exact>(x, w).run();
}

/* The quants of make_qx_quants, shifted to begin at 0. */
template <int most>
inline Ints quants_of(const Scale &result, Floats x) {
    return result.zero ? every_int(0) : signed_quants<most>(result.inverse * x) + most;
}

/* make_q3_quants: up to five passes change each quant in turn if that improves the overall fit.
 *
 * Writes the scales of `abreast` sub-blocks, and their quants, shifted to begin at 0. Once a pass leaves a lane
 * unchanged, later passes do too. So a lane may run more passes than it needs. */
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
        scales[s] = (~zero[s] & (sum_l2[s] > 0)) ? sum_lx[s] / sum_l2[s] : every(0);
        for (int i = 0; i < n; i++) {
            const Ints quant = __builtin_convertvector(l[s * n + i], Ints) + most;
            quants[s * n + i] = zero[s] ? every_int(0) : quant;
        }
    }
}

} // namespace
