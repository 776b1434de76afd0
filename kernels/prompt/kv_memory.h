/* The KV memory in stable mode: what is written to it, and the order in which a token's cells are read.
 *
 * llama.cpp puts a token into any free cell, so a sequence's tokens may lie in any order. Sums must not depend on that.
 * Here cells are kept in the order in which they were last written. A sequence's tokens are written in their own order,
 * and its prefix before them. So each sequence is read from its first token to its last.
 */
#pragma once

#include "attention.h"
#include "memory.h"

#include <cstdint>
#include <cstring>

namespace {

/* Half precision, rounded to nearest with ties to even. Without branches, so that compilers use vectors. */
inline uint16_t to_half(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    /* Add half a unit in the last place if the last bit is odd, and slightly less if it is even. */
    const uint32_t normal = ((magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13) - (112 << 10);
    /* Below 2^-14: added to 0.5, the units of 2^-24 are the float's last bits, and the addition rounds to them. */
    float shifted;
    std::memcpy(&shifted, &magnitude, sizeof shifted);
    shifted += 0.5f;
    uint32_t subnormal;
    std::memcpy(&subnormal, &shifted, sizeof subnormal);
    uint32_t half = magnitude < 0x38800000 ? subnormal - 0x3f000000 : normal;
    half = magnitude >= 0x477ff000 ? 0x7c00 : half; /* 65520 and more round to infinity */
    half = magnitude > 0x7f800000 ? 0x7e00 : half;
    return (uint16_t)(sign | half);
}

/* Rows of float32 to store as rows of float16: row i of `x` goes to the cell `cells[i]`. */
struct Write {
    const uint8_t *x;
    uint8_t *halves;
    const int64_t *cells;
    size_t stride, half_stride, rows, width, all;
};

inline void store(const Write &write, int threads) {
#pragma omp parallel for num_threads(threads) if (write.rows > 8)
    for (size_t row = 0; row < write.rows; row++) {
        const float *const x = (const float *)(write.x + row * write.stride);
        uint16_t *const halves = (uint16_t *)(write.halves + (size_t)write.cells[row] * write.half_stride);
        for (size_t i = 0; i < write.width; i++) {
            halves[i] = to_half(x[i]);
        }
    }
}

/* The cells of a KV memory in the order in which they were last written, and the mask of a call in that order. */
class WrittenCells {
    Memory order_memory, moved_memory, chosen_memory, mask_memory, flag_memory;
    uint32_t *order = nullptr;   /* all cells */
    size_t all = 0;              /* how many there are */
    const void *first = nullptr; /* the matrix that each evaluation of the model writes first */
    bool ready = false;          /* whether the mask of this evaluation is in order */
    size_t cells = 0, tokens = 0, count = 0, stride = 0; /* of the mask: before, and in order */

    bool start(size_t size) {
        order = (uint32_t *)order_memory.get(size * sizeof *order);
        all = order ? size : 0;
        for (size_t i = 0; i < all; i++) {
            order[i] = (uint32_t)i;
        }
        return order != nullptr;
    }

    /* Move the written cells to the end. */
    bool move(const int64_t *written, size_t rows) {
        uint8_t *const flags = flag_memory.get(all);
        uint32_t *const moved = (uint32_t *)moved_memory.get(all * sizeof *moved);
        if (!flags || !moved) {
            return false;
        }
        std::memset(flags, 0, all);
        for (size_t i = 0; i < rows; i++) {
            if ((uint64_t)written[i] >= all || flags[written[i]]) {
                return false;
            }
            flags[written[i]] = 1;
        }
        size_t place = 0;
        for (size_t i = 0; i < all; i++) {
            if (!flags[order[i]]) {
                moved[place++] = order[i];
            }
        }
        for (size_t i = 0; i < rows; i++) {
            moved[place++] = (uint32_t)written[i];
        }
        std::memcpy(order, moved, all * sizeof *order);
        return true;
    }

    static const uint16_t *row_of(const Attention &attention, size_t token) {
        return (const uint16_t *)((const uint8_t *)attention.mask + token * attention.mask_stride);
    }

    /* Copy the mask's columns in order, but not those of cells that no token reads. */
    bool copy(const Attention &attention, int threads) {
        cells = attention.cells, tokens = attention.tokens, count = 0, stride = (cells + 7) / 8 * 8;
        uint16_t *const read = (uint16_t *)flag_memory.get(cells * sizeof *read);
        uint16_t *const mask = (uint16_t *)mask_memory.get(tokens * stride * sizeof *mask);
        uint32_t *const chosen = (uint32_t *)chosen_memory.get(all * sizeof *chosen);
        if (!read || !mask || !chosen) {
            return false;
        }
        constexpr uint16_t masked = 0xfc00; /* minus infinity */
        std::memset(read, 0, cells * sizeof *read);
        for (size_t token = 0; token < tokens; token++) {
            const uint16_t *const row = row_of(attention, token);
            for (size_t cell = 0; cell < cells; cell++) {
                read[cell] |= row[cell] ^ masked;
            }
        }
        for (size_t i = 0; i < all; i++) {
            if (order[i] < cells && read[order[i]]) {
                chosen[count++] = order[i];
            }
        }
#pragma omp parallel for num_threads(threads) if (tokens > 8)
        for (size_t token = 0; token < tokens; token++) {
            const uint16_t *const row = row_of(attention, token);
            for (size_t i = 0; i < count; i++) {
                mask[token * stride + i] = row[chosen[i]];
            }
        }
        return true;
    }

  public:
    /* Note what is written. `loaded`: all cells were loaded before, each sequence in the order of the cells. All layers
     * write the same cells, so only the first write of an evaluation counts. Return false if the cells are not different
     * ones of the memory, or without memory. */
    bool note(const Write &write, bool loaded) {
        if (first && write.halves != first) {
            return true;
        }
        if ((!first || loaded || write.all != all) && !start(write.all)) {
            return false;
        }
        first = write.halves;
        ready = false;
        return move(write.cells, write.rows);
    }

    /* Give an attention its cells in order. Return false if it has another mask than the evaluation's first one, or
     * without memory. */
    bool arrange(Attention &attention, int threads) {
        ready = ready || (attention.cells <= all && copy(attention, threads));
        if (!ready || attention.cells != cells || attention.tokens != tokens) {
            return false;
        }
        attention.mask = (const uint16_t *)mask_memory.get(0);
        attention.mask_stride = stride * sizeof(uint16_t);
        attention.cells = count;
        attention.order = (const uint32_t *)chosen_memory.get(0);
        return true;
    }
};

} // namespace
