/* How weights and activations are stored for NEON's dot products of signed bytes. The same names as in
 * ../x86/formats.h. */
#pragma once

#include "wide.h"

namespace {

constexpr int panel_rows = 16;
constexpr int columns_in_group = 6;

/* Blocks of 32 weights in a panel: it and a group of activations fit into 32 KiB of first-level cache. */
constexpr size_t byte_blocks = 24, word_blocks = 24, minimum_blocks = 16, float_blocks = 8;

/* Up to so many columns, the products of few.h are used. */
constexpr size_t few_columns = 16;

/* Activations in bytes are stored as they are. */
constexpr uint8_t activation_zero = 0;

/* Sums of products start with zero. */
struct Start {
    void set(const Ints *, int, int, int) {
    }
};

/* Eight factors of 16 weights, as products are multiplied by them. */
inline Ints factors_of(Ints factors) {
    return factors;
}

/* Words are stored as two signed bytes: word = 256 * high + low + 128. */
template <int columns>
struct WordColumns {
    int8_t high[8][columns][4], low[8][columns][4];
    float scale[columns];

    void set(const Ints quants[4], int column) {
        Ints highs[4], lows[4];
        for (int i = 0; i < 4; i++) {
            highs[i] = {vshrq_n_s32(quants[i].low, 8), vshrq_n_s32(quants[i].high, 8)};
            lows[i] = flip_bits(quants[i], every_int(128)); /* the last byte, minus 128 */
        }
        int8_t bytes[8][4];
        store_ints(bytes, to_bytes(highs));
        for (int i = 0; i < 8; i++) {
            memcpy(high[i][column], bytes[i], 4);
        }
        store_ints(bytes, to_bytes(lows));
        for (int i = 0; i < 8; i++) {
            memcpy(low[i][column], bytes[i], 4);
        }
    }
};

typedef WordColumns<columns_in_group> WordActivations;

/* w = scale * quant */
struct WordPanelBlock {
    alignas(16) int8_t quads[8][panel_rows][4];
    int32_t start[panel_rows]; /* 128 times the weights' sum */
    float scale[panel_rows];

    /* Store eight rows' quads of signed bytes. */
    void set(const Ints bytes[8], int row) {
        int32x4_t sum[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
        for (int i = 0; i < 8; i++) {
            store_ints(quads[i][row], bytes[i]);
            sum[0] = vdotq_s32(sum[0], vreinterpretq_s8_s32(bytes[i].low), vdupq_n_s8(1));
            sum[1] = vdotq_s32(sum[1], vreinterpretq_s8_s32(bytes[i].high), vdupq_n_s8(1));
        }
        store_ints(start + row, {vshlq_n_s32(sum[0], 7), vshlq_n_s32(sum[1], 7)});
    }
};

} // namespace
