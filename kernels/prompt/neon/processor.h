/* Whether this processor, and the operating system, run this variant. */
#pragma once

#if defined(__linux__)
#include <sys/auxv.h>
#endif

namespace {

inline bool processor_runs() {
#if defined(__linux__)
    constexpr unsigned long dot_product = 1UL << 20; /* HWCAP_ASIMDDP */
    return getauxval(AT_HWCAP) & dot_product;
#else
    return false;
#endif
}

} // namespace
