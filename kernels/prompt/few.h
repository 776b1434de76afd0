/* Products of few columns: blocks of eight rows of weights are unpacked into registers and used at once, because a panel
 * takes longer to unpack than so few columns take to multiply. Results have the same bits as those of tiles.
 */
#pragma once

#include "products.h"
#include "unpack.h"

namespace {

/* A block of one column; a block's columns are neighbours. Quants are rounded as in activations.h. With `parts` 2, each
 * half of the block has its own sums. */
template <int zero, int parts>
struct FewBytes {
    int8_t quads[8][4];
    float scale[1];
    float sum[parts];     /* of the quants, times the scale */
    int32_t start[parts]; /* of sums of products, because `zero` is to be subtracted from the weights' quants */

    explicit FewBytes(const float *x) {
        const Rounded rounded(x, 127);
        const Ints *const q = rounded.quants;
        const Ints halves[2] = {add_ints(q[0], q[1]), add_ints(q[2], q[3])};
        store_ints(quads, to_bytes(q));
        scale[0] = rounded.scale;
        for (int part = 0; part < parts; part++) {
            const Ints quants = parts == 2 ? halves[part] : add_ints(halves[0], halves[1]);
            sum[part] = scale[0] * (float)sum_of(quants);
            start[part] = start_of(quants, zero);
        }
    }
};
struct FewWords : WordColumns<1> {
    explicit FewWords(const float *x) {
        const Rounded rounded(x, 32767);
        set(rounded.quants, 0);
        scale[0] = rounded.scale;
    }
};

/* The scales of a block of eight rows. The fields are those of a panel's block. */
struct EightScales {
    float scale[8], minimum[8];
};
struct EightHalfScales {
    float scale[8], minimum[2][8];
    int32_t factor[2][8];
};

/* A block of eight rows of weights, and the sums to which its products with a block of a column are added, as in tile.h.
 * `Block` is the panel's block, whose slices of the depth are used here too. */
template <class Type, class Block, bool minima>
struct FewOfBytes {
    typedef Type Weights;
    typedef Block Panel;
    typedef FewBytes<EightRows<Type>::zero, 1> Activations;
    typedef EightScales Scales;

    const Ints *quads;
    const Scales &scales;

    Floats add(const Activations &x, Floats sums) const {
        EightSums products(x.start[0]);
#pragma GCC unroll 8
        for (int quad = 0; quad < 8; quad++) {
            products.add(quads[quad], x.quads[quad]);
        }
        if (minima) {
            sums = multiply_add(load_floats(scales.minimum), every(x.sum[0]), sums);
        }
        const Floats scale = multiply(load_floats(scales.scale), every(x.scale[0]));
        return multiply_add(to_floats(products.total()), scale, sums);
    }
};
template <class Type, class Block, bool minima>
struct FewOfHalves {
    typedef Type Weights;
    typedef Block Panel;
    typedef FewBytes<EightRows<Type>::zero, 2> Activations;
    typedef EightHalfScales Scales;

    const Ints *quads;
    const Scales &scales;

    Floats add(const Activations &x, Floats sums) const {
        Ints total = every_int(0);
#pragma GCC unroll 2
        for (int part = 0; part < 2; part++) {
            EightSums products(x.start[part]);
#pragma GCC unroll 4
            for (int quad = 4 * part; quad < 4 * part + 4; quad++) {
                products.add(quads[quad], x.quads[quad]);
            }
            if (minima) {
                sums = multiply_add(load_floats(scales.minimum[part]), every(x.sum[part]), sums);
            }
            total = add_ints(total, products.times(scales.factor[part]));
        }
        const Floats scale = multiply(load_floats(scales.scale), every(x.scale[0]));
        return multiply_add(to_floats(total), scale, sums);
    }
};
template <class Type, class Block, bool>
struct FewOfWords {
    typedef Type Weights;
    typedef Block Panel;
    typedef FewWords Activations;
    typedef EightScales Scales;

    WordRows rows;
    const Scales &scales;

    Floats add(const FewWords &x, Floats sums) const {
        const Floats scale = multiply(load_floats(scales.scale), every(x.scale[0]));
        return multiply_add(to_floats(rows.total(x)), scale, sums);
    }
};

/* Add the products of eight rows with columns to the sums, over a block or super-block of weights. */
template <class Few>
inline void multiply_eight(const uint8_t *const rows[8], size_t place, const typename Few::Activations *x,
                           size_t columns, Floats *sums) {
    constexpr int blocks = EightRows<typename Few::Weights>::blocks;
    EightRows<typename Few::Weights> eight = eight_rows<typename Few::Weights>(rows, place);
    typename Few::Scales scales[blocks];
#pragma GCC unroll 8
    for (int i = 0; i < blocks; i++, x += columns) {
        Ints quads[8];
        eight.quants(i, quads);
        if (i == 0) { /* GCC orders the instructions better than with the scales before the quants */
            eight.scales(scales, 0);
        }
        const Few block = {quads, scales[i]};
        for (size_t c = 0; c < columns; c++) {
            sums[c] = block.add(x[c], sums[c]);
        }
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

/* Compute a piece. `fixed` is the number of columns, or 0 for any number. Sums of a fixed number stay in registers.
 * `flatten`: GCC would not inline the unpacking, which so many types share, and then keeps its vectors in memory. */
template <class Few, size_t fixed>
[[gnu::flatten]] void multiply_few(const Product &product, const typename Few::Activations *x, const Piece &piece) {
    const size_t columns = fixed ? fixed : product.columns, panel = piece.panel * panel_rows;
    const Activations<ByteActivations> slices(product, nullptr, panel_blocks<typename Few::Panel>);
    const PanelRows weights(product, panel);
    /* The next panel. A processor prefetches more by itself if it is read in the order of its addresses. */
    const uint8_t *ahead = PanelRows(product, piece.next * panel_rows).row[0];
    constexpr size_t bytes = 8 * sizeof(typename Few::Weights), line = 64;
    constexpr size_t step = EightRows<typename Few::Weights>::blocks;
    for (size_t row = panel; row < panel + panel_rows && row < product.rows; row += 8) {
        for (size_t start = 0; start < slices.depth; start += slices.slice) {
            Floats sums[fixed ? fixed : few_columns];
            for (size_t c = 0; c < columns; c++) {
                sums[c] = every(0);
            }
            for (size_t i = start; i < slices.depth && i < start + slices.slice; i += step) {
                for (size_t place = 0; place < bytes; place += line) {
                    __builtin_prefetch(ahead + place);
                }
                ahead += bytes;
                multiply_eight<Few>(weights.row + (row - panel), i / step, x + i * columns, columns, sums);
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
        switch (product.columns) {
        case 1: multiply_few<Few, 1>(product, x, piece); break;
        case 2: multiply_few<Few, 2>(product, x, piece); break;
        default: multiply_few<Few, 0>(product, x, piece);
        }
    }
};

} // namespace
