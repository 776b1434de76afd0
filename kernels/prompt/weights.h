/* Blocks of weights as ggml stores them (ggml-common.h), and the numbers of their types (enum ggml_type). */
#pragma once

#include <cstddef>
#include <cstdint>

namespace {

enum WeightType {
    type_f16 = 1,
    type_q4_0 = 2,
    type_q4_1 = 3,
    type_q5_0 = 6,
    type_q5_1 = 7,
    type_q8_0 = 8,
    type_q2_k = 10,
    type_q3_k = 11,
    type_q4_k = 12,
    type_q5_k = 13,
    type_q6_k = 14,
    type_bf16 = 30,
};

/* 32 weights; `scale` and `minimum` are half precision, the high bits of five-bit quants are in `high`. */
struct Q4_0 {
    uint16_t scale;
    uint8_t low[16];
};
struct Q4_1 {
    uint16_t scale, minimum;
    uint8_t low[16];
};
struct Q5_0 {
    uint16_t scale;
    uint8_t high[4], low[16];
};
struct Q5_1 {
    uint16_t scale, minimum;
    uint8_t high[4], low[16];
};
struct Q8_0 {
    uint16_t scale;
    int8_t quants[32];
};

/* ggml stores these weights one by one; here 32 of them are a block too. */
struct F16 {
    uint16_t values[32];
};
struct BF16 {
    uint16_t values[32];
};

/* 256 weights. */
struct Q2_K {
    uint8_t scales[16], low[64]; /* the low half of each scale is for the scale, the high half for the minimum */
    uint16_t scale, minimum;
};
struct Q3_K {
    uint8_t high[32], low[64], scales[12];
    uint16_t scale;
};
struct Q4_K {
    uint16_t scale, minimum;
    uint8_t scales[12], low[128];
};
struct Q5_K {
    uint16_t scale, minimum;
    uint8_t scales[12], high[32], low[128];
};
struct Q6_K {
    uint8_t low[128], high[64];
    int8_t scales[16];
    uint16_t scale;
};

/* Weights in a block. */
template <class Block>
constexpr size_t weights_in = sizeof(Block) <= 64 ? 32 : 256;

static_assert(sizeof(Q4_0) == 18 && sizeof(Q4_1) == 20 && sizeof(Q5_0) == 22 && sizeof(Q5_1) == 24, "");
static_assert(sizeof(Q8_0) == 34 && sizeof(F16) == 64 && sizeof(BF16) == 64 && sizeof(Q2_K) == 84, "");
static_assert(sizeof(Q3_K) == 110 && sizeof(Q4_K) == 144 && sizeof(Q5_K) == 176, "");
static_assert(sizeof(Q6_K) == 210, "");

} // namespace
