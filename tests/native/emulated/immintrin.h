/* In place of the compiler's header: SIMDe computes the instructions that this processor may lack. */
#pragma once

#define ECELLM_EMULATED
#define SIMDE_NO_NATIVE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

/* What version 0.7.4 lacks. */
#undef _mm512_madd_epi16
#define _mm512_madd_epi16 simde_mm512_madd_epi16
#define _MM_FROUND_NO_EXC SIMDE_MM_FROUND_NO_EXC
static inline __m512 _mm512_cvtepi32_ps(__m512i x) {
    int32_t ints[16];
    float floats[16];
    _mm512_storeu_si512(ints, x);
    for (int i = 0; i < 16; i++) {
        floats[i] = (float)ints[i];
    }
    return _mm512_loadu_ps(floats);
}

/* Floats rounded to bfloat16, to nearest with ties to even; subnormal numbers become zeros. */
static inline void to_bf16(const float *floats, uint16_t *halves, int count) {
    for (int i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, floats + i, sizeof bits);
        const uint32_t size = bits & 0x7fffffff;
        if (size > 0x7f800000) {
            bits |= 0x400000; /* NaN */
        } else if (size < 0x800000) {
            bits &= 0x80000000;
        } else {
            bits += 0x7fff + (bits >> 16 & 1);
        }
        halves[i] = (uint16_t)(bits >> 16);
    }
}
struct Bf16x16 {
    uint16_t halves[16];
};
struct Bf16x32 {
    uint16_t halves[32];
};
#define __m256bh Bf16x16
#define __m512bh Bf16x32
static inline Bf16x16 _mm256_cvtne2ps_pbh(__m256 high, __m256 low) {
    float floats[16];
    _mm256_storeu_ps(floats, low);
    _mm256_storeu_ps(floats + 8, high);
    Bf16x16 result;
    to_bf16(floats, result.halves, 16);
    return result;
}
static inline Bf16x32 _mm512_cvtne2ps_pbh(__m512 high, __m512 low) {
    float floats[32];
    _mm512_storeu_ps(floats, low);
    _mm512_storeu_ps(floats + 16, high);
    Bf16x32 result;
    to_bf16(floats, result.halves, 32);
    return result;
}

/* The names of AVX-VNNI, which SIMDe does not have. */
#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32
#define _mm256_dpwssd_avx_epi32 simde_mm256_dpwssd_epi32

/* SIMDe runs on any processor. */
#define __builtin_cpu_supports(name) true
