/* Blocks of quantized weights, processed `lanes` at a time: one block in each lane. */
#pragma once

#include "half.h"
#include "lanes.h"

namespace {

/* Where to store a group of blocks. */
struct Blocks {
    int used; /* lanes in use; the others hold a copy of the first */
    uint8_t *blocks[lanes];
};

/* Store four bytes in each block. */
inline void store_word(const Blocks &group, size_t offset, Ints word) {
    for (int lane = 0; lane < group.used; lane++) {
        const int32_t four = word[lane];
        memcpy(group.blocks[lane] + offset, &four, sizeof four);
    }
}

/* Store `count` bytes, a multiple of four, in each block; each Ints holds values from 0 to 255. */
inline void store_bytes(const Blocks &group, size_t offset, const Ints *bytes, int count) {
    const auto word = [bytes](int i) {
        return bytes[i] | bytes[i + 1] << 8 | bytes[i + 2] << 16 | bytes[i + 3] << 24;
    };
    int i = 0;
    for (; i + 16 <= count; i += 16) {
        Floats words[4] = {(Floats)word(i), (Floats)word(i + 4), (Floats)word(i + 8), (Floats)word(i + 12)};
        turn_fours(words);
        for (int lane = 0; lane < group.used; lane++) {
            memcpy(group.blocks[lane] + offset + i, (const float *)&words[lane % 4] + lane / 4 * 4, 16);
        }
    }
    for (; i < count; i += 4) {
        store_word(group, offset + i, word(i));
    }
}

/* Store floats as half precision at `offset` of each block, and return the values that a reader will get. */
inline Floats store_halves(const Blocks &group, size_t offset, Floats values) {
    Floats read{};
    for (int lane = 0; lane < group.used; lane++) {
        const uint16_t half = half_from_float(values[lane]);
        memcpy(group.blocks[lane] + offset, &half, sizeof half);
        read[lane] = float_from_half(half);
    }
    return read;
}

/* Find the first weight of largest magnitude in each lane. */
template <int n>
inline void find_largest(const Floats *x, Floats &largest, Floats &magnitude) {
    largest = magnitude = Floats{};
    for (int i = 0; i < n; i++) {
        const Floats size = absolute(x[i]);
        const Ints larger = size > magnitude;
        magnitude = larger ? size : magnitude;
        largest = larger ? x[i] : largest;
    }
}

} // namespace
