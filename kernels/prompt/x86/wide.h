/* Vectors as wide as the processor's registers: a vector has a value of each of eight rows of a panel, with AVX-512 of
 * 16 rows. */
#pragma once

#include "lanes.h"

#if defined(ECELLM_AVX512)
#include "wide512.h"
#else

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
inline WideInts every_word(int16_t value) {
    return _mm256_set1_epi16(value);
}

#if defined(ECELLM_VNNI)
/* Add the products of four unsigned bytes with signed ones, or of two words, to each int32. */
inline WideInts add_byte_products(WideInts sums, WideInts bytes, WideInts signed_bytes) {
    return _mm256_dpbusd_avx_epi32(sums, bytes, signed_bytes);
}
inline WideInts add_word_products(WideInts sums, WideInts a, WideInts b) {
    return _mm256_dpwssd_avx_epi32(sums, a, b);
}
inline WideInts multiply_ints(WideInts a, WideInts b) {
    return _mm256_mullo_epi32(a, b);
}
#endif

} // namespace

#endif
