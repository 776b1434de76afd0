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

inline bool is_k_quant(int type) {
    return type >= ECELLM_Q2_K && type <= ECELLM_Q6_K;
}

/* Whether ggml's own function quantizes to the type. */
inline bool is_ggmls(int type) {
    return type != ECELLM_F32 && type != ECELLM_F16 && type != ECELLM_BF16 && !is_k_quant(type);
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
