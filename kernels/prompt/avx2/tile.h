/* Tiles: 16 rows of weights times up to six columns of activations, over a slice of the depth.
 *
 * Within a block the sums are exact integers. Only float32 operations round: the product of the two scales, one fused
 * multiply-add per block (one more for each minimum) in the order of the depth, and one addition per slice. Weights that
 * are floats have one fused multiply-add each.
 */
#pragma once

#include "panel.h"

namespace {

/* Add the products of four neighboring values of a column with those of 16 rows to two sums. This is in assembly,
 * because GCC (12, -O3) first adds the products of several quads to each other. That needs twice the registers, spills
 * ten of twelve sums and halves the speed. */
#define ECELLM_ADD_PRODUCTS(multiply, add, low_sum, high_sum, low, high, four)                                         \
    do {                                                                                                               \
        __m256i column_, product_;                                                                                     \
        asm("vpbroadcastd %[x], %[c]\n\t" multiply " %[l], %[c], %[p]\n\t" multiply " %[h], %[c], %[c]\n\t" add          \
            " %[p], %[s], %[s]\n\t" add " %[c], %[t], %[t]"                                                            \
            : [s] "+x"(low_sum), [t] "+x"(high_sum), [c] "=&x"(column_), [p] "=&x"(product_)                           \
            : [l] "x"(low), [h] "x"(high), [x] "m"(*(const char(*)[4])(four)));                                        \
    } while (0)

/* Sums of products of bytes in int16 lanes, each over two neighbors in each of up to 8 quads. Partial sums may wrap
 * around, because 128 is added to activations; `start` compensates for that. Complete sums never wrap around: quants of
 * -16 to 15 over 32 weights, or of -32 to 31 over 16, times 127, stay below 2^15. */
template <int columns>
struct ByteSums {
    __m256i sums[columns][2];

    explicit ByteSums(const int16_t (*start)[2]) {
        const __m256i low = _mm256_load_si256((const __m256i *)start[0]);
        const __m256i high = _mm256_load_si256((const __m256i *)start[8]);
#pragma GCC unroll 6
        for (int c = 0; c < columns; c++) {
            sums[c][0] = low;
            sums[c][1] = high;
        }
    }

    void add(const int8_t (*weights)[4], const uint8_t (*activations)[4]) {
        const __m256i low = _mm256_load_si256((const __m256i *)weights[0]);
        const __m256i high = _mm256_load_si256((const __m256i *)weights[8]);
#pragma GCC unroll 6
        for (int c = 0; c < columns; c++) {
            ECELLM_ADD_PRODUCTS("vpmaddubsw", "vpaddw", sums[c][0], sums[c][1], low, high, activations[c]);
        }
    }
};

/* The results of a tile so far. */
template <int columns>
struct Tile {
    alignas(32) float values[columns][panel_rows];

    Tile() {
        for (int c = 0; c < columns; c++) {
            store(c, 0, _mm256_setzero_ps());
            store(c, 1, _mm256_setzero_ps());
        }
    }

    __m256 load(int column, int half) const {
        return _mm256_load_ps(values[column] + 8 * half);
    }
    void store(int column, int half, __m256 eight) {
        _mm256_store_ps(values[column] + 8 * half, eight);
    }

    /* Keep the values in memory: GCC would hold them in registers, spill those, and store both. */
    void settle() {
        asm("" : "+m"(values));
    }

    /* Add int32 sums times the scales. */
    void add(int column, int half, __m256i sums, __m256 weight_scale, float activation_scale) {
        const __m256 scale = _mm256_mul_ps(weight_scale, _mm256_set1_ps(activation_scale));
        store(column, half, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, load(column, half)));
    }
    void add(int column, int half, __m256 minimum, float activation_sum) {
        store(column, half, _mm256_fmadd_ps(minimum, _mm256_set1_ps(activation_sum), load(column, half)));
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
        const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            const __m256 scale = _mm256_load_ps(panel->scale + 8 * half);
            const __m256 minimum = _mm256_load_ps(panel->minimum + 8 * half);
#pragma GCC unroll 6
            for (int c = 0; c < columns; c++) {
                if (minima) {
                    tile.add(c, half, minimum, x->sum[c]);
                }
                tile.add(c, half, _mm256_madd_epi16(products.sums[c][half], ones), scale, x->scale[c]);
            }
        }
    }
}

/* Minima belong to half a block, as do the sums of activations that they are multiplied by. */
inline __m256 minimum_of(const HalfMinimumPanelBlock &panel, int part, int half) {
    return _mm256_load_ps(panel.minimum[part] + 8 * half);
}
inline __m256 minimum_of(const HalfPanelBlock &, int, int) {
    return _mm256_setzero_ps();
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
        alignas(32) int32_t first[columns][panel_rows];
        tile.settle();
        for (int part = 0; part < 2; part++) {
            ByteSums<columns> products(panel->start[part]);
#pragma GCC unroll 4
            for (int quad = 0; quad < 4; quad++) {
                products.add(panel->quads[4 * part + quad], x->quads[4 * part + quad]);
            }
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++) {
                const __m256i factor = _mm256_load_si256((const __m256i *)panel->factor[part][8 * half]);
                const __m256 scale = _mm256_load_ps(panel->scale + 8 * half), minimum = minimum_of(*panel, part, half);
#pragma GCC unroll 6
                for (int c = 0; c < columns; c++) {
                    if (minima) {
                        tile.add(c, half, minimum, sum_of(*x, part, c));
                    }
                    __m256i *const first_sums = (__m256i *)(first[c] + 8 * half);
                    const __m256i sums = _mm256_madd_epi16(products.sums[c][half], factor);
                    if (part == 0) {
                        _mm256_store_si256(first_sums, sums);
                    } else {
                        tile.add(c, half, _mm256_add_epi32(sums, _mm256_load_si256(first_sums)), scale, x->scale[c]);
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
    __m256 sums[columns][2];
#pragma GCC unroll 6
    for (int c = 0; c < columns; c++) {
        sums[c][0] = sums[c][1] = _mm256_setzero_ps();
    }
    for (size_t i = 0; i < count; i++) {
#pragma GCC unroll 4
        for (size_t d = 0; d < block_depth; d++) {
            const __m256 low = _mm256_load_ps(panel[i].weights[d]), high = _mm256_load_ps(panel[i].weights[d] + 8);
#pragma GCC unroll 6
            for (int c = 0; c < columns; c++) {
                const __m256 value = _mm256_broadcast_ss(x[i].values[d] + c);
                sums[c][0] = _mm256_fmadd_ps(low, value, sums[c][0]);
                sums[c][1] = _mm256_fmadd_ps(high, value, sums[c][1]);
            }
        }
    }
#pragma GCC unroll 6
    for (int c = 0; c < columns; c++) {
        tile.store(c, 0, sums[c][0]);
        tile.store(c, 1, sums[c][1]);
    }
}

/* Sums of products of words are int32: 32 products of a byte and a word. */
template <int columns, bool>
void multiply_slice(const WordPanelBlock *panel, const WordActivations *x, size_t count, Tile<columns> &tile) {
    for (size_t i = 0; i < count; i++, panel++, x++) {
        __m256i sums[columns][2];
        tile.settle();
#pragma GCC unroll 6
        for (int c = 0; c < columns; c++) {
            sums[c][0] = sums[c][1] = _mm256_setzero_si256();
        }
#pragma GCC unroll 8
        for (int quad = 0; quad < 8; quad++) {
#pragma GCC unroll 2
            for (int pair = 0; pair < 2; pair++) {
                const __m256i low = _mm256_load_si256((const __m256i *)panel->quads[quad][pair][0]);
                const __m256i high = _mm256_load_si256((const __m256i *)panel->quads[quad][pair][8]);
#pragma GCC unroll 6
                for (int c = 0; c < columns; c++) {
                    const int16_t *two = x->quads[quad][c] + 2 * pair;
                    ECELLM_ADD_PRODUCTS("vpmaddwd", "vpaddd", sums[c][0], sums[c][1], low, high, two);
                }
            }
        }
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            const __m256 scale = _mm256_load_ps(panel->scale + 8 * half);
#pragma GCC unroll 6
            for (int c = 0; c < columns; c++) {
                tile.add(c, half, sums[c][half], scale, x->scale[c]);
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
            for (int half = 0; half < 2; half++) {
                const __m256 values = tile.load(c, half);
                float *const place = column + 8 * half;
                _mm256_storeu_ps(place, first ? values : _mm256_add_ps(_mm256_loadu_ps(place), values));
            }
        } else {
            for (size_t row = 0; row < rows; row++) {
                column[row] = first ? tile.values[c][row] : column[row] + tile.values[c][row];
            }
        }
    }
}

} // namespace
