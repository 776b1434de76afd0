/* Vectors of eight floats: exponentials and conversions. */
#pragma once

#include <cstdint>
#include <immintrin.h>
#include <initializer_list>

namespace {

inline __m256 from_halves(const uint16_t *eight) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)eight));
}

/* e^x for x <= 0, within 2 units in the last place; 0 below -87, and NaN for NaN. */
inline __m256 exponential(__m256 x) {
    const __m256 least = _mm256_set1_ps(-87.0f);
    const __m256 counts = _mm256_cmp_ps(x, least, _CMP_GE_OQ);
    /* x = n ln 2 + r, with ln 2 in two parts; n stays in the low bits of a float near 1.5 * 2^23. */
    const __m256 shift = _mm256_set1_ps(0x1.8p23f);
    const __m256 shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(0x1.715476p+0f), shift);
    const __m256 n = _mm256_sub_ps(shifted, shift);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
    /* e^r by its Taylor polynomial of degree 6: |r| <= 0.347, so the rest is below 2^-23. */
    __m256 sum = _mm256_set1_ps(1.0f / 720);
    for (const float factor : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
        sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(factor));
    }
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    const __m256 power = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), exponent));
    return _mm256_or_ps(_mm256_and_ps(power, counts), _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

} // namespace
