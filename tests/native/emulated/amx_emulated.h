/* AMX in plain C++, for processors without it. The same names as in kernels/prompt/x86/amx.h. */
#pragma once

#include <cmath>
#include <cstring>

namespace {

struct AmxTile {
    uint8_t rows[amx_rows][amx_row_bytes];
};
thread_local AmxTile amx_tiles[8];

inline bool may_use_amx() {
    return true;
}

class Amx {
  public:
    ~Amx() {
        std::memset(amx_tiles, 0xff, sizeof amx_tiles); /* NaN: a piece must not rely on those of the one before */
    }
};

template <int tile>
inline void clear_tile() {
    std::memset(&amx_tiles[tile], 0, sizeof amx_tiles[tile]);
}
template <int tile>
inline void load_tile(const void *rows, size_t stride) {
    for (size_t i = 0; i < amx_rows; i++) {
        std::memcpy(amx_tiles[tile].rows[i], (const uint8_t *)rows + i * stride, amx_row_bytes);
    }
}
template <int tile>
inline void store_tile(void *rows, size_t stride) {
    for (size_t i = 0; i < amx_rows; i++) {
        std::memcpy((uint8_t *)rows + i * stride, amx_tiles[tile].rows[i], amx_row_bytes);
    }
}

/* A bfloat16 as a float; subnormal numbers count as zeros. */
inline float from_amx(const AmxTile &tile, size_t row, size_t place) {
    uint16_t half;
    std::memcpy(&half, tile.rows[row] + 2 * place, sizeof half);
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return std::fpclassify(value) == FP_SUBNORMAL ? 0 : value;
}

/* As Intel describes TDPBF16PS: the products of even places and of odd ones have sums of their own. */
template <int sums, int left, int right>
inline void add_products() {
    for (size_t m = 0; m < amx_rows; m++) {
        for (size_t n = 0; n < amx_rows; n++) {
            float even = 0, odd = 0, sum;
            for (size_t k = 0; k < 16; k++) {
                even = std::fma(from_amx(amx_tiles[left], m, 2 * k), from_amx(amx_tiles[right], k, 2 * n), even);
                odd = std::fma(from_amx(amx_tiles[left], m, 2 * k + 1), from_amx(amx_tiles[right], k, 2 * n + 1), odd);
            }
            uint8_t *const place = amx_tiles[sums].rows[m] + 4 * n;
            std::memcpy(&sum, place, sizeof sum);
            sum += even + odd;
            std::memcpy(place, &sum, sizeof sum);
        }
    }
}

} // namespace
