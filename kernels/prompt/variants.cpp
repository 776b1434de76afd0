#include "variants.h"

#include <cstring>

/* ECELLM_VARIANTS lists the variants of this build, as VARIANT(name) VARIANT(name), the fastest first. */
#define VARIANT(name) extern "C" const Variant prompt_variant_##name;
ECELLM_VARIANTS
#undef VARIANT

namespace {

/* With a null at the end. */
const Variant *const variants[] = {
#define VARIANT(name) &prompt_variant_##name,
    ECELLM_VARIANTS
#undef VARIANT
    nullptr,
};

} // namespace

const Variant *find_variant(const char *name) {
    for (const Variant *const *each = variants; *each; each++) {
        if ((!name || !std::strcmp(name, (*each)->name)) && (*each)->runs()) {
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
