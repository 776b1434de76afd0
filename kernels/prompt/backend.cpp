/* The back end: a ggml device of kind ACCEL, like its BLAS back end, for MUL_MAT and FLASH_ATTN_EXT, and in stable mode
 * also for SET_ROWS. */
#include "attention.h"
#include "ecellm_prompt.h"
#include "ggml_interface.h"
#include "kv_memory.h"
#include "multiply.h"
#include "variants.h"
#include "weights.h"

#include <atomic>
#include <cstring>
#include <new>

namespace {

ecellm_ggml ggml{};
size_t least_columns = 0;
std::atomic<uint64_t> products{0}, attentions{0};
thread_local const Variant *variant = nullptr;
thread_local int mode = ECELLM_PROMPT_OFF, declined = -1;

bool is_stable() {
    return mode >= ECELLM_PROMPT_STABLE;
}

struct Context {
    Memory memory;
    WrittenCells cells;
    int threads = 1;
};

constexpr char name[] = "ecellm", description[] = "prompt kernels of ecellm-lite";

extern ggml_backend_device device; /* defined below, with its functions */
extern ggml_backend_reg registry;

/* With fewer columns ggml's own path is as fast. Measured on Zen 2: for floats, whose panels take as long to unpack as
 * three to five columns take to multiply, on whole prompts of a small model (benchmarks/prompts.py). */
size_t least(int type) {
    if (is_stable()) {
        return 1;
    }
    if (least_columns) {
        return least_columns;
    }
    switch (type) {
    case type_q3_k:
    case type_q6_k:
        return 2;
    case type_q2_k:
        return 3;
    case type_f16:
        return 12;
    case type_bf16:
        return 16;
    default:
        return 1;
    }
}

bool is_ours(const ggml_tensor &op) {
    const ggml_tensor &w = *op.src[0], &x = *op.src[1];
    return variant->has_type(w.type) && x.type == ggml_type_f32 && op.type == ggml_type_f32 // types
           && (size_t)w.ne[0] % variant->block_weights(w.type) == 0                         // whole blocks
           && w.ne[2] == 1 && w.ne[3] == 1 && x.ne[2] == 1 && x.ne[3] == 1                   // one matrix each
           && x.nb[0] == sizeof(float) && op.nb[0] == sizeof(float)                          // whole columns
           && x.nb[1] % sizeof(float) == 0 && (size_t)x.ne[1] >= least(w.type);
}

Product product_of(const ggml_tensor &op) {
    const ggml_tensor &w = *op.src[0], &x = *op.src[1];
    return {w.type,   (const uint8_t *)w.data, (const float *)x.data, (float *)op.data,  w.nb[1],
            x.nb[1],  op.nb[1],                (size_t)w.ne[0],       (size_t)w.ne[1], (size_t)x.ne[1],
            is_stable()};
}

/* With fewer tokens ggml's own attention is as fast, and it saves a change between two back ends. */
constexpr int64_t least_tokens = 8;

bool is_our_attention(const ggml_tensor &op) {
    const ggml_tensor &q = *op.src[0], &k = *op.src[1], &v = *op.src[2];
    const ggml_tensor *const mask = op.src[3], *const sinks = op.src[4];
    float parameters[3]; /* the scale, ALiBi's largest bias, and the soft cap */
    std::memcpy(parameters, op.op_params, sizeof parameters);
    return mask && !sinks && parameters[1] == 0 && parameters[2] == 0                                 // plain
           && q.type == ggml_type_f32 && k.type == ggml_type_f16 && v.type == ggml_type_f16          // types
           && mask->type == ggml_type_f16 && op.type == ggml_type_f32                                 //
           && q.nb[0] == 4 && k.nb[0] == 2 && v.nb[0] == 2 && mask->nb[0] == 2 && op.nb[0] == 4       // whole heads
           && q.ne[0] == k.ne[0] && q.ne[0] == v.ne[0] && q.ne[0] % 8 == 0 && q.ne[0] <= most_width   // width
           && q.ne[3] == 1 && k.ne[3] == 1 && v.ne[3] == 1 && mask->ne[2] == 1 && mask->ne[3] == 1    // one memory
           && k.ne[2] == v.ne[2] && k.ne[2] > 0 && q.ne[2] % k.ne[2] == 0                             // heads
           && k.ne[1] == v.ne[1] && mask->ne[0] == k.ne[1] && mask->ne[1] >= q.ne[1]                  // cells, tokens
           && (is_stable() || q.ne[1] >= least_tokens) && q.nb[1] % 4 == 0 && q.nb[2] % 4 == 0;
}

Attention attention_of(const ggml_tensor &op) {
    const ggml_tensor &q = *op.src[0], &k = *op.src[1], &v = *op.src[2], &mask = *op.src[3];
    Attention attention = {};
    attention.q = (const float *)q.data, attention.q_stride = q.nb[1], attention.q_head_stride = q.nb[2];
    attention.k = (const uint16_t *)k.data, attention.k_stride = k.nb[1], attention.k_head_stride = k.nb[2];
    attention.v = (const uint16_t *)v.data, attention.v_stride = v.nb[1], attention.v_head_stride = v.nb[2];
    attention.mask = (const uint16_t *)mask.data, attention.mask_stride = mask.nb[1];
    attention.y = (float *)op.data, attention.y_stride = op.nb[2], attention.y_head_stride = op.nb[1];
    attention.width = (size_t)q.ne[0], attention.tokens = (size_t)q.ne[1], attention.cells = (size_t)k.ne[1];
    attention.heads = (size_t)q.ne[2], attention.kv_heads = (size_t)k.ne[2];
    std::memcpy(&attention.scale, op.op_params, sizeof attention.scale);
    return attention;
}

/* A write of float32 rows to a KV memory of float16. */
bool is_our_write(const ggml_tensor &op) {
    const ggml_tensor &x = *op.src[0], &cells = *op.src[1];
    return is_stable() && x.type == ggml_type_f32 && op.type == ggml_type_f16 && cells.type == ggml_type_i64 // types
           && x.nb[0] == 4 && op.nb[0] == 2 && cells.nb[0] == 8 && x.nb[1] % 4 == 0 && op.nb[1] % 2 == 0     // whole rows
           && x.ne[2] == 1 && x.ne[3] == 1 && op.ne[2] == 1 && op.ne[3] == 1                                 // one memory
           && x.ne[0] == op.ne[0] && x.ne[1] == cells.ne[0] && cells.ne[1] == 1 && cells.ne[2] == 1;
}

Write write_of(const ggml_tensor &op) {
    const ggml_tensor &x = *op.src[0];
    return {(const uint8_t *)x.data, (uint8_t *)op.data,   (const int64_t *)op.src[1]->data, x.nb[1], op.nb[1],
            (size_t)x.ne[1],         (size_t)x.ne[0], (size_t)op.ne[1]};
}

bool compute_write(Context &context, const ggml_tensor &op) {
    const Write write = write_of(op);
    if (!context.cells.note(write, mode == ECELLM_PROMPT_STABLE_LOADED)) {
        return false;
    }
    store(write, context.threads);
    return true;
}

bool compute_attention(Context &context, const ggml_tensor &op) {
    Attention attention = attention_of(op);
    return (!is_stable() || context.cells.arrange(attention, context.threads))
           && attend(*variant, attention, context.threads, context.memory);
}

const char *backend_name(ggml_backend *) {
    return name;
}

void free_backend(ggml_backend *backend) {
    delete (Context *)backend->context;
    delete backend;
}

int compute(ggml_backend *backend, ggml_cgraph *graph) {
    if (!variant) {
        return ggml_status_failed; /* another thread than the one that switched the kernels on */
    }
    Context &context = *(Context *)backend->context;
    const int count = ggml.graph_n_nodes(graph);
    for (int i = 0; i < count; i++) {
        const ggml_tensor &op = *(const ggml_tensor *)ggml.graph_node(graph, i);
        if (!(op.flags & ggml_flag_compute)) {
            continue;
        }
        bool done = true; /* a view has nothing to compute */
        if (op.op == ggml_op_mul_mat) {
            done = multiply(*variant, product_of(op), context.threads, context.memory);
            products++;
        } else if (op.op == ggml_op_flash_attn_ext) {
            done = compute_attention(context, op);
            attentions++;
        } else if (op.op == ggml_op_set_rows) {
            done = compute_write(context, op);
        }
        if (!done) {
            return ggml_status_alloc_failed;
        }
    }
    return ggml_status_success;
}

ggml_backend *make_backend(ggml_backend_device *, const char *) {
    static const uint8_t guid[16] = {'e', 'c', 'e', 'l', 'l', 'm', '-', 'p', 'r', 'o', 'm', 'p', 't', 0, 0, 1};
    ggml_backend *const backend = new (std::nothrow) ggml_backend{};
    Context *const context = new (std::nothrow) Context;
    if (!backend || !context) {
        delete backend;
        delete context;
        return nullptr;
    }
    backend->guid = &guid;
    backend->iface.get_name = backend_name;
    backend->iface.free = free_backend;
    backend->iface.graph_compute = compute;
    backend->device = &device;
    backend->context = context;
    return backend;
}

void set_threads(ggml_backend *backend, int threads) {
    ((Context *)backend->context)->threads = threads > 0 ? threads : 1;
}

const char *device_name(ggml_backend_device *) {
    return name;
}

const char *device_description(ggml_backend_device *) {
    return description;
}

void device_memory(ggml_backend_device *, size_t *free, size_t *total) {
    *free = *total = 0;
}

int device_type(ggml_backend_device *) {
    return ggml_device_type_accel;
}

void device_properties(ggml_backend_device *, ggml_backend_dev_props *properties) {
    *properties = {};
    properties->name = name;
    properties->description = description;
    properties->type = ggml_device_type_accel;
    properties->caps.buffer_from_host_ptr = properties->caps.mmap_support = true;
}

ggml_backend_buffer_type *buffer_type(ggml_backend_device *) {
    return (ggml_backend_buffer_type *)ggml.cpu_buffer_type();
}

ggml_backend_buffer *buffer_from_host(ggml_backend_device *, void *data, size_t size, size_t) {
    return (ggml_backend_buffer *)ggml.cpu_buffer_from_ptr(data, size);
}

bool is_by_row(int op) {
    for (const int each : ggml_ops_by_row) {
        if (op == each) {
            return true;
        }
    }
    return false;
}

bool supports_op(ggml_backend_device *, const ggml_tensor *op) {
    if (mode == ECELLM_PROMPT_OFF) {
        return false;
    }
    bool ours = false;
    switch (op->op) {
    case ggml_op_none:
    case ggml_op_reshape:
    case ggml_op_view:
    case ggml_op_permute:
    case ggml_op_transpose:
        return true;
    case ggml_op_mul_mat:
        ours = is_ours(*op);
        break;
    case ggml_op_flash_attn_ext:
        ours = is_our_attention(*op);
        break;
    case ggml_op_set_rows:
        ours = is_our_write(*op);
        break;
    }
    if (!ours && is_stable() && !is_by_row(op->op)) {
        declined = op->op;
    }
    return ours;
}

bool supports_buffer_type(ggml_backend_device *, ggml_backend_buffer_type *type) {
    return ggml.buft_is_host(type);
}

const char *registry_name(ggml_backend_reg *) {
    return name;
}

size_t device_count(ggml_backend_reg *) {
    return 1;
}

ggml_backend_device *get_device(ggml_backend_reg *, size_t) {
    return &device;
}

void *get_address(ggml_backend_reg *, const char *function) {
    return std::strcmp(function, "ggml_backend_set_n_threads") ? nullptr : (void *)set_threads;
}

ggml_backend_device device = {
    {device_name, device_description, device_memory, device_type, device_properties, make_backend, buffer_type, nullptr,
     buffer_from_host, supports_op, supports_buffer_type, nullptr, nullptr, nullptr, nullptr},
    &registry,
    nullptr,
};

ggml_backend_reg registry = {ggml_api_version, {registry_name, device_count, get_device, get_address}, nullptr};

} // namespace

int ecellm_prompt_version(void) {
    return ECELLM_PROMPT_VERSION;
}

const char *ecellm_prompt_variants(void) {
    return variant_names();
}

int ecellm_prompt_start(const ecellm_ggml *functions, size_t least) {
    const ecellm_ggml &f = *functions;
    if (!f.graph_n_nodes || !f.graph_node || !f.cpu_buffer_type || !f.cpu_buffer_from_ptr || !f.buft_is_host
        || !f.tensor_overhead) {
        return ECELLM_PROMPT_NO_FUNCTION;
    }
    constexpr size_t object = 32; /* struct ggml_object, which ggml includes in the overhead */
    if (f.tensor_overhead() != sizeof(ggml_tensor) + object) {
        return ECELLM_PROMPT_OTHER_TENSOR;
    }
    ggml = f;
    least_columns = least;
    return ECELLM_PROMPT_OK;
}

int ecellm_prompt_use(const char *name, int chosen) {
    variant = chosen == ECELLM_PROMPT_OFF ? nullptr : find_variant(name);
    mode = variant ? chosen : ECELLM_PROMPT_OFF;
    if (is_stable()) {
        declined = -1;
    }
    return variant || chosen == ECELLM_PROMPT_OFF ? ECELLM_PROMPT_OK : ECELLM_PROMPT_NO_VARIANT;
}

int ecellm_prompt_declined(void) {
    return declined;
}

uint64_t ecellm_prompt_products(void) {
    return products;
}

int ecellm_prompt_multiply(const char *name, int type, const void *w, size_t w_stride, const float *x, size_t x_stride,
                           float *y, size_t y_stride, size_t depth, size_t rows, size_t columns, int threads) {
    const Variant *const chosen = find_variant(name);
    if (!chosen) {
        return ECELLM_PROMPT_NO_VARIANT;
    }
    if (!chosen->has_type(type) || !rows || !columns || !depth || depth % chosen->block_weights(type) || threads < 1) {
        return ECELLM_PROMPT_BAD_SHAPE;
    }
    const Product product = {type, (const uint8_t *)w, x, y, w_stride, x_stride, y_stride, depth, rows, columns,
                             true};
    Memory memory;
    return multiply(*chosen, product, threads, memory) ? ECELLM_PROMPT_OK : ECELLM_PROMPT_NO_MEMORY;
}

uint64_t ecellm_prompt_attentions(void) {
    return attentions;
}

int ecellm_prompt_attend(const char *name, const ecellm_attention *attention, int threads) {
    const Variant *const chosen = find_variant(name);
    if (!chosen) {
        return ECELLM_PROMPT_NO_VARIANT;
    }
    const Attention &a = *attention;
    if (!a.width || a.width % 8 || a.width > most_width || !a.tokens || !a.heads || !a.kv_heads || a.heads % a.kv_heads
        || threads < 1) {
        return ECELLM_PROMPT_BAD_SHAPE;
    }
    Memory memory;
    return attend(*chosen, a, threads, memory) ? ECELLM_PROMPT_OK : ECELLM_PROMPT_NO_MEMORY;
}

ggml_backend_reg *ggml_backend_init(void) {
    return &registry;
}

int ggml_backend_score(void) {
    return ggml.graph_node ? 1 : 0;
}
