/* Vectors of eight floats: powers of two and conversions. */
#pragma once

#include <cstdint>
#include <immintrin.h>
#include <initializer_list>

namespace {

inline __m256 from_halves(const uint16_t *eight) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)eight));
}

constexpr float bits_of_e = 0x1.715476p+0f; /* log2 e */

/* 2^(x - base) for a whole number `base` that is not below x, within 2 units in the last place. It is 0 below 2^-125, and
 * NaN if x or `base` is. The power of the fraction of x does not depend on the base. */
inline __m256 power_of_two(__m256 x, __m256 base) {
    const __m256 whole = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 exponent = _mm256_sub_ps(whole, base), fraction = _mm256_sub_ps(x, whole);
    const __m256 counts = _mm256_cmp_ps(exponent, _mm256_set1_ps(-125), _CMP_GE_OQ);
    /* Its Taylor polynomial of degree 6: the fraction times ln 2 is at most 0.347, so the rest is below 2^-23. */
    __m256 power = _mm256_set1_ps(0x1.430912p-13f);
    for (const float factor : {0x1.5d87fep-10f, 0x1.3b2ab6p-7f, 0x1.c6b08ep-5f, 0x1.ebfbep-3f, 0x1.62e43p-1f, 1.0f}) {
        power = _mm256_fmadd_ps(power, fraction, _mm256_set1_ps(factor));
    }
    const __m256i shift = _mm256_slli_epi32(_mm256_cvtps_epi32(exponent), 23);
    power = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(power), shift));
    return _mm256_or_ps(_mm256_and_ps(power, counts), _mm256_cmp_ps(exponent, exponent, _CMP_UNORD_Q));
}

} // namespace
