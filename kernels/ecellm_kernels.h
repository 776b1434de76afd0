/* The native half of ecellm-lite's converter: a C ABI that ecellm_lite/kernels.py loads with ctypes.
 *
 * Every function takes plain pointers that the caller owns, keeps nothing after it returns, allocates nothing, may be
 * called from several threads at once on buffers that do not overlap, and returns a status instead of aborting.
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

/* Raised with every change of a signature or of a result; the Python side refuses another version. */
#define ECELLM_KERNELS_VERSION 1

enum ecellm_status {
    ECELLM_OK = 0,
    ECELLM_NULL_POINTER = 1, /* a pointer is null and count is not 0 */
};

/* The ECELLM_KERNELS_VERSION that the library was built with. */
ECELLM_API int ecellm_kernels_version(void);

/* Widen `count` bfloat16 values (their bits, native byte order, 2-byte aligned) to float32 (4-byte aligned).
 * Exact: every value, NaN payloads and signed zeros included, keeps its bits. The buffers must not overlap. */
ECELLM_API int ecellm_widen_bf16(const uint16_t *source, float *target, size_t count);

#endif
