/* Products of many columns with AMX: 32 rows of weights times 32 columns, in four tiles of float32.
 *
 * Weights and activations are rounded to bfloat16, to nearest with ties to even. Sums are in float32: 32 products at a
 * time (see add_products), in the order of the depth. Subnormal numbers count as zeros. A column with an infinity or a NaN
 * becomes infinities or NaN.
 */
#pragma once

#include "amx.h"
#include "few.h"

namespace {

constexpr size_t amx_columns = 2 * amx_rows, pairs_in_block = block_depth / 2;

/* 48 blocks are 96 KiB: a panel stays in second-level cache. */
constexpr size_t amx_blocks = 48;

/* 32 weights of each row: pairs of neighbours. */
struct PairPanelBlock {
    alignas(64) uint16_t pairs[pairs_in_block][panel_rows][2];
};
template <>
constexpr size_t panel_blocks<PairPanelBlock> = amx_blocks;

static_assert(panel_rows == 2 * amx_rows, "two tiles of weights");

struct PairActivations {
    alignas(64) uint16_t values[amx_columns][block_depth];
};
template <>
constexpr size_t group_columns<PairActivations> = amx_columns;

inline void quantize_block(const float *x, int column, PairActivations &block) {
    const __m512bh values = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
    memcpy(block.values[column], &values, sizeof values);
}

/* Round eight rows' neighbours, and store them as pairs. */
inline void store_pairs(Floats first, Floats second, uint16_t (*pairs)[2]) {
    const __m256bh rounded = _mm256_cvtne2ps_pbh(second, first);
    __m256i words;
    memcpy(&words, &rounded, sizeof words);
    const __m256i order = _mm256_setr_epi16(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    store_ints(pairs, _mm256_permutexvar_epi16(order, words));
}

/* Half a block's scale, and minimum, of eight rows. */
inline Floats scale_of(const EightScales &scales, int) {
    return load_floats(scales.scale);
}
inline Floats scale_of(const EightHalfScales &scales, int half) {
    return multiply(load_floats(scales.scale), to_floats(load_ints(scales.factor[half])));
}
inline Floats minimum_of(const EightScales &scales, int) {
    return load_floats(scales.minimum);
}
inline Floats minimum_of(const EightHalfScales &scales, int half) {
    return load_floats(scales.minimum[half]);
}

/* How a type is unpacked: its scales, and whether it has minima. */
template <class Type, class Scales, bool minima>
struct Pairs {
    typedef Type Weights;

    static void unpack(const PanelRows &rows, size_t first, size_t count, PairPanelBlock *blocks) {
        constexpr int step = EightRows<Type>::blocks, zero = EightRows<Type>::zero;
        for (size_t i = 0; i < count; i += step) {
            for (int row = 0; row < panel_rows; row += 8) {
                EightRows<Type> eight = eight_rows<Type>(rows.row + row, (first + i) / step);
                Scales scales[step];
                eight.scales(scales, 0);
#pragma GCC unroll 8
                for (int k = 0; k < step; k++) {
                    Ints quads[8];
                    eight.quants(k, quads);
#pragma GCC unroll 8
                    for (int j = 0; j < 8; j++) {
                        const Floats scale = scale_of(scales[k], j / 4);
                        const Ints quad = zero ? subtract_bytes(quads[j], every_byte(zero)) : quads[j];
                        Floats weights[4];
#pragma GCC unroll 4
                        for (int n = 0; n < 4; n++) {
                            const Floats quants = to_floats(signed_byte_of(quad, n));
                            weights[n] = minima ? multiply_add(quants, scale, minimum_of(scales[k], j / 4))
                                                : multiply(quants, scale);
                        }
                        uint16_t(*const pairs)[panel_rows][2] = blocks[i + k].pairs + 2 * j;
                        store_pairs(weights[0], weights[1], pairs[0] + row);
                        store_pairs(weights[2], weights[3], pairs[1] + row);
                    }
                }
            }
        }
    }
};
template <>
struct Pairs<BF16, void, false> {
    typedef BF16 Weights;

    static void unpack(const PanelRows &rows, size_t first, size_t count, PairPanelBlock *blocks) {
        for (size_t i = 0; i < count; i++) {
            for (int row = 0; row < panel_rows; row += 8) {
                for (size_t pair = 0; pair < pairs_in_block; pair += 4) {
                    Ints pairs[4];
                    load_quads(rows.row + row, (first + i) * sizeof(BF16) + 4 * pair, pairs);
                    for (size_t j = 0; j < 4; j++) {
                        store_ints(blocks[i].pairs[pair + j][row], pairs[j]);
                    }
                }
            }
        }
    }
};

/* A panel's rows for a group of columns. */
struct PairTile {
    alignas(64) float values[amx_columns][panel_rows];

    /* Copy the rows and columns in use from y, or to it. */
    template <bool from>
    void copy(float *y, size_t stride, size_t rows, size_t columns) {
        for (size_t c = 0; c < columns; c++) {
            float *const column = (float *)((uint8_t *)y + c * stride);
            memcpy(from ? values[c] : column, from ? column : values[c], rows * sizeof(float));
        }
    }
};

/* Add the products of `count` blocks to sums, or store them if they are the `first`. The second half of the columns is
 * left out if none is in use. */
template <bool both>
inline void multiply_pairs(const PairPanelBlock *panel, const PairActivations *x, size_t count, float *sums, size_t stride,
                           bool first) {
    float *const second = (float *)((uint8_t *)sums + amx_rows * stride);
    if (first) {
        clear_tile<0>(), clear_tile<1>(), clear_tile<2>(), clear_tile<3>();
    } else {
        load_tile<0>(sums, stride), load_tile<1>(sums + amx_rows, stride);
        if (both) {
            load_tile<2>(second, stride), load_tile<3>(second + amx_rows, stride);
        }
    }
    for (size_t i = 0; i < count; i++) {
        load_tile<4>(x[i].values[0], sizeof x->values[0]);
        load_tile<6>(panel[i].pairs[0][0], sizeof panel->pairs[0]);
        load_tile<7>(panel[i].pairs[0][amx_rows], sizeof panel->pairs[0]);
        add_products<0, 4, 6>(), add_products<1, 4, 7>();
        if (both) {
            load_tile<5>(x[i].values[amx_rows], sizeof x->values[0]);
            add_products<2, 5, 6>(), add_products<3, 5, 7>();
        }
    }
    store_tile<0>(sums, stride), store_tile<1>(sums + amx_rows, stride);
    if (both) {
        store_tile<2>(second, stride), store_tile<3>(second + amx_rows, stride);
    }
}

/* The functions of a Kernel. */
template <class Type>
struct AmxColumns {
    static Activations<PairActivations> activations(const Product &product, const uint8_t *memory) {
        return Activations<PairActivations>(product, memory, amx_blocks);
    }

    static size_t bytes(const Product &product) {
        return activations(product, nullptr).bytes();
    }

    static void quantize(const Product &product, uint8_t *memory, size_t group) {
        activations(product, memory).quantize(product, group);
    }

    static void multiply(const Product &product, const uint8_t *memory, const Piece &piece) {
        alignas(64) PairPanelBlock blocks[amx_blocks];
        const Activations<PairActivations> x = activations(product, memory);
        const size_t row = piece.panel * panel_rows, rows = product.rows - row;
        const PanelRows weights(product, row), next(product, piece.next * panel_rows);
        constexpr size_t block_bytes = sizeof(typename Type::Weights) * block_depth / weights_in<typename Type::Weights>;
        const Amx amx;
        for (size_t start = 0; start < x.depth; start += x.slice) {
            const size_t count = start + x.slice < x.depth ? x.slice : x.depth - start, end = start + count;
            Type::unpack(weights, start, count, blocks);
            const bool whole = end == x.depth; /* the next panel comes next */
            Ahead ahead(whole ? next : weights, whole ? 0 : end * block_bytes, count * block_bytes, piece.last - piece.first);
            for (size_t group = piece.first; group < piece.last; group++) {
                ahead.fetch<2>();
                const size_t column = group * amx_columns, left = product.columns - column;
                float *const y = (float *)((uint8_t *)product.y + column * product.y_stride) + row;
                multiply_group(blocks, x.at(start, group), count, y, product.y_stride, rows, left, start == 0);
            }
        }
    }

    static void multiply_group(const PairPanelBlock *panel, const PairActivations *x, size_t count, float *y,
                               size_t stride, size_t rows, size_t columns, bool first) {
        if (rows >= panel_rows && columns >= amx_columns) {
            multiply_pairs<true>(panel, x, count, y, stride, first);
            return;
        }
        rows = rows < panel_rows ? rows : panel_rows;
        columns = columns < amx_columns ? columns : amx_columns;
        PairTile tile;
        if (!first) {
            tile.copy<true>(y, stride, rows, columns);
        }
        if (columns > amx_rows) {
            multiply_pairs<true>(panel, x, count, tile.values[0], sizeof tile.values[0], first);
        } else {
            multiply_pairs<false>(panel, x, count, tile.values[0], sizeof tile.values[0], first);
        }
        tile.copy<false>(y, stride, rows, columns);
    }
};

} // namespace
