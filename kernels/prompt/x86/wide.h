/* Vectors as wide as the processor's registers: a vector has a value of each of eight rows of a panel. */
#pragma once

#include "lanes.h"

namespace {

constexpr int wide_lanes = 8;

typedef __m256 WideFloats;
typedef __m256i WideInts;

inline WideFloats load_wide(const float *rows) {
    return load_floats(rows);
}
inline void store_wide(float *rows, WideFloats x) {
    store_floats(rows, x);
}
inline WideInts load_wide(const void *bytes) {
    return load_ints(bytes);
}
inline WideFloats every_row(float value) {
    return every(value);
}
inline WideInts every_row(int32_t value) {
    return every_int(value);
}
/* Products of words, each added to its neighbour's, as int32. */
inline WideInts multiply_words(WideInts a, WideInts b) {
    return _mm256_madd_epi16(a, b);
}
inline WideInts every_word(int16_t value) {
    return _mm256_set1_epi16(value);
}

} // namespace
