/* The native half of ecellm-lite's converter: a C ABI that ecellm_lite/kernels/native.py loads with ctypes.
 *
 * Every function takes plain pointers that the caller owns, and keeps nothing after it returns. It may be called from
 * several threads at once on targets that do not overlap. Nothing aborts: a call that fails returns a status other than
 * ECELLM_OK and leaves the target undefined. ecellm_status_message describes the status.
 *
 * Matrices are row-major and contiguous unless a stride is given. Floats are IEEE 754 in native byte order, aligned to
 * 4 bytes. Blocks of quantized weights are bytes without alignment. A type is ggml's number for it (enum ggml_type),
 * and `columns` must be a multiple of its block: 32 weights, or 256 for the K-quants.
 */
#ifndef ECELLM_KERNELS_H
#define ECELLM_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define ECELLM_API __declspec(dllexport)
#else
#define ECELLM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Incremented with every change of a signature or a result; the Python side refuses any other version. */
#define ECELLM_KERNELS_VERSION 3

/* The largest rank of an adapter, and the most adapters in one call. */
#define ECELLM_MOST_RANK 256
#define ECELLM_MOST_ADAPTERS 64

enum ecellm_status {
    ECELLM_OK = 0,
    ECELLM_NULL_POINTER = 1,  /* a required pointer is null */
    ECELLM_BAD_TYPE = 2,      /* not a type of this function */
    ECELLM_BAD_SHAPE = 3,     /* columns are not a multiple of the type's block, a rank is 0 or too large, or sizes
                                 multiply to more than memory can hold */
    ECELLM_BAD_SIZE = 4,      /* a buffer's size differs from its shape's */
    ECELLM_MISALIGNED = 5,    /* floats do not start at a multiple of their size */
    ECELLM_NOT_FINITE = 6,    /* an infinity or NaN; `place` says where */
    ECELLM_OVERLAP = 7,       /* the target and an input share memory */
    ECELLM_BAD_ORDER = 8,     /* `order` names a row that does not exist */
    ECELLM_NO_MEMORY = 9,     /* no memory for the rows being converted */
    ECELLM_NO_VARIANT = 10,   /* this library or processor lacks the variant */
};

enum ecellm_type {
    ECELLM_F32 = 0,
    ECELLM_F16 = 1,
    ECELLM_Q4_0 = 2,
    ECELLM_Q4_1 = 3,
    ECELLM_Q5_0 = 6,
    ECELLM_Q5_1 = 7,
    ECELLM_Q8_0 = 8,
    ECELLM_Q2_K = 10,
    ECELLM_Q3_K = 11,
    ECELLM_Q4_K = 12,
    ECELLM_Q5_K = 13,
    ECELLM_Q6_K = 14,
    ECELLM_BF16 = 30,
};

/* The place of a value that was refused. */
struct ecellm_place {
    uint64_t row, column;
};

/* The ECELLM_KERNELS_VERSION of this library. */
ECELLM_API int ecellm_kernels_version(void);

/* A sentence that describes any status, also an unknown one. The text is static and never null. */
ECELLM_API const char *ecellm_status_message(int status);

/* The names of the variants that this processor can run (avx512, avx2, neon, baseline), best first, separated by
 * spaces. The text is static and never null. */
ECELLM_API const char *ecellm_variants(void);

/* How many bytes a row of `columns` weights of a type has. The result is 0 if the type is not in enum ecellm_type, if
 * the columns are not a multiple of its block, or if the number overflows. */
ECELLM_API size_t ecellm_row_size(int type, size_t columns);

/* An adapter, which changes weights to weights + (scale * b) a. `a` is (rank, columns) and `b` is (rows, rank); both
 * are float32 and contiguous. `rank` is from 1 to ECELLM_MOST_RANK. */
struct ecellm_adapter {
    const float *a;
    const float *b;
    size_t rank;
    float scale;
};

/* ggml's own functions: to_float of its type traits, and ggml_quantize_chunk. They are used for types outside enum
 * ecellm_type, to widen all blocks, and to quantize to Q4_0, Q4_1, Q5_0 and Q5_1 with an importance. Both may be called
 * from several threads. Their arguments are not checked here. The caller must pass the type's row sizes, `columns` that
 * are a multiple of its block, blocks aligned to 2 bytes, and an importance if the type needs one. */
typedef void (*ecellm_to_float)(const void *blocks, float *weights, int64_t count);
typedef size_t (*ecellm_quantize_chunk)(int type, const float *weights, void *blocks, int64_t start, int64_t rows,
                                        int64_t columns, const float *importance);

/* A block of rows to convert: widened, merged, scaled, permuted and quantized. */
struct ecellm_block {
    size_t rows, columns;     /* with 0 rows, nothing is checked or done */

    int source_type;          /* ECELLM_F32, ECELLM_F16, ECELLM_BF16, or any type with `to_float` */
    const void *source;       /* `rows` rows, aligned to 4 bytes (F32) or 2 (F16, BF16) */
    size_t source_stride;     /* bytes from one row to the next, a multiple of that alignment */
    size_t source_size;       /* bytes at `source`, at least up to the end of the last row */
    size_t source_row_size;   /* bytes of a row; the type's own for one of enum ecellm_type */
    ecellm_to_float to_float; /* null for F32, F16 and BF16 */

    const struct ecellm_adapter *adapters; /* added one after the other; null if adapter_count is 0 */
    size_t adapter_count;     /* at most ECELLM_MOST_ADAPTERS */
    const float *magnitudes;  /* (rows,) DoRA: the norm that each merged row is scaled to, or null */
    const uint32_t *order;    /* (rows,) for each row of the target, its row in the source, b and magnitudes; null
                                 if they are in the same order */

    int target_type;          /* any of enum ecellm_type, or another with `quantize_chunk`; see above */
    const float *importance;  /* (columns,) the imatrix, or null */
    void *target;             /* `rows` contiguous rows, aligned to 4 bytes (F32) or 2 (F16, BF16) */
    size_t target_size;       /* bytes: rows * target_row_size */
    size_t target_row_size;   /* bytes of a row; the type's own for one of enum ecellm_type */
    ecellm_quantize_chunk quantize_chunk; /* ignored where it is not needed, and may be null there */
};

/* Convert a block. This takes memory for a few rows per thread and for a copy of the adapters' A.
 *
 * The bytes are the same as if each step were applied to whole matrices in float32: delta = the sum over the adapters
 * and their ranks of (scale * b) * a, starting from zero; weights + delta; each row times magnitude / norm. A result
 * that is not finite is refused. A finite result that is too large for F16 becomes infinite, as in ggml. Every variant
 * quantizes byte for byte like ggml_quantize_chunk built for baseline x86-64, even if the calling thread flushes
 * denormals to zero.
 *
 * variant  one of ecellm_variants(), or null for the best
 * threads  the most to use, including the caller's; 0 counts as 1
 * place    receives the target row and column of what is not finite (for an importance, row `rows`); may be null
 */
ECELLM_API int ecellm_convert_block(const char *variant, const struct ecellm_block *block, unsigned threads,
                                    struct ecellm_place *place);

#ifdef __cplusplus
}
#endif

#endif
