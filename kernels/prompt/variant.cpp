/* A variant of the kernels: the headers of one folder, compiled for one kind of processor. */
#include "tile.h"
#include "unpack.h"

namespace {

/* How a type is computed. */
struct Kernel {
    int type;
    size_t block_weights;
    size_t (*activation_bytes)(const Product &);
    void (*quantize)(const Product &, uint8_t *, size_t);
    void (*multiply)(const Product &, const uint8_t *, size_t, size_t, size_t);
};

/* One group of columns, `columns` of them in use. */
template <int columns, bool minima, class Block, class X>
inline void multiply_group(const Product &product, const Block *panel, const X *x, size_t count, float *y, size_t rows,
                           bool first) {
    Tile<columns> tile;
    multiply_slice<columns, minima>(panel, x, count, tile);
    write(tile, y, product.y_stride, rows, first);
}

template <class Block, class X, bool minima, void unpack(const PanelRows &, size_t, size_t, Block *)>
struct Of {
    static Activations<X> activations(const Product &product, const uint8_t *memory) {
        return Activations<X>(product, memory, panel_blocks<Block>);
    }

    static size_t bytes(const Product &product) {
        return activations(product, nullptr).bytes();
    }

    static void quantize(const Product &product, uint8_t *memory, size_t group) {
        activations(product, memory).quantize(product, group);
    }

    static void multiply(const Product &product, const uint8_t *memory, size_t panel, size_t first, size_t last) {
        alignas(64) Block blocks[panel_blocks<Block>];
        const Activations<X> x = activations(product, memory);
        const size_t row = panel * panel_rows, rows = product.rows - row;
        const PanelRows weights(product, row);
        for (size_t start = 0; start < x.depth; start += x.slice) {
            const size_t count = start + x.slice < x.depth ? x.slice : x.depth - start;
            unpack(weights, start, count, blocks);
            for (size_t group = first; group < last; group++) {
                const size_t column = group * columns_in_group;
                float *y = (float *)((uint8_t *)product.y + column * product.y_stride) + row;
                const X *block = x.at(start, group);
                const size_t left = product.columns - column;
                switch (left < columns_in_group ? left : columns_in_group) {
                case 1: multiply_group<1, minima>(product, blocks, block, count, y, rows, start == 0); break;
                case 2: multiply_group<2, minima>(product, blocks, block, count, y, rows, start == 0); break;
                case 3: multiply_group<3, minima>(product, blocks, block, count, y, rows, start == 0); break;
                case 4: multiply_group<4, minima>(product, blocks, block, count, y, rows, start == 0); break;
                case 5: multiply_group<5, minima>(product, blocks, block, count, y, rows, start == 0); break;
                default: multiply_group<6, minima>(product, blocks, block, count, y, rows, start == 0);
                }
            }
        }
    }
};

template <class Block, class X, bool minima, void unpack(const PanelRows &, size_t, size_t, Block *)>
constexpr Kernel kernel(int type, size_t block_weights) {
    using One = Of<Block, X, minima, unpack>;
    return {type, block_weights, One::bytes, One::quantize, One::multiply};
}

constexpr Kernel kernels[] = {
    kernel<BytePanelBlock, ByteActivations, false, unpack<Q4_0, BytePanelBlock>>(type_q4_0, 32),
    kernel<BytePanelBlock, ByteActivations, true, unpack<Q4_1, BytePanelBlock>>(type_q4_1, 32),
    kernel<BytePanelBlock, ByteActivations, false, unpack<Q5_0, BytePanelBlock>>(type_q5_0, 32),
    kernel<BytePanelBlock, ByteActivations, true, unpack<Q5_1, BytePanelBlock>>(type_q5_1, 32),
    kernel<BytePanelBlock, ByteActivations, true, unpack_super_blocks<Q4_K, BytePanelBlock>>(type_q4_k, 256),
    kernel<BytePanelBlock, ByteActivations, true, unpack_super_blocks<Q5_K, BytePanelBlock>>(type_q5_k, 256),
    kernel<HalfPanelBlock, ByteActivations, false, unpack_super_blocks<Q3_K, HalfPanelBlock>>(type_q3_k, 256),
    kernel<HalfPanelBlock, ByteActivations, false, unpack_super_blocks<Q6_K, HalfPanelBlock>>(type_q6_k, 256),
    kernel<WordPanelBlock, WordActivations, false, unpack<Q8_0, WordPanelBlock>>(type_q8_0, 32),
};

const Kernel *find(int type) {
    for (const Kernel &each : kernels) {
        if (each.type == type) {
            return &each;
        }
    }
    return nullptr;
}

bool runs() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool has_type(int type) {
    return find(type) != nullptr;
}

size_t block_weights(int type) {
    return find(type)->block_weights;
}

size_t activation_bytes(const Product &product) {
    return find(product.type)->activation_bytes(product);
}

void quantize(const Product &product, uint8_t *activations, size_t group) {
    find(product.type)->quantize(product, activations, group);
}

void multiply(const Product &product, const uint8_t *activations, size_t panel, size_t first, size_t last) {
    find(product.type)->multiply(product, activations, panel, first, last);
}

} // namespace

extern "C" const Variant prompt_variant_avx2;
const Variant prompt_variant_avx2 = {"avx2",        panel_rows,       columns_in_group, runs,    has_type,
                                     block_weights, activation_bytes, quantize,         multiply};
