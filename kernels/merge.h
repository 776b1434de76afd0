/* Adapters added to rows of weights: W + sum over k of (scale_k * B_k) A_k, and DoRA's row scale.
 *
 * Every sum is taken in one order, one rounding an operation, so that numpy gives the same bits (ecellm_lite/merge.py).
 */
#pragma once

#include "ecellm_kernels.h"
#include "lanes.h"

namespace {

/* One tile of a row: `vectors` vectors of columns, for all ranks of all adapters. */
template <int vectors>
inline void add_tile(float *row, size_t b_row, size_t columns, size_t column, const ecellm_adapter *adapters,
                     size_t count) {
    Floats delta[vectors] = {};
    for (size_t k = 0; k < count; k++) {
        const ecellm_adapter &adapter = adapters[k];
        const float *a = adapter.a + column, *b = adapter.b + b_row * adapter.rank;
        for (size_t r = 0; r < adapter.rank; r++, a += columns) {
            const Floats factor = every(adapter.scale * b[r]);
            for (int v = 0; v < vectors; v++) {
                Floats values;
                memcpy(&values, a + v * lanes, sizeof values);
                delta[v] += factor * values;
            }
        }
    }
    for (int v = 0; v < vectors; v++) {
        Floats values;
        memcpy(&values, row + column + v * lanes, sizeof values);
        values += delta[v];
        memcpy(row + column + v * lanes, &values, sizeof values);
    }
}

/* Add the adapters to `rows` rows; row i takes row b_rows[i] of each B. Tiles of A stay in the cache for all rows. */
void merge(float *weights, size_t rows, size_t columns, const size_t *b_rows, const ecellm_adapter *adapters,
           size_t count) {
    constexpr int vectors = 4, width = vectors * lanes;
    if (count == 0) {
        return; /* not even adding zero: it would turn -0 into 0 */
    }
    size_t column = 0;
    for (; column + width <= columns; column += width) {
        for (size_t i = 0; i < rows; i++) {
            add_tile<vectors>(weights + i * columns, b_rows[i], columns, column, adapters, count);
        }
    }
    for (; column < columns; column++) {
        for (size_t i = 0; i < rows; i++) {
            float delta = 0;
            for (size_t k = 0; k < count; k++) {
                const ecellm_adapter &adapter = adapters[k];
                for (size_t r = 0; r < adapter.rank; r++) {
                    delta += adapter.scale * adapter.b[b_rows[i] * adapter.rank + r] * adapter.a[r * columns + column];
                }
            }
            weights[i * columns + column] += delta;
        }
    }
}

/* Scale a row to DoRA's magnitude: its norm is taken in doubles, as eight sums over every eighth column. */
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
