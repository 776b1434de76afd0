#include "multiply.h"

#include <atomic>
#include <omp.h>

namespace {

/* A panel is unpacked again for each piece, so it is cut by columns only if there are few panels. */
constexpr size_t pieces_per_thread = 4, columns_per_piece = 72;

size_t cuts(size_t panels, size_t columns, size_t threads) {
    size_t count = (pieces_per_thread * threads + panels - 1) / panels;
    if (threads == 1 || count < 1) {
        count = 1;
    }
    const size_t most = columns / columns_per_piece;
    return count < most ? count : most ? most : 1;
}

} // namespace

bool multiply(const Variant &variant, const Product &product, int threads, Memory &memory) {
    uint8_t *const activations = memory.get(variant.activation_bytes(product));
    if (!activations) {
        return false;
    }
    const size_t panels = (product.rows + variant.panel_rows - 1) / variant.panel_rows;
    const size_t in_group = variant.group_columns(product);
    const size_t groups = (product.columns + in_group - 1) / in_group;
    const size_t parts = cuts(panels, product.columns, (size_t)threads);
    std::atomic<size_t> next_group{0}, next_piece{0};
#pragma omp parallel num_threads(threads)
    {
        for (size_t group; (group = next_group++) < groups;) {
            variant.quantize(product, activations, group);
        }
#pragma omp barrier
        for (size_t piece; (piece = next_piece++) < panels * parts;) {
            const size_t panel = piece / parts, part = piece % parts, first = groups * part / parts;
            const size_t next = panel + ((size_t)threads + parts - 1) / parts;
            variant.multiply(product, activations, {panel, next, first, groups * (part + 1) / parts});
        }
    }
    return true;
}
