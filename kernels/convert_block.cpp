/* Converts a block of a checkpoint's rows for a file, one strip of rows at a time. */
#include "ecellm_kernels.h"

#include "block_checks.h"
#include "float_mode.h"
#include "half.h"
#include "threads.h"
#include "variants.h"

#include <memory>
#include <new>

namespace {

/* A strip is large enough to fill the lanes and reuse a tile of A, and small enough for a core's cache. */
constexpr size_t strip_weights = 1 << 15, least_rows_merged = 8;

void widen(const Variant &variant, const ecellm_block &block, size_t row, float *target) {
    const auto *source = (const unsigned char *)block.source + row * block.source_stride;
    switch (block.source_type) {
    case ECELLM_F32:
        std::memcpy(target, source, block.columns * 4);
        break;
    case ECELLM_BF16:
        variant.widen_bf16((const uint16_t *)source, target, block.columns);
        break;
    case ECELLM_F16:
        variant.widen_f16((const uint16_t *)source, target, block.columns);
        break;
    default:
        block.to_float(source, target, (int64_t)block.columns);
    }
}

/* The adapters' A in the layout that a variant reads, shared by all threads. */
struct Packed {
    size_t ranks = 0;
    std::unique_ptr<float[]> a;

    bool pack(const Variant &variant, const ecellm_block &block) {
        for (size_t k = 0; k < block.adapter_count; k++) {
            ranks += block.adapters[k].rank;
        }
        const size_t tiles = block.columns / variant.tile_columns + (block.columns % variant.tile_columns != 0);
        size_t tile, size;
        if (ranks == 0) {
            return true;
        }
        if (!product(ranks, variant.tile_columns, tile) || !product(tile, tiles, size)) {
            return false;
        }
        a.reset(new (std::nothrow) float[size]);
        if (a) {
            variant.pack(block.adapters, block.adapter_count, block.columns, a.get());
        }
        return a != nullptr;
    }
};

int store_row(const ecellm_block &block, const float *weights, size_t row) {
    auto *target = (unsigned char *)block.target + row * block.target_row_size;
    switch (block.target_type) {
    case ECELLM_F32:
        std::memcpy(target, weights, block.columns * 4);
        break;
    case ECELLM_F16:
        for (size_t i = 0; i < block.columns; i++) {
            ((uint16_t *)target)[i] = half_from_float(weights[i]);
        }
        break;
    case ECELLM_BF16:
        for (size_t i = 0; i < block.columns; i++) {
            ((uint16_t *)target)[i] = bf16_from_float(weights[i]);
        }
        break;
    default:
        if (block.quantize_chunk(block.target_type, weights, target, 0, 1, (int64_t)block.columns, block.importance)
            != block.target_row_size) {
            return ECELLM_BAD_SIZE;
        }
    }
    return ECELLM_OK;
}

/* Shared by the threads. */
struct Plan {
    const Variant &variant;
    const ecellm_block &block;
    const Packed &packed;
    size_t strip_rows;
    std::atomic<size_t> &first_bad; /* index of the first weight that is not finite */

    /* Rows that need no other step before quantization are quantized in place. */
    bool untouched() const {
        return block.source_type == ECELLM_F32 && block.source_stride == block.columns * 4 && !block.adapter_count
               && !block.magnitudes && !block.order;
    }

    void report_bad(size_t index) const {
        size_t earliest = first_bad;
        while (index < earliest && !first_bad.compare_exchange_weak(earliest, index)) {
        }
    }
};

/* Runs strips of the block through all steps, in its own memory. */
class Worker {
    const Plan &plan;
    const StandardFloats mode;
    std::unique_ptr<float[]> strip;
    std::unique_ptr<size_t[]> sources; /* the source row of each row of the strip */

    const float *merged(size_t first, size_t rows) {
        const ecellm_block &block = plan.block;
        for (size_t i = 0; i < rows; i++) {
            sources[i] = block.order ? block.order[first + i] : first + i;
            widen(plan.variant, block, sources[i], &strip[i * block.columns]);
        }
        if (plan.packed.a) { /* adding even zero would turn -0 into 0 */
            plan.variant.merge(strip.get(), rows, block.columns, sources.get(), block.adapters, block.adapter_count,
                               plan.packed.ranks, plan.packed.a.get());
        }
        for (size_t i = 0; block.magnitudes && i < rows; i++) {
            plan.variant.scale_to_magnitude(&strip[i * block.columns], block.columns, block.magnitudes[sources[i]]);
        }
        return strip.get();
    }

    int refused(const float *weights, size_t first, size_t rows) const {
        const size_t columns = plan.block.columns;
        plan.report_bad(first * columns + plan.variant.find_not_finite(weights, rows * columns));
        return ECELLM_NOT_FINITE;
    }

public:
    explicit Worker(const Plan &plan) : plan(plan) {
        if (!plan.untouched()) {
            strip.reset(new (std::nothrow) float[plan.strip_rows * plan.block.columns]());
            sources.reset(new (std::nothrow) size_t[plan.strip_rows]);
        }
    }

    bool ready() const {
        return plan.untouched() || (strip && sources);
    }

    int operator()(size_t piece) {
        const ecellm_block &block = plan.block;
        const size_t first = piece * plan.strip_rows, columns = block.columns;
        const size_t rows = block.rows - first < plan.strip_rows ? block.rows - first : plan.strip_rows;
        const float *weights
            = plan.untouched() ? (const float *)block.source + first * columns : merged(first, rows);
        if (is_quantized_here(block.target_type, block.importance)) { /* quantizing also finds what is not finite */
            auto *target = (unsigned char *)block.target + first * block.target_row_size;
            return plan.variant.quantize(block.target_type, weights, rows, columns, block.importance, target)
                       ? ECELLM_OK
                       : refused(weights, first, rows);
        }
        for (size_t row = first; row < first + rows; row++, weights += columns) {
            if (plan.variant.find_not_finite(weights, columns) < columns) {
                return refused(weights, row, 1);
            }
            if (const int status = store_row(block, weights, row)) {
                return status;
            }
        }
        return ECELLM_OK;
    }
};

} // namespace

int ecellm_convert_block(const char *name, const struct ecellm_block *request, unsigned threads,
                         struct ecellm_place *place) {
    const Variant *variant = find_variant(name);
    if (!request) {
        return ECELLM_NULL_POINTER;
    }
    if (!variant) {
        return ECELLM_NO_VARIANT;
    }
    if (request->rows == 0) {
        return ECELLM_OK;
    }
    const ecellm_block block = *request;
    if (const int status = check(block)) {
        return status;
    }
    const size_t columns = block.columns;
    if (block.importance) {
        const size_t bad = variant->find_not_finite(block.importance, columns);
        if (bad < columns) {
            if (place) {
                *place = {block.rows, bad};
            }
            return ECELLM_NOT_FINITE;
        }
    }
    Packed packed;
    if (!packed.pack(*variant, block)) {
        return ECELLM_NO_MEMORY;
    }
    const size_t least = block.adapter_count ? least_rows_merged : 1;
    const size_t full_strip = columns < strip_weights / least ? strip_weights / columns : least;
    const size_t strip_rows = full_strip < block.rows ? full_strip : block.rows;
    std::atomic<size_t> first_bad{SIZE_MAX};
    const Plan plan{*variant, block, packed, strip_rows, first_bad};
    const int status = share_out<Worker>(plan, (block.rows + strip_rows - 1) / strip_rows, threads);
    if (status == ECELLM_NOT_FINITE && place) {
        *place = {first_bad / columns, first_bad % columns};
    }
    return status;
}
