/* A block's way from a checkpoint into a file, a strip of rows at a time. */
#include "ecellm_kernels.h"

#include "checks.h"
#include "half.h"
#include "threads.h"
#include "variants.h"

#include <memory>
#include <new>

namespace {

/* A strip of rows fills the lanes, uses a tile of A for several rows, and stays in a core's cache. */
constexpr size_t strip_weights = 1 << 15, least_rows_merged = 8;

int check_source(const ecellm_block &block) {
    const size_t row_size = ecellm_row_size(block.source_type, block.columns), align = alignment(block.source_type);
    size_t end;
    if (align == 1 && !block.to_float) {
        return ECELLM_BAD_TYPE;
    }
    if (is_k_quant(block.source_type) && !row_size) {
        return ECELLM_BAD_SHAPE;
    }
    if ((row_size && row_size != block.source_row_size) || block.source_row_size == 0 || block.source_stride < block.source_row_size || block.source_stride % align
        || !product(block.rows - 1, block.source_stride, end) || end + block.source_row_size > block.source_size) {
        return ECELLM_BAD_SIZE;
    }
    if (!block.source) {
        return ECELLM_NULL_POINTER;
    }
    return aligned(block.source, align) ? ECELLM_OK : ECELLM_MISALIGNED;
}

int check_target(const ecellm_block &block) {
    const size_t row_size = ecellm_row_size(block.target_type, block.columns);
    size_t size;
    if (!row_size && (is_k_quant(block.target_type) || !block.quantize_chunk)) {
        return is_k_quant(block.target_type) ? ECELLM_BAD_SHAPE : ECELLM_BAD_TYPE;
    }
    if (row_size && row_size != block.target_row_size) {
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

int check_adapters(const ecellm_block &block) {
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

int check(const ecellm_block &block) {
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

/* What a thread keeps from one strip to the next: the strip, and which rows of the source are in it. */
struct Strip {
    std::unique_ptr<float[]> weights;
    std::unique_ptr<size_t[]> sources;

    bool allocate(size_t rows, size_t columns) {
        if (!weights) {
            weights.reset(new (std::nothrow) float[rows * columns]);
            sources.reset(new (std::nothrow) size_t[rows]);
        }
        return weights && sources;
    }
};

/* The adapters' A as a variant reads them, for all threads. */
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

/* Widen rows of the target, add the adapters to them and scale them. */
void merge_rows(const Variant &variant, const ecellm_block &block, const Packed &packed, size_t first, size_t rows,
                const Strip &strip) {
    for (size_t i = 0; i < rows; i++) {
        strip.sources[i] = block.order ? block.order[first + i] : first + i;
        widen(variant, block, strip.sources[i], &strip.weights[i * block.columns]);
    }
    if (packed.a) { /* not even zero is added without adapters: it would turn -0 into 0 */
        variant.merge(strip.weights.get(), rows, block.columns, strip.sources.get(), block.adapters,
                      block.adapter_count, packed.ranks, packed.a.get());
    }
    for (size_t i = 0; block.magnitudes && i < rows; i++) {
        const float magnitude = block.magnitudes[strip.sources[i]];
        variant.scale_to_magnitude(&strip.weights[i * block.columns], block.columns, magnitude);
    }
}

/* bfloat16 rounded to nearest with ties to even. */
uint16_t bf16_from_float(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void store(const Variant &variant, const ecellm_block &block, const float *weights, size_t first, size_t rows) {
    auto *target = (unsigned char *)block.target + first * block.target_row_size;
    const size_t count = rows * block.columns;
    switch (block.target_type) {
    case ECELLM_F32:
        std::memcpy(target, weights, count * 4);
        break;
    case ECELLM_F16:
        for (size_t i = 0; i < count; i++) {
            ((uint16_t *)target)[i] = half_from_float(weights[i]);
        }
        break;
    case ECELLM_BF16:
        for (size_t i = 0; i < count; i++) {
            ((uint16_t *)target)[i] = bf16_from_float(weights[i]);
        }
        break;
    default:
        if (is_k_quant(block.target_type)) {
            variant.quantize(block.target_type, weights, rows, block.columns, block.importance, target);
        } else {
            block.quantize_chunk(block.target_type, weights, target, 0, (int64_t)rows, (int64_t)block.columns,
                                 block.importance);
        }
    }
}

} // namespace

int ecellm_convert_block(const char *name, const struct ecellm_block *asked, unsigned threads,
                         struct ecellm_place *place) {
    const Variant *variant = find_variant(name);
    if (!asked) {
        return ECELLM_NULL_POINTER;
    }
    if (!variant) {
        return ECELLM_NO_VARIANT;
    }
    if (asked->rows == 0) {
        return ECELLM_OK;
    }
    const ecellm_block block = *asked;
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
    const size_t wanted = columns < strip_weights / least ? strip_weights / columns : least;
    const size_t strip_rows = wanted < block.rows ? wanted : block.rows;
    /* Nothing is done to such rows: they are quantized where they are. */
    const bool untouched = block.source_type == ECELLM_F32 && block.source_stride == columns * 4
                           && !block.adapter_count && !block.magnitudes && !block.order;
    std::atomic<size_t> first_bad{SIZE_MAX};
    const auto worker = [&] {
        return [&, strip = Strip()](size_t piece) mutable -> int {
            const size_t first = piece * strip_rows;
            const size_t rows = block.rows - first < strip_rows ? block.rows - first : strip_rows;
            const float *weights = (const float *)block.source + first * columns;
            if (!untouched) {
                if (!strip.allocate(strip_rows, columns)) {
                    return ECELLM_NO_MEMORY;
                }
                merge_rows(*variant, block, packed, first, rows, strip);
                weights = strip.weights.get();
            }
            const size_t bad = variant->find_not_finite(weights, rows * columns);
            if (bad < rows * columns) {
                size_t known = first_bad;
                const size_t found = first * columns + bad;
                while (found < known && !first_bad.compare_exchange_weak(known, found)) {
                }
                return ECELLM_NOT_FINITE;
            }
            store(*variant, block, weights, first, rows);
            return ECELLM_OK;
        };
    };
    const int status = share_out((block.rows + strip_rows - 1) / strip_rows, threads, worker);
    if (status == ECELLM_NOT_FINITE && place) {
        *place = {first_bad / columns, first_bad % columns};
    }
    return status;
}
