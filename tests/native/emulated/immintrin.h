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

/* The names of AVX-VNNI, which SIMDe does not have. */
#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32
#define _mm256_dpwssd_avx_epi32 simde_mm256_dpwssd_epi32

/* SIMDe runs on any processor. */
#define __builtin_cpu_supports(name) true
