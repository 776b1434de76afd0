/* Whether this processor, and the operating system, run this variant. */
#pragma once

#if defined(ECELLM_AMX)
#include "amx.h"
#endif

namespace {

inline bool processor_runs() {
#if defined(ECELLM_AVX512)
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
        return false;
    }
#endif
#if defined(ECELLM_AMX)
    if (!__builtin_cpu_supports("avx512bf16") || !may_use_amx()) {
        return false;
    }
#endif
#if defined(ECELLM_VNNI)
    if (!__builtin_cpu_supports(ECELLM_VNNI)) {
        return false;
    }
#endif
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

} // namespace
