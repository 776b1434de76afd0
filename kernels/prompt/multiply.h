/* A product on several threads. */
#pragma once

#include "product.h"

#include <cstdlib>

/* Memory that grows with the products and is kept between them, aligned to 64 bytes. */
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

    /* At least `wanted` bytes, with nothing in them; null if there are none. */
    uint8_t *get(size_t wanted);
};

/* Compute a product on `threads` threads of OpenMP's pool, which is ggml's too; false without memory. Each value is
 * computed by one thread in one order, so that results do not depend on the number of threads. */
bool multiply(const Variant &variant, const Product &product, int threads, Memory &memory);
