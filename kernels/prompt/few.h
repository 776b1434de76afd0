/* Products of few columns: blocks of eight rows of weights are unpacked into registers and used at once, because a panel
 * takes longer to unpack than so few columns take to multiply. Results have the same bits as those of tiles.
 */
#pragma once

#include "products.h"
#include "unpack.h"

namespace {

constexpr size_t few_columns = 16;

/* A block of one column; a block's columns are neighbours. Quants are rounded as in activations.h. */
struct FewActivations {
    int8_t quads[8][4];
    float scale;
    int32_t start; /* -8 times the sum of the quants, because 8 is to be subtracted from the weights' quants */
};

inline void quantize_column(const float *x, FewActivations &block) {
    const Rounded rounded(x, 127);
    const Ints *const q = rounded.quants;
    store_ints(block.quads, to_bytes(q));
    block.scale = rounded.scale;
    block.start = -8 * sum_of(add_ints(add_ints(q[0], q[1]), add_ints(q[2], q[3])));
}

/* Add the products of a block of eight rows with the block's columns to the sums. */
inline void multiply_eight(const Q4_0 *const rows[8], size_t place, const FewActivations *x, size_t columns,
                           Floats *sums) {
    const uint8_t *low[8];
    const uint16_t *scales[8];
    for (int j = 0; j < 8; j++) {
        low[j] = rows[j][place].low;
        scales[j] = &rows[j][place].scale;
    }
    Ints quads[8];
    nibble_quads(low, quads);
    const Floats scale = from_halves(scales);
    for (size_t c = 0; c < columns; c++) {
        NibbleSums products;
#pragma GCC unroll 8
        for (int quad = 0; quad < 8; quad++) {
            products.add(quads[quad], x[c].quads[quad]);
        }
        const Ints total = add_ints(products.total(), every_int(x[c].start));
        sums[c] = multiply_add(to_floats(total), multiply(scale, every(x[c].scale)), sums[c]);
    }
}

/* Store eight rows of y, or add them to the values there. */
inline void write_eight(Floats sums, float *y, size_t rows, bool first) {
    if (rows >= 8) {
        store_floats(y, first ? sums : add(load_floats(y), sums));
        return;
    }
    float eight[8];
    store_floats(eight, sums);
    for (size_t row = 0; row < rows; row++) {
        y[row] = first ? eight[row] : y[row] + eight[row];
    }
}

/* Compute a piece. `fixed` is the number of columns, or 0 for any number: sums of one column stay in a register. */
template <size_t fixed>
void multiply_few(const Product &product, const FewActivations *x, const Piece &piece) {
    const size_t columns = fixed ? fixed : product.columns, panel = piece.panel * panel_rows;
    const Activations<ByteActivations> slices(product, nullptr, panel_blocks<BytePanelBlock>);
    const PanelRows weights(product, panel);
    /* The next panel. A processor prefetches more by itself if it is read in the order of its addresses. */
    const uint8_t *ahead = PanelRows(product, piece.next * panel_rows).row[0];
    for (size_t row = panel; row < panel + panel_rows && row < product.rows; row += 8) {
        const Q4_0 *const *const rows = (const Q4_0 *const *)(weights.row + (row - panel));
        for (size_t start = 0; start < slices.depth; start += slices.slice) {
            Floats sums[fixed ? fixed : few_columns];
            for (size_t c = 0; c < columns; c++) {
                sums[c] = every(0);
            }
            for (size_t i = start; i < slices.depth && i < start + slices.slice; i++) {
                for (size_t line = 0; line < 3; line++) {
                    __builtin_prefetch(ahead + 64 * line);
                }
                ahead += 8 * sizeof(Q4_0);
                multiply_eight(rows, i, x + i * columns, columns, sums);
            }
            for (size_t c = 0; c < columns; c++) {
                float *const y = (float *)((uint8_t *)product.y + c * product.y_stride) + row;
                write_eight(sums[c], y, product.rows - row, start == 0);
            }
        }
    }
}

/* The functions of a Kernel. */
struct FewOfQ4_0 {
    static size_t bytes(const Product &product) {
        return product.depth / block_depth * product.columns * sizeof(FewActivations);
    }

    static void quantize(const Product &product, uint8_t *memory, size_t group) {
        FewActivations *const blocks = (FewActivations *)memory;
        for (size_t c = group * columns_in_group; c < product.columns && c < (group + 1) * columns_in_group; c++) {
            const float *const column = (const float *)((const uint8_t *)product.x + c * product.x_stride);
            for (size_t i = 0; i < product.depth / block_depth; i++) {
                quantize_column(column + i * block_depth, blocks[i * product.columns + c]);
            }
        }
    }

    static void multiply(const Product &product, const uint8_t *memory, const Piece &piece) {
        const FewActivations *const x = (const FewActivations *)memory;
        product.columns == 1 ? multiply_few<1>(product, x, piece) : multiply_few<0>(product, x, piece);
    }
};

} // namespace
