/* Products of random shapes, types, strides and bits, in buffers that end where the last value ends: prompt_fuzz SEED
 * CALLS. For the sanitizers; whether the values are right is asked in test_prompt_kernels.py. */
#include "ecellm_prompt.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

namespace {

const struct {
    int type;
    size_t weights, bytes; /* of a block */
} types[] = {{2, 32, 18},   {3, 32, 20},    {6, 32, 22},    {7, 32, 24},    {8, 32, 34},
             {11, 256, 110}, {12, 256, 144}, {13, 256, 176}, {14, 256, 210}, {99, 32, 18}};

void fill(std::mt19937 &random, void *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        ((uint8_t *)bytes)[i] = (uint8_t)random();
    }
}

} // namespace

int main(int, char **arguments) {
    std::mt19937 random((unsigned)std::strtoul(arguments[1], nullptr, 10));
    const auto below = [&](size_t limit) { return (size_t)random() % limit; };
    const int calls = std::atoi(arguments[2]);
    int statuses[6] = {};
    for (int call = 0; call < calls; call++) {
        const auto &type = types[below(sizeof types / sizeof types[0])];
        const size_t depth = (1 + below(type.weights == 32 ? 40 : 5)) * type.weights + (below(20) ? 0 : 7);
        const size_t rows = below(50), columns = below(30);
        const size_t w_stride = depth / type.weights * type.bytes + 2 * below(3), x_stride = (depth + below(3)) * 4;
        const size_t y_stride = (rows + below(3)) * 4;
        /* The last row and column end with their last value. */
        const size_t w_size = rows ? (rows - 1) * w_stride + depth / type.weights * type.bytes : 0;
        const size_t x_size = columns ? (columns - 1) * x_stride + depth * 4 : 0;
        const size_t y_size = columns ? (columns - 1) * y_stride + rows * 4 : 0;
        uint8_t *const w = (uint8_t *)std::malloc(w_size), *const x = (uint8_t *)std::malloc(x_size);
        uint8_t *const y = (uint8_t *)std::malloc(y_size);
        fill(random, w, w_size);
        fill(random, x, x_size);
        const char *variant = below(10) ? nullptr : "mmx";
        const int status = ecellm_prompt_multiply(variant, type.type, w, w_stride, (const float *)x, x_stride, (float *)y,
                                                  y_stride, depth, rows, columns, (int)below(4));
        statuses[status]++;
        std::free(w);
        std::free(x);
        std::free(y);
    }
    for (const int count : statuses) {
        std::printf("%d\n", count);
    }
}
