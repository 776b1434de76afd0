/* Q2_K, Q4_K and Q5_K: sub-blocks of scale * quant + minimum, with quantized scales and minima.
 *
 * Each type defines how its sub-blocks are searched and how a block is laid out. `quantize_minimum` has the common
 * steps: weigh, search, quantize the scales, and quantize the weights again with the quantized scales.
 */
#pragma once

#include "block_scales.h"
#include "search_minimum.h"

namespace {

/* The largest of n values, or zero. */
template <int n>
inline Floats largest_of(const Floats *values) {
    Floats largest{};
    for (int i = 0; i < n; i++) {
        largest = values[i] > largest ? values[i] : largest;
    }
    return largest;
}

/* block_q4_K: half d, dmin; 12 bytes of 6-bit scales and minima; 128 bytes of quants. block_q5_K has 32 bytes of
 * the quants' fifth bits between the last two. */
template <int bits>
struct Q4OrQ5K {
    static constexpr int most = (1 << bits) - 1, n = 32, sub_blocks = super_block / n, most_scale = 63;
    static constexpr bool absolute_error = false;
    static constexpr size_t scales_at = 4, high_at = 16, low_at = bits == 4 ? 16 : 48;

    static Steps steps(bool importance) {
        return importance ? Steps{-0.9f, 0.05f, 36} : bits == 4 ? Steps{-1.0f, 0.1f, 20} : Steps{-0.5f, 0.1f, 15};
    }

    /* The constant c in importance * sqrt(c + weight^2). */
    static Floats mean_square(Floats sum_x2) {
        return 2.0f * sum_x2 / (float)super_block;
    }

    /* The importance of a sub-block's weights without an imatrix. */
    static void weigh(const Floats *x, Floats *w) {
        Floats sum_x2{};
        for (int i = 0; i < n; i++) {
            sum_x2 += x[i] * x[i];
        }
        const Floats average = square_root(sum_x2 / (float)n);
        for (int i = 0; i < n; i++) {
            w[i] = average + absolute(x[i]);
        }
    }

    static void quantize_scales(const Floats *scales, const Floats *minima, Floats &d, Floats &d_minimum, Ints *quants,
                                Ints *minimum_quants) {
        const Floats largest = largest_of<sub_blocks>(scales), largest_minimum = largest_of<sub_blocks>(minima);
        const Floats inverse = largest > 0 ? (float)most_scale / largest : every(0);
        const Floats inverse_minimum = largest_minimum > 0 ? (float)most_scale / largest_minimum : every(0);
        for (int j = 0; j < sub_blocks; j++) {
            /* ggml first stores them in a byte, where negative values become large. */
            quants[j] = clamp(nearest_int(inverse * scales[j]) & 0xff, 0, most_scale);
            minimum_quants[j] = clamp(nearest_int(inverse_minimum * minima[j]) & 0xff, 0, most_scale);
        }
        d = largest / (float)most_scale;
        d_minimum = largest_minimum / (float)most_scale;
    }

    /* Store a block's scales, and return the scales that a reader will unpack. They differ for scales above 63. */
    static void store_scales(const Group &group, Floats d, Floats d_minimum, Ints *quants, Ints *minimum_quants,
                             Floats &read_d, Floats &read_d_minimum) {
        read_d = store_halves(group, 0, d);
        read_d_minimum = store_halves(group, 2, d_minimum);
        for (int lane = 0; lane < group.used; lane++) {
            uint8_t packed[12];
            for (int j = 0; j < sub_blocks; j++) {
                int scale = quants[j][lane], minimum = minimum_quants[j][lane];
                if (bits == 5) {
                    scale = scale < most_scale ? scale : most_scale;
                    minimum = minimum < most_scale ? minimum : most_scale;
                }
                if (j < 4) {
                    packed[j] = (uint8_t)scale;
                    packed[j + 4] = (uint8_t)minimum;
                } else {
                    packed[j + 4] = (uint8_t)((scale & 0xf) | (minimum & 0xf) << 4);
                    packed[j - 4] = (uint8_t)(packed[j - 4] | scale >> 4 << 6);
                    packed[j] = (uint8_t)(packed[j] | minimum >> 4 << 6);
                }
            }
            for (int j = 0; j < 4; j++) {
                quants[j][lane] = packed[j] & 63;
                minimum_quants[j][lane] = packed[j + 4] & 63;
                quants[j + 4][lane] = (packed[j + 8] & 0xf) | packed[j] >> 6 << 4;
                minimum_quants[j + 4][lane] = packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4;
            }
            memcpy(group.blocks[lane] + scales_at, packed, sizeof packed);
        }
    }

    static void store_quants(const Group &group, const Ints *q) {
        Ints bytes[32], high[32] = {};
        for (int chunk = 0; chunk < 4; chunk++, q += 64) {
            for (int i = 0; i < 32; i++) {
                bytes[i] = (q[i] & 0xf) | (q[i + 32] & 0xf) << 4;
                high[i] |= q[i] >> 4 << 2 * chunk | q[i + 32] >> 4 << (2 * chunk + 1);
            }
            store_bytes(group, low_at + 32 * chunk, bytes, 32);
        }
        if (bits == 5) {
            store_bytes(group, high_at, high, 32);
        }
    }
};

using Q4K = Q4OrQ5K<4>;
using Q5K = Q4OrQ5K<5>;

/* block_q2_K: 16 bytes of a 4-bit scale and minimum each; 64 bytes of quants; half d, dmin. */
struct Q2K {
    static constexpr int most = 3, n = 16, sub_blocks = super_block / n, most_scale = 15;
    static constexpr bool absolute_error = true;
    static constexpr size_t scales_at = 0, low_at = 16;

    static Steps steps(bool importance) {
        return importance ? Steps{-0.9f, 0.05f, 36} : Steps{-0.5f, 0.1f, 15};
    }

    static Floats mean_square(Floats sum_x2) {
        return sum_x2 / (float)super_block;
    }

    static void weigh(const Floats *x, Floats *w) {
        for (int i = 0; i < n; i++) {
            w[i] = absolute(x[i]);
        }
    }

    static void quantize_scales(const Floats *scales, const Floats *minima, Floats &d, Floats &d_minimum, Ints *quants,
                                Ints *minimum_quants) {
        const Floats largest = largest_of<sub_blocks>(scales), largest_minimum = largest_of<sub_blocks>(minima);
        const Floats inverse = (float)most_scale / largest, inverse_minimum = (float)most_scale / largest_minimum;
        for (int j = 0; j < sub_blocks; j++) {
            quants[j] = largest > 0 ? nearest_int(inverse * scales[j]) & 0xff : every_int(0);
            minimum_quants[j] = largest_minimum > 0 ? nearest_int(inverse_minimum * minima[j]) & 0xff : every_int(0);
        }
        d = largest > 0 ? largest / (float)most_scale : every(0);
        d_minimum = largest_minimum > 0 ? largest_minimum / (float)most_scale : every(0);
    }

    static void store_scales(const Group &group, Floats d, Floats d_minimum, Ints *quants, Ints *minimum_quants,
                             Floats &read_d, Floats &read_d_minimum) {
        read_d = store_halves(group, 80, d);
        read_d_minimum = store_halves(group, 82, d_minimum);
        Ints bytes[sub_blocks];
        for (int j = 0; j < sub_blocks; j++) {
            bytes[j] = (quants[j] | minimum_quants[j] << 4) & 0xff;
            quants[j] = bytes[j] & 0xf;
            minimum_quants[j] = bytes[j] >> 4;
        }
        store_bytes(group, scales_at, bytes, sub_blocks);
    }

    static void store_quants(const Group &group, const Ints *q) {
        store_two_bits(group, low_at, q);
    }
};

template <class Type>
void quantize_minimum(const Group &group) {
    constexpr int n = Type::n, sub_blocks = Type::sub_blocks, most = Type::most, abreast = 2;
    const Floats *x = group.weights;
    Minimum results[sub_blocks];
    Floats mean_square{};
    if (group.has_importance) {
        Floats sum_x2{};
        for (int i = 0; i < super_block; i++) {
            sum_x2 += x[i] * x[i];
        }
        mean_square = Type::mean_square(sum_x2);
    }
    for (int j = 0; j < sub_blocks; j += abreast) {
        Floats w[abreast * n];
        for (int s = 0; s < abreast; s++) {
            const Floats *sub = x + (j + s) * n;
            if (group.has_importance) {
                for (int i = 0; i < n; i++) {
                    w[s * n + i] = group.importance[(j + s) * n + i] * square_root(mean_square + sub[i] * sub[i]);
                }
            } else {
                Type::weigh(sub, w + s * n);
            }
        }
        if (group.has_importance) { /* ggml's two searches also measure the error differently */
            MinimumSearch<n, most, false, abreast>(x + j * n, w).run(Type::steps(true), results + j);
        } else {
            MinimumSearch<n, most, Type::absolute_error, abreast>(x + j * n, w).run(Type::steps(false), results + j);
        }
    }

    Floats values[2][sub_blocks], importance[sub_blocks], d[2], read_d, read_d_minimum;
    Ints scales[2][sub_blocks];
    for (int j = 0; j < sub_blocks; j++) {
        values[0][j] = results[j].scale;
        values[1][j] = results[j].minimum;
        importance[j] = results[j].importance;
    }
    if (group.has_importance) {
        make_qp_quants<sub_blocks, Type::most_scale, 2>(values, importance, d, scales);
    } else {
        Type::quantize_scales(values[0], values[1], d[0], d[1], scales[0], scales[1]);
    }
    Type::store_scales(group, d[0], d[1], scales[0], scales[1], read_d, read_d_minimum);

    Ints quants[super_block];
    for (int j = 0; j < sub_blocks; j++) {
        const Floats scale = read_d * to_floats(scales[0][j]), minimum = read_d_minimum * to_floats(scales[1][j]);
        const Ints none = scale == 0; /* such lanes keep the quants of the search */
        const bool some = any(none);
        for (int i = 0; i < n; i++) {
            const int at = j * n + i;
            quants[at] = clamp(nearest_int((x[at] + minimum) / scale), 0, most);
            if (some) {
                quants[at] = none ? quants_of<most>(results[j], x[at]) : quants[at];
            }
        }
    }
    Type::store_quants(group, quants);
}

} // namespace
