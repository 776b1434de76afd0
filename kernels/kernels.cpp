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
    size_t size;
    switch (type) {
    case ECELLM_F32:
        return product(columns, 4, size) ? size : 0;
    case ECELLM_F16:
    case ECELLM_BF16:
        return product(columns, 2, size) ? size : 0;
    case ECELLM_Q2_K:
    case ECELLM_Q3_K:
    case ECELLM_Q4_K:
    case ECELLM_Q5_K:
    case ECELLM_Q6_K: {
        static const size_t block[] = {84, 110, 144, 176, 210};
        return columns % 256 == 0 && product(columns / 256, block[type - ECELLM_Q2_K], size) ? size : 0;
    }
    default:
        return 0;
    }
}
