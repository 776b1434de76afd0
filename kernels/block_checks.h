/* Checks a block before any of it is read or written. */
#pragma once

#include "types.h"

#include <initializer_list>

inline int check_source(const ecellm_block &block) {
    const size_t own_size = row_size(block.source_type, block.columns), align = alignment(block.source_type);
    size_t end;
    if (align == 1 && !block.to_float) {
        return ECELLM_BAD_TYPE;
    }
    if (is_known(block.source_type) && !own_size) {
        return ECELLM_BAD_SHAPE;
    }
    if ((own_size && own_size != block.source_row_size) || block.source_row_size == 0 || block.source_size > PTRDIFF_MAX
        || block.source_stride < block.source_row_size || block.source_stride % align
        || !product(block.rows - 1, block.source_stride, end) || end + block.source_row_size > block.source_size) {
        return ECELLM_BAD_SIZE;
    }
    if (!block.source) {
        return ECELLM_NULL_POINTER;
    }
    return aligned(block.source, align) ? ECELLM_OK : ECELLM_MISALIGNED;
}

inline int check_target(const ecellm_block &block) {
    const size_t own_size = row_size(block.target_type, block.columns);
    size_t size;
    if (is_known(block.target_type) && !own_size) {
        return ECELLM_BAD_SHAPE;
    }
    if (!is_float(block.target_type) && !is_quantized_here(block.target_type, block.importance)
        && !block.quantize_chunk) {
        return ECELLM_BAD_TYPE;
    }
    if (own_size && own_size != block.target_row_size) {
        return ECELLM_BAD_SIZE;
    }
    if (block.target_row_size == 0 || !product(block.rows, block.target_row_size, size) || size != block.target_size) {
        return ECELLM_BAD_SIZE;
    }
    if (!block.target) {
        return ECELLM_NULL_POINTER;
    }
    return aligned(block.target, alignment(block.target_type)) ? ECELLM_OK : ECELLM_MISALIGNED;
}

inline int check_adapters(const ecellm_block &block) {
    if (block.adapter_count > ECELLM_MOST_ADAPTERS) {
        return ECELLM_BAD_SHAPE;
    }
    if (block.adapter_count && !block.adapters) {
        return ECELLM_NULL_POINTER;
    }
    for (size_t k = 0; k < block.adapter_count; k++) {
        const ecellm_adapter &adapter = block.adapters[k];
        if (adapter.rank == 0 || adapter.rank > ECELLM_MOST_RANK) {
            return ECELLM_BAD_SHAPE;
        }
        for (const float *factor : {adapter.a, adapter.b}) {
            if (const int status = check_floats(factor, true)) {
                return status;
            }
        }
        size_t a_size, b_size;
        if (!product(adapter.rank * 4, block.columns, a_size) || !product(adapter.rank * 4, block.rows, b_size)) {
            return ECELLM_BAD_SHAPE;
        }
        if (overlap(block.target, block.target_size, adapter.a, a_size)
            || overlap(block.target, block.target_size, adapter.b, b_size)) {
            return ECELLM_OVERLAP;
        }
    }
    return ECELLM_OK;
}

inline int check(const ecellm_block &block) {
    size_t count, bytes;
    if (block.columns == 0 || !product(block.rows, block.columns, count) || !product(count, 4, bytes)) {
        return ECELLM_BAD_SHAPE;
    }
    for (const int status : {check_source(block), check_target(block), check_adapters(block),
                             check_floats(block.magnitudes, false), check_floats(block.importance, false)}) {
        if (status != ECELLM_OK) {
            return status;
        }
    }
    if (!aligned(block.order, alignof(uint32_t))) {
        return ECELLM_MISALIGNED;
    }
    for (size_t row = 0; block.order && row < block.rows; row++) {
        if (block.order[row] >= block.rows) {
            return ECELLM_BAD_ORDER;
        }
    }
    const struct {
        const void *start;
        size_t size;
    } inputs[] = {
        {block.source, block.source_size},
        {block.magnitudes, block.rows * 4},
        {block.order, block.rows * 4},
        {block.importance, block.columns * 4},
        {block.adapters, block.adapter_count * sizeof(ecellm_adapter)},
    };
    for (const auto &input : inputs) {
        if (overlap(block.target, block.target_size, input.start, input.size)) {
            return ECELLM_OVERLAP;
        }
    }
    return ECELLM_OK;
}
