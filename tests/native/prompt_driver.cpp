/* Computes products and attentions that it reads from standard input, until it ends: prompt_driver VARIANT.
 *
 * A request is eight or more int64 and then buffers, each after its size in bytes; an answer is the status and the
 * results. For variants that no Python on this machine can load (tests/support/prompt_variants.py).
 */
#include "ecellm_prompt.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

[[noreturn]] void end(int code) {
    std::fflush(stdout);
    std::exit(code);
}

void read(void *target, size_t size) {
    if (std::fread(target, 1, size, stdin) != size) {
        end(3);
    }
}

size_t number() {
    uint64_t value;
    read(&value, sizeof value);
    return (size_t)value;
}

/* Memory of exactly the size that the values need, so that sanitizers find an access beyond them. */
class Buffer {
    void *start;

  public:
    size_t size;

    explicit Buffer(size_t size) : start(std::malloc(size ? size : 1)), size(size) {
    }
    Buffer() : Buffer(number()) {
        read(start, size);
    }
    Buffer(const Buffer &) = delete;
    ~Buffer() {
        std::free(start);
    }
    template <class T>
    T *as() const {
        return (T *)start;
    }
};

void answer(int status, const Buffer &y) {
    const int64_t code = status;
    std::fwrite(&code, sizeof code, 1, stdout);
    std::fwrite(y.as<void>(), 1, y.size, stdout);
    std::fflush(stdout);
}

void multiply(const char *variant) {
    const size_t type = number(), depth = number(), rows = number(), columns = number(), threads = number();
    const size_t w_stride = number(), x_stride = number();
    const Buffer w, x, y(rows * columns * sizeof(float));
    answer(ecellm_prompt_multiply(variant, (int)type, w.as<void>(), w_stride, x.as<float>(), x_stride, y.as<float>(),
                                  rows * sizeof(float), depth, rows, columns, (int)threads),
           y);
}

void attend(const char *variant) {
    ecellm_attention a = {};
    const size_t threads = number();
    a.width = number(), a.tokens = number(), a.cells = number(), a.heads = number(), a.kv_heads = number();
    a.q_stride = number(), a.q_head_stride = number(), a.k_stride = number(), a.k_head_stride = number();
    a.v_stride = number(), a.v_head_stride = number(), a.mask_stride = number();
    const Buffer scale, q, k, v, mask, order, y(a.tokens * a.heads * a.width * sizeof(float));
    a.scale = *scale.as<float>();
    a.q = q.as<float>(), a.k = k.as<uint16_t>(), a.v = v.as<uint16_t>(), a.mask = mask.as<uint16_t>();
    a.order = order.size ? order.as<uint32_t>() : nullptr;
    a.y = y.as<float>(), a.y_head_stride = a.width * sizeof(float), a.y_stride = a.heads * a.y_head_stride;
    answer(ecellm_prompt_attend(variant, &a, (int)threads), y);
}

} // namespace

int main(int count, char **arguments) {
    const char *const variant = count > 1 ? arguments[1] : "";
    for (uint64_t operation; std::fread(&operation, sizeof operation, 1, stdin) == 1;) {
        operation ? attend(variant) : multiply(variant);
    }
    end(0);
}
