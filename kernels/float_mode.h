/* Sets the processor to IEEE 754 denormals and rounding for an object's lifetime, and then restores the previous mode.
 *
 * Another library in the process may have made the processor flush denormals to zero, and new threads inherit that. */
#pragma once

#include <cstdint>

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
#endif

class StandardFloats {
#if defined(__x86_64__) || defined(__i386__)
    const unsigned before = _mm_getcsr();

public:
    StandardFloats() {
        _mm_setcsr(0x1f80); /* no exceptions, nearest, no flushing */
    }

    ~StandardFloats() {
        _mm_setcsr(before);
    }
#elif defined(__aarch64__)
    uint64_t before;

public:
    StandardFloats() {
        __asm__ volatile("mrs %0, fpcr" : "=r"(before));
        __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    }

    ~StandardFloats() {
        __asm__ volatile("msr fpcr, %0" : : "r"(before));
    }
#else
public:
    StandardFloats() {}
#endif
    StandardFloats(const StandardFloats &) = delete;
    StandardFloats &operator=(const StandardFloats &) = delete;
};
