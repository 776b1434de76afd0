/* Checks sizes and pointers before anything is read or written. */
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

/* The status of an array of floats; null is allowed unless it is `needed`. */
inline int check_floats(const float *floats, bool needed) {
    if (!floats) {
        return needed ? ECELLM_NULL_POINTER : ECELLM_OK;
    }
    return aligned(floats, alignof(float)) ? ECELLM_OK : ECELLM_MISALIGNED;
}
