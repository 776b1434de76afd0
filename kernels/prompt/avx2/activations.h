/* Activations in blocks of 32, quantized to bytes or words, or as they are, six columns side by side.
 *
 * A quantized block's scale is its largest magnitude / 127 (bytes) or / 32767 (words), in float32; quants are rounded to nearest
 * with ties to even. A block whose largest magnitude is below 2^-100 counts as zeros. A block with an infinity or a NaN
 * gets the scale NaN, so the whole column of y becomes NaN.
 */
#pragma once

#include "product.h"

#include <cstring>
#include <immintrin.h>

namespace {

constexpr size_t block_depth = 32;
constexpr int columns_in_group = 6;

/* Four neighbours along the depth are stored together, like the weights in a panel. */
struct ByteActivations {
    uint8_t quads[8][columns_in_group][4]; /* quant + 128 */
    float scale[columns_in_group];
    float sum[columns_in_group]; /* of the block's quants, times the scale */
};
struct HalfByteActivations {
    uint8_t quads[8][columns_in_group][4];
    float scale[columns_in_group];
    float sum[2][columns_in_group]; /* of the quants of each half of the block, times the scale */
};
struct WordActivations {
    int16_t quads[8][columns_in_group][4]; /* in the order 0, 2, 1, 3 */
    float scale[columns_in_group];
};

struct FloatActivations {
    float values[block_depth][columns_in_group];
};

/* 32 activations of a column, scaled by limit / largest magnitude and rounded. */
struct Rounded {
    __m256i quants[4]; /* int32 */
    float scale;

    Rounded(const float *x, float limit) {
        const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
        __m256 values[4];
        __m256i most = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++) {
            values[i] = _mm256_loadu_ps(x + 8 * i);
            /* Read as integers, magnitudes keep their order, and NaN is the largest. */
            most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(values[i]), magnitude));
        }
        __m128i half = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
        half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
        half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xb1));
        const float largest = _mm_cvtss_f32(_mm_castsi128_ps(half));
        const bool finite = _mm_cvtsi128_si32(half) < 0x7f800000;
        const bool counts = finite && largest >= 0x1p-100f;
        scale = finite ? (counts ? largest / limit : 0) : __builtin_nanf("");
        const __m256 factor = _mm256_set1_ps(counts ? limit / largest : 0);
        for (int i = 0; i < 4; i++) {
            const __m256i rounded = _mm256_cvtps_epi32(_mm256_mul_ps(values[i], factor));
            quants[i] = counts ? rounded : _mm256_setzero_si256();
        }
    }
};

/* Quantize a block to bytes, and return the sums of eight bytes each, with 128 added to each byte. */
template <class Block>
inline __m256i quantize_bytes(const float *x, int column, Block &block) {
    const Rounded rounded(x, 127);
    const __m256i words01 = _mm256_packs_epi32(rounded.quants[0], rounded.quants[1]);
    const __m256i words23 = _mm256_packs_epi32(rounded.quants[2], rounded.quants[3]);
    const __m256i bytes = _mm256_xor_si256(_mm256_packs_epi16(words01, words23), _mm256_set1_epi8(-128));
    alignas(32) uint8_t quads[8][4]; /* 0 2 4 6 1 3 5 7 */
    _mm256_store_si256((__m256i *)quads, bytes);
    for (int i = 0; i < 4; i++) {
        memcpy(block.quads[2 * i][column], quads[i], 4);
        memcpy(block.quads[2 * i + 1][column], quads[4 + i], 4);
    }
    block.scale[column] = rounded.scale;
    return _mm256_sad_epu8(bytes, _mm256_setzero_si256());
}

inline void quantize_block(const float *x, int column, ByteActivations &block) {
    const __m256i sums = quantize_bytes(x, column, block);
    __m128i sum = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    sum = _mm_add_epi64(sum, _mm_unpackhi_epi64(sum, sum));
    block.sum[column] = block.scale[column] * (float)(_mm_cvtsi128_si32(sum) - 128 * (int)block_depth);
}

inline void quantize_block(const float *x, int column, HalfByteActivations &block) {
    const __m256i sums = quantize_bytes(x, column, block);
    const __m128i halves = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    const int added = 128 * (int)block_depth / 2;
    block.sum[0][column] = block.scale[column] * (float)(_mm_cvtsi128_si32(halves) - added);
    block.sum[1][column] = block.scale[column] * (float)(_mm_extract_epi32(halves, 2) - added);
}

inline void quantize_block(const float *x, int column, FloatActivations &block) {
    for (size_t i = 0; i < block_depth; i++) {
        block.values[i][column] = x[i];
    }
}

inline void quantize_block(const float *x, int column, WordActivations &block) {
    const Rounded rounded(x, 32767);
    for (int i = 0; i < 4; i++) {
        __m256i words = _mm256_packs_epi32(rounded.quants[i], rounded.quants[i]);
        words = _mm256_shufflelo_epi16(words, _MM_SHUFFLE(3, 1, 2, 0));
        _mm_storel_epi64((__m128i *)block.quads[2 * i][column], _mm256_castsi256_si128(words));
        _mm_storel_epi64((__m128i *)block.quads[2 * i + 1][column], _mm256_extracti128_si256(words, 1));
    }
    block.scale[column] = rounded.scale;
}

/* Where the blocks of a product are stored. The depth is cut into slices that fit into a panel. A slice has its groups
 * of columns one after the other. A group has its blocks in the order of the depth. */
template <class Block>
struct Activations {
    Block *blocks;
    size_t groups, depth, slice; /* depth and slice in blocks */

    Activations(const Product &product, const uint8_t *memory, size_t most)
        : blocks((Block *)memory), groups((product.columns + columns_in_group - 1) / columns_in_group),
          depth(product.depth / block_depth) {
        const size_t slices = (depth + most - 1) / most;
        slice = (depth + slices - 1) / slices;
        if (depth % 8 == 0) {
            slice = (slice + 7) / 8 * 8; /* whole super-blocks of weights */
        }
    }

    size_t bytes() const {
        return groups * depth * sizeof(Block);
    }

    /* The first block of the slice that begins at `start`. */
    Block *at(size_t start, size_t group) const {
        const size_t length = start + slice < depth ? slice : depth - start;
        return blocks + start * groups + group * length;
    }

    void quantize(const Product &product, size_t group) const {
        const size_t first = group * columns_in_group, left = product.columns - first;
        const int columns = left < columns_in_group ? (int)left : columns_in_group;
        for (size_t start = 0; start < depth; start += slice) {
            Block *block = at(start, group);
            for (size_t i = start; i < depth && i < start + slice; i++, block++) {
                for (int c = 0; c < columns; c++) {
                    const uint8_t *column = (const uint8_t *)product.x + (first + c) * product.x_stride;
                    quantize_block((const float *)column + i * block_depth, c, *block);
                }
            }
        }
    }
};

} // namespace
