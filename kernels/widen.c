#include "ecellm_kernels.h"

#include <string.h>

int ecellm_kernels_version(void) {
    return ECELLM_KERNELS_VERSION;
}

int ecellm_widen_bf16(const uint16_t *source, float *target, size_t count) {
    if (count == 0) {
        return ECELLM_OK;
    }
    if (source == NULL || target == NULL) {
        return ECELLM_NULL_POINTER;
    }
    for (size_t i = 0; i < count; i++) {
        /* A bfloat16 is the upper half of a float32. */
        const uint32_t bits = (uint32_t)source[i] << 16;
        memcpy(&target[i], &bits, sizeof bits);
    }
    return ECELLM_OK;
}
