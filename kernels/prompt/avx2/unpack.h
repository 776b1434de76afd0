/* Unpacks a type's blocks into panels. */
#pragma once

#include "panel.h"
#include "weights.h"

namespace {

inline __m256i load(const void *bytes) {
    return _mm256_loadu_si256((const __m256i *)bytes);
}

/* 16 bytes as 32 quants of four bits: first the low halves, then the high ones. */
inline __m256i nibbles(const uint8_t *bytes) {
    const __m128i both = _mm_loadu_si128((const __m128i *)bytes);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), _mm256_set1_epi8(15));
}

/* 32 bits as bytes: 0xf0 where the bit is 0, else 0. */
inline __m256i clear_bits(const uint8_t *bytes) {
    int32_t bits;
    memcpy(&bits, bytes, sizeof bits);
    const __m256i places = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), places);
    const __m256i bit = _mm256_or_si256(spread, _mm256_set1_epi64x(0x7fbfdfeff7fbfdfe));
    const __m256i set = _mm256_cmpeq_epi8(bit, _mm256_set1_epi8(-1));
    return _mm256_andnot_si256(set, _mm256_set1_epi8(-16));
}

/* The differences between the types with 32 weights per block: quants as signed bytes, scale, and minimum. */
inline __m256i quants(const Q4_0 &x) {
    return _mm256_sub_epi8(nibbles(x.low), _mm256_set1_epi8(8));
}
inline __m256i quants(const Q4_1 &x) {
    return nibbles(x.low);
}
/* Five bits minus 16: the low four bits if the high bit is set, otherwise 16 less. */
inline __m256i quants(const Q5_0 &x) {
    return _mm256_or_si256(nibbles(x.low), clear_bits(x.high));
}
inline __m256i quants(const Q5_1 &x) {
    return _mm256_or_si256(nibbles(x.low), clear_bits(x.high));
}
inline __m256i quants(const Q8_0 &x) {
    return load(x.quants);
}

/* A half-precision field of eight rows' blocks as floats. */
template <class Weights>
inline __m256 halves(const Weights *const x[8], uint16_t Weights::*field) {
    alignas(16) uint16_t eight[8];
    for (int j = 0; j < 8; j++) {
        eight[j] = x[j]->*field;
    }
    return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)eight));
}

/* Store eight rows' scales, and minima if the type has them; a quant of five bits is stored minus 16. */
template <class Weights, class Block>
inline void store_scales(const Weights *const x[8], int half, Block &block) {
    _mm256_store_ps(block.scale + 8 * half, halves(x, &Weights::scale));
}
inline void store_scales(const Q4_1 *const x[8], int half, BytePanelBlock &block) {
    _mm256_store_ps(block.scale + 8 * half, halves(x, &Q4_1::scale));
    _mm256_store_ps(block.minimum + 8 * half, halves(x, &Q4_1::minimum));
}
inline void store_scales(const Q5_1 *const x[8], int half, BytePanelBlock &block) {
    const __m256 scale = halves(x, &Q5_1::scale);
    _mm256_store_ps(block.scale + 8 * half, scale);
    _mm256_store_ps(block.minimum + 8 * half, _mm256_fmadd_ps(scale, _mm256_set1_ps(16), halves(x, &Q5_1::minimum)));
}

/* Eight weights as floats. */
inline __m256 floats(const F16 &x, size_t first) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x.values + first)));
}
inline __m256 floats(const BF16 &x, size_t first) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(x.values + first)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

template <class Weights>
void unpack_blocks(const PanelRows &rows, size_t first, size_t count, FloatPanelBlock *blocks) {
    for (size_t i = 0; i < count; i++) {
        for (int half = 0; half < 2; half++) {
            for (size_t d = 0; d < block_depth; d += 8) {
                __m256i eight[8];
                for (int j = 0; j < 8; j++) {
                    eight[j] = _mm256_castps_si256(floats(((const Weights *)rows.row[8 * half + j])[first + i], d));
                }
                transpose(eight);
                for (int j = 0; j < 8; j++) {
                    _mm256_store_si256((__m256i *)(blocks[i].weights[d + j] + 8 * half), eight[j]);
                }
            }
        }
    }
}

template <class Weights, class Block>
void unpack_blocks(const PanelRows &rows, size_t first, size_t count, Block *blocks) {
    for (size_t i = 0; i < count; i++) {
        for (int half = 0; half < 2; half++) {
            const Weights *x[8];
            __m256i eight[8];
            for (int j = 0; j < 8; j++) {
                x[j] = (const Weights *)rows.row[8 * half + j] + first + i;
                eight[j] = quants(*x[j]);
            }
            store_scales(x, half, blocks[i]);
            store_quants(blocks[i], half, eight);
        }
    }
}

/* The eight scales and eight minima of six bits each of a super-block of Q4_K or Q5_K, as 16 bytes. */
inline __m128i six_bits(const uint8_t *scales) {
    uint32_t u[4];
    memcpy(u, scales, 12);
    u[3] = (u[2] >> 4 & 0x0f0f0f0f) | (u[1] >> 6 & 0x03030303) << 4;
    const uint32_t low_minima = u[1] & 0x3f3f3f3f;
    u[1] = (u[2] & 0x0f0f0f0f) | (u[0] >> 6 & 0x03030303) << 4;
    u[2] = low_minima;
    u[0] &= 0x3f3f3f3f;
    return _mm_loadu_si128((const __m128i *)u);
}

/* Scales and minima of eight rows' super-blocks; a quant is stored minus `zero`. */
template <class Weights>
inline void unpack_scales(const Weights *const x[8], float zero, int half, BytePanelBlock *blocks) {
    __m256i scales[8], minima[8];
    for (int j = 0; j < 8; j++) {
        const __m128i both = six_bits(x[j]->scales);
        const __m256 factors = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(both));
        const __m256 offsets = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(both, 8)));
        const __m256 scale = _mm256_mul_ps(factors, _mm256_set1_ps(from_half(x[j]->scale)));
        const __m256 minimum = _mm256_mul_ps(offsets, _mm256_set1_ps(-from_half(x[j]->minimum)));
        scales[j] = _mm256_castps_si256(scale);
        minima[j] = _mm256_castps_si256(_mm256_fmadd_ps(scale, _mm256_set1_ps(zero), minimum));
    }
    transpose(scales);
    transpose(minima);
    for (int i = 0; i < 8; i++) {
        _mm256_store_si256((__m256i *)(blocks[i].scale + 8 * half), scales[i]);
        _mm256_store_si256((__m256i *)(blocks[i].minimum + 8 * half), minima[i]);
    }
}

inline void unpack_super_block(const Q4_K *const x[8], int half, BytePanelBlock *blocks) {
    unpack_scales(x, 0, half, blocks);
    const __m256i low = _mm256_set1_epi8(15);
    for (int pair = 0; pair < 4; pair++) {
        __m256i first[8], second[8];
        for (int j = 0; j < 8; j++) {
            const __m256i both = load(x[j]->low + 32 * pair);
            first[j] = _mm256_and_si256(both, low);
            second[j] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
        }
        store_quants(blocks[2 * pair], half, first);
        store_quants(blocks[2 * pair + 1], half, second);
    }
}

inline void unpack_super_block(const Q5_K *const x[8], int half, BytePanelBlock *blocks) {
    unpack_scales(x, 16, half, blocks);
    const __m256i low = _mm256_set1_epi8(15), sixteen = _mm256_set1_epi8(16);
    for (int pair = 0; pair < 4; pair++) {
        __m256i first[8], second[8];
        for (int j = 0; j < 8; j++) {
            const __m256i both = load(x[j]->low + 32 * pair), high = load(x[j]->high);
            /* The high bits of this pair's two blocks, shifted to the value 16. */
            const __m256i high0 = pair < 2 ? _mm256_slli_epi16(high, 4 - 2 * pair) : _mm256_srli_epi16(high, 2 * pair - 4);
            const __m256i high1 = pair < 2 ? _mm256_slli_epi16(high, 3 - 2 * pair) : _mm256_srli_epi16(high, 2 * pair - 3);
            const __m256i quants0 = _mm256_or_si256(_mm256_and_si256(both, low), _mm256_and_si256(high0, sixteen));
            const __m256i quants1 = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(both, 4), low),
                                                    _mm256_and_si256(high1, sixteen));
            first[j] = _mm256_sub_epi8(quants0, sixteen);
            second[j] = _mm256_sub_epi8(quants1, sixteen);
        }
        store_quants(blocks[2 * pair], half, first);
        store_quants(blocks[2 * pair + 1], half, second);
    }
}

/* Store the scales of eight rows' super-blocks: 16 factors each, and one scale for all of them. */
template <class Weights, class Block>
inline void store_factors(const Weights *const x[8], const int8_t (*factors)[16], int half, Block *blocks) {
    const __m256 scale = halves(x, &Weights::scale);
    __m256i pairs[2][8]; /* each factor twice, as a dword */
    for (int j = 0; j < 8; j++) {
        for (int part = 0; part < 2; part++) {
            const __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(factors[j] + 8 * part)));
            pairs[part][j] = _mm256_blend_epi16(wide, _mm256_slli_epi32(wide, 16), 0xaa);
        }
    }
    transpose(pairs[0]);
    transpose(pairs[1]);
    for (int i = 0; i < 8; i++) {
        _mm256_store_ps(blocks[i].scale + 8 * half, scale);
        for (int part = 0; part < 2; part++) {
            const int place = 2 * i + part;
            _mm256_store_si256((__m256i *)blocks[i].factor[part][8 * half], pairs[place / 8][place % 8]);
        }
    }
}

inline void unpack_super_block(const Q6_K *const x[8], int half, HalfPanelBlock *blocks) {
    const __m256i low = _mm256_set1_epi8(15), high = _mm256_set1_epi8(48), zero = _mm256_set1_epi8(32);
    int8_t factors[8][16];
    for (int j = 0; j < 8; j++) {
        memcpy(factors[j], x[j]->scales, 16);
    }
    store_factors(x, factors, half, blocks);
    for (int i = 0; i < 8; i++) {
        /* 128 weights share 64 bytes of low bits and 32 bytes of high bits. They are four blocks, each of which has two
         * bits of every byte of high bits. */
        const int part = i / 4, place = i % 4;
        __m256i rows[8];
        for (int j = 0; j < 8; j++) {
            __m256i four = load(x[j]->low + 64 * part + 32 * (place % 2));
            four = _mm256_and_si256(place < 2 ? four : _mm256_srli_epi16(four, 4), low);
            const __m256i bits = load(x[j]->high + 32 * part);
            const __m256i two = place == 0   ? _mm256_slli_epi16(bits, 4)
                                : place == 1 ? _mm256_slli_epi16(bits, 2)
                                : place == 2 ? bits
                                             : _mm256_srli_epi16(bits, 2);
            rows[j] = _mm256_sub_epi8(_mm256_or_si256(four, _mm256_and_si256(two, high)), zero);
        }
        store_quants(blocks[i], half, rows);
    }
}

/* The sixteen scales of Q3_K, six bits each, minus 32. */
inline void three_bit_scales(const uint8_t *scales, int8_t factors[16]) {
    for (int i = 0; i < 16; i++) {
        const int low = i < 8 ? scales[i] & 15 : scales[i - 8] >> 4;
        const int high = scales[8 + i % 4] >> 2 * (i / 4) & 3;
        factors[i] = (int8_t)((low | high << 4) - 32);
    }
}

inline void unpack_super_block(const Q3_K *const x[8], int half, HalfPanelBlock *blocks) {
    const __m256i low = _mm256_set1_epi8(3), four = _mm256_set1_epi8(4);
    int8_t factors[8][16];
    for (int j = 0; j < 8; j++) {
        three_bit_scales(x[j]->scales, factors[j]);
    }
    store_factors(x, factors, half, blocks);
    for (int i = 0; i < 8; i++) {
        const __m128i shift = _mm_cvtsi32_si128(2 * (i % 4)), bit = _mm_cvtsi32_si128(i);
        __m256i rows[8];
        for (int j = 0; j < 8; j++) {
            const __m256i two = _mm256_and_si256(_mm256_srl_epi16(load(x[j]->low + 32 * (i / 4)), shift), low);
            const __m256i high = _mm256_srl_epi16(load(x[j]->high), bit);
            /* The high bit is worth 4, and 4 is subtracted. */
            const __m256i one = _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(1)), 2);
            rows[j] = _mm256_sub_epi8(_mm256_add_epi8(two, one), four);
        }
        store_quants(blocks[i], half, rows);
    }
}

inline void unpack_super_block(const Q2_K *const x[8], int half, HalfMinimumPanelBlock *blocks) {
    const __m256i three = _mm256_set1_epi8(3);
    int8_t factors[8][16];
    __m256i minima[2][8]; /* of the first and of the last eight half blocks */
    for (int j = 0; j < 8; j++) {
        const __m128i both = _mm_loadu_si128((const __m128i *)x[j]->scales), low = _mm_set1_epi8(15);
        _mm_storeu_si128((__m128i *)factors[j], _mm_and_si128(both, low));
        __m128i offsets = _mm_and_si128(_mm_srli_epi16(both, 4), low);
        const __m256 minimum = _mm256_set1_ps(-from_half(x[j]->minimum));
        for (int part = 0; part < 2; part++, offsets = _mm_srli_si128(offsets, 8)) {
            const __m256 eight = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(offsets));
            minima[part][j] = _mm256_castps_si256(_mm256_mul_ps(eight, minimum));
        }
    }
    store_factors(x, factors, half, blocks);
    transpose(minima[0]);
    transpose(minima[1]);
    for (int i = 0; i < 16; i++) {
        _mm256_store_si256((__m256i *)(blocks[i / 2].minimum[i % 2] + 8 * half), minima[i / 8][i % 8]);
    }
    for (int i = 0; i < 8; i++) {
        const __m128i shift = _mm_cvtsi32_si128(2 * (i % 4));
        __m256i rows[8];
        for (int j = 0; j < 8; j++) {
            rows[j] = _mm256_and_si256(_mm256_srl_epi16(load(x[j]->low + 32 * (i / 4)), shift), three);
        }
        store_quants(blocks[i], half, rows);
    }
}

template <class Weights, class Block>
void unpack_super_blocks(const PanelRows &rows, size_t first, size_t count, Block *blocks) {
    for (size_t i = 0; i < count; i += 8) {
        for (int half = 0; half < 2; half++) {
            const Weights *x[8];
            for (int j = 0; j < 8; j++) {
                x[j] = (const Weights *)rows.row[8 * half + j] + (first + i) / 8;
            }
            unpack_super_block(x, half, blocks + i);
        }
    }
}

/* Unpack the blocks [first, first + count) along the depth, 32 weights each; super-blocks need multiples of 8. */
template <class Weights, class Block>
inline void unpack(const PanelRows &rows, size_t first, size_t count, Block *blocks) {
    if constexpr (weights_in<Weights> == block_depth) {
        unpack_blocks<Weights>(rows, first, count, blocks);
    } else {
        unpack_super_blocks<Weights>(rows, first, count, blocks);
    }
}

} // namespace
