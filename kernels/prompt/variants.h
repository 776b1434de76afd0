/* The variants of this build, and which of them this processor can run. */
#pragma once

#include "product.h"

/* Return the variant of that name or, for null, the first one that can run. Return null if the library or the processor
 * lacks it. */
const Variant *find_variant(const char *name);

/* The names of the variants that can run, the fastest first, separated by spaces. */
const char *variant_names();
