/* Vectors of eight lanes, in AVX2. Unpacking weights, quantizing activations and attention are written once, with the
 * functions of this file; ../neon/lanes.h has the same names. */
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <immintrin.h>

namespace {

typedef __m256 Floats; /* 8 floats */
typedef __m256i Ints;  /* 8 int32, or 16 words, or 32 bytes */
typedef __m128i Words; /* 8 words */

inline Floats load_floats(const float *eight) {
    return _mm256_loadu_ps(eight);
}
inline void store_floats(float *eight, Floats x) {
    _mm256_storeu_ps(eight, x);
}
inline Ints load_ints(const void *bytes) {
    return _mm256_loadu_si256((const __m256i *)bytes);
}
inline void store_ints(void *bytes, Ints x) {
    _mm256_storeu_si256((__m256i *)bytes, x);
}

inline Floats every(float value) {
    return _mm256_set1_ps(value);
}
inline Ints every_int(int32_t value) {
    return _mm256_set1_epi32(value);
}
inline Ints every_byte(int value) {
    return _mm256_set1_epi8((char)value);
}

/* The same 256 bits as another type. */
inline Ints bits_of(Floats x) {
    return _mm256_castps_si256(x);
}
inline Floats floats_of(Ints bits) {
    return _mm256_castsi256_ps(bits);
}

inline Floats add(Floats a, Floats b) {
    return _mm256_add_ps(a, b);
}
inline Floats subtract(Floats a, Floats b) {
    return _mm256_sub_ps(a, b);
}
inline Floats multiply(Floats a, Floats b) {
    return _mm256_mul_ps(a, b);
}
/* a * b + c, rounded once. */
inline Floats multiply_add(Floats a, Floats b, Floats c) {
    return _mm256_fmadd_ps(a, b, c);
}

inline Floats divide(Floats a, Floats b) {
    return _mm256_div_ps(a, b);
}
/* The larger one; b if either is NaN. */
inline Floats larger(Floats a, Floats b) {
    return _mm256_max_ps(a, b);
}

/* x, but 0 where `a` equals the value. */
inline Floats zero_where_equal(Floats x, Floats a, float value) {
    return _mm256_andnot_ps(_mm256_cmp_ps(a, every(value), _CMP_EQ_OQ), x);
}
/* x, but 0 where `a` is below the value or NaN. */
inline Floats zero_below(Floats x, Floats a, float value) {
    return _mm256_and_ps(x, _mm256_cmp_ps(a, every(value), _CMP_GE_OQ));
}
/* x, but NaN where `a` is NaN. */
inline Floats keep_nan(Floats a, Floats x) {
    return _mm256_or_ps(x, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
inline bool any_differ(Floats a, Floats b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ)) != 0;
}

inline Ints and_bits(Ints a, Ints b) {
    return _mm256_and_si256(a, b);
}
inline Ints or_bits(Ints a, Ints b) {
    return _mm256_or_si256(a, b);
}
inline Ints flip_bits(Ints a, Ints b) {
    return _mm256_xor_si256(a, b);
}
inline Ints add_ints(Ints a, Ints b) {
    return _mm256_add_epi32(a, b);
}
inline Ints larger_ints(Ints a, Ints b) {
    return _mm256_max_epi32(a, b);
}
inline Ints add_bytes(Ints a, Ints b) {
    return _mm256_add_epi8(a, b);
}
inline Ints subtract_bytes(Ints a, Ints b) {
    return _mm256_sub_epi8(a, b);
}
inline Ints shift_ints_left(Ints x, int count) {
    return _mm256_slli_epi32(x, count);
}
inline Ints shift_ints_right(Ints x, int count) {
    return _mm256_srli_epi32(x, count);
}
/* Shift each of 16 words; zeros come in. */
inline Ints shift_words_left(Ints x, int count) {
    return _mm256_slli_epi16(x, count);
}
inline Ints shift_words_right(Ints x, int count) {
    return _mm256_srli_epi16(x, count);
}

/* The largest, or the sum, of eight int32. */
inline int32_t largest_of(Ints x) {
    __m128i half = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xb1));
    return _mm_cvtsi128_si32(half);
}
inline int32_t sum_of(Ints x) {
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
    return _mm_cvtsi128_si32(half);
}

/* Round up, or to the nearest whole number with ties to even. */
inline Floats round_up(Floats x) {
    return _mm256_ceil_ps(x);
}
inline Floats nearest(Floats x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* Round to the nearest int32, ties to even. */
inline Ints nearest_ints(Floats x) {
    return _mm256_cvtps_epi32(x);
}
inline Floats to_floats(Ints x) {
    return _mm256_cvtepi32_ps(x);
}

/* One of the four bytes of each int32. */
inline Ints byte_of(Ints x, int place) {
    return _mm256_and_si256(_mm256_srli_epi32(x, 8 * place), _mm256_set1_epi32(255));
}
inline Ints signed_byte_of(Ints x, int place) {
    return _mm256_srai_epi32(_mm256_slli_epi32(x, 24 - 8 * place), 24);
}

/* Eight halves or bfloat16 in memory as floats. */
inline Floats from_halves(const uint16_t *eight) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)eight));
}
/* The halves in the low bits of eight int32 as floats. */
inline Floats from_halves(Ints x) {
    const __m256i words = _mm256_packus_epi32(_mm256_and_si256(x, _mm256_set1_epi32(0xffff)), _mm256_setzero_si256());
    return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0))));
}
inline Floats from_bf16(const uint16_t *eight) {
    return floats_of(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)eight)), 16));
}
/* 32 int32 between -128 and 127 as bytes, in their order. */
inline Ints to_bytes(const Ints x[4]) {
    const __m256i words01 = _mm256_packs_epi32(x[0], x[1]), words23 = _mm256_packs_epi32(x[2], x[3]);
    const __m256i quads = _mm256_packs_epi16(words01, words23); /* 0 2 4 6 1 3 5 7 */
    return _mm256_permutevar8x32_epi32(quads, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* Sixteen bytes of each of eight rows, in quads of neighbours. */
inline void load_quads(const uint8_t *const rows[8], size_t place, Ints quads[4]) {
    __m256i r[4];
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_loadu2_m128i((const __m128i *)(rows[i + 4] + place), (const __m128i *)(rows[i] + place));
    }
    const __m256i low01 = _mm256_unpacklo_epi32(r[0], r[1]), high01 = _mm256_unpackhi_epi32(r[0], r[1]);
    const __m256i low23 = _mm256_unpacklo_epi32(r[2], r[3]), high23 = _mm256_unpackhi_epi32(r[2], r[3]);
    quads[0] = _mm256_unpacklo_epi64(low01, low23);
    quads[1] = _mm256_unpackhi_epi64(low01, low23);
    quads[2] = _mm256_unpacklo_epi64(high01, high23);
    quads[3] = _mm256_unpackhi_epi64(high01, high23);
}

template <class Value>
inline Value load_value(const void *bytes) {
    Value value;
    memcpy(&value, bytes, sizeof value);
    return value;
}
/* Four bytes of each of eight rows. */
inline Ints load_quad(const uint8_t *const rows[8], size_t place) {
    int32_t x[8];
    for (int i = 0; i < 8; i++) {
        x[i] = load_value<int32_t>(rows[i] + place);
    }
    return _mm256_setr_epi32(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]);
}
/* A half of each of eight rows as floats. */
inline Floats load_halves(const uint8_t *const rows[8], size_t place) {
    short x[8];
    for (int i = 0; i < 8; i++) {
        x[i] = load_value<short>(rows[i] + place);
    }
    return _mm256_cvtph_ps(_mm_setr_epi16(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]));
}

/* 32 bits of each of eight rows as bytes, in quads of neighbours: 16 where the bit is 1, else 0. */
inline void bits_as_sixteen(Ints bits, Ints quads[8]) {
    const __m256i zeros = _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0, 0x04040404, 0x08080808, 0x0c0c0c0c);
    for (int i = 0; i < 4; i++) {
        const __m256i spread = _mm256_shuffle_epi8(bits, _mm256_or_si256(zeros, _mm256_set1_epi8((char)i)));
        const __m256i low = _mm256_set1_epi32(0x08040201), high = _mm256_set1_epi32((int)0x80402010);
        const __m256i low_set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, low), low);
        const __m256i high_set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, high), high);
        quads[2 * i] = _mm256_and_si256(low_set, _mm256_set1_epi8(16));
        quads[2 * i + 1] = _mm256_and_si256(high_set, _mm256_set1_epi8(16));
    }
}

/* Transpose eight rows of eight int32. */
inline void transpose(Ints r[8]) {
    __m256i pairs[8], fours[8];
    for (int i = 0; i < 4; i++) {
        pairs[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        fours[4 * i] = _mm256_unpacklo_epi64(pairs[4 * i], pairs[4 * i + 2]);
        fours[4 * i + 1] = _mm256_unpackhi_epi64(pairs[4 * i], pairs[4 * i + 2]);
        fours[4 * i + 2] = _mm256_unpacklo_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
        fours[4 * i + 3] = _mm256_unpackhi_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
    }
}

/* Products of words, each added to its neighbour's, as int32. */
inline Ints multiply_words(Ints a, Ints b) {
    return _mm256_madd_epi16(a, b);
}

inline Words load_words(const uint16_t *eight) {
    return _mm_loadu_si128((const __m128i *)eight);
}
inline Words add_words(Words a, Words b) {
    return _mm_add_epi16(a, b);
}
/* -1 in each word that equals the value, else 0. */
inline Words equal_words(Words x, uint16_t value) {
    return _mm_cmpeq_epi16(x, _mm_set1_epi16((short)value));
}
/* How many words equal the value. */
inline int count_equal(Words x, uint16_t value) {
    return __builtin_popcount((unsigned)_mm_movemask_epi8(equal_words(x, value))) / 2;
}
/* The sum of eight int16. */
inline int sum_of_words(Words x) {
    __m128i sum = _mm_madd_epi16(x, _mm_set1_epi16(1));
    sum = _mm_hadd_epi32(sum, sum);
    return _mm_cvtsi128_si32(_mm_hadd_epi32(sum, sum));
}
inline bool all_words_equal(Ints x, uint16_t value) {
    return _mm256_movemask_epi8(_mm256_cmpeq_epi16(x, _mm256_set1_epi16((short)value))) == -1;
}

/* Transpose 16 rows of eight words. */
inline void transpose_words(const Words rows[16], Ints columns[8]) {
    __m256i r[8], pairs[8], fours[8];
    for (size_t i = 0; i < 8; i++) {
        r[i] = _mm256_set_m128i(rows[8 + i], rows[i]);
    }
    for (int i = 0; i < 4; i++) {
        pairs[2 * i] = _mm256_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        fours[4 * i] = _mm256_unpacklo_epi32(pairs[4 * i], pairs[4 * i + 2]);
        fours[4 * i + 1] = _mm256_unpackhi_epi32(pairs[4 * i], pairs[4 * i + 2]);
        fours[4 * i + 2] = _mm256_unpacklo_epi32(pairs[4 * i + 1], pairs[4 * i + 3]);
        fours[4 * i + 3] = _mm256_unpackhi_epi32(pairs[4 * i + 1], pairs[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        columns[2 * i] = _mm256_unpacklo_epi64(fours[i], fours[i + 4]);
        columns[2 * i + 1] = _mm256_unpackhi_epi64(fours[i], fours[i + 4]);
    }
}

} // namespace
