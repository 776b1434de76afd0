/* How weights and activations are stored for the instructions of x86: one of their factors is unsigned. */
#pragma once

#include "wide.h"

namespace {

constexpr int panel_rows = 2 * wide_lanes;
constexpr int columns_in_group = 6;

/* Blocks of 32 weights in a panel: it and a group of activations fit into 32 KiB of first-level cache. */
constexpr size_t byte_blocks = panel_rows == 16 ? 24 : 16, word_blocks = panel_rows == 16 ? 16 : 8;
constexpr size_t minimum_blocks = word_blocks, float_blocks = 8;

/* Up to so many columns, the products of few.h are faster than tiles. */
#if defined(ECELLM_VNNI) || defined(ECELLM_AVX512)
constexpr size_t few_columns = 4;
#else
constexpr size_t few_columns = 16;
#endif

/* Activations in bytes are stored with this added. */
constexpr uint8_t activation_zero = 128;

/* What sums of products start with, because 128 is added to activations: -128 times the weights' sum. Without VNNI, the
 * first two weights of each quad, and the last two, have sums of their own, in words that may wrap around. */
struct Start {
#if defined(ECELLM_VNNI)
    int32_t sums[panel_rows];
#else
    int16_t sums[panel_rows][2];
#endif

    /* Set eight rows' sums over the quads [first, last). */
    void set(const Ints *quads, int first, int last, int row) {
        const __m256i ones = _mm256_set1_epi8(1);
        __m256i sum = _mm256_setzero_si256();
        for (int i = first; i < last; i++) {
            sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(ones, quads[i]));
        }
#if defined(ECELLM_VNNI)
        sum = _mm256_slli_epi32(multiply_words(sum, _mm256_set1_epi16(1)), 7);
        sum = _mm256_sub_epi32(_mm256_setzero_si256(), sum);
#else
        sum = _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_slli_epi16(sum, 7));
#endif
        store_ints(&sums[row], sum);
    }
};

/* Eight factors of 16 weights, as sums of products are multiplied by them: without VNNI twice, as words. */
inline Ints factors_of(Ints factors) {
#if defined(ECELLM_VNNI)
    return factors;
#else
    return _mm256_blend_epi16(factors, _mm256_slli_epi32(factors, 16), 0xaa);
#endif
}

/* Four neighbours along the depth are stored together, in the order 0, 2, 1, 3. */
template <int columns>
struct WordColumns {
    int16_t quads[8][columns][4];
    float scale[columns];

    void set(const Ints quants[4], int column) {
        for (int i = 0; i < 4; i++) {
            __m256i words = _mm256_packs_epi32(quants[i], quants[i]);
            words = _mm256_shufflelo_epi16(words, _MM_SHUFFLE(3, 1, 2, 0));
            _mm_storel_epi64((__m128i *)quads[2 * i][column], _mm256_castsi256_si128(words));
            _mm_storel_epi64((__m128i *)quads[2 * i + 1][column], _mm256_extracti128_si256(words, 1));
        }
    }
};

typedef WordColumns<columns_in_group> WordActivations;

/* w = scale * quant; the quads' weights 0 and 2, then 1 and 3. */
struct WordPanelBlock {
    alignas(64) int16_t quads[8][2][panel_rows][2];
    float scale[panel_rows];

    /* Store eight rows' quads of signed bytes. */
    void set(const Ints bytes[8], int row) {
        for (int i = 0; i < 8; i++) {
            store_ints(quads[i][0][row], _mm256_srai_epi16(_mm256_slli_epi16(bytes[i], 8), 8));
            store_ints(quads[i][1][row], _mm256_srai_epi16(bytes[i], 8));
        }
    }
};

} // namespace
