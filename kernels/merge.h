/* Adds adapters to rows of weights, W + sum over k of (scale_k * B_k) A_k, and applies DoRA's row scale.
 *
 * Sums are computed in a fixed order with one rounding per operation, so that numpy gives the same bits
 * (ecellm_lite/kernels/plain.py).
 */
#pragma once

#include "ecellm_kernels.h"
#include "lanes.h"

namespace {

constexpr int tile_vectors = 8; /* summed in registers */
constexpr size_t tile_columns = tile_vectors * lanes;

/* Copy the adapters' A tile by tile. A tile has tile_columns columns of all ranks of all adapters, one rank after the
 * other. In A itself, the ranks are a whole row apart and would evict each other from the cache. Columns beyond
 * `columns` are zero. */
void pack(const ecellm_adapter *adapters, size_t count, size_t columns, float *packed) {
    for (size_t column = 0; column < columns; column += tile_columns) {
        const size_t width = columns - column < tile_columns ? columns - column : tile_columns;
        for (size_t k = 0; k < count; k++) {
            for (size_t r = 0; r < adapters[k].rank; r++, packed += tile_columns) {
                memcpy(packed, adapters[k].a + r * columns + column, width * sizeof(float));
                memset(packed + width, 0, (tile_columns - width) * sizeof(float));
            }
        }
    }
}

/* Add packed adapters, `ranks` ranks in total, to `rows` rows; row i uses row b_rows[i] of each B. */
void merge(float *weights, size_t rows, size_t columns, const size_t *b_rows, const ecellm_adapter *adapters,
           size_t count, size_t ranks, const float *packed) {
    for (size_t column = 0; column < columns; column += tile_columns, packed += ranks * tile_columns) {
        const size_t width = columns - column < tile_columns ? columns - column : tile_columns;
        for (size_t i = 0; i < rows; i++) {
            Floats sums[tile_vectors] = {};
            const float *a = packed;
            for (size_t k = 0; k < count; k++) {
                const float *b = adapters[k].b + b_rows[i] * adapters[k].rank;
                for (size_t r = 0; r < adapters[k].rank; r++, a += tile_columns) {
                    const Floats factor = every(adapters[k].scale * b[r]);
#pragma GCC unroll 8
                    for (int v = 0; v < tile_vectors; v++) {
                        Floats values;
                        memcpy(&values, a + v * lanes, sizeof values);
                        sums[v] += factor * values;
                    }
                }
            }
            float *row = weights + i * columns + column;
            if (width == tile_columns) {
                for (int v = 0; v < tile_vectors; v++) {
                    Floats values;
                    memcpy(&values, row + v * lanes, sizeof values);
                    values += sums[v];
                    memcpy(row + v * lanes, &values, sizeof values);
                }
            } else {
                float delta[tile_columns];
                memcpy(delta, sums, sizeof delta);
                for (size_t c = 0; c < width; c++) {
                    row[c] += delta[c];
                }
            }
        }
    }
}

/* Scale a row to DoRA's magnitude; its norm is summed in doubles, in eight sums over every eighth column. */
void scale_to_magnitude(float *row, size_t columns, float magnitude) {
    double sums[8] = {};
    size_t column = 0;
    for (; column + 8 <= columns; column += 8) {
        for (size_t i = 0; i < 8; i++) {
            sums[i] += (double)row[column + i] * row[column + i];
        }
    }
    for (size_t i = 0; column < columns; i++, column++) {
        sums[i] += (double)row[column] * row[column];
    }
    double sum = 0;
    for (double each : sums) {
        sum += each;
    }
    const float factor = magnitude / (float)__builtin_sqrt(sum);
    for (column = 0; column < columns; column++) {
        row[column] *= factor;
    }
}

} // namespace
