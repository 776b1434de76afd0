#include "variants.h"

#include <cstring>

#if defined(ECELLM_HAS_AVX)
extern "C" const Variant prompt_variant_avx2;
#endif
#if defined(ECELLM_HAS_NEON)
extern "C" const Variant prompt_variant_neon;
#endif

namespace {

/* Measured ones first, with a null at the end. */
const Variant *const variants[] = {
#if defined(ECELLM_HAS_AVX)
    &prompt_variant_avx2,
#endif
#if defined(ECELLM_HAS_NEON)
    &prompt_variant_neon,
#endif
    nullptr,
};

} // namespace

const Variant *find_variant(const char *name) {
    for (const Variant *const *each = variants; *each; each++) {
        if ((*each)->runs() && (!name || !std::strcmp(name, (*each)->name))) {
            return *each;
        }
    }
    return nullptr;
}

const char *variant_names() {
    struct Names {
        char text[64] = "";

        Names() {
            for (const Variant *const *each = variants; *each; each++) {
                if ((*each)->runs()) {
                    std::strcat(*text ? std::strcat(text, " ") : text, (*each)->name);
                }
            }
        }
    };
    static const Names names;
    return names.text;
}
