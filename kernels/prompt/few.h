/* Products of few columns: blocks of eight rows of weights are unpacked into registers and used at once, because a panel
 * takes longer to unpack than so few columns take to multiply. Results have the same bits as those of tiles.
 */
#pragma once

#include "products.h"
#include "unpack.h"

namespace {

constexpr size_t few_columns = 16;

/* A block of one column; a block's columns are neighbours. Quants are rounded as in activations.h. */
struct FewBytes {
    int8_t quads[8][4];
    float scale[1];
    int32_t start; /* -8 times the sum of the quants, because 8 is to be subtracted from the weights' quants */

    explicit FewBytes(const float *x) {
        const Rounded rounded(x, 127);
        const Ints *const q = rounded.quants;
        store_ints(quads, to_bytes(q));
        scale[0] = rounded.scale;
        start = -8 * sum_of(add_ints(add_ints(q[0], q[1]), add_ints(q[2], q[3])));
    }
};
struct FewWords : WordColumns<1> {
    explicit FewWords(const float *x) {
        const Rounded rounded(x, 32767);
        set(rounded.quants, 0);
        scale[0] = rounded.scale;
    }
};

/* A block of eight rows of weights, and the sums of its products with a block of a column. */
struct FewOfQ4_0 {
    typedef Q4_0 Weights;
    typedef FewBytes Activations;
    typedef BytePanelBlock Panel; /* a tile's, which has the same slices of the depth */

    Ints quads[8];

    explicit FewOfQ4_0(const Q4_0 *const x[8]) {
        const uint8_t *low[8];
        for (int j = 0; j < 8; j++) {
            low[j] = x[j]->low;
        }
        nibble_quads(low, quads);
    }

    Ints total(const FewBytes &x) const {
        NibbleSums products;
#pragma GCC unroll 8
        for (int quad = 0; quad < 8; quad++) {
            products.add(quads[quad], x.quads[quad]);
        }
        return add_ints(products.total(), every_int(x.start));
    }
};
struct FewOfQ8_0 {
    typedef Q8_0 Weights;
    typedef FewWords Activations;
    typedef WordPanelBlock Panel;

    WordRows rows;

    static WordRows rows_of(const Q8_0 *const x[8]) {
        Ints quads[8];
        for (int j = 0; j < 8; j++) {
            quads[j] = load_ints(x[j]->quants);
        }
        transpose(quads);
        return WordRows(quads);
    }

    explicit FewOfQ8_0(const Q8_0 *const x[8]) : rows(rows_of(x)) {
    }

    Ints total(const FewWords &x) const {
        return rows.total(x);
    }
};

/* Add the products of a block of eight rows with the block's columns to the sums. */
template <class Few>
inline void multiply_eight(const uint8_t *const rows[8], size_t place, const typename Few::Activations *x,
                           size_t columns, Floats *sums) {
    const typename Few::Weights *weights[8];
    const uint16_t *scales[8];
    for (int j = 0; j < 8; j++) {
        weights[j] = (const typename Few::Weights *)rows[j] + place;
        scales[j] = &weights[j]->scale;
    }
    const Few block(weights);
    const Floats scale = from_halves(scales);
    for (size_t c = 0; c < columns; c++) {
        sums[c] = multiply_add(to_floats(block.total(x[c])), multiply(scale, every(x[c].scale[0])), sums[c]);
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
template <class Few, size_t fixed>
void multiply_few(const Product &product, const typename Few::Activations *x, const Piece &piece) {
    const size_t columns = fixed ? fixed : product.columns, panel = piece.panel * panel_rows;
    const Activations<ByteActivations> slices(product, nullptr, panel_blocks<typename Few::Panel>);
    const PanelRows weights(product, panel);
    /* The next panel. A processor prefetches more by itself if it is read in the order of its addresses. */
    const uint8_t *ahead = PanelRows(product, piece.next * panel_rows).row[0];
    constexpr size_t bytes = 8 * sizeof(typename Few::Weights), line = 64;
    for (size_t row = panel; row < panel + panel_rows && row < product.rows; row += 8) {
        for (size_t start = 0; start < slices.depth; start += slices.slice) {
            Floats sums[fixed ? fixed : few_columns];
            for (size_t c = 0; c < columns; c++) {
                sums[c] = every(0);
            }
            for (size_t i = start; i < slices.depth && i < start + slices.slice; i++) {
                for (size_t place = 0; place < bytes; place += line) {
                    __builtin_prefetch(ahead + place);
                }
                ahead += bytes;
                multiply_eight<Few>(weights.row + (row - panel), i, x + i * columns, columns, sums);
            }
            for (size_t c = 0; c < columns; c++) {
                float *const y = (float *)((uint8_t *)product.y + c * product.y_stride) + row;
                write_eight(sums[c], y, product.rows - row, start == 0);
            }
        }
    }
}

/* The functions of a Kernel. */
template <class Few>
struct FewColumns {
    typedef typename Few::Activations X;

    static size_t bytes(const Product &product) {
        return product.depth / block_depth * product.columns * sizeof(X);
    }

    static void quantize(const Product &product, uint8_t *memory, size_t group) {
        X *const blocks = (X *)memory;
        for (size_t c = group * columns_in_group; c < product.columns && c < (group + 1) * columns_in_group; c++) {
            const float *const column = (const float *)((const uint8_t *)product.x + c * product.x_stride);
            for (size_t i = 0; i < product.depth / block_depth; i++) {
                blocks[i * product.columns + c] = X(column + i * block_depth);
            }
        }
    }

    static void multiply(const Product &product, const uint8_t *memory, const Piece &piece) {
        const X *const x = (const X *)memory;
        product.columns == 1 ? multiply_few<Few, 1>(product, x, piece) : multiply_few<Few, 0>(product, x, piece);
    }
};

} // namespace
