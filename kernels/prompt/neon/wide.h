/* Vectors of one register, for four rows of a panel. The same names as in ../x86/wide.h. */
#pragma once

#include "lanes.h"

namespace {

constexpr int wide_lanes = 4;

typedef float32x4_t WideFloats;
typedef int32x4_t WideInts;

inline WideFloats load_wide(const float *rows) {
    return vld1q_f32(rows);
}
inline void store_wide(float *rows, WideFloats x) {
    vst1q_f32(rows, x);
}
inline WideInts load_wide(const void *bytes) {
    return vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)bytes));
}
inline WideFloats every_row(float value) {
    return vdupq_n_f32(value);
}
inline WideFloats multiply(WideFloats a, WideFloats b) {
    return vmulq_f32(a, b);
}
/* a * b + c, rounded once. */
inline WideFloats multiply_add(WideFloats a, WideFloats b, WideFloats c) {
    return vfmaq_f32(c, a, b);
}
inline WideFloats to_floats(WideInts x) {
    return vcvtq_f32_s32(x);
}
inline WideInts add_ints(WideInts a, WideInts b) {
    return vaddq_s32(a, b);
}

} // namespace
