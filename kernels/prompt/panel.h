/* Panels: rows of weights, unpacked for a slice of the depth in the order in which a tile reads them. */
#pragma once

#include "activations.h"

namespace {

/* Blocks of 32 weights of each row, as signed bytes in quads of neighbours. */
struct BytePanelBlock { /* one scale for 32 weights: w = scale * quant + minimum */
    alignas(64) int8_t quads[8][panel_rows][4];
    Start start;
    float scale[panel_rows];
    float minimum[panel_rows];
};
struct HalfPanelBlock { /* a scale for 16 weights: w = scale * factor * quant */
    alignas(64) int8_t quads[8][panel_rows][4];
    Start start[2];
    int32_t factor[2][panel_rows]; /* see factors_of */
    float scale[panel_rows];
};
struct HalfMinimumPanelBlock : HalfPanelBlock { /* w = scale * factor * quant + minimum */
    float minimum[2][panel_rows];
};
struct FloatPanelBlock {
    alignas(64) float weights[block_depth][panel_rows];
};

/* How many blocks a panel holds. */
template <class Block>
constexpr size_t panel_blocks = byte_blocks;
template <>
constexpr size_t panel_blocks<WordPanelBlock> = word_blocks;
template <>
constexpr size_t panel_blocks<HalfMinimumPanelBlock> = minimum_blocks;
template <>
constexpr size_t panel_blocks<FloatPanelBlock> = float_blocks;

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
 * prefetch so many rows by itself. */
class Ahead {
    static constexpr size_t line = 64;
    const PanelRows &rows;
    size_t place, lines, share, done = 0;

  public:
    /* Prefetch `bytes` of each row, from `place` on, in `turns` calls of fetch. */
    Ahead(const PanelRows &rows, size_t place, size_t bytes, size_t turns)
        : rows(rows), place(place), lines((bytes + line - 1) / line * panel_rows), share((lines + turns - 1) / turns) {
    }

    /* `level`: 3 for the first-level cache, 2 for the second. */
    template <int level = 3>
    void fetch() {
        for (size_t i = 0; i < share && done < lines; i++, done++) {
            __builtin_prefetch(rows.row[done % panel_rows] + place + done / panel_rows * line, 0, level);
        }
    }
};

/* Store eight rows of 32 signed quants, in quads, in a block, from `row` on. */
template <class Block>
inline void copy_quads(Block &block, int row, const Ints quads[8]) {
    for (int i = 0; i < 8; i++) {
        store_ints(block.quads[i][row], quads[i]);
    }
}
inline void store_quads(BytePanelBlock &block, int row, const Ints quads[8]) {
    copy_quads(block, row, quads);
    block.start.set(quads, 0, 8, row);
}
inline void store_quads(HalfPanelBlock &block, int row, const Ints quads[8]) {
    copy_quads(block, row, quads);
    block.start[0].set(quads, 0, 4, row);
    block.start[1].set(quads, 4, 8, row);
}
inline void store_quads(WordPanelBlock &block, int row, const Ints quads[8]) {
    block.set(quads, row);
}

} // namespace
