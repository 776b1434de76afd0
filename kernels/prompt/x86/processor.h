/* Whether this processor, and the operating system, run this variant. */
#pragma once

namespace {

inline bool processor_runs() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

} // namespace
