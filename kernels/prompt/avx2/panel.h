/* Panels: 16 rows of weights, unpacked for a slice of the depth in the order in which a tile reads them. */
#pragma once

#include "activations.h"

namespace {

constexpr int panel_rows = 16;

/* Blocks of 32 weights of each row, as signed bytes in quads of neighbours. Activations are stored with 128 added, so
 * the sums start at -128 times the weights' sum. */
struct BytePanelBlock { /* one scale for 32 weights: w = scale * quant + minimum */
    alignas(32) int8_t quads[8][panel_rows][4];
    int16_t start[panel_rows][2]; /* for the first two weights of each quad, and for the last two */
    float scale[panel_rows];
    float minimum[panel_rows];
};
struct HalfPanelBlock { /* a scale for 16 weights: w = scale * factor * quant */
    alignas(32) int8_t quads[8][panel_rows][4];
    int16_t start[2][panel_rows][2];
    int16_t factor[2][panel_rows][2]; /* each factor twice */
    float scale[panel_rows];
};
struct HalfMinimumPanelBlock : HalfPanelBlock { /* w = scale * factor * quant + minimum */
    float minimum[2][panel_rows];
};
struct FloatPanelBlock {
    alignas(32) float weights[block_depth][panel_rows];
};
struct WordPanelBlock { /* w = scale * quant; the quads' weights 0 and 2, then 1 and 3 */
    alignas(32) int16_t quads[8][2][panel_rows][2];
    float scale[panel_rows];
};

/* How many blocks a panel holds: it and a group of activations fit into 32 KiB of first-level cache. */
template <class Block>
constexpr size_t panel_blocks = 24;
template <>
constexpr size_t panel_blocks<WordPanelBlock> = 16;
template <>
constexpr size_t panel_blocks<HalfMinimumPanelBlock> = 16;
template <>
constexpr size_t panel_blocks<FloatPanelBlock> = 8;

/* The rows of a panel; if the matrix has fewer, its last row is repeated. */
struct PanelRows {
    const uint8_t *row[panel_rows];

    PanelRows(const Product &product, size_t first) {
        for (size_t i = 0; i < panel_rows; i++) {
            const size_t place = first + i < product.rows ? first + i : product.rows - 1;
            row[i] = product.w + place * product.w_stride;
        }
    }
};

/* Prefetches the weights that are unpacked next, a few cache lines with each group of columns. A processor does not
 * prefetch as many as sixteen rows by itself. */
class Ahead {
    static constexpr size_t line = 64;
    const PanelRows &rows;
    size_t place, lines, share, done = 0;

  public:
    /* Prefetch `bytes` of each row, from `place` on, in `turns` calls of fetch. */
    Ahead(const PanelRows &rows, size_t place, size_t bytes, size_t turns)
        : rows(rows), place(place), lines((bytes + line - 1) / line * panel_rows), share((lines + turns - 1) / turns) {
    }

    void fetch() {
        for (size_t i = 0; i < share && done < lines; i++, done++) {
            _mm_prefetch((const char *)rows.row[done % panel_rows] + place + done / panel_rows * line, _MM_HINT_T0);
        }
    }
};

inline float from_half(uint16_t half) {
    return _cvtsh_ss(half);
}

/* Transpose eight rows of eight dwords. */
inline void transpose(__m256i r[8]) {
    __m256i pairs[8], fours[8];
    for (int i = 0; i < 4; i++) {
        pairs[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        fours[4 * i] = _mm256_unpacklo_epi64(pairs[4 * i], pairs[4 * i + 2]);
        fours[4 * i + 1] = _mm256_unpackhi_epi64(pairs[4 * i], pairs[4 * i + 2]);
        fours[4 * i + 2] = _mm256_unpacklo_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
        fours[4 * i + 3] = _mm256_unpackhi_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
    }
}

/* -128 times the sums of pairs of neighbours, over the quads [first, last). */
inline __m256i start_of(const __m256i *quads, int first, int last) {
    const __m256i ones = _mm256_set1_epi8(1);
    __m256i sum = _mm256_setzero_si256();
    for (int i = first; i < last; i++) {
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(ones, quads[i]));
    }
    return _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_slli_epi16(sum, 7));
}

/* Store eight rows of 32 signed quants in the upper or lower half of a block. */
inline void store_quants(BytePanelBlock &block, int half, __m256i rows[8]) {
    transpose(rows);
    for (int i = 0; i < 8; i++) {
        _mm256_store_si256((__m256i *)block.quads[i][8 * half], rows[i]);
    }
    _mm256_store_si256((__m256i *)block.start[8 * half], start_of(rows, 0, 8));
}
inline void store_quants(HalfPanelBlock &block, int half, __m256i rows[8]) {
    transpose(rows);
    for (int i = 0; i < 8; i++) {
        _mm256_store_si256((__m256i *)block.quads[i][8 * half], rows[i]);
    }
    _mm256_store_si256((__m256i *)block.start[0][8 * half], start_of(rows, 0, 4));
    _mm256_store_si256((__m256i *)block.start[1][8 * half], start_of(rows, 4, 8));
}
inline void store_quants(WordPanelBlock &block, int half, __m256i rows[8]) {
    transpose(rows);
    for (int i = 0; i < 8; i++) {
        const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(rows[i], 8), 8);
        _mm256_store_si256((__m256i *)block.quads[i][0][8 * half], even);
        _mm256_store_si256((__m256i *)block.quads[i][1][8 * half], _mm256_srai_epi16(rows[i], 8));
    }
}

} // namespace
