/* Memory that is reused by calls and grows when one needs more. */
#pragma once

#include <cstdint>
#include <cstdlib>

/* Aligned to 64 bytes. */
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
    uint8_t *get(size_t bytes) {
        if (bytes > size) {
            std::free(start);
            size = (bytes + 63) / 64 * 64;
            start = std::aligned_alloc(64, size);
            if (!start) {
                size = 0;
            }
        }
        return (uint8_t *)start;
    }
};
