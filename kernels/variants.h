/* The variants of this build, and which of them this processor runs. */
#pragma once

#include "variant.h"

/* Return the variant of a name, or the best for null; null if the library or the processor lacks it. */
const Variant *find_variant(const char *name);
