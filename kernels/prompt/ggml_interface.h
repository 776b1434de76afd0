/* The part of ggml that this library uses, declared as in llama.cpp's API version 2 (ggml.h, ggml-backend.h,
 * ggml-backend-impl.h). So compiling needs no ggml header, and linking needs no ggml library.
 *
 * ggml_backend_load refuses a library of another version. Before the back end is used, the size of a tensor and test
 * products are checked too (ecellm_lite/kernels/prompt).
 */
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

constexpr int ggml_api_version = 2;

/* The values used of enum ggml_type, ggml_op, ggml_tensor_flag, ggml_status and ggml_backend_dev_type. */
constexpr int ggml_type_f32 = 0, ggml_type_f16 = 1, ggml_type_i64 = 27;
constexpr int ggml_op_none = 0, ggml_op_mul_mat = 29, ggml_op_flash_attn_ext = 74;
constexpr int ggml_op_reshape = 36, ggml_op_view = 37, ggml_op_permute = 38, ggml_op_transpose = 39;
constexpr int ggml_op_set_rows = 42;
/* Operations that compute each row of a matrix by itself: add, sub, mul, div, norm, rms_norm, scale, cpy, cont, get_rows,
 * rope, unary and glu. */
constexpr int ggml_ops_by_row[] = {2, 6, 7, 8, 24, 25, 32, 34, 35, 40, 48, 91, 100};
constexpr int ggml_flag_compute = 16;
constexpr int ggml_status_alloc_failed = -2, ggml_status_failed = -1, ggml_status_success = 0;
constexpr int ggml_device_type_accel = 3;

struct ggml_tensor {
    int type;
    struct ggml_backend_buffer *buffer;
    int64_t ne[4]; /* elements */
    size_t nb[4];  /* strides in bytes */
    int op;
    int32_t op_params[16];
    int32_t flags;
    ggml_tensor *src[10];
    ggml_tensor *view_src;
    size_t view_offs;
    void *data;
    char name[64];
    void *extra;
    char padding[8];
};

struct ggml_cgraph;
struct ggml_backend_buffer;
struct ggml_backend_buffer_type;
struct ggml_backend_event;
struct ggml_backend_device;
struct ggml_backend_reg;
struct ggml_backend;

struct ggml_backend_dev_caps {
    bool async, host_buffer, buffer_from_host_ptr, events, mmap_support;
};

struct ggml_backend_dev_props {
    const char *name, *description;
    size_t memory_free, memory_total;
    int type;
    const char *device_id;
    ggml_backend_dev_caps caps;
};

typedef void (*ggml_unused)();

struct ggml_backend_i {
    const char *(*get_name)(ggml_backend *);
    void (*free)(ggml_backend *);
    ggml_unused set_tensor_async, get_tensor_async, set_tensor_2d_async, get_tensor_2d_async, cpy_tensor_async;
    ggml_unused synchronize;
    ggml_unused graph_plan_create, graph_plan_free, graph_plan_update, graph_plan_compute;
    int (*graph_compute)(ggml_backend *, ggml_cgraph *);
    ggml_unused event_record, event_wait;
    ggml_unused graph_optimize;
};

struct ggml_backend {
    const uint8_t (*guid)[16];
    ggml_backend_i iface;
    ggml_backend_device *device;
    void *context;
};

struct ggml_backend_device_i {
    const char *(*get_name)(ggml_backend_device *);
    const char *(*get_description)(ggml_backend_device *);
    void (*get_memory)(ggml_backend_device *, size_t *free, size_t *total);
    int (*get_type)(ggml_backend_device *);
    void (*get_props)(ggml_backend_device *, ggml_backend_dev_props *);
    ggml_backend *(*init_backend)(ggml_backend_device *, const char *);
    ggml_backend_buffer_type *(*get_buffer_type)(ggml_backend_device *);
    ggml_unused get_host_buffer_type;
    ggml_backend_buffer *(*buffer_from_host_ptr)(ggml_backend_device *, void *, size_t size, size_t max_tensor_size);
    bool (*supports_op)(ggml_backend_device *, const ggml_tensor *);
    bool (*supports_buft)(ggml_backend_device *, ggml_backend_buffer_type *);
    ggml_unused offload_op;
    ggml_unused event_new, event_free, event_synchronize;
};

struct ggml_backend_device {
    ggml_backend_device_i iface;
    ggml_backend_reg *reg;
    void *context;
};

struct ggml_backend_reg_i {
    const char *(*get_name)(ggml_backend_reg *);
    size_t (*get_device_count)(ggml_backend_reg *);
    ggml_backend_device *(*get_device)(ggml_backend_reg *, size_t);
    void *(*get_proc_address)(ggml_backend_reg *, const char *name);
};

struct ggml_backend_reg {
    int api_version;
    ggml_backend_reg_i iface;
    void *context;
};

} // extern "C"
