/* Sums of products: two vectors of rows times up to six columns, in twelve registers. */
#pragma once

#include "panel.h"

namespace {

/* Add the products of a column's four bytes, or two words, with those of two vectors of rows to two sums. This is in
 * assembly, because GCC (12, -O3) first adds the products of several quads to each other. That needs twice the
 * registers, spills ten of twelve sums and halves the speed. VNNI adds by itself. */
#if !defined(ECELLM_VNNI) && !defined(ECELLM_EMULATED)
#define ECELLM_ADD_PRODUCTS(multiply, add, low_sum, high_sum, low, high, four)                                         \
    do {                                                                                                               \
        WideInts column_, product_;                                                                                    \
        asm("vpbroadcastd %[x], %[c]\n\t" multiply " %[l], %[c], %[p]\n\t" multiply " %[h], %[c], %[c]\n\t" add          \
            " %[p], %[s], %[s]\n\t" add " %[c], %[t], %[t]"                                                            \
            : [s] "+v"(low_sum), [t] "+v"(high_sum), [c] "=&v"(column_), [p] "=&v"(product_)                           \
            : [l] "v"(low), [h] "v"(high), [x] "m"(*(const char(*)[4])(four)));                                        \
    } while (0)
#endif

inline WideInts every_four(const void *bytes) {
    return every_row(load_value<int32_t>(bytes));
}

/* The products of half a block, times their factors, until the other half is added. */
typedef WideInts HalfSum;

/* Sums of products of bytes.
 *
 * With VNNI they are int32. Otherwise they are words, each over two neighbours in each of up to 8 quads. Partial sums may
 * wrap around, because 128 is added to activations; `start` compensates for that. Complete sums never wrap around: quants
 * of -16 to 15 over 32 weights, or of -32 to 31 over 16, times 127, stay below 2^15. */
template <int columns>
struct ByteSums {
    WideInts sums[columns][2];

    explicit ByteSums(const Start &start) {
        const WideInts low = load_wide(&start.sums[0]), high = load_wide(&start.sums[wide_lanes]);
#pragma GCC unroll 6
        for (int c = 0; c < columns; c++) {
            sums[c][0] = low;
            sums[c][1] = high;
        }
    }

    void add(const int8_t (*weights)[4], const uint8_t (*activations)[4]) {
        const WideInts low = load_wide(weights[0]), high = load_wide(weights[wide_lanes]);
#pragma GCC unroll 6
        for (int c = 0; c < columns; c++) {
#if defined(ECELLM_ADD_PRODUCTS)
            ECELLM_ADD_PRODUCTS("vpmaddubsw", "vpaddw", sums[c][0], sums[c][1], low, high, activations[c]);
#else
            const WideInts four = every_four(activations[c]);
            sums[c][0] = add_byte_products(sums[c][0], four, low);
            sums[c][1] = add_byte_products(sums[c][1], four, high);
#endif
        }
    }

    /* The sums of a vector of rows, as floats. */
    WideFloats total(int column, int vector) const {
#if defined(ECELLM_VNNI)
        return to_floats(sums[column][vector]);
#else
        return to_floats(multiply_words(sums[column][vector], every_word(1)));
#endif
    }

    /* The sums of half a block, times the rows' factors: exact. As floats they are, too, because two halves together
     * stay below 2^24. */
    HalfSum times(int column, int vector, const int32_t *factors) const {
#if defined(ECELLM_VNNI)
        return multiply_ints(sums[column][vector], load_wide((const void *)factors));
#else
        return multiply_words(sums[column][vector], load_wide((const void *)factors));
#endif
    }
};

inline WideFloats both_halves(HalfSum first, HalfSum second) {
    return to_floats(add_ints(first, second));
}

/* Sums of products of words, as int32: 32 products of a byte and a word. */
template <int columns>
struct WordSums {
    WideInts sums[columns][2];

    WordSums() {
        const WideInts zero = every_row((int32_t)0);
#pragma GCC unroll 6
        for (int c = 0; c < columns; c++) {
            sums[c][0] = sums[c][1] = zero;
        }
    }

    /* Add the products of two weights in each of the rows. */
    void add(const int16_t (*weights)[2], const int16_t (*activations)[4], int first) {
        const WideInts low = load_wide(weights[0]), high = load_wide(weights[wide_lanes]);
#pragma GCC unroll 6
        for (int c = 0; c < columns; c++) {
#if defined(ECELLM_ADD_PRODUCTS)
            ECELLM_ADD_PRODUCTS("vpmaddwd", "vpaddd", sums[c][0], sums[c][1], low, high, activations[c] + first);
#else
            const WideInts two = every_four(activations[c] + first);
            sums[c][0] = add_word_products(sums[c][0], two, low);
            sums[c][1] = add_word_products(sums[c][1], two, high);
#endif
        }
    }

    void add(const WordPanelBlock &panel, const WordActivations &x) {
#pragma GCC unroll 8
        for (int quad = 0; quad < 8; quad++) {
            add(panel.quads[quad][0], x.quads[quad], 0);
            add(panel.quads[quad][1], x.quads[quad], 2);
        }
    }

    WideFloats total(int column, int vector) const {
        return to_floats(sums[column][vector]);
    }
};

/* What EightSums start with: -zero times the sum of a column's quants, which has eight parts. */
inline int32_t start_of(Ints quants, int zero) {
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(quants), _mm256_extracti128_si256(quants, 1));
    const __m128i two = _mm_mullo_epi32(_mm_hadd_epi32(four, four), _mm_set1_epi32(-zero));
    return _mm_cvtsi128_si32(_mm_packs_epi32(two, two));
}

/* Sums of products of unsigned bytes, from which `zero` is to be subtracted, with a column's signed bytes, for eight rows.
 * They are words as in ByteSums. */
struct EightSums {
    Ints sums;

    explicit EightSums(int32_t start) : sums(every_int(start)) {
    }

    void add(Ints quads, const int8_t *four) {
        sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(quads, every_int(load_value<int32_t>(four))));
    }

    Ints total() const {
        return multiply_words(sums, _mm256_set1_epi16(1));
    }

    Ints times(const int32_t *factors) const {
#if defined(ECELLM_VNNI)
        return _mm256_mullo_epi32(total(), load_ints(factors));
#else
        return multiply_words(sums, load_ints(factors));
#endif
    }
};

/* A block of eight rows, as words: of each quad its weights 0 and 2, then 1 and 3. */
struct WordRows {
    Ints words[16];

    WordRows(const Ints quads[8]) {
        for (int i = 0; i < 8; i++) {
            words[2 * i] = _mm256_maddubs_epi16(_mm256_set1_epi16(1), quads[i]); /* faster than two shifts */
            words[2 * i + 1] = _mm256_srai_epi16(quads[i], 8);
        }
    }

    /* The sums of products with a column, as int32. */
    Ints total(const WordColumns<1> &x) const {
        Ints sums[2] = {every_int(0), every_int(0)};
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            sums[0] = add_ints(sums[0], multiply_words(words[2 * i], every_int(load_value<int32_t>(x.quads[i][0]))));
            sums[1] = add_ints(sums[1], multiply_words(words[2 * i + 1], every_int(load_value<int32_t>(x.quads[i][0] + 2))));
        }
        return add_ints(sums[0], sums[1]);
    }
};

/* Sums of products of floats, in the order of the depth. */
template <int columns>
struct FloatSums {
    WideFloats sums[columns][2];

    FloatSums() {
#pragma GCC unroll 6
        for (int c = 0; c < columns; c++) {
            sums[c][0] = sums[c][1] = every_row(0.0f);
        }
    }

    void add(const float *weights, const float *activations) {
        const WideFloats low = load_wide(weights), high = load_wide(weights + wide_lanes);
#pragma GCC unroll 6
        for (int c = 0; c < columns; c++) {
            const WideFloats value = every_row(activations[c]);
            sums[c][0] = multiply_add(low, value, sums[c][0]);
            sums[c][1] = multiply_add(high, value, sums[c][1]);
        }
    }
};

} // namespace
