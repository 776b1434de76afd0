/* Activations in blocks of 32, quantized to bytes or words, or as they are, six columns side by side.
 *
 * A quantized block's scale is its largest magnitude / 127 (bytes) or / 32767 (words), in float32; quants are rounded to nearest
 * with ties to even. A block whose largest magnitude is below 2^-100 counts as zeros. A block with an infinity or a NaN
 * gets the scale NaN, so the whole column of y becomes NaN.
 */
#pragma once

#include "formats.h"
#include "product.h"

namespace {

constexpr size_t block_depth = 32;

/* Four neighbours along the depth are stored together, like the weights in a panel. */
struct ByteActivations {
    uint8_t quads[8][columns_in_group][4]; /* quant + activation_zero */
    float scale[columns_in_group];
    float sum[columns_in_group]; /* of the block's quants, times the scale */
};
struct HalfByteActivations {
    uint8_t quads[8][columns_in_group][4];
    float scale[columns_in_group];
    float sum[2][columns_in_group]; /* of the quants of each half of the block, times the scale */
};

struct FloatActivations {
    float values[block_depth][columns_in_group];
};

/* 32 activations of a column, scaled by limit / largest magnitude and rounded. */
struct Rounded {
    Ints quants[4]; /* int32 */
    float scale;

    Rounded(const float *x, float limit) {
        Floats values[4];
        Ints most = every_int(0);
        for (int i = 0; i < 4; i++) {
            values[i] = load_floats(x + 8 * i);
            /* Read as integers, magnitudes keep their order, and NaN is the largest. */
            most = larger_ints(most, and_bits(bits_of(values[i]), every_int(0x7fffffff)));
        }
        const int32_t bits = largest_of(most);
        float largest;
        memcpy(&largest, &bits, sizeof largest);
        const bool finite = bits < 0x7f800000;
        const bool counts = finite && largest >= 0x1p-100f;
        scale = finite ? (counts ? largest / limit : 0) : __builtin_nanf("");
        const Floats factor = every(counts ? limit / largest : 0);
        for (int i = 0; i < 4; i++) {
            quants[i] = counts ? nearest_ints(multiply(values[i], factor)) : every_int(0);
        }
    }
};

/* Store a block's quants as bytes. */
template <class Block>
inline void store_bytes(const Rounded &rounded, int column, Block &block) {
    alignas(32) uint8_t quads[8][4];
    store_ints(quads, flip_bits(to_bytes(rounded.quants), every_byte(activation_zero)));
    for (int i = 0; i < 8; i++) {
        memcpy(block.quads[i][column], quads[i], 4);
    }
    block.scale[column] = rounded.scale;
}

inline void quantize_block(const float *x, int column, ByteActivations &block) {
    const Rounded rounded(x, 127);
    store_bytes(rounded, column, block);
    const Ints *const q = rounded.quants;
    block.sum[column] = block.scale[column] * (float)sum_of(add_ints(add_ints(q[0], q[1]), add_ints(q[2], q[3])));
}

inline void quantize_block(const float *x, int column, HalfByteActivations &block) {
    const Rounded rounded(x, 127);
    store_bytes(rounded, column, block);
    for (int half = 0; half < 2; half++) {
        const Ints *const q = rounded.quants + 2 * half;
        block.sum[half][column] = block.scale[column] * (float)sum_of(add_ints(q[0], q[1]));
    }
}

inline void quantize_block(const float *x, int column, FloatActivations &block) {
    for (size_t i = 0; i < block_depth; i++) {
        block.values[i][column] = x[i];
    }
}

inline void quantize_block(const float *x, int column, WordActivations &block) {
    const Rounded rounded(x, 32767);
    block.set(rounded.quants, column);
    block.scale[column] = rounded.scale;
}

/* The columns of a group. */
template <class Block>
constexpr size_t group_columns = columns_in_group;

/* Where the blocks of a product are stored. The depth is cut into slices that fit into a panel. A slice has its groups
 * of columns one after the other. A group has its blocks in the order of the depth. */
template <class Block>
struct Activations {
    Block *blocks;
    size_t groups, depth, slice; /* depth and slice in blocks */

    Activations(const Product &product, const uint8_t *memory, size_t most)
        : blocks((Block *)memory), groups((product.columns + group_columns<Block> - 1) / group_columns<Block>),
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
        const size_t first = group * group_columns<Block>, left = product.columns - first;
        const int columns = (int)(left < group_columns<Block> ? left : group_columns<Block>);
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
