/* Whether this processor, and the operating system, run this variant. */
#pragma once

namespace {

inline bool processor_runs() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")
#if ECELLM_LANES == 16
           && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
           && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
#if ECELLM_VNNI
           && __builtin_cpu_supports("avx512vnni")
#endif
#elif ECELLM_VNNI
           && __builtin_cpu_supports("avxvnni")
#endif
        ;
}

} // namespace
