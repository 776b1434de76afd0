/* Half precision and bfloat16 widened to float32, in loops that the compiler vectorizes. */
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
        const uint32_t half = bits[i], exponent = half & 0x7c00, fraction = half & 0x3ff;
        /* Subnormal: the fraction becomes the last bits of a float from 0.5 to 1. Then 0.5 is subtracted. */
        const uint32_t above_half = 0x3f000000 | fraction;
        float subnormal;
        memcpy(&subnormal, &above_half, sizeof subnormal);
        subnormal -= 0.5f;
        uint32_t wide, normal = ((half & 0x7fff) << 13) + (exponent == 0x7c00 ? 224u << 23 : 112u << 23);
        memcpy(&wide, &subnormal, sizeof wide);
        wide = (exponent ? normal : wide) | (half & 0x8000) << 16;
        memcpy(&weights[i], &wide, sizeof wide);
    }
}

} // namespace
