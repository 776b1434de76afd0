/* Half precision and bfloat16 widened to float32, in loops that the compiler turns into vectors. */
#pragma once

#include "lanes.h"

namespace {

void widen_bf16(const uint16_t *bits, float *weights, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const uint32_t wide = (uint32_t)bits[i] << 16; /* the upper half of a float32 */
        memcpy(&weights[i], &wide, sizeof wide);
    }
}

void widen_f16(const uint16_t *bits, float *weights, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const uint32_t half = bits[i], magnitude = (half & 0x7fff) << 13;
        /* As the bits of a float the exponent is too small by 112, for subnormal halves as for the others. */
        float value;
        memcpy(&value, &magnitude, sizeof value);
        value *= 0x1p112f;
        uint32_t wide;
        memcpy(&wide, &value, sizeof wide);
        wide |= (magnitude >= 0x0f800000u ? 0x7f800000u : 0u) | (half & 0x8000) << 16;
        memcpy(&weights[i], &wide, sizeof wide);
    }
}

} // namespace
