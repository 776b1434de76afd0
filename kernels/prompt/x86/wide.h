/* Vectors as wide as the processor's registers: a vector has a value of ECELLM_LANES rows of a panel. */
#pragma once

#include "lanes.h"

namespace {

constexpr int wide_lanes = ECELLM_LANES;

#if ECELLM_LANES == 16
typedef __m512 WideFloats;
typedef __m512i WideInts;

inline WideFloats load_wide(const float *rows) {
    return _mm512_loadu_ps(rows);
}
inline void store_wide(float *rows, WideFloats x) {
    _mm512_storeu_ps(rows, x);
}
inline WideInts load_wide(const void *bytes) {
    return _mm512_loadu_si512(bytes);
}
inline WideFloats every_row(float value) {
    return _mm512_set1_ps(value);
}
inline WideInts every_row(int32_t value) {
    return _mm512_set1_epi32(value);
}
inline WideFloats multiply(WideFloats a, WideFloats b) {
    return _mm512_mul_ps(a, b);
}
/* a * b + c, rounded once. */
inline WideFloats multiply_add(WideFloats a, WideFloats b, WideFloats c) {
    return _mm512_fmadd_ps(a, b, c);
}
inline WideFloats to_floats(WideInts x) {
    return _mm512_cvtepi32_ps(x);
}
inline WideFloats add(WideFloats a, WideFloats b) {
    return _mm512_add_ps(a, b);
}
inline WideInts add_ints(WideInts a, WideInts b) {
    return _mm512_add_epi32(a, b);
}
inline WideInts add_words(WideInts a, WideInts b) {
    return _mm512_add_epi16(a, b);
}
/* Products of unsigned and signed bytes, each added to its neighbour's, as words. */
inline WideInts multiply_bytes(WideInts unsigned_bytes, WideInts signed_bytes) {
    return _mm512_maddubs_epi16(unsigned_bytes, signed_bytes);
}
/* Products of words, each added to its neighbour's, as int32. */
inline WideInts multiply_words(WideInts a, WideInts b) {
    return _mm512_madd_epi16(a, b);
}
inline WideInts every_word(int16_t value) {
    return _mm512_set1_epi16(value);
}
#else
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
#endif

} // namespace
