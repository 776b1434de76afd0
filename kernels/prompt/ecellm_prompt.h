/* The prompt kernels: matrix products and attention for llama.cpp's prompts, as a ggml accelerator.
 *
 * A process loads the library, calls `ecellm_prompt_start`, and passes the library's path to ggml_backend_load. From
 * then on, llama.cpp gives it what it supports: products of quantized weights in host memory and float32 columns, and
 * flash attention over a float16 KV memory. This happens only in threads that have called `ecellm_prompt_use`.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ECELLM_PROMPT_VERSION 4

#if defined(_WIN32)
#define ECELLM_PROMPT_API __declspec(dllexport)
#else
#define ECELLM_PROMPT_API __attribute__((visibility("default")))
#endif

/* Functions of the ggml that llama.cpp has loaded, by their names in ggml. */
struct ecellm_ggml {
    int (*graph_n_nodes)(void *graph);
    void *(*graph_node)(void *graph, int index);
    void *(*cpu_buffer_type)(void);
    void *(*cpu_buffer_from_ptr)(void *data, size_t size);
    int8_t (*buft_is_host)(void *buffer_type);
    size_t (*tensor_overhead)(void);
};

enum ecellm_prompt_status {
    ECELLM_PROMPT_OK = 0,
    ECELLM_PROMPT_NO_VARIANT = 1, /* the library or the processor does not have it */
    ECELLM_PROMPT_NO_FUNCTION = 2, /* a function is null */
    ECELLM_PROMPT_OTHER_TENSOR = 3, /* ggml's tensors have another size */
    ECELLM_PROMPT_BAD_SHAPE = 4, /* no such type here, or a shape that does not fit it */
    ECELLM_PROMPT_NO_MEMORY = 5,
};

ECELLM_PROMPT_API int ecellm_prompt_version(void);

/* The variants that this processor can run, the fastest first, separated by spaces. */
ECELLM_PROMPT_API const char *ecellm_prompt_variants(void);

/* Prepare the library for products of at least `least` columns. 0 stands for the measured best number for each type. */
ECELLM_PROMPT_API int ecellm_prompt_start(const struct ecellm_ggml *functions, size_t least);

/* What llama.cpp leaves to the kernels. */
enum ecellm_prompt_mode {
    ECELLM_PROMPT_OFF = 0,  /* nothing */
    ECELLM_PROMPT_FAST = 1, /* products and attention that are faster than ggml's own */
    /* All products, attention and writes to the KV memory. A token's results then depend on its own sequence only, up to
     * the last bit: not on the other tokens of a call, on where the KV memory holds its sequence, or on threads. */
    ECELLM_PROMPT_STABLE = 2,
    /* The same, after sequences were loaded into an empty KV memory, each in the order of the cells. */
    ECELLM_PROMPT_STABLE_LOADED = 3,
};

/* Set the variant and the mode of llama.cpp calls by this thread. They are off at first, and off if there is no such
 * variant here, which ECELLM_PROMPT_NO_VARIANT says. */
ECELLM_PROMPT_API int ecellm_prompt_use(const char *variant, int mode);

/* In a stable mode, some operations must not be left to ggml. Return the number (enum ggml_op) of one that was, since
 * this thread last called ecellm_prompt_use with a stable mode, or -1 if there was none. */
ECELLM_PROMPT_API int ecellm_prompt_declined(void);

/* How many products, and how many attentions, the back end has computed in this process. */
ECELLM_PROMPT_API uint64_t ecellm_prompt_products(void);
ECELLM_PROMPT_API uint64_t ecellm_prompt_attentions(void);

/* Compute one product (see struct Product in product.h), with the same results as the back end in a stable mode. `y` must
 * not overlap the other buffers; floats are aligned to 4 bytes. */
ECELLM_PROMPT_API int ecellm_prompt_multiply(const char *variant, int type, const void *w, size_t w_stride,
                                             const float *x, size_t x_stride, float *y, size_t y_stride, size_t depth,
                                             size_t rows, size_t columns, int threads);

/* y = softmax(scale q k + mask) v for each token and head. Strides are bytes from one token, cell or head to the next;
 * a token's, or a cell's, `width` elements of a head are neighbours.
 *
 * `q` and `y` are float32, (tokens, heads, width). `k` and `v` are float16, (cells, kv_heads, width): heads / kv_heads
 * heads share a KV head. `mask` is float16, (tokens, cells): minus infinity where a token must not read a cell, and then
 * nothing of the cell reaches the token's result as long as the cell's key and value are finite. A token that may read
 * no cell gets zeros.
 */
struct ecellm_attention {
    const float *q;
    const uint16_t *k, *v, *mask;
    float *y;
    size_t q_stride, q_head_stride, k_stride, k_head_stride, v_stride, v_head_stride, mask_stride, y_stride, y_head_stride;
    size_t width, tokens, cells, heads, kv_heads; /* width: a multiple of 8, at most 256 */
    float scale;
    const uint32_t *order; /* the cell in `k` and `v` of each cell of the mask; if null, the mask has them in place */
};

/* Compute one attention, with the same results as the back end. `y` must not overlap the other buffers. */
ECELLM_PROMPT_API int ecellm_prompt_attend(const char *variant, const struct ecellm_attention *attention, int threads);

/* The functions that ggml_backend_load looks up. */
ECELLM_PROMPT_API struct ggml_backend_reg *ggml_backend_init(void);
ECELLM_PROMPT_API int ggml_backend_score(void);

#ifdef __cplusplus
}
#endif
