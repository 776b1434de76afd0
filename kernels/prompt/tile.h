/* Tiles: a panel's rows of weights times up to six columns of activations, over a slice of the depth.
 *
 * Within a block the sums are exact integers. Only float32 operations round: the product of the two scales, one fused
 * multiply-add per block (one more for each minimum) in the order of the depth, and one addition per slice. Weights that
 * are floats have one fused multiply-add each.
 */
#pragma once

#include "products.h"

namespace {

/* Rows of a panel in vectors. */
constexpr int panel_vectors = panel_rows / wide_lanes;

/* The results of a tile so far. */
template <int columns>
struct Tile {
    alignas(64) float values[columns][panel_rows];

    Tile() {
        for (int c = 0; c < columns; c++) {
            for (int v = 0; v < panel_vectors; v++) {
                store(c, v, every_row(0.0f));
            }
        }
    }

    WideFloats load(int column, int vector) const {
        return load_wide(values[column] + wide_lanes * vector);
    }
    void store(int column, int vector, WideFloats rows) {
        store_wide(values[column] + wide_lanes * vector, rows);
    }

    /* Keep the values in memory: GCC would hold them in registers, spill those, and store both. */
    void settle() {
        asm("" : "+m"(values));
    }

    /* Add sums times the scales. */
    void add(int column, int vector, WideFloats sums, WideFloats weight_scale, float activation_scale) {
        const WideFloats scale = multiply(weight_scale, every_row(activation_scale));
        store(column, vector, multiply_add(sums, scale, load(column, vector)));
    }
    void add(int column, int vector, WideFloats minimum, float activation_sum) {
        store(column, vector, multiply_add(minimum, every_row(activation_sum), load(column, vector)));
    }
};

template <int columns, bool minima>
void multiply_slice(const BytePanelBlock *panel, const ByteActivations *x, size_t count, Tile<columns> &tile) {
    for (size_t i = 0; i < count; i++, panel++, x++) {
        ByteSums<columns> products(panel->start);
        tile.settle();
#pragma GCC unroll 8
        for (int quad = 0; quad < 8; quad++) {
            products.add(panel->quads[quad], x->quads[quad]);
        }
#pragma GCC unroll 4
        for (int v = 0; v < panel_vectors; v++) {
            const WideFloats scale = load_wide(panel->scale + wide_lanes * v);
            const WideFloats minimum = load_wide(panel->minimum + wide_lanes * v);
#pragma GCC unroll 6
            for (int c = 0; c < columns; c++) {
                if (minima) {
                    tile.add(c, v, minimum, x->sum[c]);
                }
                tile.add(c, v, products.total(c, v), scale, x->scale[c]);
            }
        }
    }
}

/* Minima belong to half a block, as do the sums of activations that they are multiplied by. */
inline WideFloats minimum_of(const HalfMinimumPanelBlock &panel, int part, int vector) {
    return load_wide(panel.minimum[part] + wide_lanes * vector);
}
inline WideFloats minimum_of(const HalfPanelBlock &, int, int) {
    return every_row(0.0f);
}
inline float sum_of(const HalfByteActivations &x, int part, int column) {
    return x.sum[part][column];
}
inline float sum_of(const ByteActivations &, int, int) {
    return 0;
}

template <int columns, bool minima, class Block, class X>
void multiply_halves(const Block *panel, const X *x, size_t count, Tile<columns> &tile) {
    for (size_t i = 0; i < count; i++, panel++, x++) {
        HalfSum first[columns][panel_vectors];
        tile.settle();
        for (int part = 0; part < 2; part++) {
            ByteSums<columns> products(panel->start[part]);
#pragma GCC unroll 4
            for (int quad = 0; quad < 4; quad++) {
                products.add(panel->quads[4 * part + quad], x->quads[4 * part + quad]);
            }
#pragma GCC unroll 4
            for (int v = 0; v < panel_vectors; v++) {
                const int32_t *const factors = panel->factor[part] + wide_lanes * v;
                const WideFloats scale = load_wide(panel->scale + wide_lanes * v);
                const WideFloats minimum = minimum_of(*panel, part, v);
#pragma GCC unroll 6
                for (int c = 0; c < columns; c++) {
                    if (minima) {
                        tile.add(c, v, minimum, sum_of(*x, part, c));
                    }
                    const HalfSum sums = products.times(c, v, factors);
                    if (part == 0) {
                        first[c][v] = sums;
                    } else {
                        tile.add(c, v, both_halves(first[c][v], sums), scale, x->scale[c]);
                    }
                }
            }
        }
    }
}

template <int columns, bool minima>
void multiply_slice(const HalfPanelBlock *panel, const ByteActivations *x, size_t count, Tile<columns> &tile) {
    multiply_halves<columns, minima>(panel, x, count, tile);
}
template <int columns, bool minima>
void multiply_slice(const HalfMinimumPanelBlock *panel, const HalfByteActivations *x, size_t count,
                    Tile<columns> &tile) {
    multiply_halves<columns, minima>(panel, x, count, tile);
}

/* One fused multiply-add per weight, in the order of the depth. */
template <int columns, bool>
void multiply_slice(const FloatPanelBlock *panel, const FloatActivations *x, size_t count, Tile<columns> &tile) {
    FloatSums<columns> products;
    for (size_t i = 0; i < count; i++) {
#pragma GCC unroll 4
        for (size_t d = 0; d < block_depth; d++) {
            products.add(panel[i].weights[d], x[i].values[d]);
        }
    }
#pragma GCC unroll 6
    for (int c = 0; c < columns; c++) {
#pragma GCC unroll 4
        for (int v = 0; v < panel_vectors; v++) {
            tile.store(c, v, products.sums[c][v]);
        }
    }
}

template <int columns, bool>
void multiply_slice(const WordPanelBlock *panel, const WordActivations *x, size_t count, Tile<columns> &tile) {
    for (size_t i = 0; i < count; i++, panel++, x++) {
        WordSums<columns> products;
        tile.settle();
        products.add(*panel, *x);
#pragma GCC unroll 4
        for (int v = 0; v < panel_vectors; v++) {
            const WideFloats scale = load_wide(panel->scale + wide_lanes * v);
#pragma GCC unroll 6
            for (int c = 0; c < columns; c++) {
                tile.add(c, v, products.total(c, v), scale, x->scale[c]);
            }
        }
    }
}

/* Store a tile's results in y, or add them to the values there. */
template <int columns>
void write(const Tile<columns> &tile, float *y, size_t stride, size_t rows, bool first) {
    for (int c = 0; c < columns; c++) {
        float *column = (float *)((uint8_t *)y + c * stride);
        if (rows >= panel_rows) {
            for (int row = 0; row < panel_rows; row += 8) {
                const Floats values = load_floats(tile.values[c] + row);
                store_floats(column + row, first ? values : add(load_floats(column + row), values));
            }
        } else {
            for (size_t row = 0; row < rows; row++) {
                column[row] = first ? tile.values[c][row] : column[row] + tile.values[c][row];
            }
        }
    }
}

} // namespace
