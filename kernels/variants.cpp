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
    static const Choice known[] = {
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
    count = sizeof known / sizeof known[0];
    return known;
}

} // namespace

const Variant *find_variant(const char *name) {
    size_t count;
    const Choice *known = choices(count);
    for (size_t i = 0; i < count; i++) {
        if (known[i].runs && (!name || !std::strcmp(name, known[i].variant->name))) {
            return known[i].variant;
        }
    }
    return nullptr;
}

const char *ecellm_variants(void) {
    struct Names {
        char text[64] = "";

        Names() {
            size_t count;
            const Choice *known = choices(count);
            for (size_t i = 0; i < count; i++) {
                if (known[i].runs) {
                    std::strcat(*text ? std::strcat(text, " ") : text, known[i].variant->name);
                }
            }
        }
    };
    static const Names names;
    return names.text;
}
