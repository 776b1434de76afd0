/* Vectors of AVX-512: a vector has a value of each of 16 rows of a panel. The same names as in wide.h. */
#pragma once

namespace {

constexpr int wide_lanes = 16;

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
inline WideFloats multiply_add(WideFloats a, WideFloats b, WideFloats c) {
    return _mm512_fmadd_ps(a, b, c);
}
inline WideInts add_ints(WideInts a, WideInts b) {
    return _mm512_add_epi32(a, b);
}
inline WideFloats to_floats(WideInts x) {
    return _mm512_cvtepi32_ps(x);
}

#if defined(ECELLM_VNNI)
inline WideInts add_byte_products(WideInts sums, WideInts bytes, WideInts signed_bytes) {
    return _mm512_dpbusd_epi32(sums, bytes, signed_bytes);
}
inline WideInts add_word_products(WideInts sums, WideInts a, WideInts b) {
    return _mm512_dpwssd_epi32(sums, a, b);
}
inline WideInts multiply_ints(WideInts a, WideInts b) {
    return _mm512_mullo_epi32(a, b);
}
#else
inline WideInts multiply_words(WideInts a, WideInts b) {
    return _mm512_madd_epi16(a, b);
}
inline WideInts every_word(int16_t value) {
    return _mm512_set1_epi16(value);
}
inline WideInts add_byte_products(WideInts sums, WideInts bytes, WideInts signed_bytes) {
    return _mm512_add_epi16(sums, _mm512_maddubs_epi16(bytes, signed_bytes));
}
inline WideInts add_word_products(WideInts sums, WideInts a, WideInts b) {
    return _mm512_add_epi32(sums, _mm512_madd_epi16(a, b));
}
#endif

} // namespace
