#include "ecellm_kernels.h"

#include "types.h"

int ecellm_kernels_version(void) {
    return ECELLM_KERNELS_VERSION;
}

const char *ecellm_status_message(int status) {
    switch (status) {
    case ECELLM_OK:
        return "success";
    case ECELLM_NULL_POINTER:
        return "a required pointer is null";
    case ECELLM_BAD_TYPE:
        return "this type is not supported here";
    case ECELLM_BAD_SHAPE:
        return "the shape does not fit the type, or is too large";
    case ECELLM_BAD_SIZE:
        return "a buffer's size does not match its shape";
    case ECELLM_MISALIGNED:
        return "values are not aligned to their size";
    case ECELLM_NOT_FINITE:
        return "a value is infinite or not a number";
    case ECELLM_OVERLAP:
        return "the target and an input share memory";
    case ECELLM_BAD_ORDER:
        return "the order names a row that does not exist";
    case ECELLM_NO_MEMORY:
        return "there is not enough memory";
    case ECELLM_NO_VARIANT:
        return "this processor or library lacks the variant";
    default:
        return "unknown status";
    }
}

size_t ecellm_row_size(int type, size_t columns) {
    return row_size(type, columns);
}
