/* Q4_0, Q5_0 and Q8_0: blocks of 32 weights as scale * quant, from only the largest weight, without a search.
 *
 * The layouts are those of ggml's block_q4_0, block_q5_0 and block_q8_0 (ggml-common.h of llama.cpp). In a block that
 * is almost zero, the scale's inverse overflows. ggml's quants are then the low byte of a failed conversion, which is
 * zero on x86.
 */
#pragma once

#include "blocks.h"

namespace {

constexpr int short_block = 32; /* weights: QK4_0 to QK8_0 */

/* 1 / scale, or zero if that is infinite. */
inline Floats usable_inverse(Floats scale) {
    const Floats inverse = 1.0f / scale;
    return absolute(inverse) < __builtin_inff() ? inverse : every(0);
}

/* Store quants of four or five bits: 4 bytes of fifth bits, if any, then 16 bytes of low bits, two quants in each. */
template <int bits>
inline void store_short_quants(const Blocks &group, size_t offset, const Ints *quants) {
    Ints bytes[16], high{};
    for (int i = 0; i < 16; i++) {
        bytes[i] = (quants[i] & 0xf) | (quants[i + 16] & 0xf) << 4;
        high |= quants[i] >> 4 << i | quants[i + 16] >> 4 << (i + 16);
    }
    if (bits == 5) {
        store_word(group, offset, high);
    }
    store_bytes(group, offset + (bits == 5 ? 4 : 0), bytes, 16);
}

/* block_q4_0 and block_q5_0: half d; unsigned quants, whose middle value stands for zero. */
template <int bits>
inline void quantize_q4_0_or_q5_0(const Floats *x, const Blocks &group) {
    constexpr int middle = 1 << (bits - 1), most = 2 * middle - 1;
    Floats largest, magnitude;
    find_largest<short_block>(x, largest, magnitude);
    const Floats d = largest / (float)-middle, inverse = usable_inverse(d);
    store_halves(group, 0, d);
    /* Half a quant more, since to_ints truncates. */
    const Floats shift = ((inverse == 0) & (d != 0)) ? every(0) : every((float)middle + 0.5f);
    Ints quants[short_block];
    for (int i = 0; i < short_block; i++) {
        quants[i] = to_ints(lower(x[i] * inverse + shift, every((float)most + 0.5f)));
    }
    store_short_quants<bits>(group, 2, quants);
}

/* block_q8_0: half d; 32 bytes of signed quants. */
inline void quantize_q8_0(const Floats *x, const Blocks &group) {
    constexpr float below_half = 0x1.fffffep-2f; /* with 0.5, the float just below 0.5 would round to 1 */
    Floats largest, magnitude;
    find_largest<short_block>(x, largest, magnitude);
    const Floats d = magnitude / 127.0f, inverse = usable_inverse(d);
    store_halves(group, 0, d);
    Ints bytes[short_block];
    for (int i = 0; i < short_block; i++) {
        const Floats quant = x[i] * inverse;
        bytes[i] = to_ints(quant + with_sign_of(quant, below_half)) & 0xff; /* roundf: halves away from zero */
    }
    store_bytes(group, 2, bytes, short_block);
}

} // namespace
