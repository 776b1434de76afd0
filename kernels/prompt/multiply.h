/* A product on several threads. */
#pragma once

#include "memory.h"
#include "product.h"

/* Compute a product on `threads` threads of OpenMP's pool, which ggml also uses. Return false if there is no memory.
 * Each value is computed by one thread in a fixed order, so results do not depend on the number of threads. */
bool multiply(const Variant &variant, const Product &product, int threads, Memory &memory);
