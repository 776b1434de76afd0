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

/* Ask Linux to let this process use AMX, once. Other systems are not asked. */
inline bool may_use_amx() {
#if defined(__linux__)
    constexpr long request = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM and XFEATURE_XTILEDATA */
    static const bool allowed = __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16")
                                && syscall(SYS_arch_prctl, request, tile_data) == 0;
    return allowed;
#else
    return false;
#endif
}

/* Configures this thread's tiles, all of them as large as they can be, until it is destroyed. Then the thread has its
 * former configuration again: ggml's own code for AMX configures a thread only once. */
class Amx {
    struct Config {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    };
    Config before;

    static void load(const Config &config) {
        asm volatile("ldtilecfg %0" : : "m"(config));
    }

  public:
    Amx() {
        asm volatile("sttilecfg %0" : "=m"(before));
        Config config = {};
        config.palette = 1;
        for (int i = 0; i < 8; i++) {
            config.row_bytes[i] = amx_row_bytes;
            config.rows[i] = amx_rows;
        }
        load(config);
    }
    Amx(const Amx &) = delete;
    Amx &operator=(const Amx &) = delete;
    ~Amx() {
        load(before);
    }
};

template <int tile>
inline void clear_tile() {
    asm volatile("tilezero %%tmm%c0" : : "i"(tile));
}
template <int tile>
inline void load_tile(const void *rows, size_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
inline void store_tile(void *rows, size_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(stride), "i"(tile) : "memory");
}

/* sums[m][n] += left[m][2k] * right[k][2n] + left[m][2k + 1] * right[k][2n + 1], for k from 0 to 15. The factors are
 * bfloat16. The first products have a sum in float32, the second ones another, and both are added to sums[m][n].
 * Subnormal numbers count as zeros. */
template <int sums, int left, int right>
inline void add_products() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(left), "i"(right));
}

} // namespace

#endif
