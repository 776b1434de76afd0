#include "ecellm_kernels.h"

#include "checks.h"

int ecellm_kernels_version(void) {
    return ECELLM_KERNELS_VERSION;
}

const char *ecellm_status_message(int status) {
    switch (status) {
    case ECELLM_OK:
        return "all is well";
    case ECELLM_NULL_POINTER:
        return "a pointer that is needed is null";
    case ECELLM_BAD_TYPE:
        return "there is no such type here";
    case ECELLM_BAD_SHAPE:
        return "the shape does not fit the type, or is too large";
    case ECELLM_BAD_SIZE:
        return "a buffer has another size than its shape says";
    case ECELLM_MISALIGNED:
        return "values are not aligned to their size";
    case ECELLM_NOT_FINITE:
        return "a value is infinite or not a number";
    case ECELLM_OVERLAP:
        return "the target and an input share memory";
    case ECELLM_BAD_ORDER:
        return "the order names a row that is not there";
    case ECELLM_NO_MEMORY:
        return "there is not enough memory";
    case ECELLM_NO_VARIANT:
        return "this processor or library has no such variant";
    default:
        return "there is no such status";
    }
}

size_t ecellm_row_size(int type, size_t columns) {
    static const struct {
        int type;
        size_t weights, bytes; /* of a block */
    } known[] = {
        {ECELLM_F32, 1, 4},      {ECELLM_F16, 1, 2},      {ECELLM_BF16, 1, 2},     {ECELLM_Q4_0, 32, 18},
        {ECELLM_Q4_1, 32, 20},   {ECELLM_Q5_0, 32, 22},   {ECELLM_Q5_1, 32, 24},   {ECELLM_Q8_0, 32, 34},
        {ECELLM_Q2_K, 256, 84},  {ECELLM_Q3_K, 256, 110}, {ECELLM_Q4_K, 256, 144}, {ECELLM_Q5_K, 256, 176},
        {ECELLM_Q6_K, 256, 210},
    };
    for (const auto &each : known) {
        size_t size;
        if (each.type == type) {
            return columns % each.weights == 0 && product(columns / each.weights, each.bytes, size) ? size : 0;
        }
    }
    return 0;
}
