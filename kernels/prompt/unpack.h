/* Unpacks a type's blocks, eight rows at a time. */
#pragma once

#include "panel.h"
#include "weights.h"

#include <cstddef>

namespace {

/* The same block or super-block of eight rows, `place` bytes from their starts. */
struct EightBlocks {
    const uint8_t *const *rows;
    size_t place;

    /* Sixteen or 32 bytes from `field` on, in quads of neighbours. */
    void bytes16(size_t field, Ints quads[4]) const {
        load_quads(rows, place + field, quads);
    }
    void bytes32(size_t field, Ints quads[8]) const {
        bytes16(field, quads);
        bytes16(field + 16, quads + 4);
    }
    Ints bytes4(size_t field) const {
        return load_quad(rows, place + field);
    }
    Floats halves(size_t field) const {
        return load_halves(rows, place + field);
    }

    /* 32 quants of four bits: the low halves of sixteen bytes, then the high ones. */
    void nibbles(size_t field, Ints quads[8]) const {
        Ints both[4];
        bytes16(field, both);
        for (int i = 0; i < 4; i++) {
            quads[i] = and_bits(both[i], every_byte(15));
            quads[i + 4] = and_bits(shift_words_right(both[i], 4), every_byte(15));
        }
    }
    /* The same, and a bit of each quant that is worth 16. */
    void nibbles_and_bits(size_t field, size_t bits, Ints quads[8]) const {
        Ints high[8];
        bits_as_sixteen(bytes4(bits), high);
        nibbles(field, quads);
        for (int i = 0; i < 8; i++) {
            quads[i] = or_bits(quads[i], high[i]);
        }
    }
};

/* Eight rows of a block or super-block of a type.
 *
 * `quants` gives the quants of the i-th of `blocks` blocks of 32 weights in quads of neighbours, plus `zero`, which makes
 * them unsigned (those of Q8_0 stay signed). It is called with every i in turn. `scales` stores the scales, and the minima
 * if the type has them, in panel blocks or in others with the same fields, from the row `row` on. */
template <class Weights>
struct EightRows;

template <>
struct EightRows<Q4_0> : EightBlocks {
    static constexpr int blocks = 1, zero = 8;

    void quants(int, Ints quads[8]) const {
        nibbles(offsetof(Q4_0, low), quads);
    }
    template <class Block>
    void scales(Block *block, int row) const {
        store_floats(block->scale + row, halves(offsetof(Q4_0, scale)));
    }
};

template <>
struct EightRows<Q4_1> : EightBlocks {
    static constexpr int blocks = 1, zero = 0;

    void quants(int, Ints quads[8]) const {
        nibbles(offsetof(Q4_1, low), quads);
    }
    template <class Block>
    void scales(Block *block, int row) const {
        store_floats(block->scale + row, halves(offsetof(Q4_1, scale)));
        store_floats(block->minimum + row, halves(offsetof(Q4_1, minimum)));
    }
};

template <>
struct EightRows<Q5_0> : EightBlocks {
    static constexpr int blocks = 1, zero = 16;

    void quants(int, Ints quads[8]) const {
        nibbles_and_bits(offsetof(Q5_0, low), offsetof(Q5_0, high), quads);
    }
    template <class Block>
    void scales(Block *block, int row) const {
        store_floats(block->scale + row, halves(offsetof(Q5_0, scale)));
    }
};

/* ggml's quants are 0 to 31. Here they are -16 to 15, because sums of products are words; the minimum makes up for it. */
template <>
struct EightRows<Q5_1> : EightBlocks {
    static constexpr int blocks = 1, zero = 16;

    void quants(int, Ints quads[8]) const {
        nibbles_and_bits(offsetof(Q5_1, low), offsetof(Q5_1, high), quads);
    }
    template <class Block>
    void scales(Block *block, int row) const {
        const Floats scale = halves(offsetof(Q5_1, scale));
        store_floats(block->scale + row, scale);
        store_floats(block->minimum + row, multiply_add(scale, every(zero), halves(offsetof(Q5_1, minimum))));
    }
};

template <>
struct EightRows<Q8_0> : EightBlocks {
    static constexpr int blocks = 1, zero = 0;

    void quants(int, Ints quads[8]) const {
        bytes32(offsetof(Q8_0, quants), quads);
    }
    template <class Block>
    void scales(Block *block, int row) const {
        store_floats(block->scale + row, halves(offsetof(Q8_0, scale)));
    }
};

/* Shift each of 16 words to the left, or to the right if `count` is negative. A compiler may compute both, and a count
 * above 15 is undefined for SIMDe's vectors: hence the masks. */
inline Ints shift_words(Ints x, int count) {
    return count < 0 ? shift_words_right(x, -count & 15) : shift_words_left(x, count & 15);
}

/* Store the scales and minima of Q4_K or Q5_K, which begin alike: with a scale and a minimum in half precision, then
 * twelve bytes with eight scales and eight minima of six bits. Quants are stored minus `zero`. */
template <class Block>
void six_bit_scales(const EightBlocks &x, int zero, Block *blocks, int row) {
    static_assert(offsetof(Q4_K, scale) == 0 && offsetof(Q4_K, minimum) == 2 && offsetof(Q4_K, scales) == 4, "");
    static_assert(offsetof(Q5_K, scale) == 0 && offsetof(Q5_K, minimum) == 2 && offsetof(Q5_K, scales) == 4, "");
    Ints start[4];
    x.bytes16(0, start);
    const Floats scale = from_halves(start[0]);
    const Floats minimum = multiply(from_halves(shift_ints_right(start[0], 16)), every(-1));
    const Ints six = every_byte(63), four = every_byte(15), two = every_byte(48);
    const Ints scales[2] = {and_bits(start[1], six),
                            or_bits(and_bits(start[3], four), and_bits(shift_words_right(start[1], 2), two))};
    const Ints minima[2] = {and_bits(start[2], six), or_bits(and_bits(shift_words_right(start[3], 4), four),
                                                             and_bits(shift_words_right(start[2], 2), two))};
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const Floats own = multiply(to_floats(byte_of(scales[i / 4], i % 4)), scale);
        const Floats offset = multiply(to_floats(byte_of(minima[i / 4], i % 4)), minimum);
        store_floats(blocks[i].scale + row, own);
        store_floats(blocks[i].minimum + row, zero ? multiply_add(own, every((float)zero), offset) : offset);
    }
}

template <>
struct EightRows<Q4_K> : EightBlocks {
    static constexpr int blocks = 8, zero = 0;
    Ints both[8] = {}; /* of two blocks */

    void quants(int i, Ints quads[8]) {
        if (i % 2 == 0) {
            bytes32(offsetof(Q4_K, low) + 16 * i, both);
        }
        for (int j = 0; j < 8; j++) {
            quads[j] = and_bits(i % 2 ? shift_words_right(both[j], 4) : both[j], every_byte(15));
        }
    }
    template <class Block>
    void scales(Block *block, int row) const {
        six_bit_scales(*this, zero, block, row);
    }
};

template <>
struct EightRows<Q5_K> : EightBlocks {
    static constexpr int blocks = 8, zero = 16;
    Ints both[8] = {}, high[8] = {}; /* `high` has a bit of each block in each byte */

    void quants(int i, Ints quads[8]) {
        if (i == 0) {
            bytes32(offsetof(Q5_K, high), high);
        }
        if (i % 2 == 0) {
            bytes32(offsetof(Q5_K, low) + 16 * i, both);
        }
        for (int j = 0; j < 8; j++) {
            const Ints low = and_bits(i % 2 ? shift_words_right(both[j], 4) : both[j], every_byte(15));
            quads[j] = or_bits(low, and_bits(shift_words(high[j], 4 - i), every_byte(16)));
        }
    }
    template <class Block>
    void scales(Block *block, int row) const {
        six_bit_scales(*this, zero, block, row);
    }
};

/* Store a scale of eight rows' super-blocks and their sixteen factors, a byte each. */
template <class Block>
void store_factors(Floats scale, const Ints factors[4], Block *blocks, int row) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        store_floats(blocks[i].scale + row, scale);
        for (int part = 0; part < 2; part++) {
            const Ints factor = signed_byte_of(factors[i / 2], 2 * (i % 2) + part);
            store_ints(blocks[i].factor[part] + row, factors_of(factor));
        }
    }
}

template <>
struct EightRows<Q6_K> : EightBlocks {
    static constexpr int blocks = 8, zero = 32;
    /* 128 weights share 64 bytes of low bits and 32 bytes of high bits. They are four blocks, each of which has two bits
     * of every byte of high bits. */
    Ints low[2][8] = {}, high[8] = {};

    void quants(int i, Ints quads[8]) {
        const int part = i / 4, place = i % 4;
        if (place == 0) {
            bytes32(offsetof(Q6_K, high) + 32 * part, high);
        }
        if (place < 2) {
            bytes32(offsetof(Q6_K, low) + 64 * part + 32 * place, low[place]);
        }
        for (int j = 0; j < 8; j++) {
            const Ints both = low[place % 2][j];
            const Ints four = and_bits(place < 2 ? both : shift_words_right(both, 4), every_byte(15));
            quads[j] = or_bits(four, and_bits(shift_words(high[j], 4 - 2 * place), every_byte(48)));
        }
    }
    template <class Block>
    void scales(Block *block, int row) const {
        Ints factors[4];
        bytes16(offsetof(Q6_K, scales), factors);
        store_factors(halves(offsetof(Q6_K, scale)), factors, block, row);
    }
};

template <>
struct EightRows<Q3_K> : EightBlocks {
    static constexpr int blocks = 8, zero = 4;
    Ints low[8] = {}, high[8] = {}; /* `high` has a bit of each block in each byte, `low` has two bits of each of four */

    void quants(int i, Ints quads[8]) {
        if (i == 0) {
            bytes32(offsetof(Q3_K, high), high);
        }
        if (i % 4 == 0) {
            bytes32(offsetof(Q3_K, low) + 8 * i, low);
        }
        for (int j = 0; j < 8; j++) {
            const Ints two = and_bits(shift_words_right(low[j], 2 * (i % 4)), every_byte(3));
            quads[j] = or_bits(two, and_bits(shift_words(high[j], 2 - i), every_byte(4)));
        }
    }
    /* Sixteen factors of six bits, minus 32: four bits in eight bytes, two in four more. */
    template <class Block>
    void scales(Block *block, int row) const {
        const Ints start[2] = {bytes4(offsetof(Q3_K, scales)), bytes4(offsetof(Q3_K, scales) + 4)};
        const Ints end = bytes4(offsetof(Q3_K, scales) + 8);
        Ints factors[4];
        for (int i = 0; i < 4; i++) {
            const Ints four = and_bits(i < 2 ? start[i % 2] : shift_words_right(start[i % 2], 4), every_byte(15));
            const Ints two = and_bits(shift_words(end, 4 - 2 * i), every_byte(48));
            factors[i] = subtract_bytes(or_bits(four, two), every_byte(32));
        }
        store_factors(halves(offsetof(Q3_K, scale)), factors, block, row);
    }
};

template <>
struct EightRows<Q2_K> : EightBlocks {
    static constexpr int blocks = 8, zero = 0;
    Ints low[8] = {}; /* two bits of each of four blocks */

    void quants(int i, Ints quads[8]) {
        if (i % 4 == 0) {
            bytes32(offsetof(Q2_K, low) + 8 * i, low);
        }
        for (int j = 0; j < 8; j++) {
            quads[j] = and_bits(shift_words_right(low[j], 2 * (i % 4)), every_byte(3));
        }
    }
    template <class Block>
    void scales(Block *block, int row) const {
        const Floats minimum = multiply(halves(offsetof(Q2_K, minimum)), every(-1));
        Ints both[4], factors[4];
        bytes16(offsetof(Q2_K, scales), both);
        for (int i = 0; i < 4; i++) {
            factors[i] = and_bits(both[i], every_byte(15));
        }
        store_factors(halves(offsetof(Q2_K, scale)), factors, block, row);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            const Ints offset = byte_of(and_bits(shift_words_right(both[i / 4], 4), every_byte(15)), i % 4);
            store_floats(block[i / 2].minimum[i % 2] + row, multiply(to_floats(offset), minimum));
        }
    }
};

/* Eight rows' blocks at `place`, which counts blocks or super-blocks. */
template <class Weights>
inline EightRows<Weights> eight_rows(const uint8_t *const rows[8], size_t place) {
    return EightRows<Weights>{EightBlocks{rows, place * sizeof(Weights)}};
}

/* Unpack the blocks [first, first + count) along the depth, 32 weights each; super-blocks need multiples of 8. */
template <class Weights, class Block>
inline void unpack(const PanelRows &rows, size_t first, size_t count, Block *blocks) {
    constexpr int step = EightRows<Weights>::blocks, zero = EightRows<Weights>::zero;
    for (size_t i = 0; i < count; i += step) {
        for (int row = 0; row < panel_rows; row += 8) {
            EightRows<Weights> eight = eight_rows<Weights>(rows.row + row, (first + i) / step);
            eight.scales(blocks + i, row);
#pragma GCC unroll 8
            for (int k = 0; k < step; k++) {
                Ints quads[8];
                eight.quants(k, quads);
                for (int j = 0; j < 8 && zero; j++) {
                    quads[j] = subtract_bytes(quads[j], every_byte(zero));
                }
                store_quads(blocks[i + k], row, quads);
            }
        }
    }
}

/* Eight weights as floats. */
inline Floats floats(const F16 &x, size_t first) {
    return from_halves(x.values + first);
}
inline Floats floats(const BF16 &x, size_t first) {
    return from_bf16(x.values + first);
}

template <class Weights>
void unpack(const PanelRows &rows, size_t first, size_t count, FloatPanelBlock *blocks) {
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

} // namespace
