/* The functions of one variant of the kernels, compiled for one kind of processor. */
#pragma once

#include "ecellm_kernels.h"

struct Variant {
    const char *name;

    /* Widen a row exactly, infinities included; NaN stays NaN. */
    void (*widen_bf16)(const uint16_t *bits, float *weights, size_t count);
    void (*widen_f16)(const uint16_t *bits, float *weights, size_t count);

    /* Quantize `rows` rows of `columns` floats, whole blocks, to a quantized type of enum ecellm_type. `importance` may
     * be null; only the K-quants use it. Returns false if a weight is infinite or NaN; some blocks are then written. */
    bool (*quantize)(int type, const float *weights, size_t rows, size_t columns, const float *importance,
                     uint8_t *blocks);

    /* See merge.h. */
    size_t tile_columns;
    void (*pack)(const ecellm_adapter *adapters, size_t count, size_t columns, float *packed);
    void (*merge)(float *weights, size_t rows, size_t columns, const size_t *b_rows, const ecellm_adapter *adapters,
                  size_t count, size_t ranks, const float *packed);
    void (*scale_to_magnitude)(float *row, size_t columns, float magnitude);

    /* The index of the first infinity or NaN among `count` floats, or `count` if there is none. */
    size_t (*find_not_finite)(const float *weights, size_t count);
};
