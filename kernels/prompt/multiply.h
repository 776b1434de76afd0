/* A product on several threads. */
#pragma once

#include "product.h"

#include <cstdlib>

/* Memory that is reused by products and grows when one needs more, aligned to 64 bytes. */
class Memory {
    void *start = nullptr;
    size_t size = 0;

  public:
    Memory() = default;
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
    ~Memory() {
        std::free(start);
    }

    /* At least `bytes` bytes, uninitialized; null without memory. */
    uint8_t *get(size_t bytes);
};

/* Compute a product on `threads` threads of OpenMP's pool, which ggml also uses. Return false if there is no memory.
 * Each value is computed by one thread in a fixed order, so results do not depend on the number of threads. */
bool multiply(const Variant &variant, const Product &product, int threads, Memory &memory);
