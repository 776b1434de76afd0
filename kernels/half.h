/* IEEE 754 half precision and bfloat16, rounded to nearest with ties to even, like ggml's portable conversions. */
#pragma once

#include <cstdint>
#include <cstring>

namespace {

inline float float_from_half(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    const uint32_t exponent = half >> 10 & 0x1f, fraction = half & 0x3ff;
    uint32_t bits;
    if (exponent == 0) {
        /* Subnormal: the fraction counts units of 2^-24, which a float holds exactly. */
        const float magnitude = (float)fraction * 0x1p-24f;
        memcpy(&bits, &magnitude, sizeof bits);
    } else if (exponent == 0x1f) {
        bits = 0x7f800000 | fraction << 13;
    } else {
        bits = (exponent + 112) << 23 | fraction << 13;
    }
    bits |= sign;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint16_t half_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
        /* NaN: always one bit pattern, apart from the sign. In a NaN that it computes, x86 sets the sign and ARM clears
         * it. */
#if defined(__aarch64__)
        return (uint16_t)(sign ^ 0xfe00);
#else
        return sign | 0x7e00;
#endif
    }
    if (magnitude >= 0x477ff000) {
        return sign | 0x7c00; /* 65520 and more round to infinity */
    }
    if (magnitude < 0x38800000) {
        /* Below 2^-14: added to 0.5, the units of 2^-24 are the float's last bits, and the addition rounds to them. */
        float shifted;
        memcpy(&shifted, &magnitude, sizeof shifted);
        shifted += 0.5f;
        uint32_t rounded;
        memcpy(&rounded, &shifted, sizeof rounded);
        return (uint16_t)(sign | (rounded - 0x3f000000));
    }
    /* Add half a unit in the last place if the last bit is odd, and slightly less if it is even. So ties go to even. */
    const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((rounded >> 13) - (112 << 10)));
}

/* bfloat16 rounded to nearest with ties to even. */
inline uint16_t bf16_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

} // namespace
