#include "variants.h"

#include <cstring>

#if defined(ECELLM_HAS_NEON)
extern "C" const Variant variant_neon;
#else
extern "C" const Variant variant_baseline;
#endif
#if defined(ECELLM_HAS_AVX)
extern "C" const Variant variant_avx2, variant_avx512;
#endif

namespace {

struct Choice {
    const Variant *variant;
    bool runs;
};

/* Best first. */
const Choice *choices(size_t &count) {
    static const Choice entries[] = {
#if defined(ECELLM_HAS_AVX)
        {&variant_avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
                              && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")},
        {&variant_avx2, __builtin_cpu_supports("avx2") != 0},
#endif
#if defined(ECELLM_HAS_NEON)
        {&variant_neon, true}, /* part of every AArch64 processor */
#else
        {&variant_baseline, true},
#endif
    };
    count = sizeof entries / sizeof entries[0];
    return entries;
}

} // namespace

const Variant *find_variant(const char *name) {
    size_t count;
    const Choice *entries = choices(count);
    for (size_t i = 0; i < count; i++) {
        if (entries[i].runs && (!name || !std::strcmp(name, entries[i].variant->name))) {
            return entries[i].variant;
        }
    }
    return nullptr;
}

const char *ecellm_variants(void) {
    struct Names {
        char text[64] = "";

        Names() {
            size_t count;
            const Choice *entries = choices(count);
            for (size_t i = 0; i < count; i++) {
                if (entries[i].runs) {
                    std::strcat(*text ? std::strcat(text, " ") : text, entries[i].variant->name);
                }
            }
        }
    };
    static const Names names;
    return names.text;
}
