/* Vectors as wide as the processor's registers, so that one source serves every width.
 *
 * Each variant is compiled from these headers with ECELLM_LANES floats per vector. Everything is in an anonymous
 * namespace, and nothing from the C++ library is used, because the linker must not merge functions of different
 * variants.
 *
 * Results must equal scalar code bit for bit, so each operation rounds once (-ffp-contract=off), in the order written.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace {

constexpr int lanes = ECELLM_LANES;

typedef float Floats __attribute__((vector_size(ECELLM_LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(ECELLM_LANES * 4)));

/* Indices within each four lanes of the vectors a and b: 0 to 3 are a's lanes, 4 to 7 are b's. */
#define ECELLM_PLACE(i, first) ((i) < 4 ? (i) + (first) : (i) - 4 + ECELLM_LANES + (first))
#define ECELLM_FOUR(first, i, j, k, l)                                                                                 \
    ECELLM_PLACE(i, first), ECELLM_PLACE(j, first), ECELLM_PLACE(k, first), ECELLM_PLACE(l, first)
#if ECELLM_LANES == 4
#define ECELLM_PLACES(i, j, k, l) ECELLM_FOUR(0, i, j, k, l)
#elif ECELLM_LANES == 8
#define ECELLM_PLACES(i, j, k, l) ECELLM_FOUR(0, i, j, k, l), ECELLM_FOUR(4, i, j, k, l)
#else
#define ECELLM_PLACES(i, j, k, l)                                                                                      \
    ECELLM_FOUR(0, i, j, k, l), ECELLM_FOUR(4, i, j, k, l), ECELLM_FOUR(8, i, j, k, l), ECELLM_FOUR(12, i, j, k, l)
#endif
#if defined(__clang__)
#define ECELLM_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, ECELLM_PLACES(i, j, k, l))
#else
#define ECELLM_SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, Ints{ECELLM_PLACES(i, j, k, l)})
#endif

inline Floats every(float value) {
    return value - Floats{};
}

inline Ints every_int(int32_t value) {
    return value - Ints{};
}

inline Floats absolute(Floats x) {
    return (Floats)((Ints)x & 0x7fffffff);
}

inline Floats to_floats(Ints x) {
    return __builtin_convertvector(x, Floats);
}

/* Truncate toward zero; for floats that fit an int32. */
inline Ints to_ints(Floats x) {
    return __builtin_convertvector(x, Ints);
}

/* `magnitude` with the sign of x. */
inline Floats with_sign_of(Floats x, float magnitude) {
    return (Floats)(((Ints)x & INT32_MIN) | (Ints)every(magnitude));
}

/* a < b ? a : b, lane by lane. The result is b if they are equal or either is NaN. */
inline Floats lower(Floats a, Floats b) {
#if ECELLM_LANES == 16 && defined(__AVX512F__)
    return (Floats)_mm512_min_ps((__m512)a, (__m512)b);
#elif ECELLM_LANES == 8 && defined(__AVX__)
    return (Floats)_mm256_min_ps((__m256)a, (__m256)b);
#elif ECELLM_LANES == 4 && defined(__SSE__)
    return (Floats)_mm_min_ps((__m128)a, (__m128)b);
#else
    return a < b ? a : b;
#endif
}

/* a > b ? a : b, lane by lane. */
inline Floats higher(Floats a, Floats b) {
#if ECELLM_LANES == 16 && defined(__AVX512F__)
    return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
#elif ECELLM_LANES == 8 && defined(__AVX__)
    return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#elif ECELLM_LANES == 4 && defined(__SSE__)
    return (Floats)_mm_max_ps((__m128)a, (__m128)b);
#else
    return a > b ? a : b;
#endif
}

inline Ints clamp(Ints x, int32_t least, int32_t most) {
    x = x < most ? x : every_int(most);
    return x > least ? x : every_int(least);
}

/* The square root, correctly rounded like sqrtf. */
inline Floats square_root(Floats x) {
#if ECELLM_LANES == 16 && defined(__AVX512F__)
    return (Floats)_mm512_sqrt_ps((__m512)x);
#elif ECELLM_LANES == 8 && defined(__AVX__)
    return (Floats)_mm256_sqrt_ps((__m256)x);
#elif ECELLM_LANES == 4 && defined(__SSE__)
    return (Floats)_mm_sqrt_ps((__m128)x);
#elif ECELLM_LANES == 4 && defined(__aarch64__)
    return (Floats)vsqrtq_f32((float32x4_t)x);
#else
    for (int lane = 0; lane < lanes; lane++) {
        x[lane] = __builtin_sqrtf(x[lane]);
    }
    return x;
#endif
}

/* a / b, where `inverse` is 1 / b rounded. With fused multiply-add it is the product with the inverse, corrected by the
 * remainder. This is exact for the numerators of search_scale.h and for b from 2^-100 to 2^100;
 * tests/native/quotients.cpp tries them all. */
inline Floats quotient(float a, Floats b, Floats inverse) {
#if ECELLM_LANES == 16 && defined(__AVX512F__)
    const __m512 numerator = _mm512_set1_ps(a), product = _mm512_mul_ps(numerator, (__m512)inverse);
    return (Floats)_mm512_fmadd_ps(_mm512_fnmadd_ps(product, (__m512)b, numerator), (__m512)inverse, product);
#else
    (void)inverse;
    return a / b;
#endif
}

/* Whether a comparison holds in any lane. */
inline bool any(Ints mask) {
#if ECELLM_LANES == 16 && defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif ECELLM_LANES == 8 && defined(__AVX__)
    return _mm256_movemask_ps((__m256)mask) != 0;
#elif ECELLM_LANES == 4 && defined(__SSE__)
    return _mm_movemask_ps((__m128)mask) != 0;
#elif ECELLM_LANES == 4 && defined(__aarch64__)
    return vmaxvq_u32((uint32x4_t)mask) != 0;
#else
    int32_t bits = 0;
    for (int lane = 0; lane < lanes; lane++) {
        bits |= mask[lane];
    }
    return bits != 0;
#endif
}

/* Whether no lane of any vector holds an infinity or NaN (their exponent bits are all ones). */
inline bool are_finite(const Floats *x, int count) {
    Ints least = every_int(0x7f800000);
    for (int i = 0; i < count; i++) {
        const Ints zeros = ~(Ints)x[i] & 0x7f800000;
        least = zeros < least ? zeros : least;
    }
    return !any(least == 0);
}

/* 1.5 * 2^23. Adding it leaves no bits for a fraction, so the addition rounds to the nearest integer. */
constexpr float rounder = 12582912.0f;

/* Up to this value nearest_int gives the nearest integer; beyond it, its bits wrap around. */
constexpr float largest_int = 4194303.0f;

/* The nearest integer of floats within largest_int, as a float; halves round to even. */
inline Floats nearest(Floats x) {
#if ECELLM_LANES == 16 && defined(__AVX512F__)
    return (Floats)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif ECELLM_LANES == 8 && defined(__AVX__)
    return (Floats)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif ECELLM_LANES == 4 && defined(__aarch64__)
    return (Floats)vrndnq_f32((float32x4_t)x);
#else
    return (x + rounder) - rounder;
#endif
}

/* ggml's nearest_int, including its results for values that are too large, infinite or NaN. */
inline Ints nearest_int(Floats x) {
    return ((Ints)(x + rounder) & 0x007fffff) - 0x00400000;
}

/* Transpose each 4 x 4 square of four vectors. */
inline void turn_fours(Floats *v) {
    const Floats low = ECELLM_SHUFFLE(v[0], v[1], 0, 4, 1, 5), high = ECELLM_SHUFFLE(v[0], v[1], 2, 6, 3, 7);
    const Floats next_low = ECELLM_SHUFFLE(v[2], v[3], 0, 4, 1, 5), next_high = ECELLM_SHUFFLE(v[2], v[3], 2, 6, 3, 7);
    v[0] = ECELLM_SHUFFLE(low, next_low, 0, 1, 4, 5);
    v[1] = ECELLM_SHUFFLE(low, next_low, 2, 3, 6, 7);
    v[2] = ECELLM_SHUFFLE(high, next_high, 0, 1, 4, 5);
    v[3] = ECELLM_SHUFFLE(high, next_high, 2, 3, 6, 7);
}

/* Load four floats at `column` from every fourth row. */
inline Floats load_fours(const float *const *rows, int column) {
#if ECELLM_LANES == 16 && defined(__AVX512F__)
    __m512 all = _mm512_castps128_ps512(_mm_loadu_ps(rows[0] + column));
    all = _mm512_insertf32x4(all, _mm_loadu_ps(rows[4] + column), 1);
    all = _mm512_insertf32x4(all, _mm_loadu_ps(rows[8] + column), 2);
    return (Floats)_mm512_insertf32x4(all, _mm_loadu_ps(rows[12] + column), 3);
#elif ECELLM_LANES == 8 && defined(__AVX__)
    const __m256 first = _mm256_castps128_ps256(_mm_loadu_ps(rows[0] + column));
    return (Floats)_mm256_insertf128_ps(first, _mm_loadu_ps(rows[4] + column), 1);
#else
    Floats all;
    for (int lane = 0; lane < lanes; lane += 4) {
        memcpy((float *)&all + lane, rows[lane] + column, 4 * sizeof(float));
    }
    return all;
#endif
}

/* Transpose `lanes` rows of `columns` floats, a multiple of 4: target[i] holds float i of each row. */
inline void transpose(const float *const *rows, int columns, Floats *target) {
    for (int column = 0; column < columns; column += 4) {
        for (int i = 0; i < 4; i++) {
            target[column + i] = load_fours(rows + i, column);
        }
        turn_fours(target + column);
    }
}

} // namespace
