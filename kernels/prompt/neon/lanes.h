/* Vectors of eight lanes, in NEON: two registers each. The same names as in ../x86/lanes.h. */
#pragma once

#include <arm_neon.h>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

/* 8 floats */
struct Floats {
    float32x4_t low, high;
};

/* 8 int32, or 16 words, or 32 bytes */
struct Ints {
    int32x4_t low, high;
};

/* 8 words */
typedef uint16x8_t Words;

inline Floats load_floats(const float *eight) {
    return {vld1q_f32(eight), vld1q_f32(eight + 4)};
}
inline void store_floats(float *eight, Floats x) {
    vst1q_f32(eight, x.low);
    vst1q_f32(eight + 4, x.high);
}
inline Ints load_ints(const void *bytes) {
    const uint8_t *const start = (const uint8_t *)bytes;
    return {vreinterpretq_s32_u8(vld1q_u8(start)), vreinterpretq_s32_u8(vld1q_u8(start + 16))};
}
inline void store_ints(void *bytes, Ints x) {
    uint8_t *const start = (uint8_t *)bytes;
    vst1q_u8(start, vreinterpretq_u8_s32(x.low));
    vst1q_u8(start + 16, vreinterpretq_u8_s32(x.high));
}

inline Floats every(float value) {
    return {vdupq_n_f32(value), vdupq_n_f32(value)};
}
inline Ints every_int(int32_t value) {
    return {vdupq_n_s32(value), vdupq_n_s32(value)};
}
inline Ints every_byte(int value) {
    const int32x4_t half = vreinterpretq_s32_s8(vdupq_n_s8((int8_t)value));
    return {half, half};
}

/* The same 256 bits as another type. */
inline Ints bits_of(Floats x) {
    return {vreinterpretq_s32_f32(x.low), vreinterpretq_s32_f32(x.high)};
}
inline Floats floats_of(Ints bits) {
    return {vreinterpretq_f32_s32(bits.low), vreinterpretq_f32_s32(bits.high)};
}

inline Floats add(Floats a, Floats b) {
    return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)};
}
inline Floats subtract(Floats a, Floats b) {
    return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)};
}
inline Floats multiply(Floats a, Floats b) {
    return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)};
}
/* a * b + c, rounded once. */
inline Floats multiply_add(Floats a, Floats b, Floats c) {
    return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}

inline Floats divide(Floats a, Floats b) {
    return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)};
}
/* The larger one; b if either is NaN. */
inline Floats larger(Floats a, Floats b) {
    return {vbslq_f32(vcgtq_f32(a.low, b.low), a.low, b.low), vbslq_f32(vcgtq_f32(a.high, b.high), a.high, b.high)};
}

inline float32x4_t and_mask(float32x4_t x, uint32x4_t mask) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), mask));
}
/* x, but 0 where `a` equals the value. */
inline Floats zero_where_equal(Floats x, Floats a, float value) {
    const float32x4_t other = vdupq_n_f32(value);
    return {and_mask(x.low, vmvnq_u32(vceqq_f32(a.low, other))), and_mask(x.high, vmvnq_u32(vceqq_f32(a.high, other)))};
}
/* x, but 0 where `a` is below the value or NaN. */
inline Floats zero_below(Floats x, Floats a, float value) {
    const float32x4_t least = vdupq_n_f32(value);
    return {and_mask(x.low, vcgeq_f32(a.low, least)), and_mask(x.high, vcgeq_f32(a.high, least))};
}
/* x, but NaN where `a` is NaN. */
inline Floats keep_nan(Floats a, Floats x) {
    return {vbslq_f32(vceqq_f32(a.low, a.low), x.low, a.low), vbslq_f32(vceqq_f32(a.high, a.high), x.high, a.high)};
}
inline bool any_differ(Floats a, Floats b) {
    return vminvq_u32(vandq_u32(vceqq_f32(a.low, b.low), vceqq_f32(a.high, b.high))) == 0;
}

inline Ints and_bits(Ints a, Ints b) {
    return {vandq_s32(a.low, b.low), vandq_s32(a.high, b.high)};
}
inline Ints or_bits(Ints a, Ints b) {
    return {vorrq_s32(a.low, b.low), vorrq_s32(a.high, b.high)};
}
inline Ints flip_bits(Ints a, Ints b) {
    return {veorq_s32(a.low, b.low), veorq_s32(a.high, b.high)};
}
inline Ints add_ints(Ints a, Ints b) {
    return {vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)};
}
inline Ints larger_ints(Ints a, Ints b) {
    return {vmaxq_s32(a.low, b.low), vmaxq_s32(a.high, b.high)};
}

inline int32x4_t add_half(int32x4_t a, int32x4_t b) {
    return vreinterpretq_s32_s8(vaddq_s8(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
}
inline int32x4_t subtract_half(int32x4_t a, int32x4_t b) {
    return vreinterpretq_s32_s8(vsubq_s8(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
}
inline Ints add_bytes(Ints a, Ints b) {
    return {add_half(a.low, b.low), add_half(a.high, b.high)};
}
inline Ints subtract_bytes(Ints a, Ints b) {
    return {subtract_half(a.low, b.low), subtract_half(a.high, b.high)};
}

inline Ints shift_ints_left(Ints x, int count) {
    const int32x4_t counts = vdupq_n_s32(count);
    return {vshlq_s32(x.low, counts), vshlq_s32(x.high, counts)};
}
inline int32x4_t shift_int_half(int32x4_t x, int count) {
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(x), vdupq_n_s32(-count)));
}
inline Ints shift_ints_right(Ints x, int count) {
    return {shift_int_half(x.low, count), shift_int_half(x.high, count)};
}
/* Shift each of 16 words, to the right if `count` is negative; zeros come in. */
inline int32x4_t shift_half(int32x4_t x, int count) {
    return vreinterpretq_s32_u16(vshlq_u16(vreinterpretq_u16_s32(x), vdupq_n_s16((int16_t)count)));
}
inline Ints shift_words_left(Ints x, int count) {
    return {shift_half(x.low, count), shift_half(x.high, count)};
}
inline Ints shift_words_right(Ints x, int count) {
    return shift_words_left(x, -count);
}

/* The largest, or the sum, of eight int32. */
inline int32_t largest_of(Ints x) {
    return vmaxvq_s32(vmaxq_s32(x.low, x.high));
}
inline int32_t sum_of(Ints x) {
    return vaddvq_s32(vaddq_s32(x.low, x.high));
}

/* Round up, or to the nearest whole number with ties to even. */
inline Floats round_up(Floats x) {
    return {vrndpq_f32(x.low), vrndpq_f32(x.high)};
}
inline Floats nearest(Floats x) {
    return {vrndnq_f32(x.low), vrndnq_f32(x.high)};
}
/* Round to the nearest int32, ties to even. */
inline Ints nearest_ints(Floats x) {
    return {vcvtnq_s32_f32(x.low), vcvtnq_s32_f32(x.high)};
}
inline Floats to_floats(Ints x) {
    return {vcvtq_f32_s32(x.low), vcvtq_f32_s32(x.high)};
}

/* One of the four bytes of each int32. */
inline Ints byte_of(Ints x, int place) {
    return and_bits(shift_ints_right(x, 8 * place), every_int(255));
}
inline Ints signed_byte_of(Ints x, int place) {
    const Ints left = shift_ints_left(x, 24 - 8 * place);
    return {vshrq_n_s32(left.low, 24), vshrq_n_s32(left.high, 24)};
}

/* Eight halves or bfloat16 in memory as floats. */
inline Floats from_halves(const uint16_t *eight) {
    const float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(eight));
    return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
}
/* The halves in the low bits of eight int32 as floats. */
inline Floats from_halves(Ints x) {
    const uint16x4_t low = vmovn_u32(vreinterpretq_u32_s32(x.low)), high = vmovn_u32(vreinterpretq_u32_s32(x.high));
    return {vcvt_f32_f16(vreinterpret_f16_u16(low)), vcvt_f32_f16(vreinterpret_f16_u16(high))};
}
inline Floats from_bf16(const uint16_t *eight) {
    const uint16x8_t words = vld1q_u16(eight);
    return {vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vget_low_u16(words)), 16)),
            vreinterpretq_f32_u32(vshlq_n_u32(vmovl_high_u16(words), 16))};
}
/* 32 int32 between -128 and 127 as bytes, in their order. */
inline int8x8_t to_eight_bytes(Ints x) {
    return vmovn_s16(vcombine_s16(vmovn_s32(x.low), vmovn_s32(x.high)));
}
inline Ints to_bytes(const Ints x[4]) {
    return {vreinterpretq_s32_s8(vcombine_s8(to_eight_bytes(x[0]), to_eight_bytes(x[1]))),
            vreinterpretq_s32_s8(vcombine_s8(to_eight_bytes(x[2]), to_eight_bytes(x[3])))};
}

/* Transpose four rows of four int32. */
inline void transpose_square(int32x4_t &a, int32x4_t &b, int32x4_t &c, int32x4_t &d) {
    const int64x2_t even = vreinterpretq_s64_s32(vtrn1q_s32(a, b)), odd = vreinterpretq_s64_s32(vtrn2q_s32(a, b));
    const int64x2_t next_even = vreinterpretq_s64_s32(vtrn1q_s32(c, d));
    const int64x2_t next_odd = vreinterpretq_s64_s32(vtrn2q_s32(c, d));
    a = vreinterpretq_s32_s64(vtrn1q_s64(even, next_even));
    b = vreinterpretq_s32_s64(vtrn1q_s64(odd, next_odd));
    c = vreinterpretq_s32_s64(vtrn2q_s64(even, next_even));
    d = vreinterpretq_s32_s64(vtrn2q_s64(odd, next_odd));
}

/* Sixteen bytes of each of eight rows, in quads of neighbours. */
inline void load_quads(const uint8_t *const rows[8], size_t place, Ints quads[4]) {
    int32x4_t r[8];
    for (int i = 0; i < 8; i++) {
        r[i] = vreinterpretq_s32_u8(vld1q_u8(rows[i] + place));
    }
    transpose_square(r[0], r[1], r[2], r[3]);
    transpose_square(r[4], r[5], r[6], r[7]);
    for (int i = 0; i < 4; i++) {
        quads[i] = {r[i], r[i + 4]};
    }
}

/* Four bytes of each of eight rows. */
inline Ints load_quad(const uint8_t *const rows[8], size_t place) {
    int32_t x[8];
    for (int i = 0; i < 8; i++) {
        memcpy(x + i, rows[i] + place, sizeof *x);
    }
    return load_ints(x);
}
/* A half of each of eight rows as floats. */
inline Floats load_halves(const uint8_t *const rows[8], size_t place) {
    uint16_t x[8];
    for (int i = 0; i < 8; i++) {
        memcpy(x + i, rows[i] + place, sizeof *x);
    }
    return from_halves(x);
}

/* 32 bits of each of eight rows as bytes, in quads of neighbours: 16 where the bit is 1, else 0. */
inline int32x4_t bits_of_half(int32x4_t bits, uint8x16_t places, uint32_t mask) {
    const uint8x16_t spread = vqtbl1q_u8(vreinterpretq_u8_s32(bits), places);
    const uint8x16_t set = vtstq_u8(spread, vreinterpretq_u8_u32(vdupq_n_u32(mask)));
    return vreinterpretq_s32_u8(vandq_u8(set, vdupq_n_u8(16)));
}
inline void bits_as_sixteen(Ints bits, Ints quads[8]) {
    const uint8x16_t zeros = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    for (int i = 0; i < 8; i++) {
        const uint8x16_t places = vorrq_u8(zeros, vdupq_n_u8((uint8_t)(i / 2)));
        const uint32_t mask = i % 2 ? 0x80402010 : 0x08040201;
        quads[i] = {bits_of_half(bits.low, places, mask), bits_of_half(bits.high, places, mask)};
    }
}

/* Transpose eight rows of eight int32. */
inline void transpose(Ints r[8]) {
    transpose_square(r[0].low, r[1].low, r[2].low, r[3].low);
    transpose_square(r[0].high, r[1].high, r[2].high, r[3].high);
    transpose_square(r[4].low, r[5].low, r[6].low, r[7].low);
    transpose_square(r[4].high, r[5].high, r[6].high, r[7].high);
    for (int i = 0; i < 4; i++) {
        const int32x4_t corner = r[i].high;
        r[i].high = r[i + 4].low;
        r[i + 4].low = corner;
    }
}

inline Words load_words(const uint16_t *eight) {
    return vld1q_u16(eight);
}
inline Words add_words(Words a, Words b) {
    return vaddq_u16(a, b);
}
/* -1 in each word that equals the value, else 0. */
inline Words equal_words(Words x, uint16_t value) {
    return vceqq_u16(x, vdupq_n_u16(value));
}
/* How many words equal the value. */
inline int count_equal(Words x, uint16_t value) {
    return -vaddvq_s16(vreinterpretq_s16_u16(equal_words(x, value)));
}
/* The sum of eight int16. */
inline int sum_of_words(Words x) {
    return vaddlvq_s16(vreinterpretq_s16_u16(x));
}
inline bool all_words_equal(Ints x, uint16_t value) {
    const uint16x8_t low = vreinterpretq_u16_s32(x.low), high = vreinterpretq_u16_s32(x.high);
    return vminvq_u16(vandq_u16(equal_words(low, value), equal_words(high, value))) != 0;
}

/* Transpose eight rows of eight words. */
inline void transpose_square(const Words rows[8], int32x4_t columns[8]) {
    for (int i = 0; i < 4; i++) {
        columns[2 * i] = vreinterpretq_s32_u16(vtrn1q_u16(rows[2 * i], rows[2 * i + 1]));
        columns[2 * i + 1] = vreinterpretq_s32_u16(vtrn2q_u16(rows[2 * i], rows[2 * i + 1]));
    }
    transpose_square(columns[0], columns[2], columns[4], columns[6]);
    transpose_square(columns[1], columns[3], columns[5], columns[7]);
}

/* Transpose 16 rows of eight words. */
inline void transpose_words(const Words rows[16], Ints columns[8]) {
    int32x4_t low[8], high[8];
    transpose_square(rows, low);
    transpose_square(rows + 8, high);
    for (int i = 0; i < 8; i++) {
        columns[i] = {low[i], high[i]};
    }
}

} // namespace
