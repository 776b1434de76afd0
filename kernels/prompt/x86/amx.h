/* AMX: eight registers of 16 rows of 64 bytes, called tiles. */
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

constexpr size_t amx_rows = 16, amx_row_bytes = 64;

} // namespace

#if defined(ECELLM_EMULATED)
#include <amx_emulated.h>
#else

namespace {

/* The instructions are in assembly, because GCC (12, -O3) drops the memory that its own functions read (see
 * https://github.com/ggml-org/llama.cpp/pull/26954). */

/* Ask the operating system for AMX, which it lends to a process only then. */
inline bool ask_for_amx() {
#if defined(__linux__)
    constexpr long request = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM and XFEATURE_XTILEDATA */
    return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16")
           && syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
    return false;
#endif
}

/* Makes all tiles as large as they can be for this thread, as long as it lives. */
class Amx {
  public:
    Amx() {
        struct {
            uint8_t palette = 1, start_row = 0, reserved[14] = {};
            uint16_t row_bytes[16] = {};
            uint8_t rows[16] = {};
        } config;
        for (int i = 0; i < 8; i++) {
            config.row_bytes[i] = amx_row_bytes;
            config.rows[i] = amx_rows;
        }
        asm volatile("ldtilecfg %0" : : "m"(config));
    }
    Amx(const Amx &) = delete;
    Amx &operator=(const Amx &) = delete;
    ~Amx() {
        asm volatile("tilerelease");
    }
};

template <int tile>
inline void clear() {
    asm volatile("tilezero %%tmm%c0" : : "i"(tile));
}
template <int tile>
inline void load(const void *rows, size_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
inline void store(void *rows, size_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(stride), "i"(tile) : "memory");
}

/* sums[m][n] += left[m][2k] * right[k][2n] + left[m][2k + 1] * right[k][2n + 1], for each k in turn: products of bfloat16,
 * sums in float32. Subnormal numbers count as zeros. */
template <int sums, int left, int right>
inline void add_products() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(left), "i"(right));
}

} // namespace

#endif
