/* Products and attentions of random shapes, types, strides and bits, in buffers that end where the last value ends:
 * prompt_fuzz SEED CALLS. For the sanitizers; test_prompt_kernels.py and test_prompt_attention.py check the values. */
#include "ecellm_prompt.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

namespace {

const struct {
    int type;
    size_t weights, bytes; /* of a block */
} types[] = {{1, 32, 64},   {30, 32, 64},   {2, 32, 18},    {3, 32, 20},    {6, 32, 22},    {7, 32, 24},   {8, 32, 34},
             {10, 256, 84}, {11, 256, 110}, {12, 256, 144}, {13, 256, 176}, {14, 256, 210}, {99, 32, 18}};

void fill(std::mt19937 &random, void *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        ((uint8_t *)bytes)[i] = (uint8_t)random();
    }
}

/* A buffer of exactly `size` bytes with random bits. */
class Buffer {
    void *const start;

  public:
    Buffer(std::mt19937 &random, size_t size) : start(std::malloc(size)) {
        fill(random, start, size);
    }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() {
        std::free(start);
    }
    template <class T>
    T *as() {
        return (T *)start;
    }
};

int attend(std::mt19937 &random) {
    const auto below = [&](size_t limit) { return (size_t)random() % limit; };
    const size_t width = 8 * (1 + below(20)) + (below(20) ? 0 : 4), tokens = below(40), cells = below(120);
    const size_t kv_heads = 1 + below(3), heads = kv_heads * (1 + below(6)) + (below(20) ? 0 : 1);
    ecellm_attention attention = {};
    attention.width = width, attention.tokens = tokens, attention.cells = cells;
    attention.heads = heads, attention.kv_heads = kv_heads, attention.scale = 0.125f;
    attention.q_head_stride = attention.y_head_stride = 4 * width, attention.q_stride = attention.y_stride = 4 * width * heads;
    attention.k_head_stride = attention.v_head_stride = 2 * width, attention.k_stride = 2 * (width * kv_heads + below(3));
    attention.v_stride = attention.k_stride, attention.mask_stride = 2 * (cells + below(3));
    const auto size = [](size_t count, size_t stride, size_t last) { return count ? (count - 1) * stride + last : 0; };
    Buffer q(random, tokens * attention.q_stride), y(random, tokens * attention.y_stride);
    Buffer k(random, size(cells, attention.k_stride, 2 * width * kv_heads));
    Buffer v(random, size(cells, attention.v_stride, 2 * width * kv_heads));
    Buffer mask(random, size(tokens, attention.mask_stride, 2 * cells));
    const size_t masked = below(4);
    for (size_t token = 0; token < tokens; token++) {
        for (size_t cell = 0; cell < cells; cell++) {
            if (below(4) < masked) {
                mask.as<uint16_t>()[token * attention.mask_stride / 2 + cell] = 0xfc00;
            }
        }
    }
    attention.q = q.as<float>(), attention.y = y.as<float>();
    attention.k = k.as<uint16_t>(), attention.v = v.as<uint16_t>(), attention.mask = mask.as<uint16_t>();
    return ecellm_prompt_attend(nullptr, &attention, (int)below(4));
}

} // namespace

int main(int, char **arguments) {
    std::mt19937 random((unsigned)std::strtoul(arguments[1], nullptr, 10));
    const auto below = [&](size_t limit) { return (size_t)random() % limit; };
    const int calls = std::atoi(arguments[2]);
    int statuses[6] = {};
    for (int call = 0; call < calls / 4; call++) {
        statuses[attend(random)]++;
    }
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
