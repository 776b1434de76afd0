/* The search for a sub-block's scale and minimum: ggml's make_qkx2_quants and make_qkx3_quants, in lanes.
 *
 * Weights are approximated by scale * quant + minimum. Each step tries another scale, and fits scale and minimum to its
 * quants by least squares. The step is kept if the error is smaller. A step starts from the minimum of earlier steps,
 * so steps cannot run in parallel, but sub-blocks can.
 */
#pragma once

#include "lanes.h"

namespace {

/* Step i tries (first + i * by + most quant) / (max - minimum), for i up to `last`. */
struct Steps {
    float first, by;
    int last;
};

/* The best fit of a sub-block. Its quants are inverse * (weight - base), rounded. */
struct Minimum {
    Floats scale, minimum; /* `minimum` is ggml's the_min: the negated minimum */
    Floats inverse, base;
    Floats importance; /* the sum over the sub-block */
};

/* How large a step's products become: at most `most`, larger, or beyond the range of nearest(). */
enum Reach { within_most, beyond_most, out_of_range };

/* The quants of one step, by fast rounding, or by ggml's own if a product is beyond its range. */
template <Reach reach, int most>
inline Floats quants_from_zero(Floats x) {
    if (reach == out_of_range) {
        return to_floats(clamp(nearest_int(x), 0, most));
    }
    const Floats quant = higher(nearest(x), every(0));
    return reach == within_most ? quant : lower(quant, every(most));
}

/* The quants as integers, always by ggml's rounding. */
template <int most>
inline Ints quants_of(const Minimum &result, Floats x) {
    return clamp(nearest_int(result.inverse * (x - result.base)), 0, most);
}

/* Searches `abreast` sub-blocks of n weights at once, because a single one's sums would wait for each other. */
template <int n, int most, bool absolute_error, int abreast>
class MinimumSearch {
    const Floats *x, *w; /* [abreast][n] */
    Floats least[abreast], greatest[abreast], sum_w[abreast], sum_x[abreast];
    Ints flat[abreast]; /* all weights equal: all quants are zero, and no step is better */
    Floats minimum[abreast], scale[abreast], error[abreast], inverse[abreast], base[abreast];
    Floats quants[abreast * n];

    /* The divisor of a step, from the minimum that earlier steps left. */
    Floats range(int s) const {
        return flat[s] ? every(1) : greatest[s] - minimum[s];
    }

    /* Return the reach of a step. All products lie between those of the least and the greatest weight. */
    Reach reach(const Floats *step) const {
        constexpr float most_and_less_than_half = (float)most + 0.49f;
        Ints in_range = every_int(-1), below = every_int(-1);
        for (int s = 0; s < abreast; s++) {
            const Floats low = step[s] * (least[s] - minimum[s]);
            const Floats high = step[s] * (greatest[s] - minimum[s]);
            in_range &= (absolute(low) < largest_int / 2) & (absolute(high) < largest_int / 2);
            below &= (low < most_and_less_than_half) & (high < most_and_less_than_half);
        }
        return any(~in_range) ? out_of_range : any(~below) ? beyond_most : within_most;
    }

    Floats term(Floats scale, Floats quant, Floats minimum, Floats x, Floats w) const {
        const Floats difference = scale * quant + minimum - x;
        return w * (absolute_error ? absolute(difference) : difference * difference);
    }

    template <Reach reach>
    void start() {
        for (int i = 0; i < n; i++) {
#pragma GCC unroll 4
            for (int s = 0; s < abreast; s++) {
                const Floats v = x[s * n + i];
                const Floats quant = quants_from_zero<reach, most>(inverse[s] * (v - minimum[s]));
                error[s] += term(scale[s], quant, minimum[s], v, w[s * n + i]);
            }
        }
    }

    template <Reach reach>
    void try_step(const Floats *step) {
        Floats sum_l[abreast] = {}, sum_l2[abreast] = {}, sum_xl[abreast] = {}, now[abreast] = {};
        for (int i = 0; i < n; i++) {
#pragma GCC unroll 4
            for (int s = 0; s < abreast; s++) {
                const Floats v = x[s * n + i];
                const Floats quant = quants_from_zero<reach, most>(step[s] * (v - minimum[s]));
                const Floats wl = w[s * n + i] * quant;
                quants[s * n + i] = quant;
                sum_l[s] += wl;
                sum_l2[s] += wl * quant;
                sum_xl[s] += wl * v;
            }
        }
        Floats fitted[abreast], offset[abreast];
        Ints valid[abreast];
        for (int s = 0; s < abreast; s++) {
            const Floats d = sum_w[s] * sum_l2[s] - sum_l[s] * sum_l[s];
            valid[s] = d > 0;
            fitted[s] = (sum_w[s] * sum_xl[s] - sum_x[s] * sum_l[s]) / d;
            offset[s] = (sum_l2[s] * sum_x[s] - sum_l[s] * sum_xl[s]) / d;
            const Ints positive = offset[s] > 0;
            if (any(positive)) {
                offset[s] = positive ? every(0) : offset[s];
                fitted[s] = positive ? sum_xl[s] / sum_l2[s] : fitted[s];
            }
        }
        for (int i = 0; i < n; i++) {
#pragma GCC unroll 4
            for (int s = 0; s < abreast; s++) {
                now[s] += term(fitted[s], quants[s * n + i], offset[s], x[s * n + i], w[s * n + i]);
            }
        }
        for (int s = 0; s < abreast; s++) {
            const Ints better = valid[s] & (now[s] < error[s]);
            error[s] = better ? now[s] : error[s];
            scale[s] = better ? fitted[s] : scale[s];
            inverse[s] = better ? step[s] : inverse[s];
            base[s] = better ? minimum[s] : base[s];
            minimum[s] = better ? offset[s] : minimum[s];
        }
    }

public:
    MinimumSearch(const Floats *x, const Floats *w) : x(x), w(w) {}

    void run(Steps steps, Minimum *results) {
        for (int s = 0; s < abreast; s++) {
            least[s] = greatest[s] = x[s * n];
            sum_w[s] = w[s * n];
            sum_x[s] = sum_w[s] * x[s * n];
        }
        for (int i = 1; i < n; i++) {
#pragma GCC unroll 4
            for (int s = 0; s < abreast; s++) {
                const Floats v = x[s * n + i];
                least[s] = lower(v, least[s]);
                greatest[s] = higher(v, greatest[s]);
                sum_w[s] += w[s * n + i];
                sum_x[s] += w[s * n + i] * v;
            }
        }
        for (int s = 0; s < abreast; s++) {
            least[s] = least[s] > 0 ? every(0) : least[s];
            flat[s] = greatest[s] == least[s];
            minimum[s] = base[s] = least[s];
            inverse[s] = (float)most / range(s);
            scale[s] = 1.0f / inverse[s];
            error[s] = Floats{};
        }
        reach(inverse) == out_of_range ? start<out_of_range>() : start<beyond_most>();
        for (int i = 0; i <= steps.last; i++) {
            Floats step[abreast];
            for (int s = 0; s < abreast; s++) {
                step[s] = (steps.first + steps.by * (float)i + (float)most) / range(s);
            }
            switch (reach(step)) {
            case within_most:
                try_step<within_most>(step);
                break;
            case beyond_most:
                try_step<beyond_most>(step);
                break;
            case out_of_range:
                try_step<out_of_range>(step);
            }
        }
        for (int s = 0; s < abreast; s++) {
            results[s].scale = flat[s] ? every(0) : scale[s];
            results[s].minimum = -minimum[s];
            results[s].inverse = inverse[s];
            results[s].base = base[s];
            results[s].importance = sum_w[s];
        }
    }
};

} // namespace
