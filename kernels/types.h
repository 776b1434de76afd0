/* The types of weights in enum ecellm_type: the sizes of their blocks, and what these kernels do with them. */
#pragma once

#include "checks.h"

/* How many bytes a row has: 0 for an unknown type, columns that are not a multiple of its block, or an overflow. */
inline size_t row_size(int type, size_t columns) {
    static const struct {
        int type;
        size_t weights, bytes; /* per block */
    } types[] = {
        {ECELLM_F32, 1, 4},      {ECELLM_F16, 1, 2},      {ECELLM_BF16, 1, 2},     {ECELLM_Q4_0, 32, 18},
        {ECELLM_Q4_1, 32, 20},   {ECELLM_Q5_0, 32, 22},   {ECELLM_Q5_1, 32, 24},   {ECELLM_Q8_0, 32, 34},
        {ECELLM_Q2_K, 256, 84},  {ECELLM_Q3_K, 256, 110}, {ECELLM_Q4_K, 256, 144}, {ECELLM_Q5_K, 256, 176},
        {ECELLM_Q6_K, 256, 210},
    };
    for (const auto &each : types) {
        size_t size;
        if (each.type == type) {
            return columns % each.weights == 0 && product(columns / each.weights, each.bytes, size) ? size : 0;
        }
    }
    return 0;
}

/* Whether the type is in enum ecellm_type. Each of these types allows rows of 256 weights. */
inline bool is_known(int type) {
    return row_size(type, 256) != 0;
}

/* Whether a type's values are floats rather than blocks. */
inline bool is_float(int type) {
    return type == ECELLM_F32 || type == ECELLM_F16 || type == ECELLM_BF16;
}

/* Whether the variants quantize to the type. With an importance, ggml quantizes to some of these types instead. */
inline bool is_quantized_here(int type, bool has_importance) {
    return is_known(type) && !is_float(type) && !(has_importance && type >= ECELLM_Q4_0 && type <= ECELLM_Q5_1);
}

/* The alignment of a type's values in memory. */
inline size_t alignment(int type) {
    return type == ECELLM_F32 ? 4 : type == ECELLM_F16 || type == ECELLM_BF16 ? 2 : 1;
}
