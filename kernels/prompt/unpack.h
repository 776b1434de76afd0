/* Unpacks a type's blocks into panels. */
#pragma once

#include "panel.h"
#include "weights.h"

namespace {

/* The differences between the types with 32 weights per block: quants as signed bytes, scale, and minimum. */
inline Ints quants(const Q4_0 &x) {
    return subtract_bytes(nibbles(x.low), every_byte(8));
}
inline Ints quants(const Q4_1 &x) {
    return nibbles(x.low);
}
/* Five bits minus 16: the low four bits if the high bit is set, otherwise 16 less. */
inline Ints quants(const Q5_0 &x) {
    return or_bits(nibbles(x.low), clear_bits(x.high));
}
inline Ints quants(const Q5_1 &x) {
    return or_bits(nibbles(x.low), clear_bits(x.high));
}
inline Ints quants(const Q8_0 &x) {
    return load_ints(x.quants);
}

/* A half-precision field of eight rows' blocks as floats. */
template <class Weights>
inline Floats halves(const Weights *const x[8], uint16_t Weights::*field) {
    alignas(16) uint16_t eight[8];
    for (int j = 0; j < 8; j++) {
        eight[j] = x[j]->*field;
    }
    return from_halves(eight);
}

/* Store eight rows' scales, and minima if the type has them; a quant of five bits is stored minus 16. */
template <class Weights, class Block>
inline void store_scales(const Weights *const x[8], int row, Block &block) {
    store_floats(block.scale + row, halves(x, &Weights::scale));
}
inline void store_scales(const Q4_1 *const x[8], int row, BytePanelBlock &block) {
    store_floats(block.scale + row, halves(x, &Q4_1::scale));
    store_floats(block.minimum + row, halves(x, &Q4_1::minimum));
}
inline void store_scales(const Q5_1 *const x[8], int row, BytePanelBlock &block) {
    const Floats scale = halves(x, &Q5_1::scale);
    store_floats(block.scale + row, scale);
    store_floats(block.minimum + row, multiply_add(scale, every(16), halves(x, &Q5_1::minimum)));
}

/* Eight weights as floats. */
inline Floats floats(const F16 &x, size_t first) {
    return from_halves(x.values + first);
}
inline Floats floats(const BF16 &x, size_t first) {
    return from_bf16(x.values + first);
}

template <class Weights>
void unpack_blocks(const PanelRows &rows, size_t first, size_t count, FloatPanelBlock *blocks) {
    for (size_t i = 0; i < count; i++) {
        for (int row = 0; row < panel_rows; row += 8) {
            for (size_t d = 0; d < block_depth; d += 8) {
                Ints eight[8];
                for (int j = 0; j < 8; j++) {
                    eight[j] = bits_of(floats(((const Weights *)rows.row[row + j])[first + i], d));
                }
                transpose(eight);
                for (int j = 0; j < 8; j++) {
                    store_ints(blocks[i].weights[d + j] + row, eight[j]);
                }
            }
        }
    }
}

template <class Weights, class Block>
void unpack_blocks(const PanelRows &rows, size_t first, size_t count, Block *blocks) {
    for (size_t i = 0; i < count; i++) {
        for (int row = 0; row < panel_rows; row += 8) {
            const Weights *x[8];
            Ints eight[8];
            for (int j = 0; j < 8; j++) {
                x[j] = (const Weights *)rows.row[row + j] + first + i;
                eight[j] = quants(*x[j]);
            }
            store_scales(x, row, blocks[i]);
            store_quants(blocks[i], row, eight);
        }
    }
}

/* The eight scales and eight minima of six bits each of a super-block of Q4_K or Q5_K. */
inline void six_bits(const uint8_t *scales, uint8_t both[16]) {
    uint32_t u[4];
    memcpy(u, scales, 12);
    u[3] = (u[2] >> 4 & 0x0f0f0f0f) | (u[1] >> 6 & 0x03030303) << 4;
    const uint32_t low_minima = u[1] & 0x3f3f3f3f;
    u[1] = (u[2] & 0x0f0f0f0f) | (u[0] >> 6 & 0x03030303) << 4;
    u[2] = low_minima;
    u[0] &= 0x3f3f3f3f;
    memcpy(both, u, 16);
}

/* Scales and minima of eight rows' super-blocks; a quant is stored minus `zero`. */
template <class Weights>
inline void unpack_scales(const Weights *const x[8], float zero, int row, BytePanelBlock *blocks) {
    Ints scales[8], minima[8];
    for (int j = 0; j < 8; j++) {
        uint8_t both[16];
        six_bits(x[j]->scales, both);
        const Floats scale = multiply(to_floats(from_bytes(both)), every(from_half(x[j]->scale)));
        const Floats minimum = multiply(to_floats(from_bytes(both + 8)), every(-from_half(x[j]->minimum)));
        scales[j] = bits_of(scale);
        minima[j] = bits_of(multiply_add(scale, every(zero), minimum));
    }
    transpose(scales);
    transpose(minima);
    for (int i = 0; i < 8; i++) {
        store_ints(blocks[i].scale + row, scales[i]);
        store_ints(blocks[i].minimum + row, minima[i]);
    }
}

inline void unpack_super_block(const Q4_K *const x[8], int row, BytePanelBlock *blocks) {
    unpack_scales(x, 0, row, blocks);
    const Ints low = every_byte(15);
    for (int pair = 0; pair < 4; pair++) {
        Ints first[8], second[8];
        for (int j = 0; j < 8; j++) {
            const Ints both = load_ints(x[j]->low + 32 * pair);
            first[j] = and_bits(both, low);
            second[j] = and_bits(shift_words_right(both, 4), low);
        }
        store_quants(blocks[2 * pair], row, first);
        store_quants(blocks[2 * pair + 1], row, second);
    }
}

inline void unpack_super_block(const Q5_K *const x[8], int row, BytePanelBlock *blocks) {
    unpack_scales(x, 16, row, blocks);
    const Ints low = every_byte(15), sixteen = every_byte(16);
    for (int pair = 0; pair < 4; pair++) {
        Ints first[8], second[8];
        for (int j = 0; j < 8; j++) {
            const Ints both = load_ints(x[j]->low + 32 * pair), high = load_ints(x[j]->high);
            /* The high bits of this pair's two blocks, shifted to the value 16. */
            const Ints high0 = pair < 2 ? shift_words_left(high, 4 - 2 * pair) : shift_words_right(high, 2 * pair - 4);
            const Ints high1 = pair < 2 ? shift_words_left(high, 3 - 2 * pair) : shift_words_right(high, 2 * pair - 3);
            const Ints quants0 = or_bits(and_bits(both, low), and_bits(high0, sixteen));
            const Ints quants1 = or_bits(and_bits(shift_words_right(both, 4), low), and_bits(high1, sixteen));
            first[j] = subtract_bytes(quants0, sixteen);
            second[j] = subtract_bytes(quants1, sixteen);
        }
        store_quants(blocks[2 * pair], row, first);
        store_quants(blocks[2 * pair + 1], row, second);
    }
}

/* Store the scales of eight rows' super-blocks: 16 factors each, and one scale for all of them. */
template <class Weights, class Block>
inline void store_factors(const Weights *const x[8], const int8_t (*factors)[16], int row, Block *blocks) {
    const Floats scale = halves(x, &Weights::scale);
    Ints all[2][8];
    for (int j = 0; j < 8; j++) {
        for (int part = 0; part < 2; part++) {
            all[part][j] = factors_of(from_bytes(factors[j] + 8 * part));
        }
    }
    transpose(all[0]);
    transpose(all[1]);
    for (int i = 0; i < 8; i++) {
        store_floats(blocks[i].scale + row, scale);
        for (int part = 0; part < 2; part++) {
            const int place = 2 * i + part;
            store_ints(blocks[i].factor[part] + row, all[place / 8][place % 8]);
        }
    }
}

inline void unpack_super_block(const Q6_K *const x[8], int row, HalfPanelBlock *blocks) {
    const Ints low = every_byte(15), high = every_byte(48), zero = every_byte(32);
    int8_t factors[8][16];
    for (int j = 0; j < 8; j++) {
        memcpy(factors[j], x[j]->scales, 16);
    }
    store_factors(x, factors, row, blocks);
    for (int i = 0; i < 8; i++) {
        /* 128 weights share 64 bytes of low bits and 32 bytes of high bits. They are four blocks, each of which has two
         * bits of every byte of high bits. */
        const int part = i / 4, place = i % 4;
        Ints rows[8];
        for (int j = 0; j < 8; j++) {
            Ints four = load_ints(x[j]->low + 64 * part + 32 * (place % 2));
            four = and_bits(place < 2 ? four : shift_words_right(four, 4), low);
            const Ints bits = load_ints(x[j]->high + 32 * part);
            const Ints two = place == 0   ? shift_words_left(bits, 4)
                                : place == 1 ? shift_words_left(bits, 2)
                                : place == 2 ? bits
                                             : shift_words_right(bits, 2);
            rows[j] = subtract_bytes(or_bits(four, and_bits(two, high)), zero);
        }
        store_quants(blocks[i], row, rows);
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

inline void unpack_super_block(const Q3_K *const x[8], int row, HalfPanelBlock *blocks) {
    const Ints low = every_byte(3), four = every_byte(4);
    int8_t factors[8][16];
    for (int j = 0; j < 8; j++) {
        three_bit_scales(x[j]->scales, factors[j]);
    }
    store_factors(x, factors, row, blocks);
    for (int i = 0; i < 8; i++) {
        const int shift = 2 * (i % 4);
        Ints rows[8];
        for (int j = 0; j < 8; j++) {
            const Ints two = and_bits(shift_words_right(load_ints(x[j]->low + 32 * (i / 4)), shift), low);
            const Ints high = shift_words_right(load_ints(x[j]->high), i);
            /* The high bit is worth 4, and 4 is subtracted. */
            const Ints one = shift_words_left(and_bits(high, every_byte(1)), 2);
            rows[j] = subtract_bytes(add_bytes(two, one), four);
        }
        store_quants(blocks[i], row, rows);
    }
}

inline void unpack_super_block(const Q2_K *const x[8], int row, HalfMinimumPanelBlock *blocks) {
    const Ints three = every_byte(3);
    int8_t factors[8][16];
    Ints minima[2][8]; /* of the first and of the last eight half blocks */
    for (int j = 0; j < 8; j++) {
        uint8_t offsets[16];
        for (int i = 0; i < 16; i++) {
            factors[j][i] = (int8_t)(x[j]->scales[i] & 15);
            offsets[i] = x[j]->scales[i] >> 4;
        }
        const Floats minimum = every(-from_half(x[j]->minimum));
        for (int part = 0; part < 2; part++) {
            minima[part][j] = bits_of(multiply(to_floats(from_bytes(offsets + 8 * part)), minimum));
        }
    }
    store_factors(x, factors, row, blocks);
    transpose(minima[0]);
    transpose(minima[1]);
    for (int i = 0; i < 16; i++) {
        store_ints(blocks[i / 2].minimum[i % 2] + row, minima[i / 8][i % 8]);
    }
    for (int i = 0; i < 8; i++) {
        const int shift = 2 * (i % 4);
        Ints rows[8];
        for (int j = 0; j < 8; j++) {
            rows[j] = and_bits(shift_words_right(load_ints(x[j]->low + 32 * (i / 4)), shift), three);
        }
        store_quants(blocks[i], row, rows);
    }
}

template <class Weights, class Block>
void unpack_super_blocks(const PanelRows &rows, size_t first, size_t count, Block *blocks) {
    for (size_t i = 0; i < count; i += 8) {
        for (int row = 0; row < panel_rows; row += 8) {
            const Weights *x[8];
            for (int j = 0; j < 8; j++) {
                x[j] = (const Weights *)rows.row[row + j] + (first + i) / 8;
            }
            unpack_super_block(x, row, blocks + i);
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
