/* What a call's arguments must be before anything is read or written. */
#pragma once

#include "ecellm_kernels.h"

#include <cstddef>
#include <cstdint>

inline bool product(size_t a, size_t b, size_t &result) {
    return !__builtin_mul_overflow(a, b, &result) && result <= PTRDIFF_MAX;
}

inline bool aligned(const void *pointer, size_t to) {
    return (uintptr_t)pointer % to == 0;
}

inline bool overlap(const void *a, size_t a_size, const void *b, size_t b_size) {
    const uintptr_t first = (uintptr_t)a, second = (uintptr_t)b;
    return a && b && a_size && b_size && (first < second ? second - first < a_size : first - second < b_size);
}

/* Whether the type is in enum ecellm_type: each of them has rows of 256 weights. */
inline bool is_known(int type) {
    return ecellm_row_size(type, 256) != 0;
}

/* Whether a type's values are floats, and no blocks. */
inline bool is_float(int type) {
    return type == ECELLM_F32 || type == ECELLM_F16 || type == ECELLM_BF16;
}

/* Whether the variants quantize to the type; with an importance, the search for some is ggml's. */
inline bool is_quantized_here(int type, bool has_importance) {
    return is_known(type) && !is_float(type) && !(has_importance && type >= ECELLM_Q4_0 && type <= ECELLM_Q5_1);
}

/* The alignment of a type's values in memory. */
inline size_t alignment(int type) {
    return type == ECELLM_F32 ? 4 : type == ECELLM_F16 || type == ECELLM_BF16 ? 2 : 1;
}

/* Whether all is well with an array of floats that may be null where `needed` is false. */
inline int check_floats(const float *floats, bool needed) {
    if (!floats) {
        return needed ? ECELLM_NULL_POINTER : ECELLM_OK;
    }
    return aligned(floats, alignof(float)) ? ECELLM_OK : ECELLM_MISALIGNED;
}
