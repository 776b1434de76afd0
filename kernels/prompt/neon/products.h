/* Sums of products: 16 rows times up to six columns, in 24 registers. The same names as in ../x86/products.h. */
#pragma once

#include "panel.h"

namespace {

/* Rows of a panel are four vectors. */
constexpr int vectors_of_rows = panel_rows / wide_lanes;

/* Sums of products of bytes, as int32. */
template <int columns>
struct ByteSums {
    int32x4_t sums[columns][vectors_of_rows];

    explicit ByteSums(const Start &) {
#pragma GCC unroll 6
        for (int c = 0; c < columns; c++) {
            sums[c][0] = sums[c][1] = sums[c][2] = sums[c][3] = vdupq_n_s32(0);
        }
    }

    template <int column>
    void add_column(const int8x16_t weights[vectors_of_rows], int8x16_t first, int8x8_t last) {
        if constexpr (column < columns) {
#pragma GCC unroll 4
            for (int v = 0; v < vectors_of_rows; v++) {
                if constexpr (column < 4) {
                    sums[column][v] = vdotq_laneq_s32(sums[column][v], weights[v], first, column);
                } else {
                    sums[column][v] = vdotq_lane_s32(sums[column][v], weights[v], last, column - 4);
                }
            }
        }
    }

    void add(const int8_t (*weights)[4], const void *activations) {
        const int8_t *const x = (const int8_t *)activations; /* four columns, then two */
        const int8x16_t rows[vectors_of_rows] = {vld1q_s8(weights[0]), vld1q_s8(weights[4]), vld1q_s8(weights[8]),
                                                 vld1q_s8(weights[12])};
        const int8x16_t first = vld1q_s8(x);
        const int8x8_t last = vld1_s8(x + 16);
        add_column<0>(rows, first, last);
        add_column<1>(rows, first, last);
        add_column<2>(rows, first, last);
        add_column<3>(rows, first, last);
        add_column<4>(rows, first, last);
        add_column<5>(rows, first, last);
    }

    /* The sums of a vector of rows, as floats. */
    WideFloats total(int column, int vector) const {
        return to_floats(sums[column][vector]);
    }

    /* The sums of half a block, times the rows' factors. */
    WideInts times(int column, int vector, const int32_t *factors) const {
        return vmulq_s32(sums[column][vector], vld1q_s32(factors));
    }
};

/* The products of half a block, times their factors, until the other half is added. */
typedef WideInts HalfSum;

inline WideFloats both_halves(HalfSum first, HalfSum second) {
    return to_floats(add_ints(first, second));
}

/* Sums of products of bytes and words, as int32: those of the words' high bytes, times 256, and of their low bytes. */
template <int columns>
struct WordSums {
    ByteSums<columns> products;

    WordSums() : products(Start()) {
    }

    void add(const WordPanelBlock &panel, const WordActivations &x) {
#pragma GCC unroll 2
        for (int quad = 0; quad < 8; quad++) {
            products.add(panel.quads[quad], x.high[quad]);
        }
#pragma GCC unroll 4
        for (int v = 0; v < vectors_of_rows; v++) {
            const int32x4_t start = vld1q_s32(panel.start + wide_lanes * v);
#pragma GCC unroll 6
            for (int c = 0; c < columns; c++) {
                products.sums[c][v] = vaddq_s32(vshlq_n_s32(products.sums[c][v], 8), start);
            }
        }
#pragma GCC unroll 2
        for (int quad = 0; quad < 8; quad++) {
            products.add(panel.quads[quad], x.low[quad]);
        }
    }

    WideFloats total(int column, int vector) const {
        return products.total(column, vector);
    }
};

inline int8x16_t every_quad(const int8_t *four) {
    return vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)four));
}

/* What EightSums start with: -zero times the sum of a column's quants, which has eight parts. */
inline int32_t start_of(Ints quants, int zero) {
    return -zero * sum_of(quants);
}

/* Sums of products of unsigned bytes, below 128, from which `zero` is to be subtracted, with a column's signed bytes, for
 * eight rows. */
struct EightSums {
    Ints sums;

    explicit EightSums(int32_t start) : sums(every_int(start)) {
    }

    void add(Ints quads, const int8_t *four) {
        sums.low = vdotq_s32(sums.low, vreinterpretq_s8_s32(quads.low), every_quad(four));
        sums.high = vdotq_s32(sums.high, vreinterpretq_s8_s32(quads.high), every_quad(four));
    }

    Ints total() const {
        return sums;
    }

    Ints times(const int32_t *factors) const {
        const Ints eight = load_ints(factors);
        return {vmulq_s32(sums.low, eight.low), vmulq_s32(sums.high, eight.high)};
    }
};

/* A block of eight rows. */
struct WordRows {
    int8x16_t low[8], high[8]; /* quads of the first four rows, and of the others */
    Ints start;                /* 128 times the weights' sum */

    WordRows(const Ints quads[8]) {
        int32x4_t sums[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
        for (int i = 0; i < 8; i++) {
            low[i] = vreinterpretq_s8_s32(quads[i].low);
            high[i] = vreinterpretq_s8_s32(quads[i].high);
            sums[0] = vdotq_s32(sums[0], low[i], vdupq_n_s8(1));
            sums[1] = vdotq_s32(sums[1], high[i], vdupq_n_s8(1));
        }
        start = {vshlq_n_s32(sums[0], 7), vshlq_n_s32(sums[1], 7)};
    }

    /* The sums of products with a column, as int32. */
    Ints total(const WordColumns<1> &x) const {
        Ints sums = every_int(0);
        for (int i = 0; i < 8; i++) {
            sums.low = vdotq_s32(sums.low, low[i], every_quad(x.high[i][0]));
            sums.high = vdotq_s32(sums.high, high[i], every_quad(x.high[i][0]));
        }
        sums = add_ints(shift_ints_left(sums, 8), start);
        for (int i = 0; i < 8; i++) {
            sums.low = vdotq_s32(sums.low, low[i], every_quad(x.low[i][0]));
            sums.high = vdotq_s32(sums.high, high[i], every_quad(x.low[i][0]));
        }
        return sums;
    }
};

/* Sums of products of floats, in the order of the depth. */
template <int columns>
struct FloatSums {
    float32x4_t sums[columns][vectors_of_rows];

    FloatSums() {
#pragma GCC unroll 6
        for (int c = 0; c < columns; c++) {
            sums[c][0] = sums[c][1] = sums[c][2] = sums[c][3] = vdupq_n_f32(0);
        }
    }

    template <int column>
    void add_column(const float32x4_t weights[vectors_of_rows], float32x4_t first, float32x2_t last) {
        if constexpr (column < columns) {
#pragma GCC unroll 4
            for (int v = 0; v < vectors_of_rows; v++) {
                if constexpr (column < 4) {
                    sums[column][v] = vfmaq_laneq_f32(sums[column][v], weights[v], first, column);
                } else {
                    sums[column][v] = vfmaq_lane_f32(sums[column][v], weights[v], last, column - 4);
                }
            }
        }
    }

    void add(const float *weights, const float *activations) {
        const float32x4_t rows[vectors_of_rows] = {vld1q_f32(weights), vld1q_f32(weights + 4), vld1q_f32(weights + 8),
                                                   vld1q_f32(weights + 12)};
        const float32x4_t first = vld1q_f32(activations);
        const float32x2_t last = vld1_f32(activations + 4);
        add_column<0>(rows, first, last);
        add_column<1>(rows, first, last);
        add_column<2>(rows, first, last);
        add_column<3>(rows, first, last);
        add_column<4>(rows, first, last);
        add_column<5>(rows, first, last);
    }
};

} // namespace
