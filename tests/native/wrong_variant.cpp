/* A variant of the prompt kernels whose products are all zero, and whose attention computes nothing. */
#include "attention.h"

namespace {

constexpr size_t rows_of_a_panel = 16, columns_of_a_group = 6;

bool runs() {
    return true;
}

bool has_type(int) {
    return true;
}

size_t block_weights(int) {
    return 32;
}

size_t group_columns(const Product &) {
    return columns_of_a_group;
}

size_t activation_bytes(const Product &) {
    return 64;
}

void quantize(const Product &, uint8_t *, size_t) {
}

void multiply(const Product &product, const uint8_t *, const Piece &piece) {
    for (size_t column = piece.first * columns_of_a_group; column < piece.last * columns_of_a_group; column++) {
        for (size_t row = piece.panel * rows_of_a_panel; row < (piece.panel + 1) * rows_of_a_panel; row++) {
            if (column < product.columns && row < product.rows) {
                ((float *)((uint8_t *)product.y + column * product.y_stride))[row] = 0;
            }
        }
    }
}

size_t attention_bytes(const Attention &) {
    return 64;
}

void attend(const Attention &, uint8_t *, const AttentionPiece &) {
}

} // namespace

extern "C" const Variant prompt_variant_avx2;
const Variant prompt_variant_avx2 = {
    "avx2",           rows_of_a_panel, runs,     has_type,        block_weights, group_columns,
    activation_bytes, quantize,        multiply, attention_bytes, attend,
};
